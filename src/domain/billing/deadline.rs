//! Until when AWS accepts a record.
//!
//! AWS refuses a record that is `window` old, and everything of a month once the 1st of the next one has reached
//! `month_end_cutoff` (seller guide and `BatchMeterUsage` model, July 2026: 24 hours, 06:00 UTC).

use std::time::Duration;

use crate::domain::time::{Hour, Timestamp};

/// AWS's rules about age.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Measured from the hour's start, the stricter of the two ways in which AWS may measure.
    pub age: Duration,
    /// How long after midnight UTC on the 1st AWS takes the last month's records.
    pub month_end_cutoff: Duration,
}

impl Window {
    pub const AWS: Self = Self { age: Duration::from_hours(24), month_end_cutoff: Duration::from_hours(6) };

    /// The first moment at which AWS refuses a record for `hour`.
    pub fn deadline(&self, hour: Hour) -> Timestamp {
        let by_age = hour.start().plus(self.age);
        let by_month = month_end(hour).plus(self.month_end_cutoff);
        by_age.min(by_month)
    }
}

/// Midnight UTC on the 1st of the month after `hour`'s.
fn month_end(hour: Hour) -> Timestamp {
    let start = jiff::Timestamp::from_second(hour.start().seconds()).unwrap_or(jiff::Timestamp::MAX);
    let date = start.to_zoned(jiff::tz::TimeZone::UTC).date();
    date.last_of_month()
        .tomorrow()
        .and_then(|first| first.to_zoned(jiff::tz::TimeZone::UTC))
        .map_or(Timestamp::MAX, |midnight| Timestamp::from_seconds(midnight.timestamp().as_second()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn deadline(hour: &str) -> String {
        Window::AWS.deadline(Hour::containing(hour.parse().unwrap())).to_string()
    }

    #[test]
    fn a_day_after_the_start_within_a_month() {
        assert_eq!(deadline("2026-11-22T10:00:00Z"), "2026-11-23T10:00:00Z");
    }

    #[test]
    fn six_oclock_on_the_first_for_the_month_before() {
        assert_eq!(deadline("2026-11-30T23:00:00Z"), "2026-12-01T06:00:00Z");
        assert_eq!(deadline("2026-11-30T06:00:00Z"), "2026-12-01T06:00:00Z");
        assert_eq!(deadline("2026-11-30T05:00:00Z"), "2026-12-01T05:00:00Z");
        assert_eq!(deadline("2026-12-31T23:00:00Z"), "2027-01-01T06:00:00Z");
        assert_eq!(deadline("2026-12-01T00:00:00Z"), "2026-12-02T00:00:00Z");
    }

    #[test]
    fn leap_years_have_a_29th_of_february() {
        assert_eq!(deadline("2024-02-28T12:00:00Z"), "2024-02-29T12:00:00Z");
        assert_eq!(deadline("2024-02-29T12:00:00Z"), "2024-03-01T06:00:00Z");
        assert_eq!(deadline("2023-02-28T12:00:00Z"), "2023-03-01T06:00:00Z");
        assert_eq!(deadline("2100-02-28T12:00:00Z"), "2100-03-01T06:00:00Z");
    }

    proptest! {
        #[test]
        fn never_later_than_the_window_and_never_before_the_hour_ends(index in 0..2_000_000_u32) {
            let hour = Hour::from_index(index);
            let deadline = Window::AWS.deadline(hour);
            prop_assert!(deadline <= hour.start().plus(Window::AWS.age));
            prop_assert!(deadline >= hour.end().plus(Duration::from_hours(6)) || deadline == hour.start().plus(Window::AWS.age));
        }

        #[test]
        fn later_hours_have_no_earlier_deadlines(index in 0..2_000_000_u32) {
            let hour = Hour::from_index(index);
            prop_assert!(Window::AWS.deadline(hour) <= Window::AWS.deadline(hour.next()));
        }
    }
}
