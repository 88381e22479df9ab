//! The metrics: their names in one place, and one function per event.
//!
//! No label ever carries a customer.

use std::time::Duration;

use metrics::{Counter, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use super::disk::Room;
use crate::domain::{
    answer::Reply,
    record::{HoldReason, Outcome},
    time::{Hour, Timestamp},
    usage::Counts,
};

const EVENTS: &str = "tallyman_events_total";
const EVENTS_LATE: &str = "tallyman_events_late_total";
const EVENTS_UNTAGGED: &str = "tallyman_events_untagged_total";
const EVENTS_REFUSED: &str = "tallyman_events_refused_total";
const COMMIT_SECONDS: &str = "tallyman_commit_seconds";
const COMMIT_EVENTS: &str = "tallyman_commit_events";
const OPEN_BUCKETS: &str = "tallyman_open_buckets";
const SEALED_THROUGH: &str = "tallyman_sealed_through_timestamp_seconds";
const RECORDS_UNSENT: &str = "tallyman_records_unsent";
const OLDEST_UNSENT: &str = "tallyman_oldest_unsent_seconds";
const DEADLINE: &str = "tallyman_deadline_seconds";
const UNSENT_UNITS: &str = "tallyman_unsent_units";
const RECORDS_HELD: &str = "tallyman_records_held";
const RECORDS_SETTLED: &str = "tallyman_records_settled_total";
const SUBMISSIONS: &str = "tallyman_submissions_total";
const SUBMISSION_SECONDS: &str = "tallyman_submission_seconds";
const LAST_SUCCESS: &str = "tallyman_last_success_timestamp_seconds";
const QUIET: &str = "tallyman_quiet_seconds";
const CLOCK_SKEW: &str = "tallyman_clock_skew_seconds";
const STORE_BYTES: &str = "tallyman_store_bytes";
const DISK_BYTES: &str = "tallyman_disk_bytes";
const DISK_AVAILABLE: &str = "tallyman_disk_available_bytes";
const STORE_FAILED: &str = "tallyman_store_failed";
const CREDENTIALS_LOADED: &str = "tallyman_credentials_reloads_total";
const CREDENTIALS_STALE: &str = "tallyman_credentials_stale";
const CERTIFICATE_EXPIRES: &str = "tallyman_certificate_expiry_timestamp_seconds";
const CRL_EXPIRES: &str = "tallyman_crl_expiry_timestamp_seconds";
const EVENTS_THROTTLED: &str = "tallyman_events_throttled_total";
const CONNECTIONS: &str = "tallyman_connections";
const CONNECTIONS_CLOSED: &str = "tallyman_connections_closed_total";
const SPANS: &str = "tallyman_spans_total";
const BUILD_INFO: &str = "tallyman_build_info";

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
    describe();
    gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    gauge!(STORE_FAILED).set(0.0);
    for fate in [SpanFate::Made, SpanFate::Sent, SpanFate::Lost] {
        spans(0, fate);
    }
    for result in [LOADED, FAILED] {
        counter!(CREDENTIALS_LOADED, "result" => result).increment(0);
    }
    gauge!(CREDENTIALS_STALE).set(0.0);
    for why in Closed::ALL {
        counter!(CONNECTIONS_CLOSED, "reason" => why.name()).increment(0);
    }
    connections(0);
    refused(0);
    strangers_rejected(0);
    Some(handle)
}

