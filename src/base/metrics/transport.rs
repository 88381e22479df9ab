//! Connections to the gRPC port, the credentials of the server and its callers, and clients that were throttled.

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
    for reason in CloseReason::ALL {
        counter!(CONNECTIONS_CLOSED, "reason" => reason.label()).increment(0);
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
        "When the first of the lists of revoked certificates (client_crl) should be replaced, in seconds since the Unix epoch."
    );
    describe_counter!(
        EVENTS_THROTTLED,
        "Events of requests that were refused whole, since their client sent more than its events_per_second."
    );
    describe_gauge!(CONNECTIONS, "Connections to the gRPC port.");
    describe_counter!(
        CONNECTIONS_CLOSED,
        "Connections that the agent refused or closed, by reason (full, crowded_out, slow, stalled, flood, tls, withdrawn: the certificate was revoked)."
    );
}

/// Why a connection was refused or closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseReason {
    /// `limits.max_connections` is reached, and all connections are authenticated.
    Full,
    /// It was unauthenticated, and was evicted for a new connection.
    Evicted,
    /// The client did not complete TLS and begin HTTP/2 in time.
    HandshakeTimeout,
    /// The client took nothing of what waited for it.
    Stalled,
    /// The client sent frames without end that belong to no call.
    Flood,
    /// Its TLS handshake failed, for want of a valid client certificate say.
    Tls,
    /// Its certificate was revoked, has expired, or is no longer trusted.
    CertificateRevoked,
}

impl CloseReason {
    const ALL: [Self; 7] = [
        Self::Full,
        Self::Evicted,
        Self::HandshakeTimeout,
        Self::Stalled,
        Self::Flood,
        Self::Tls,
        Self::CertificateRevoked,
    ];

    /// The value of the label `reason`. Alerts and dashboards name it, so it does not follow the variant's name.
    const fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Evicted => "crowded_out",
            Self::HandshakeTimeout => "slow",
            Self::Stalled => "stalled",
            Self::Flood => "flood",
            Self::Tls => "tls",
            Self::CertificateRevoked => "withdrawn",
        }
    }
}

pub(crate) fn connection_closed(reason: CloseReason) {
    counter!(CONNECTIONS_CLOSED, "reason" => reason.label()).increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "a metric")]
pub(crate) fn connections(count: usize) {
    gauge!(CONNECTIONS).set(count as f64);
}

/// Counts the events of a request that was refused because of its client's `events_per_second`.
pub(crate) fn throttled(client: &str, events: u64) {
    counter!(EVENTS_THROTTLED, "client" => client.to_owned()).increment(events);
}

const LOADED: &str = "loaded";
const FAILED: &str = "failed";

/// Counts a change of certificate or token files. `is_good` tells whether it is in force.
pub(crate) fn credentials_loaded(is_good: bool) {
    counter!(CREDENTIALS_LOADED, "result" => if is_good { LOADED } else { FAILED }).increment(1);
}

#[expect(clippy::cast_precision_loss, reason = "a metric")]
pub(crate) fn credentials_stale(files: usize) {
    gauge!(CREDENTIALS_STALE).set(files as f64);
}

#[expect(clippy::cast_precision_loss, reason = "a metric")]
pub(crate) fn certificate_expires(file: &'static str, at: Timestamp) {
    gauge!(CERTIFICATE_EXPIRES, "file" => file).set(at.seconds() as f64);
}

#[expect(clippy::cast_precision_loss, reason = "a metric")]
pub(crate) fn crl_expires(at: Timestamp) {
    gauge!(CRL_EXPIRES).set(at.seconds() as f64);
}
