//! The operations that the sandbox offers, by the header `X-Amz-Target`.

use serde_json::Value;

use super::{
    context::Context,
    exception::{Exception, Kind},
    metering::{self, Metering},
};

/// The state of every service.
#[derive(Debug, Default)]
pub(super) struct Services {
    pub(super) metering: Metering,
}

/// One operation of a service.
pub(super) struct Operation {
    target: &'static str,
    /// The service's name in signatures.
    pub(super) signing_name: &'static str,
    /// Answers a request's body.
    pub(super) run: fn(&mut Services, &[u8], Context<'_>) -> Result<Value, Exception>,
}

/// A new operation is one entry here; a new service is also a field of [`Services`].
static OPERATIONS: [Operation; 1] = [Operation {
    target: metering::BATCH_METER_USAGE,
    signing_name: metering::SIGNING_NAME,
    run: |services, body, context| services.metering.batch_meter_usage(body, context),
}];

pub(super) fn find(target: Option<&str>) -> Result<&'static Operation, Exception> {
    let target =
        target.ok_or_else(|| Kind::UnknownOperation.because("the header X-Amz-Target is missing"))?;
    let operation = OPERATIONS.iter().find(|operation| operation.target == target);
    operation.ok_or_else(|| Kind::UnknownOperation.because(format!("the sandbox does not offer `{target}`")))
}
