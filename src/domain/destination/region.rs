//! AWS's regions: their form, and where the metering service is.

/// Where AWS has the metering service, as of November 2026 (its quotas page, and its SDKs). It adds regions, so one that
/// is not listed may be right.
const WITH_METERING: [&str; 30] = [
    "af-south-1",
    "ap-east-1",
    "ap-northeast-1",
    "ap-northeast-2",
    "ap-northeast-3",
    "ap-south-1",
    "ap-south-2",
    "ap-southeast-1",
    "ap-southeast-2",
    "ap-southeast-3",
    "ap-southeast-4",
    "ca-central-1",
    "cn-northwest-1",
    "eu-central-1",
    "eu-central-2",
    "eu-north-1",
    "eu-south-1",
    "eu-south-2",
    "eu-west-1",
    "eu-west-2",
    "eu-west-3",
    "eusc-de-east-1",
    "il-central-1",
    "me-central-1",
    "me-south-1",
    "sa-east-1",
    "us-east-1",
    "us-east-2",
    "us-west-1",
    "us-west-2",
];

/// Whether a text has the form of a region, as in `us-east-1` or `us-gov-west-1`. `us-east-1a` is a zone.
pub(crate) fn is_region(text: &str) -> bool {
    let Some((area, number)) = text.rsplit_once('-') else { return false };
    let is_word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    let is_number = (1..=2).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number && area.contains('-') && area.split('-').all(is_word)
}

/// Whether AWS is known to have the metering service there.
pub(crate) fn is_known_region(region: &str) -> bool {
    WITH_METERING.contains(&region)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn regions_are_told_from_zones_names_and_slips() {
        for region in WITH_METERING.into_iter().chain(["us-gov-west-1", "us-isob-east-1", "xx-new-11"]) {
            assert!(is_region(region), "{region}");
        }
        for other in [
            "",
            "Virginia",
            "us-east-1a",
            "us-east-1 ",
            " us-east-1",
            "US-EAST-1",
            "us-east",
            "us-1",
            "us--east-1",
            "us_east_1",
        ] {
            assert!(!is_region(other), "{other}");
        }
    }

    #[test]
    fn the_service_is_where_aws_says() {
        assert!(is_known_region("us-east-1") && is_known_region("cn-northwest-1"));
        assert!(!is_known_region("us-gov-west-1") && !is_known_region("us-east-9"));
    }
}
