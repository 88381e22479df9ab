//! The metering service's endpoint: the configuration's, or AWS's for the region.

use std::{
    fmt,
    future::Future,
    pin::pin,
    task::{Context, Poll, Waker},
};

use aws_sdk_marketplacemetering::config::endpoint::{DefaultResolver, Params, ResolveEndpoint};

use crate::base::config::Connection;

/// Where a product's records are sent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Endpoint {
    /// It is handed to the SDK as it is, so it is the one that people are shown.
    pub url: String,
    pub region: String,
    /// Whether usage may be billed there: a server for tests bills nothing.
    pub may_bill: bool,
}

impl Endpoint {
    pub(crate) fn of(connection: &Connection) -> Self {
        let url = connection.endpoint_url.clone().or_else(|| of_region(&connection.region));
        Self {
            url: url.unwrap_or_default(),
            region: connection.region.clone(),
            may_bill: connection.destination().may_bill(),
        }
    }

    /// The host, with its port if the URL names one.
    pub(crate) fn host(&self) -> &str {
        let rest = self.url.split_once("://").map_or(&*self.url, |(_, rest)| rest);
        rest.split('/').next().unwrap_or_default()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url, region, may_bill } = self;
        if *may_bill {
            write!(f, "{url} ({region})")
        } else {
            write!(f, "{url} (for tests: nothing is billed there)")
        }
    }
}

/// AWS's endpoint, by the rules that the SDK has of it. `None` for what is no region.
fn of_region(region: &str) -> Option<String> {
    let params = Params::builder().region(region.to_owned()).build().ok()?;
    let resolver = DefaultResolver::new();
    // The rules are a table: there is nothing to wait for.
    let mut resolved = pin!(ResolveEndpoint::resolve_endpoint(&resolver, &params));
    match resolved.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(endpoint) => endpoint.ok().map(|endpoint| endpoint.url().to_owned()),
        Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_partition_has_hosts_of_its_own() {
        for (region, url) in [
            ("us-east-1", "https://metering.marketplace.us-east-1.amazonaws.com"),
            ("cn-northwest-1", "https://metering.marketplace.cn-northwest-1.amazonaws.com.cn"),
            ("eusc-de-east-1", "https://metering-marketplace.eusc-de-east-1.amazonaws.eu"),
        ] {
            assert_eq!(of_region(region).as_deref(), Some(url));
        }
        assert_eq!(of_region("no host"), None);
    }

    #[test]
    fn an_endpoint_is_told_with_its_host_and_region_or_as_a_test() {
        let endpoint =
            |url: &str, may_bill| Endpoint { url: url.to_owned(), region: "eu-west-1".to_owned(), may_bill };
        let aws = endpoint("https://metering.marketplace.eu-west-1.amazonaws.com", true);
        assert_eq!(aws.host(), "metering.marketplace.eu-west-1.amazonaws.com");
        assert_eq!(aws.to_string(), "https://metering.marketplace.eu-west-1.amazonaws.com (eu-west-1)");
        let local = endpoint("http://127.0.0.1:7460/x", false);
        assert_eq!(local.host(), "127.0.0.1:7460");
        assert!(local.to_string().contains("nothing is billed"));
    }
}
