//! AWS's side of a call.

mod aws;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod scripted;
mod wire;

use std::{future::Future, pin::Pin, sync::Arc};

use crate::domain::{answer::Reply, record::Record, time::Timestamp};

pub use aws::{AwsMarketplace, Credentials};
pub use scripted::ScriptedMarketplace;

/// Records of one product and one identity mode, at most 25, no slot twice.
pub type Records = Vec<Arc<Record>>;

pub trait Marketplace: Send + Sync + 'static {
    /// Sends the records in one call, once. Retrying is the caller's business, so that every attempt is counted.
    fn send(&self, records: Records) -> Pin<Box<dyn Future<Output = Response> + Send + '_>>;
}

/// How a call ended, and when, by AWS's clock.
#[derive(Clone, Debug)]
pub struct Response {
    pub reply: Reply,
    /// Given with every answer, be it a refusal.
    pub date: Option<Timestamp>,
}

impl From<Reply> for Response {
    fn from(reply: Reply) -> Self {
        Self { reply, date: None }
    }
}
