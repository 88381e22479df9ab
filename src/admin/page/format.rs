//! Numbers, times and names as people read them.

use std::{fmt, time::Duration};

use crate::domain::time::{Hour, Timestamp};

/// The number with a comma between thousands. What is no number stays as it is.
pub(super) fn grouped(number: impl fmt::Display) -> String {
    let digits = number.to_string();
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return digits;
    }
    let mut grouped = String::with_capacity(digits.len() * 4 / 3 + 1);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 record`, `2,000 records`.
pub(super) fn count(number: u64, what: &str) -> String {
    format!("{} {what}{}", grouped(number), if number == 1 { "" } else { "s" })
}

pub(super) fn records(number: u64) -> String {
    count(number, "record")
}

/// A span at a glance: its two largest parts, kept on one line.
pub(super) fn span(span: Duration) -> String {
    let seconds = span.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    let text = match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min"),
        (0, _, 0) => format!("{hours} h"),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (_, 0, _) => format!("{days} d"),
        _ => format!("{days} d {hours} h"),
    };
    text.replace(' ', "\u{a0}")
}

/// `3:12:45`: hours, minutes and seconds, as on a clock that counts down.
pub(super) fn countdown(left: Duration) -> String {
    let seconds = left.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// `12:00 UTC`, with the day if it is not today's.
pub(super) fn clock_time(moment: Timestamp, now: Timestamp) -> String {
    let is_today = moment.seconds().div_euclid(86_400) == now.seconds().div_euclid(86_400);
    let time = moment.to_string();
    let time = time.get(11..16).unwrap_or("--:--");
    if is_today { format!("{time} UTC") } else { format!("{time} UTC on {}", day(moment)) }
}

/// `12:00`
pub(super) fn hour_of_day(hour: Hour) -> String {
    hour.start().to_string().get(11..16).unwrap_or("--:--").to_owned()
}

/// `22 Nov`
pub(super) fn day(moment: Timestamp) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = moment.to_string();
    let month = text.get(5..7).and_then(|month| month.parse::<usize>().ok());
    let month = month.and_then(|month| MONTHS.get(month.checked_sub(1)?)).unwrap_or(&"");
    format!("{} {month}", text.get(8..10).unwrap_or("").trim_start_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (number, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(number), text);
        }
        assert_eq!(grouped("<b>"), "<b>");
        assert_eq!((records(1), records(2000)), ("1 record".to_owned(), "2,000 records".to_owned()));
    }

    #[test]
    fn times_are_told_as_people_do() {
        let now: Timestamp = "2026-12-01T00:30:00Z".parse().unwrap();
        let earlier: Timestamp = "2026-11-30T23:05:07Z".parse().unwrap();
        assert_eq!(clock_time(now, now), "00:30 UTC");
        assert_eq!(clock_time(earlier, now), "23:05 UTC on 30 Nov");
        assert_eq!(day(now), "1 Dec");
        assert_eq!(countdown(Duration::from_secs(11_565)), "3:12:45");
        let told = [5, 65, 3600, 3660, 90_000, 172_800]
            .map(|seconds| span(Duration::from_secs(seconds)).replace('\u{a0}', " "));
        assert_eq!(told, ["5 s", "1 min", "1 h", "1 h 1 min", "1 d 1 h", "2 d"]);
        assert!(clock_time(Timestamp::MAX, now).ends_with(' '), "a moment beyond the calendar does no harm");
    }
}
