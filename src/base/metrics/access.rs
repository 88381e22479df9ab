//! Who calls: connections, and what callers prove themselves with.

use metrics::{counter, describe_counter, describe_gauge, gauge};

use crate::domain::time::Timestamp;

const CREDENTIALS_LOADED: &str = "tallyman_credentials_reloads_total";
const CREDENTIALS_STALE: &str = "tallyman_credentials_stale";
const CERTIFICATE_EXPIRES: &str = "tallyman_certificate_expiry_timestamp_seconds";
const CRL_EXPIRES: &str = "tallyman_crl_expiry_timestamp_seconds";
const EVENTS_THROTTLED: &str = "tallyman_events_throttled_total";
const CONNECTIONS: &str = "tallyman_connections";
const CONNECTIONS_CLOSED: &str = "tallyman_connections_closed_total";

pub(super) fn begin() {
    for result in [LOADED, FAILED] {
        counter!(CREDENTIALS_LOADED, "result" => result).increment(0);
    }
    credentials_stale(0);
    for why in Closed::ALL {
        counter!(CONNECTIONS_CLOSED, "reason" => why.name()).increment(0);
    }
    connections(0);
}

pub(super) fn describe() {
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
