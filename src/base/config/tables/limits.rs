//! `[limits]`: how much the agent takes on.

use std::{ops::RangeInclusive, time::Duration};

use super::{About, Section};
use crate::domain::customer::limits::CustomerLimits;

#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub customers: CustomerLimits,
    pub max_open_buckets: usize,
    /// Distinct subjects, all open hours together.
    pub max_open_subjects: u64,
    /// Tagged parts of open buckets, all together.
    pub max_open_tag_sets: usize,
    pub max_pending_events: usize,
    pub connections: ConnectionLimits,
}

/// What clients may take up before any of their usage counts.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    pub max_connections: usize,
    pub max_streams: u32,
    pub max_message_bytes: usize,
    /// The time from a connection until HTTP/2 has begun, TLS included.
    pub handshake_timeout: Duration,
    /// The time for a request, or a message of a stream, to arrive once it has begun.
    pub request_timeout: Duration,
    /// The time that answers may wait for a client that takes none, before its connection is closed.
    pub response_timeout: Duration,
    /// The time that a connection may be silent before it is asked whether it is still there.
    pub keepalive_interval: Duration,
    /// The time for its answer, before it is closed.
    pub keepalive_timeout: Duration,
}

const TIMEOUTS: RangeInclusive<&str> = "1s"..="1h";

const ABOUT: About = About {
    words: "How much the agent takes on. Anything beyond a limit is refused, and the answer names the limit.",
    example: r#"
[limits]
max_customers = 100000
max_unverified_customers = 10000
max_new_customers_per_hour = 10000
max_open_buckets = 2000000
max_open_subjects = 20000000
max_open_tag_sets = 500000
max_pending_events = 1000000
max_connections = 1000
max_streams_per_connection = 256
max_message_bytes = 16777216
handshake_timeout = "10s"
request_timeout = "30s"
response_timeout = "1m"
keepalive_interval = "30s"
keepalive_timeout = "20s"
"#,
};

pub(super) fn read(root: &mut Section<'_>) -> Limits {
    let mut section = root.section("limits", &ABOUT);
    let limits = Limits {
        customers: read_customer_limits(&mut section),
        max_open_buckets: section
            .key(
                "max_open_buckets",
                "Open buckets: one for each customer, dimension and open hour with usage",
            )
            .integer(2_000_000, 1..=100_000_000),
        max_open_subjects: section
            .key("max_open_subjects", "Distinct subjects in open hours, for `unique`; each is a key on disk")
            .integer(20_000_000, 1..=10_000_000_000),
        max_open_tag_sets: section
            .key("max_open_tag_sets", "Sets of tags in open hours; usage beyond it is billed untagged")
            .integer(500_000, 1..=100_000_000),
        max_pending_events: section
            .key(
                "max_pending_events",
                "Events that wait for a commit. Beyond it, calls are refused with `RESOURCE_EXHAUSTED`, and \
                 streams are read more slowly",
            )
            .integer(1_000_000, 1..=100_000_000),
        connections: read_connection_limits(&mut section),
    };
    root.put("limits", section);
    limits
}

fn read_customer_limits(section: &mut Section<'_>) -> CustomerLimits {
    const MOST: RangeInclusive<usize> = 1..=10_000_000;
    let most = section
        .key(
            "max_customers",
            "Known customers, all products together. A tenth is kept for customers that are registered: usage alone \
             names no more than the rest",
        )
        .integer(100_000, MOST);
    let a_tenth = most.div_ceil(10);
    let most_unverified = section
        .key(
            "max_unverified_customers",
            "Customers that the usage of one `[[grpc.client]]` has named, and of which AWS has accepted nothing yet",
        )
        .default_words("a tenth of `max_customers`")
        .integer(a_tenth, MOST);
    let most_new = section
        .key(
            "max_new_customers_per_hour",
            "Customers that the usage of one `[[grpc.client]]` may name anew in an hour",
        )
        .default_words("a tenth of `max_customers`")
        .integer(a_tenth, MOST);
    CustomerLimits { most, most_unverified, most_new }
}

fn read_connection_limits(section: &mut Section<'_>) -> ConnectionLimits {
    ConnectionLimits {
        max_connections: section
            .key(
                "max_connections",
                "gRPC connections. At the limit, a new connection replaces one that has made no call yet",
            )
            .integer(500, 1..=100_000),
        max_streams: section
            .key("max_streams_per_connection", "Calls and streams under way on one connection")
            .integer(256, 1..=10_000),
        max_message_bytes: section
            .key(
                "max_message_bytes",
                "The size in bytes of a request, or of a message of a stream. A longer one is refused",
            )
            .integer(16 << 20, 64 << 10..=256 << 20),
        handshake_timeout: section
            .key("handshake_timeout", "How long a connection may take to begin, TLS included")
            .duration("10s", TIMEOUTS),
        request_timeout: section
            .key("request_timeout", "How long a message may take to arrive, once it has begun")
            .duration("30s", TIMEOUTS),
        response_timeout: section
            .key(
                "response_timeout",
                "How long answers may wait for a client that takes none, before its connection is closed",
            )
            .duration("1m", TIMEOUTS),
        keepalive_interval: section
            .key(
                "keepalive_interval",
                "How long a connection may be silent before it is asked whether it is still there",
            )
            .duration("30s", TIMEOUTS),
        keepalive_timeout: section
            .key("keepalive_timeout", "How long the answer to that may take before the connection is closed")
            .duration("20s", TIMEOUTS),
    }
}
