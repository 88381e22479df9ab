//! Times, spans, counts and absent values as the command line shows them.

use std::time::Duration;

use crate::domain::time::Timestamp;

/// A moment of the protocol, where 0 means none.
pub(super) fn moment(unix_seconds: i64) -> Option<Timestamp> {
    (unix_seconds != 0).then(|| Timestamp::from_seconds(unix_seconds))
}

/// The moment as RFC 3339, if there is one.
pub(super) fn rfc3339(unix_seconds: i64) -> Option<String> {
    moment(unix_seconds).map(|moment| moment.to_string())
}

/// Text of the protocol, where empty text means none.
pub(super) fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// An amount for a person: nothing where it is zero.
pub(super) fn unless_zero(amount: &str) -> String {
    if amount == "0" { String::new() } else { amount.to_owned() }
}

/// The name of a value of a protocol enum, in lower case.
pub(super) fn enum_name(name: &str) -> String {
    let name = if name.ends_with("_UNSPECIFIED") { "unspecified" } else { name };
    name.to_ascii_lowercase()
}

/// A span at a glance: its two largest parts.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / DAY, seconds % DAY / HOUR, seconds % HOUR / MINUTE);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m"),
        (0, _, 0) => format!("{hours}h"),
        (0, _, _) => format!("{hours}h {minutes}m"),
        (_, 0, _) => format!("{days}d"),
        _ => format!("{days}d {hours}h"),
    }
}

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// How long ago `then` was.
pub(super) fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", span(now.since(then)))
}

/// How much time is left until `deadline`.
pub(super) fn left(deadline: Timestamp, now: Timestamp) -> String {
    if deadline > now {
        format!("{} left", span(deadline.since(now)))
    } else {
        format!("missed {}", ago(deadline, now))
    }
}

/// `1 record`, `2 records`.
pub(super) fn count(number: u64, thing: &str) -> String {
    if number == 1 { format!("1 {thing}") } else { format!("{number} {thing}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_show_their_two_largest_parts() {
        let expected = [
            (0, "0s"),
            (59, "59s"),
            (60, "1m"),
            (3_599, "59m"),
            (3_600, "1h"),
            (4_320, "1h 12m"),
            (86_399, "23h 59m"),
            (86_400, "1d"),
            (90_000, "1d 1h"),
            (40 * 86_400 + 7_200, "40d 2h"),
        ];
        for (seconds, text) in expected {
            assert_eq!(span(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_deadline_is_time_left_until_it_is_missed() {
        let now = Timestamp::from_seconds(1_000_000);
        assert_eq!(left(Timestamp::from_seconds(1_000_000 + 82_080), now), "22h 48m left");
        assert_eq!(left(now, now), "missed 0s ago");
        assert_eq!(left(Timestamp::from_seconds(999_820), now), "missed 3m ago");
    }

    #[test]
    fn nothing_is_no_moment() {
        assert_eq!(rfc3339(0), None);
        assert_eq!(rfc3339(1_795_341_600).as_deref(), Some("2026-11-22T10:00:00Z"));
    }
}
