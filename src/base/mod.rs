//! Small things that the rest stands on, each usable alone.

pub(crate) mod clock;
pub(crate) mod config;
pub(crate) mod disk;
pub(crate) mod files;
pub(crate) mod http;
pub(crate) mod metrics;
pub(crate) mod open_files;
pub(crate) mod preflight;
pub(crate) mod proto;
pub(crate) mod sabotage;
pub(crate) mod tasks;
pub(crate) mod telemetry;
pub(crate) mod x509;
