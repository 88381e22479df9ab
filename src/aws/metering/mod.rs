//! The metering service: `BatchMeterUsage`, by the SDK or by a test's script.

mod client;
mod endpoint;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod reply;
mod request;
mod scripted;

use std::{future::Future, pin::Pin, sync::Arc};

use crate::domain::{
    billing::{answer::Reply, record::Record},
    time::Timestamp,
};

pub(crate) use client::AwsMetering;
pub(crate) use endpoint::Endpoint;
pub use scripted::ScriptedMetering;

/// Records of one product and one identity mode, at most 25, no slot twice.
pub(crate) type RecordBatch = Vec<Arc<Record>>;

pub trait MeteringService: Send + Sync + 'static {
    /// Sends the records in one call, once. Retrying is the caller's business, so that every attempt is counted.
    fn send(&self, records: RecordBatch) -> Pin<Box<dyn Future<Output = Response> + Send + '_>>;

    /// Asks for AWS's time alone, which needs no credentials. The reply is of use only if there is no date.
    fn time(&self) -> Pin<Box<dyn Future<Output = Response> + Send + '_>>;
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