fn describe() {
    describe_counter!(EVENTS, "Usage events by result (accepted, duplicate, rejected).");
    describe_counter!(
        EVENTS_LATE,
        "Accepted events that were counted in a later hour, since theirs was sealed."
    );
    describe_counter!(
        EVENTS_UNTAGGED,
        "Accepted events that are billed untagged, since their tags found no room."
    );
    describe_counter!(
        EVENTS_REFUSED,
        "Events of requests that were refused whole (RESOURCE_EXHAUSTED), since too many waited for a commit."
    );
    describe_histogram!(COMMIT_SECONDS, "Time to write and sync one group of requests.");
    describe_histogram!(COMMIT_EVENTS, "Events in one commit.");
    describe_gauge!(OPEN_BUCKETS, "Buckets of hours that are not sealed.");
    describe_gauge!(
        SEALED_THROUGH,
        "The end of the last hour that is sealed, in seconds since the Unix epoch."
    );
    describe_gauge!(RECORDS_UNSENT, "Sealed records that AWS has not accepted yet.");
    describe_gauge!(
        OLDEST_UNSENT,
        "Seconds since the end of the oldest hour that is over and not all with AWS, sealed or not; 0 if there is none."
    );
    describe_gauge!(
        DEADLINE,
        "Seconds until AWS refuses what waits, sealed or of an hour that is over; +Inf if nothing waits."
    );
    describe_gauge!(UNSENT_UNITS, "Usage in unsent records, in base units.");
    describe_gauge!(RECORDS_HELD, "Records that wait for a person, by reason.");
    describe_counter!(
        RECORDS_SETTLED,
        "Records by outcome (accepted, presumed, held, rolled_forward, expired, carried, written_off)."
    );
    describe_counter!(SUBMISSIONS, "Calls to BatchMeterUsage by result.");
    describe_histogram!(SUBMISSION_SECONDS, "Time until AWS answered a call.");
    describe_gauge!(LAST_SUCCESS, "When AWS last accepted a record, in seconds since the Unix epoch.");
    describe_gauge!(QUIET, "Seconds since the last usage event was accepted.");
    describe_gauge!(
        CLOCK_SKEW,
        "Seconds by which the clock is ahead of the time (behind: negative) while no hour is sealed for it, else 0."
    );
    describe_gauge!(STORE_BYTES, "Bytes of the store's table files.");
    describe_gauge!(DISK_BYTES, "Size of the disk that the data folder is on.");
    describe_gauge!(DISK_AVAILABLE, "What the agent may still write on that disk.");
    describe_gauge!(STORE_FAILED, "1 once the store has failed and nothing is taken any more.");
    describe_surroundings();
}

/// Of callers, and of the agent itself.
fn describe_surroundings() {
    describe_counter!(
        CREDENTIALS_LOADED,
        "Changes of certificate and token files that were noticed, by result (loaded, failed)."
    );
    describe_gauge!(
        CREDENTIALS_STALE,
        "Files of certificates or tokens that are broken or gone, so that what they held before is in force."
    );
    describe_gauge!(
        CERTIFICATE_EXPIRES,
        "When the agent's certificate (file=\"cert\") or its clients' authority (\"client_ca\") ends, in seconds since the Unix epoch."
    );
    describe_gauge!(
        CRL_EXPIRES,
        "When the first of the lists of withdrawn certificates (client_crl) should be replaced, in seconds since the Unix epoch."
    );
    describe_counter!(
        EVENTS_THROTTLED,
        "Events of requests that were refused whole, since their client sent more than its events_per_second."
    );
    describe_gauge!(CONNECTIONS, "Connections to the gRPC port.");
    describe_counter!(
        CONNECTIONS_CLOSED,
        "Connections that the agent did not take or closed, by reason (full, crowded_out, slow, tls, withdrawn)."
    );
    describe_gauge!(BUILD_INFO, "Always 1; the label tells the version.");
    describe_counter!(
        SPANS,
        "Spans for the trace collector by fate (made, sent, lost); one that is made and neither of the others still waits."
    );
}

/// The counters of a product's events. Looked up once, since each request adds to them.
#[derive(Clone, Debug)]
pub struct EventCounters {
    accepted: Counter,
    duplicates: Counter,
    rejected: Counter,
    late: Counter,
    untagged: Counter,
}

impl EventCounters {
    pub fn of(product: &str) -> Self {
        let result = |result| counter!(EVENTS, "result" => result, "product" => product.to_owned());
        Self {
            accepted: result("accepted"),
            duplicates: result("duplicate"),
            rejected: result("rejected"),
            late: counter!(EVENTS_LATE, "product" => product.to_owned()),
            untagged: counter!(EVENTS_UNTAGGED, "product" => product.to_owned()),
        }
    }

    pub fn add(&self, counts: Counts) {
        self.accepted.increment(counts.accepted);
        self.duplicates.increment(counts.duplicates);
        self.rejected.increment(counts.rejected);
        self.late.increment(counts.late);
        self.untagged.increment(counts.untagged);
    }
}

