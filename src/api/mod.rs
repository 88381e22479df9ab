//! The gRPC interface: parses, calls, answers. No state of its own.

pub(crate) mod activity;
mod adjustments;
pub(crate) mod agent_handle;
pub(crate) mod audit;
pub(crate) mod customers;
mod errors;
pub(crate) mod ledger;
pub(crate) mod moves;
pub(crate) mod not_billable;
mod request_fields;
pub(crate) mod review;
pub(crate) mod server;
pub(crate) mod summary;
pub(crate) mod transport;
pub(crate) mod usage;
