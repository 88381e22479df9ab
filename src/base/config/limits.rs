//! `[limits]`: how much the agent takes on.

use super::{ConnectionLimits, Limits, reader::Section};

pub(super) fn read_limits(root: &mut Section<'_>) -> Limits {
    let mut section = root.section("limits");
    let max_open_subjects = section.integer("max_open_subjects", 20_000_000, (1, 10_000_000_000));
    let connections = read_connection_limits(&mut section);
    let mut limit =
        |key, default, most| usize::try_from(section.integer(key, default, (1, most))).unwrap_or(usize::MAX);
    let limits = Limits {
        max_customers: limit("max_customers", 100_000, 10_000_000),
        max_open_buckets: limit("max_open_buckets", 2_000_000, 100_000_000),
        max_open_subjects,
        max_open_tag_sets: limit("max_open_tag_sets", 500_000, 100_000_000),
        max_pending_events: limit("max_pending_events", 1_000_000, 100_000_000),
        connections,
    };
    root.put("limits", section);
    limits
}

fn read_connection_limits(section: &mut Section<'_>) -> ConnectionLimits {
    let mut time = |key, default| section.duration(key, default, ("1s", "1h"));
    let (handshake_timeout, request_timeout) =
        (time("handshake_timeout", "10s"), time("request_timeout", "30s"));
    let (keepalive_interval, keepalive_timeout) =
        (time("keepalive_interval", "30s"), time("keepalive_timeout", "20s"));
    let mut limit = |key, default, bounds| section.integer(key, default, bounds);
    let max_connections = limit("max_connections", 500, (1, 100_000));
    let max_streams = limit("max_streams_per_connection", 256, (1, 10_000));
    let max_message_bytes = limit("max_message_bytes", 16 << 20, (64 << 10, 256 << 20));
    ConnectionLimits {
        max_connections: usize::try_from(max_connections).unwrap_or(usize::MAX),
        max_streams: u32::try_from(max_streams).unwrap_or(u32::MAX),
        max_message_bytes: usize::try_from(max_message_bytes).unwrap_or(usize::MAX),
        handshake_timeout,
        request_timeout,
        keepalive_interval,
        keepalive_timeout,
    }
}
