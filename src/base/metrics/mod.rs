//! The metrics: their names, and one function per event.
//!
//! No label ever carries a customer.

mod access;
mod agent;
mod events;
mod records;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

pub use access::{
    Closed, certificate_expires, connection_closed, connections, credentials_loaded, credentials_stale,
    crl_expires, throttled,
};
pub use agent::{SpanFate, clock_skew, disk, spans, store_bytes, store_failed};
pub use events::{EventCounters, committed, refused, strangers_rejected};
pub use records::{ProductGauges, announce, product, result_of, sealed_through, settled, submitted};

/// Installs the process's recorder; a second agent in the same process shares it.
pub fn install() -> Option<PrometheusHandle> {
    const SECONDS: [f64; 12] = [0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];
    const EVENTS_PER_COMMIT: [f64; 7] = [1.0, 10.0, 100.0, 1000.0, 10_000.0, 50_000.0, 200_000.0];
    let suffix = |text: &str| Matcher::Suffix(text.to_owned());
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(suffix("_seconds"), &SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(suffix("commit_events"), &EVENTS_PER_COMMIT))
        .and_then(PrometheusBuilder::install_recorder)
        .ok()?;
    for describe in [access::describe, agent::describe, events::describe, records::describe] {
        describe();
    }
    // A counter that came with its first step would not show that step as growth.
    for begin in [access::begin, agent::begin, events::begin] {
        begin();
    }
    Some(handle)
}
