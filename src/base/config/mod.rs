//! The configuration, which is parsed once, names every fault, and is valid from then on.

mod key;
mod listen;
mod overrides;
mod parse;
mod reading;
mod reference;
mod reference_entries;
mod section;
mod tables;
#[cfg(test)]
pub(crate) mod testing;

use std::sync::Arc;

use thiserror::Error;

use crate::domain::product::Catalog;

pub(crate) use listen::Listen;
pub(crate) use parse::load;
pub use parse::parse;
pub(crate) use reference::reference;
pub(crate) use tables::{
    Admin, Agent, ConfiguredCustomer, Connection, ConnectionLimits, Grpc, HourRules, Limits, Proof, Quota,
    Retention, Submission, Telemetry,
};

/// All settings of an agent. None is invalid.
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
    /// What is likely to be a mistake, and is taken all the same, each with its file or variable and key.
    pub warnings: Vec<String>,
}

/// Every fault of a configuration at once, each with its file or variable and key.
#[derive(Clone, Debug, Error)]
#[error("the configuration is wrong:\n  {}", .0.join("\n  "))]
pub struct ConfigError(pub Vec<String>);
