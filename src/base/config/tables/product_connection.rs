//! How AWS is reached for a product, and whose account is billed: keys of `[[product]]`.

use super::Section;
use crate::domain::destination::{self, Destination, is_known_region, is_region};

/// The account's place in `arn:aws:iam::123456789012:role/name`.
const ARN_ACCOUNT: usize = 4;

/// The AWS account that a product is billed from, and how it is reached.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection {
    pub region: String,
    pub endpoint_url: Option<String>,
    pub role_arn: Option<String>,
    pub external_id: Option<String>,
    /// Where credentials are asked for in place of AWS's STS.
    pub sts_endpoint_url: Option<String>,
}

/// What AWS counts calls by, as far as a configuration tells: connections that are equal here share a quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quota<'a> {
    region: &'a str,
    endpoint_url: Option<&'a str>,
    /// The role's account. `None` stands for the account of the credentials that the agent finds.
    account_id: Option<&'a str>,
}

impl Connection {
    pub fn quota(&self) -> Quota<'_> {
        Quota {
            region: &self.region,
            endpoint_url: self.endpoint_url.as_deref(),
            account_id: self.role_arn.as_deref().and_then(|arn| arn.split(':').nth(ARN_ACCOUNT)),
        }
    }

    /// Whether the endpoint is on this machine, and thus not AWS.
    pub fn is_loopback(&self) -> bool {
        self.endpoint_url.as_deref().is_some_and(destination::is_loopback)
    }

    pub(crate) fn destination(&self) -> Destination {
        Destination::of(&self.region, self.endpoint_url.as_deref())
    }
}

pub(super) fn read(product: &mut Section<'_>) -> Connection {
    let region = product
        .key(
            "region",
            "The region where the product is metered. The agent never tries another on failure, since AWS removes \
             duplicates only within one",
        )
        .text("us-east-1");
    let endpoint_url = product
        .key(
            "endpoint_url",
            "A URL to call in place of AWS's endpoint of the region, with `http://` or `https://`: a sandbox's, or another \
             one of AWS's, as for FIPS. The environment sets none: see [docs/changing.md](changing.md#what-comes-from-aws)",
        )
        .optional_text();
    let role_arn = product
        .key(
            "role_arn",
            "The role to assume in the seller account, as in `arn:aws:iam::123456789012:role/name`: see \
             [AWS permissions](../README.md#aws-permissions)",
        )
        .optional_text();
    let external_id = product
        .key("external_id", "The external id that the role asks for; only beside `role_arn`")
        .optional_text();
    let sts_endpoint_url = product
        .key(
            "sts_endpoint_url",
            "A URL to ask for credentials in place of AWS's STS of the region, for `role_arn` and web identity: another \
             one of AWS's, as for FIPS",
        )
        .optional_text();
    let connection = Connection { region, endpoint_url, role_arn, external_id, sts_endpoint_url };
    check(product, &connection);
    connection
}

fn check(product: &Section<'_>, connection: &Connection) {
    check_region(product, &connection.region);
    for (key, url) in
        [("endpoint_url", &connection.endpoint_url), ("sts_endpoint_url", &connection.sts_endpoint_url)]
    {
        if url.as_deref().is_some_and(|url| !is_url(url)) {
            product.fault(key, "must begin with http:// or https://, and name a host");
        }
    }
    if let Destination::Aws { region } = connection.destination()
        && region != connection.region
    {
        let what = format!("is AWS's endpoint in `{region}`, and `region` is `{}`", connection.region);
        product.fault("endpoint_url", &what);
    }
    let is_role = |arn: &String| arn.starts_with("arn:aws") && arn.contains(":role/");
    if connection.role_arn.as_ref().is_some_and(|arn| !is_role(arn)) {
        product.fault("role_arn", "must be like arn:aws:iam::123456789012:role/name");
    }
    if connection.external_id.is_some() && connection.role_arn.is_none() {
        product.fault("external_id", "has a meaning only beside role_arn");
    }
}

fn check_region(product: &Section<'_>, region: &str) {
    if !is_region(region) {
        let what = format!(
            "must be an AWS region, as in us-east-1 (a zone like us-east-1a is none), not `{region}`"
        );
        product.fault("region", &what);
    } else if !is_known_region(region) {
        let what = format!("`{region}` is not known to have AWS's metering service: look at it again");
        product.warn("region", &what);
    }
}

fn is_url(url: &str) -> bool {
    let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/') && !rest.contains(char::is_whitespace))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::config::{ConfigError, testing::config};

    fn connection() -> Connection {
        Connection {
            region: "us-east-1".to_owned(),
            endpoint_url: None,
            role_arn: None,
            external_id: None,
            sts_endpoint_url: None,
        }
    }

    #[test]
    fn the_roles_of_one_account_share_a_quota_in_each_region_and_endpoint() {
        let role = |account: &str, name: &str| {
            let role_arn = Some(format!("arn:aws:iam::{account}:role/{name}"));
            Connection { role_arn, ..connection() }
        };
        let metering = role("123456789012", "metering");
        let external_id = Some("x".to_owned());
        for same in
            [role("123456789012", "path/other"), Connection { external_id, ..role("123456789012", "third") }]
        {
            assert_eq!(metering.quota(), same.quota());
        }
        for other in [
            role("210987654321", "metering"),
            connection(),
            Connection { region: "eu-west-1".to_owned(), ..metering.clone() },
            Connection { endpoint_url: Some("http://127.0.0.1:7460".to_owned()), ..metering.clone() },
        ] {
            assert_ne!(metering.quota(), other.quota());
        }
        assert_eq!(connection().quota(), connection().quota(), "the credentials that are there");
    }

    fn with(keys: &str) -> Result<Vec<String>, Vec<String>> {
        let text = format!("[[product]]\ncode = 'p'\n{keys}\ndimension = [{{ name = 'd' }}]");
        config(&text, &[]).map(|config| config.warnings).map_err(|ConfigError(faults)| faults)
    }

    #[test]
    fn a_region_has_the_form_of_one_and_an_unknown_one_is_told() {
        for wrong in ["us-east-1a", "", "Virginia", "us-east-1 "] {
            let faults = with(&format!("region = '{wrong}'")).unwrap_err();
            assert!(
                faults.len() == 1 && faults[0].starts_with("t.toml: product.0.region: must"),
                "{faults:?}"
            );
        }
        assert_eq!(with("region = 'eu-west-1'").unwrap(), [""; 0]);
        let warnings = with("region = 'us-east-9'").unwrap();
        assert!(warnings.len() == 1 && warnings[0].starts_with("t.toml: product.0.region: `us-east-9`"));
    }

    #[test]
    fn an_endpoint_of_aws_is_that_of_the_region() {
        let endpoint = |region: &str| {
            format!("endpoint_url = 'https://metering.marketplace-fips.{region}.amazonaws.com'")
        };
        assert!(with(&endpoint("us-east-1")).is_ok());
        let faults = with(&endpoint("eu-west-1")).unwrap_err();
        assert!(faults.len() == 1 && faults[0].contains("is AWS's endpoint in `eu-west-1`"), "{faults:?}");
        for key in ["endpoint_url", "sts_endpoint_url"] {
            for wrong in ["ftp://x", "localhost:4566", "http://", "https:///x"] {
                let faults = with(&format!("{key} = '{wrong}'")).unwrap_err();
                assert!(faults.len() == 1 && faults[0].contains(key), "{faults:?}");
            }
        }
    }
}
