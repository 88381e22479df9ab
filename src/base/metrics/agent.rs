//! The agent itself: its clock, its store and disk, and its traces.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, gauge};

use crate::base::disk::Room;

const CLOCK_SKEW: &str = "tallyman_clock_skew_seconds";
const CLOCK_TOLD: &str = "tallyman_clock_told";
const SEALED_AHEAD: &str = "tallyman_sealed_ahead_seconds";
const STORE_BYTES: &str = "tallyman_store_bytes";
const DISK_BYTES: &str = "tallyman_disk_bytes";
const DISK_AVAILABLE: &str = "tallyman_disk_available_bytes";
const STORE_FAILED: &str = "tallyman_store_failed";
const SPANS: &str = "tallyman_spans_total";
const BUILD_INFO: &str = "tallyman_build_info";

pub(super) fn begin() {
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    gauge!(STORE_FAILED).set(0.0);
    for fate in [SpanFate::Made, SpanFate::Sent, SpanFate::Lost] {
        spans(0, fate);
    }
}

pub(super) fn describe() {
    describe_gauge!(
        CLOCK_SKEW,
        "Seconds by which the clock is ahead of the time (behind: negative) while no hour is sealed for it, else 0."
    );
    describe_gauge!(
        CLOCK_TOLD,
        "1 once AWS has told the time since the start, else 0: until then no hour is sealed."
    );
    describe_gauge!(
        SEALED_AHEAD,
        "Seconds from now until the end of the last sealed hour if a wrong clock has sealed it too early, else 0."
    );
    describe_gauge!(STORE_BYTES, "Bytes of the store's table files.");
    describe_gauge!(DISK_BYTES, "Size of the disk that the data folder is on.");
    describe_gauge!(DISK_AVAILABLE, "What the agent may still write on that disk.");
    describe_gauge!(STORE_FAILED, "1 once the store has failed and nothing is taken any more.");
    describe_counter!(
        SPANS,
        "Spans for the trace collector by fate (made, sent, lost); what is made and neither waits, or found no room to."
    );
    describe_gauge!(BUILD_INFO, "Always 1; the label tells the version.");
}

pub(crate) fn store_failed() {
    gauge!(STORE_FAILED).set(1.0);
}

#[expect(clippy::cast_precision_loss, reason = "a metric")]
pub(crate) fn clock_skew(seconds: i64) {
    gauge!(CLOCK_SKEW).set(seconds as f64);
}

pub(crate) fn clock_told(is_told: bool) {
    gauge!(CLOCK_TOLD).set(f64::from(u8::from(is_told)));
}

pub(crate) fn sealed_ahead(ahead: Duration) {
    gauge!(SEALED_AHEAD).set(ahead.as_secs_f64());
}

#[expect(clippy::cast_precision_loss, reason = "a metric")]
pub(crate) fn store_bytes(bytes: u64) {
    gauge!(STORE_BYTES).set(bytes as f64);
}

#[expect(clippy::cast_precision_loss, reason = "metrics")]
pub(crate) fn disk(room: Room) {
    gauge!(DISK_BYTES).set(room.bytes as f64);
    gauge!(DISK_AVAILABLE).set(room.available as f64);
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum SpanFate {
    Made,
    Sent,
    Lost,
}

/// Counts spans by what became of them.
pub(crate) fn spans(count: usize, fate: SpanFate) {
    let fate = match fate {
        SpanFate::Made => "made",
        SpanFate::Sent => "sent",
        SpanFate::Lost => "lost",
    };
    counter!(SPANS, "fate" => fate).increment(count as u64);
}
