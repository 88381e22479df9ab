//! The configuration: parsed once, with every fault named, and valid from then on.

mod parse;
mod reader;

use std::{fmt, net::SocketAddr, path::PathBuf, str::FromStr, sync::Arc, time::Duration};

use thiserror::Error;

use crate::domain::{
    deadline::Window,
    identity::Identity,
    product::{Catalog, ProductIndex},
    record::MissedPolicy,
    time::Timestamp,
    usage::TimeBounds,
};

pub use parse::{load, parse};

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
}

#[derive(Clone, Debug)]
pub struct Tls {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub client_ca: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub struct Admin {
    pub listen: SocketAddr,
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
    pub max_pending_events: usize,
}

#[derive(Clone, Copy, Debug)]
pub struct Retention {
    pub receipts: Duration,
}

/// Whose AWS account a product is billed from, and where.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection {
    pub region: String,
    pub endpoint_url: Option<String>,
    pub role_arn: Option<String>,
    pub external_id: Option<String>,
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
