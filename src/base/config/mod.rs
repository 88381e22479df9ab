//! The configuration: parsed once, with every fault named, and valid from then on.

mod grpc;
mod hours;
mod limits;
mod overrides;
mod parse;
mod products;
mod reader;
mod reference;
mod telemetry;
#[cfg(test)]
pub(crate) mod testing;
mod words;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    str::FromStr,
    sync::Arc,
    time::Duration,
};

use thiserror::Error;

use super::telemetry::Sampling;
use crate::domain::{
    deadline::Window,
    identity::Identity,
    permission::Permission,
    product::{Catalog, ProductIndex},
    record::MissedPolicy,
    time::Timestamp,
    usage::TimeBounds,
};

pub use parse::{load, parse};
pub use reference::reference;

/// Everything a run needs to know. Holds no invalid value.
#[derive(Clone, Debug)]
pub struct Config {
    pub agent: Agent,
    pub grpc: Grpc,
    pub admin: Admin,
    pub hour: HourRules,
    pub submission: Submission,
    pub limits: Limits,
    pub retention: Retention,
    pub telemetry: Telemetry,
    pub catalog: Arc<Catalog>,
    /// How each product of the catalog reaches AWS, in the catalog's order.
    pub connections: Vec<Connection>,
    pub customers: Vec<ConfiguredCustomer>,
    /// The configuration as it took effect, defaults included, as TOML.
    pub effective: String,
}

#[derive(Clone, Debug)]
pub struct Agent {
    pub data_dir: PathBuf,
    pub id: String,
}

#[derive(Clone, Debug)]
pub struct Grpc {
    pub listen: Listen,
    pub max_events_per_request: usize,
    pub tls: Option<Tls>,
    pub token_file: Option<PathBuf>,
    /// If there are any, every call must be one of theirs.
    pub clients: Vec<Client>,
}

/// Someone who is known by a token or a certificate.
#[derive(Clone, Debug)]
pub struct Client {
    pub permission: Permission,
    pub proof: Proof,
    /// On average.
    pub events_per_second: Option<NonZeroU32>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Proof {
    TokenFile(PathBuf),
    /// A name in the certificate: the subject's common name, or a DNS name or URI among the alternative ones.
    Certificate(String),
}

#[derive(Clone, Debug)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub client_ca: Option<PathBuf>,
    /// Only with `client_ca`.
    pub client_crl: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub struct Admin {
    pub listen: SocketAddr,
    /// Whether the status page may name customers.
    pub show_customers: bool,
}

#[derive(Clone, Copy, Debug)]
pub struct HourRules {
    pub grace: Duration,
    pub dedup_window: Duration,
    pub bounds: TimeBounds,
}

#[derive(Clone, Copy, Debug)]
pub struct Submission {
    pub window: Window,
    pub requests_per_second: f64,
    pub concurrency: usize,
    pub missed: MissedPolicy,
}

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub max_customers: usize,
    pub max_open_buckets: usize,
    /// Distinct subjects, all open hours together.
    pub max_open_subjects: u64,
    /// Tagged parts of open buckets.
    pub max_open_tag_sets: usize,
    pub max_pending_events: usize,
    pub connections: ConnectionLimits,
}

/// What clients may take up before any of their usage counts.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    pub max_connections: usize,
    pub max_streams: u32,
    pub max_message_bytes: usize,
    /// From the connection's first byte until HTTP/2 has begun, TLS included.
    pub handshake_timeout: Duration,
    /// For a request, or a stream's message, that has begun.
    pub request_timeout: Duration,
    /// A connection that shows no life is asked for some after this time...
    pub keepalive_interval: Duration,
    /// ...and closed if there is none.
    pub keepalive_timeout: Duration,
}

#[derive(Clone, Copy, Debug)]
pub struct Retention {
    pub receipts: Duration,
}

#[derive(Clone, Debug)]
pub struct Telemetry {
    /// The collector that traces go to.
    pub otlp_endpoint: Option<String>,
    /// Of the requests whose callers do not say whether they are traced, from 0 to 1.
    pub sample_ratio: f64,
}

impl Telemetry {
    pub fn sampling(&self) -> Sampling {
        if self.otlp_endpoint.is_some() { Sampling::at_ratio(self.sample_ratio) } else { Sampling::default() }
    }
}

/// The account's place in `arn:aws:iam::123456789012:role/name`.
const ARN_ACCOUNT: usize = 4;

/// Whose AWS account a product is billed from, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection {
    pub region: String,
    pub endpoint_url: Option<String>,
    pub role_arn: Option<String>,
    pub external_id: Option<String>,
}

/// Whose calls AWS counts together, as far as a configuration tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quota<'a> {
    region: &'a str,
    endpoint_url: Option<&'a str>,
    /// That of the role; without a role, that of the credentials that are there.
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
        let host = self.endpoint_url.as_deref().and_then(|url| url.split_once("://")).map(|(_, rest)| rest);
        let host = host.and_then(|rest| rest.split('/').next()).unwrap_or_default();
        let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
        let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
        name == "localhost" || address.is_ok_and(|address| address.is_loopback())
    }
}

#[derive(Clone, Debug)]
pub struct ConfiguredCustomer {
    pub product: ProductIndex,
    pub key: Arc<str>,
    pub identity: Identity,
    pub since: Option<Timestamp>,
}

/// An address to listen on or to talk to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl Listen {
    /// Whether only processes of this machine reach it.
    pub fn is_local(&self) -> bool {
        match self {
            Self::Tcp(address) => address.ip().is_loopback(),
            Self::Unix(_) => true,
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("unix:") {
            Some(path) if path.starts_with('/') => Ok(Self::Unix(path.into())),
            Some(_) => {
                Err("a Unix socket is given with its whole path, as in unix:/run/tallyman.sock".to_owned())
            }
            None => text.parse().map(Self::Tcp).map_err(|_| {
                format!("`{text}` is neither an address with a port, as in 127.0.0.1:7450, nor unix:/path")
            }),
        }
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Every fault of a configuration at once, each with its file or variable and key.
#[derive(Clone, Debug, Error)]
#[error("the configuration is wrong:\n  {}", .0.join("\n  "))]
pub struct ConfigError(pub Vec<String>);

#[cfg(test)]
mod tests {
    use super::*;

    fn connection() -> Connection {
        Connection { region: "us-east-1".to_owned(), endpoint_url: None, role_arn: None, external_id: None }
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

    #[test]
    fn only_loopback_endpoints_are_loopback() {
        let is_local =
            |url: &str| Connection { endpoint_url: Some(url.to_owned()), ..connection() }.is_loopback();
        for url in ["http://127.0.0.1:7460", "http://localhost:1/x", "https://[::1]:8443"] {
            assert!(is_local(url), "{url}");
        }
        for url in
            ["https://metering.marketplace.us-east-1.amazonaws.com", "http://localhost.example.com", ""]
        {
            assert!(!is_local(url), "{url}");
        }
    }
}
