//! What stands in for traces in a tallyman that is built without them.
#![expect(
    clippy::unused_self,
    clippy::trivially_copy_pass_by_ref,
    clippy::unnecessary_wraps,
    reason = "it is called as `otlp` is"
)]

use tonic::codegen::http::HeaderMap;
use tracing::Span;
use tracing_subscriber::layer::Identity;

use crate::base::config;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Origin;

impl Origin {
    pub(crate) fn of(_: &HeaderMap) -> Self {
        Self
    }

    pub(crate) fn is_traced(&self) -> Option<bool> {
        None
    }

    pub(crate) fn continue_in(&self, _: &Span) {}

    pub(crate) fn link(&self, _: &Span) {}
}

#[derive(Debug)]
pub(crate) struct Traces;

impl Traces {
    /// The configuration has refused a collector already.
    pub(crate) fn start(_: &config::Telemetry, _: &str) -> Result<Self, String> {
        Ok(Self)
    }

    pub(crate) fn layer(&self) -> Option<Identity> {
        None
    }

    pub(crate) fn stop(self) -> impl Future<Output = ()> {
        std::future::ready(())
    }
}
