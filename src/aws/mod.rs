//! AWS, reached through its SDK: what all services share, and each service behind a trait of its own.
//!
//! Types of the SDK do not leave this folder.

pub(crate) mod metering;
pub(crate) mod session;
