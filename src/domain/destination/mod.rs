//! Where a product's records are billed, and when that may change.
//!
//! AWS removes duplicates only within one region, and nothing is billed by a server for tests. So a record that AWS may
//! have taken must not go to a second region, usage must not move between AWS and a test without a person's word, and
//! all else may change: a mistake in a configuration can be mended.

mod host;
mod region;

use std::sync::Arc;

use super::time::Timestamp;

pub(crate) use host::is_loopback;
pub(crate) use region::{is_known_region, is_region};

/// Where a product's records go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Destination {
    /// AWS itself, by whichever of its hosts, in this region.
    Aws { region: String },
    /// A server that is not AWS by its name. It has TLS, so it may pass calls on to AWS.
    Elsewhere { url: String },
    /// A server for tests: on this machine, or without TLS.
    Test { name: String },
}

/// Servers on this machine may change their ports, and are one destination.
const THIS_MACHINE: &str = "an endpoint on this machine";

impl Destination {
    /// The destination of a configuration.
    pub(crate) fn of(region: &str, endpoint_url: Option<&str>) -> Self {
        endpoint_url.map_or_else(|| Self::Aws { region: region.to_owned() }, Self::at)
    }

    /// The destination at a URL.
    fn at(url: &str) -> Self {
        let host = host::of_url(url);
        if is_loopback(url) {
            return Self::Test { name: THIS_MACHINE.to_owned() };
        }
        match host::aws_region(host) {
            Some(region) => Self::Aws { region: region.to_owned() },
            None if url.starts_with("https://") => Self::Elsewhere { url: url.to_owned() },
            None => Self::Test { name: url.to_owned() },
        }
    }

    /// Reads what [`name`](Self::name) has written, or what a person gives: a region, or a URL.
    pub(crate) fn parse(text: &str) -> Self {
        if text == THIS_MACHINE {
            Self::Test { name: text.to_owned() }
        } else if text.contains("://") {
            Self::at(text)
        } else {
            Self::Aws { region: text.to_owned() }
        }
    }

    /// The name on disk, and in messages.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Aws { region } => region,
            Self::Elsewhere { url } => url,
            Self::Test { name } => name,
        }
    }

    /// Whether usage may be billed there.
    pub(crate) const fn may_bill(&self) -> bool {
        !matches!(self, Self::Test { .. })
    }

    /// What a change to another destination puts at stake; `None` if it may be made.
    pub(crate) fn stake_of_change(&self, to: &Self, unbilled: Unbilled) -> Option<Stake> {
        if self == to {
            return None;
        }
        match (self.may_bill(), to.may_bill()) {
            (true, true) if unbilled.doubtful > 0 => Some(Stake::BilledTwice { records: unbilled.doubtful }),
            (false, true) if unbilled.is_any => Some(Stake::TestBilled),
            (true, false) if unbilled.is_any => Some(Stake::NeverBilled),
            _ => None,
        }
    }
}

/// What is on disk of a product and not billed yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unbilled {
    /// The pending records that bill something and that an attempt may have brought to the destination so far.
    pub doubtful: u64,
    /// Whether there is any usage: open, pending or held.
    pub is_any: bool,
}

/// What could come of a change of destination. A person may decide that it does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stake {
    /// These records may have been billed at the old destination, and would be at the new one.
    BilledTwice { records: u64 },
    /// Usage that was tried out on a test server would be billed.
    TestBilled,
    /// Usage that is to be billed would end in a test.
    NeverBilled,
}

/// A person's word that a product's unbilled usage may go to another destination. It is kept for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AllowedMove {
    pub product: Arc<str>,
    /// The names of destinations.
    pub from: Arc<str>,
    pub to: Arc<str>,
    /// Why, in the person's words.
    pub reason: Arc<str>,
    pub by: Arc<str>,
    /// The client that has said so, as it was authenticated. `None` where none is told apart, and for who has the disk.
    pub client: Option<Arc<str>>,
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn aws(region: &str) -> Destination {
        Destination::Aws { region: region.to_owned() }
    }

    #[test]
    fn a_destination_is_aws_by_its_host_or_for_tests_or_neither() {
        let fips = "https://metering.marketplace-fips.us-east-1.amazonaws.com";
        assert_eq!(Destination::of("us-east-1", None), aws("us-east-1"));
        assert_eq!(Destination::of("us-east-1", Some(fips)), aws("us-east-1"));
        let local = Destination::of("us-east-1", Some("http://127.0.0.1:7460"));
        assert_eq!(local, Destination::of("eu-west-1", Some("http://localhost:1")));
        let container = "http://localstack:4566";
        for (url, may_bill) in [(container, false), ("https://proxy.example.com/aws", true), (fips, true)] {
            assert_eq!(Destination::of("us-east-1", Some(url)).may_bill(), may_bill, "{url}");
        }
        assert!(!local.may_bill());
    }

    #[test]
    fn a_name_is_read_as_what_it_was_written_for() {
        for url in ["http://127.0.0.1:7460", "http://localstack:4566", "https://proxy.example.com"] {
            let destination = Destination::of("us-east-1", Some(url));
            assert_eq!(Destination::parse(destination.name()), destination);
        }
        assert_eq!(Destination::parse("eu-west-1"), aws("eu-west-1"));
        let fips = "https://metering.marketplace-fips.eu-west-1.amazonaws.com";
        assert_eq!(Destination::parse(fips), aws("eu-west-1"), "as a folder of before has it");
    }

    #[test]
    fn a_change_is_at_stake_for_what_may_be_billed_twice_or_in_the_wrong_place() {
        let (here, there) = (aws("us-east-1"), aws("eu-west-1"));
        let proxy = Destination::parse("https://proxy.example.com");
        let (local, container) =
            (Destination::parse("http://[::1]:1"), Destination::parse("http://localstack:4566"));
        let none = Unbilled::default();
        let untried = Unbilled { doubtful: 0, is_any: true };
        let doubtful = Unbilled { doubtful: 3, is_any: true };
        let twice = Some(Stake::BilledTwice { records: 3 });
        for (from, to, unbilled, stake) in [
            (&here, &there, none, None),
            (&here, &there, untried, None),
            (&here, &there, doubtful, twice),
            (&here, &proxy, doubtful, twice),
            (&proxy, &here, doubtful, twice),
            (&proxy, &here, untried, None),
            (&here, &here, doubtful, None),
            (&local, &here, none, None),
            (&local, &here, untried, Some(Stake::TestBilled)),
            (&container, &here, untried, Some(Stake::TestBilled)),
            (&here, &local, untried, Some(Stake::NeverBilled)),
            (&here, &local, none, None),
            (&local, &container, doubtful, None),
        ] {
            assert_eq!(from.stake_of_change(to, unbilled), stake, "{from:?} to {to:?}, {unbilled:?}");
        }
    }
}