/// A product's counters of records and calls exist from the start, or the first of a kind would not show as growth.
pub fn announce(product: &str) {
    for outcome in OUTCOMES {
        counter!(RECORDS_SETTLED, "product" => product.to_owned(), "outcome" => outcome).increment(0);
    }
    for result in RESULTS {
        counter!(SUBMISSIONS, "product" => product.to_owned(), "result" => result).increment(0);
    }
}

/// Events of a request for which there was no room. Its products do not matter: it is refused before any is looked at.
pub fn refused(events: u64) {
    counter!(EVENTS_REFUSED).increment(events);
}

/// Events of no product of ours.
pub fn strangers_rejected(events: u64) {
    counter!(EVENTS, "result" => "rejected", "product" => "").increment(events);
}

#[expect(clippy::cast_precision_loss, reason = "a metric")]
pub fn committed(events: usize, took: Duration, open_buckets: usize) {
    histogram!(COMMIT_SECONDS).record(took);
    histogram!(COMMIT_EVENTS).record(events as f64);
    gauge!(OPEN_BUCKETS).set(open_buckets as f64);
}

pub fn store_failed() {
    gauge!(STORE_FAILED).set(1.0);
}

const ANSWERED: &str = "answered";
const THROTTLED: &str = "throttled";
const NOT_DELIVERED: &str = "not_delivered";
const LOST: &str = "lost";
const BAD_RECORD: &str = "bad_record";
const SETUP: &str = "setup";
const RESULTS: [&str; 6] = [ANSWERED, THROTTLED, NOT_DELIVERED, LOST, BAD_RECORD, SETUP];

pub fn submitted(product: &str, reply: &Reply, took: Duration) {
    counter!(SUBMISSIONS, "product" => product.to_owned(), "result" => result_of(reply)).increment(1);
    histogram!(SUBMISSION_SECONDS).record(took);
}

pub fn result_of(reply: &Reply) -> &'static str {
    match reply {
        Reply::Answered(_) => ANSWERED,
        Reply::Throttled => THROTTLED,
        Reply::NotDelivered(_) => NOT_DELIVERED,
        Reply::Lost(_) => LOST,
        Reply::BadRecord(_) | Reply::TooOld(_) => BAD_RECORD,
        Reply::Setup(_) => SETUP,
    }
}

const ACCEPTED: &str = "accepted";
const PRESUMED: &str = "presumed";
const HELD: &str = "held";
const ROLLED_FORWARD: &str = "rolled_forward";
const EXPIRED: &str = "expired";
const CARRIED: &str = "carried";
const WRITTEN_OFF: &str = "written_off";
const OUTCOMES: [&str; 7] = [ACCEPTED, PRESUMED, HELD, ROLLED_FORWARD, EXPIRED, CARRIED, WRITTEN_OFF];

pub fn settled(product: &str, outcome: &Outcome) {
    let outcome = match outcome {
        Outcome::Accepted { presumed: false, .. } => ACCEPTED,
        Outcome::Accepted { presumed: true, .. } => PRESUMED,
        Outcome::Held { .. } => HELD,
        Outcome::RolledForward { .. } => ROLLED_FORWARD,
        Outcome::Expired => EXPIRED,
        Outcome::Carried { .. } => CARRIED,
        Outcome::WrittenOff => WRITTEN_OFF,
    };
    counter!(RECORDS_SETTLED, "product" => product.to_owned(), "outcome" => outcome).increment(1);
}

/// A product's state, read when someone asks for the metrics.
#[derive(Clone, Debug, Default)]
pub struct ProductGauges {
    pub product: String,
    pub records_unsent: u64,
    pub oldest_unsent: Duration,
    /// `None` if nothing waits.
    pub deadline: Option<Duration>,
    /// Base units by dimension.
    pub unsent_units: Vec<(String, u128)>,
    pub held: Vec<(HoldReason, u64)>,
    pub last_success: Option<i64>,
    pub quiet: Option<Duration>,
}

