//! The host of a URL: whether it is this machine's, or one of AWS's metering service.

use core::net::IpAddr;

use super::region::is_region;

/// The ends of AWS's host names, in all its partitions.
const AWS_SUFFIXES: [&str; 10] = [
    ".amazonaws.com",
    ".amazonaws.com.cn",
    ".amazonaws.eu",
    ".api.aws",
    ".api.amazonwebservices.com.cn",
    ".api.amazonwebservices.eu",
    ".c2s.ic.gov",
    ".sc2s.sgov.gov",
    ".cloud.adc-e.uk",
    ".csp.hci.ic.gov",
];
/// The service's name begins so in each of its hosts: also in those of FIPS, of dual-stack and of VPC endpoints.
const SERVICE: &str = "metering";

/// The host of a URL, without its port.
pub(super) fn of_url(url: &str) -> &str {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    // The last colon of an IPv6 address in brackets is not a port's.
    match host.rsplit_once(':') {
        Some((name, _)) if !host.ends_with(']') => name,
        _ => host,
    }
}

/// Whether a URL's host is this machine.
pub(crate) fn is_loopback(url: &str) -> bool {
    let host = of_url(url);
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The region of a host of AWS's metering service; `None` for any other host.
pub(super) fn aws_region(host: &str) -> Option<&str> {
    let labels = AWS_SUFFIXES.iter().find_map(|suffix| host.strip_suffix(suffix))?;
    let is_service = labels.split('.').any(|label| label.starts_with(SERVICE));
    labels.split('.').find(|label| is_region(label)).filter(|_| is_service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_endpoints_are_loopback() {
        for url in ["http://127.0.0.1:7460", "http://localhost:1/x", "https://[::1]:8443", "http://[::1]"] {
            assert!(is_loopback(url), "{url}");
        }
        for url in [
            "https://metering.marketplace.us-east-1.amazonaws.com",
            "http://localhost.example.com",
            "http://127.0.0.1@example.com/",
            "http://example.com?x=127.0.0.1:1",
            "",
        ] {
            assert!(!is_loopback(url), "{url}");
        }
    }

    #[test]
    fn each_form_of_awss_hosts_tells_its_region() {
        for (host, region) in [
            ("metering.marketplace.us-east-1.amazonaws.com", "us-east-1"),
            ("metering.marketplace-fips.us-east-1.amazonaws.com", "us-east-1"),
            ("metering.marketplace-fips.eu-west-1.api.aws", "eu-west-1"),
            ("metering-marketplace.ap-southeast-3.api.aws", "ap-southeast-3"),
            ("metering.marketplace.cn-northwest-1.amazonaws.com.cn", "cn-northwest-1"),
            ("metering-marketplace.eusc-de-east-1.amazonaws.eu", "eusc-de-east-1"),
            ("vpce-0a1b-us-east-1a.metering-marketplace.us-east-1.vpce.amazonaws.com", "us-east-1"),
        ] {
            assert_eq!(aws_region(host), Some(region), "{host}");
        }
        for host in [
            "metering.marketplace.us-east-1.amazonaws.com.example.com",
            "metering.marketplace.us-east-1.example.com",
            "metering.us-east-1.notamazonaws.com",
            "s3.us-east-1.amazonaws.com",
            "metering.marketplace.amazonaws.com",
            "",
        ] {
            assert_eq!(aws_region(host), None, "{host}");
        }
    }
}
