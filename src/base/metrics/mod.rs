//! The metrics: their names, and one function per event.
//!
//! No label ever carries a customer.

mod agent;
mod events;
mod records;
mod streams;
mod transport;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

#[cfg(feature = "otlp")]
pub(crate) use agent::{SpanFate, spans};
pub(crate) use agent::{clock_skew, clock_told, disk, sealed_ahead, store_bytes, store_failed};
pub(crate) use events::{EventCounters, committed, refused, unknown_product_rejected};
pub(crate) use records::{
    ProductGauges, announce, product, quantity_capped, result_of, sealed_through, settled, submitted,
};
pub(crate) use streams::{stream_refused, stream_repeated};
pub(crate) use transport::{
    CloseReason, certificate_expires, connection_closed, connections, credentials_loaded, credentials_stale,
    crl_expires, throttled,
};

/// Installs the process's recorder; a second agent in the same process shares it.
pub(crate) fn install() -> Option<PrometheusHandle> {
    const SECONDS: [f64; 12] = [0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
    const EVENTS_PER_COMMIT: [f64; 7] = [1.0, 10.0, 100.0, 1000.0, 10_000.0, 50_000.0, 200_000.0];
    let suffix = |text: &str| Matcher::Suffix(text.to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(suffix("_seconds"), &SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(suffix("commit_events"), &EVENTS_PER_COMMIT))
        .and_then(PrometheusBuilder::install_recorder)
        .ok()?;
    for describe in
        [transport::describe, agent::describe, events::describe, records::describe, streams::describe]
    {
        describe();
    }
    // A counter that came with its first step would not show that step as growth.
    for begin in [transport::begin, agent::begin, events::begin, streams::begin] {
        begin();
    }
    Some(handle)
}