#[expect(clippy::cast_precision_loss, reason = "metrics")]
pub fn product(gauges: &ProductGauges) {
    let product = || gauges.product.clone();
    gauge!(RECORDS_UNSENT, "product" => product()).set(gauges.records_unsent as f64);
    gauge!(OLDEST_UNSENT, "product" => product()).set(gauges.oldest_unsent.as_secs_f64());
    let deadline = gauges.deadline.map_or(f64::INFINITY, |left| left.as_secs_f64());
    gauge!(DEADLINE, "product" => product()).set(deadline);
    for (dimension, units) in &gauges.unsent_units {
        gauge!(UNSENT_UNITS, "product" => product(), "dimension" => dimension.clone()).set(*units as f64);
    }
    for reason in HoldReason::ALL {
        let held = gauges.held.iter().find(|(held, _)| *held == reason).map_or(0, |(_, count)| *count);
        gauge!(RECORDS_HELD, "product" => product(), "reason" => reason.name()).set(held as f64);
    }
    if let Some(seconds) = gauges.last_success {
        gauge!(LAST_SUCCESS, "product" => product()).set(seconds as f64);
    }
    if let Some(quiet) = gauges.quiet {
        gauge!(QUIET, "product" => product()).set(quiet.as_secs_f64());
    }
}

#[expect(clippy::cast_precision_loss, reason = "a metric")]
pub fn clock_skew(seconds: i64) {
    gauge!(CLOCK_SKEW).set(seconds as f64);
}

#[expect(clippy::cast_precision_loss, reason = "a metric")]
pub fn store_bytes(bytes: u64) {
    gauge!(STORE_BYTES).set(bytes as f64);
}

#[expect(clippy::cast_precision_loss, reason = "metrics")]
pub fn disk(room: Room) {
    gauge!(DISK_BYTES).set(room.bytes as f64);
    gauge!(DISK_AVAILABLE).set(room.available as f64);
}

/// Why a connection was not taken, or was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// All places are taken by those that have proven themselves.
    Full,
    /// It had not proven itself, and another needed its place.
    CrowdedOut,
    /// It did not begin in time.
    Slow,
    /// It does not speak TLS, or has no certificate that is asked for.
    Tls,
    /// Its certificate is not taken any more.
    Withdrawn,
}

impl Closed {
    const ALL: [Self; 5] = [Self::Full, Self::CrowdedOut, Self::Slow, Self::Tls, Self::Withdrawn];

    const fn name(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::CrowdedOut => "crowded_out",
            Self::Slow => "slow",
            Self::Tls => "tls",
            Self::Withdrawn => "withdrawn",
        }
    }
}

pub fn connection_closed(why: Closed) {
    counter!(CONNECTIONS_CLOSED, "reason" => why.name()).increment(1);
}

#[derive(Clone, Copy, Debug)]
pub enum SpanFate {
    Made,
    Sent,
    Lost,
}

/// For a trace collector.
pub fn spans(count: usize, fate: SpanFate) {
    let fate = match fate {
        SpanFate::Made => "made",
        SpanFate::Sent => "sent",
        SpanFate::Lost => "lost",
    };
    counter!(SPANS, "fate" => fate).increment(count as u64);
}

#[expect(clippy::cast_precision_loss, reason = "a metric")]
pub fn connections(count: usize) {
    gauge!(CONNECTIONS).set(count as f64);
}

/// Events of a client that sent more than it may.
pub fn throttled(client: &str, events: u64) {
    counter!(EVENTS_THROTTLED, "client" => client.to_owned()).increment(events);
}

const LOADED: &str = "loaded";
const FAILED: &str = "failed";

/// Files of certificates or tokens have changed.
pub fn credentials_loaded(is_good: bool) {
    counter!(CREDENTIALS_LOADED, "result" => if is_good { LOADED } else { FAILED }).increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "a metric")]
pub fn credentials_stale(files: usize) {
    gauge!(CREDENTIALS_STALE).set(files as f64);
}

#[expect(clippy::cast_precision_loss, reason = "a metric")]
pub fn certificate_expires(file: &'static str, at: Timestamp) {
    gauge!(CERTIFICATE_EXPIRES, "file" => file).set(at.seconds() as f64);
}

#[expect(clippy::cast_precision_loss, reason = "a metric")]
pub fn crl_expires(at: Timestamp) {
    gauge!(CRL_EXPIRES).set(at.seconds() as f64);
}

#[expect(clippy::cast_precision_loss, reason = "a metric")]
pub fn sealed_through(hour: Hour) {
    gauge!(SEALED_THROUGH).set(hour.end().seconds() as f64);
}
