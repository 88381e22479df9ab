//! AWS's time: the `Date` header of its answers.

use std::sync::{Arc, OnceLock};

use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{Intercept, context::BeforeDeserializationInterceptorContextRef, dyn_dispatch_hint},
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::{DateTime, config_bag::ConfigBag, date_time::Format};

use crate::domain::time::Timestamp;

/// Keeps the `Date` of one call's answer, be it a refusal: the SDK's outputs do not show it.
#[derive(Clone, Debug, Default)]
pub(in crate::aws) struct DateReader(Arc<OnceLock<Timestamp>>);

impl DateReader {
    pub(in crate::aws) fn date(&self) -> Option<Timestamp> {
        self.0.get().copied()
    }
}

#[dyn_dispatch_hint]
impl Intercept for DateReader {
    fn name(&self) -> &'static str {
        "DateReader"
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(date) = context.response().headers().get("date").and_then(parse) {
            self.0.get_or_init(|| date);
        }
        Ok(())
    }
}

fn parse(header: &str) -> Option<Timestamp> {
    let date = DateTime::from_str(header, Format::HttpDate).ok()?;
    Some(Timestamp::from_seconds(date.secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_read_as_http_writes_it() {
        let date = "2026-11-22T10:30:05Z".parse().unwrap();
        assert_eq!(parse("Sun, 22 Nov 2026 10:30:05 GMT"), Some(date));
        for header in
            ["", "2026-11-22T10:30:05Z", "Sun, 22 Nov 2026 10:30:05 +0100", "Sun, 41 Nov 2026 10:30:05 GMT"]
        {
            assert_eq!(parse(header), None, "{header}");
        }
    }
}
