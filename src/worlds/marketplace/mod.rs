//! AWS's side of a call.

mod aws;
mod scripted;
mod wire;

use std::{future::Future, pin::Pin, sync::Arc};

use crate::domain::{answer::Reply, record::Record};

pub use aws::{AwsMarketplace, Credentials};
pub use scripted::ScriptedMarketplace;

/// Records of one product and one identity mode, at most 25, no slot twice.
pub type Records = Vec<Arc<Record>>;

pub trait Marketplace: Send + Sync + 'static {
    /// Sends the records in one call, once. Retrying is the caller's business, so that every attempt is counted.
    fn send(&self, records: Records) -> Pin<Box<dyn Future<Output = Reply> + Send + '_>>;
}
