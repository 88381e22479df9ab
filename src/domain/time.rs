//! Moments and UTC hours.

use std::{fmt, str::FromStr, time::Duration};

const MILLIS_PER_SECOND: i64 = 1000;
const MILLIS_PER_HOUR: i64 = 3_600_000;
const NANOS_PER_MILLI: u64 = 1_000_000;

/// A moment in UTC, in milliseconds since the Unix epoch. Arithmetic saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

impl Timestamp {
    pub const MIN: Self = Self(i64::MIN);
    pub const MAX: Self = Self(i64::MAX);

    pub const fn from_millis(millis: i64) -> Self {
        Self(millis)
    }

    pub const fn from_seconds(seconds: i64) -> Self {
        Self(seconds.saturating_mul(MILLIS_PER_SECOND))
    }

    pub const fn millis(self) -> i64 {
        self.0
    }

    /// Whole seconds since the epoch, rounded down.
    pub const fn seconds(self) -> i64 {
        self.0.div_euclid(MILLIS_PER_SECOND)
    }

    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(millis_of(duration)))
    }

    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(millis_of(duration)))
    }

    /// The time from `earlier` to `self`; zero if `earlier` is the later one.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }
}

fn millis_of(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// RFC 3339 in UTC, to the second; moments beyond the calendar as seconds since the epoch.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_second(self.seconds()) {
            Ok(moment) => moment.fmt(f),
            Err(_) => write!(f, "@{}", self.seconds()),
        }
    }
}

impl FromStr for Timestamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse::<jiff::Timestamp>()
            .map(|moment| Self(moment.as_millisecond()))
            .map_err(|_| format!("`{text}` is not a time like 2026-11-22T10:00:00Z"))
    }
}

/// A moment in nanoseconds since the Unix epoch, as events carry it: two levels of one millisecond have an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnixNanos(u64);

impl UnixNanos {
    pub const MIN: Self = Self(0);

    pub const fn new(nanos: u64) -> Self {
        Self(nanos)
    }

    /// `rest` are nanoseconds inside the millisecond.
    pub fn from_parts(moment: Timestamp, rest: u32) -> Self {
        Self(Self::from(moment).0.saturating_add(rest.into()))
    }

    /// The millisecond that it is in.
    pub fn timestamp(self) -> Timestamp {
        Timestamp(i64::try_from(self.0 / NANOS_PER_MILLI).unwrap_or(i64::MAX))
    }

    /// Its nanoseconds inside the millisecond.
    pub fn rest(self) -> u32 {
        u32::try_from(self.0 % NANOS_PER_MILLI).unwrap_or_default()
    }
}

/// Moments before the epoch become the epoch.
impl From<Timestamp> for UnixNanos {
    fn from(moment: Timestamp) -> Self {
        Self(u64::try_from(moment.0).unwrap_or(0).saturating_mul(NANOS_PER_MILLI))
    }
}

/// A UTC hour, half-open: `[10:00, 11:00)`. Counted from the Unix epoch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(u32);

impl Hour {
    pub const FIRST: Self = Self(0);

    pub const fn from_index(hours_since_epoch: u32) -> Self {
        Self(hours_since_epoch)
    }

    pub const fn index(self) -> u32 {
        self.0
    }

    /// The hour that contains `moment`. Moments before the epoch fall into the first hour.
    pub fn containing(moment: Timestamp) -> Self {
        Self(u32::try_from(moment.0.max(0) / MILLIS_PER_HOUR).unwrap_or(u32::MAX))
    }

    pub fn start(self) -> Timestamp {
        Timestamp(i64::from(self.0).saturating_mul(MILLIS_PER_HOUR))
    }

    /// The first moment that is no longer in this hour.
    pub fn end(self) -> Timestamp {
        Timestamp(self.start().0.saturating_add(MILLIS_PER_HOUR))
    }

    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// The hour's start, RFC 3339.
impl fmt::Display for Hour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.start().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_moment_is_in_exactly_one_hour(millis in 0..i64::from(u32::MAX) * MILLIS_PER_HOUR) {
            let moment = Timestamp::from_millis(millis);
            let hour = Hour::containing(moment);
            prop_assert!(hour.start() <= moment && moment < hour.end());
            prop_assert_eq!(hour.end(), hour.next().start());
            prop_assert_eq!(hour.next().previous(), hour);
        }

        #[test]
        fn times_print_and_parse_back(seconds in 0..4_000_000_000_i64) {
            let moment = Timestamp::from_seconds(seconds);
            prop_assert_eq!(moment.to_string().parse::<Timestamp>(), Ok(moment));
        }

        #[test]
        fn arithmetic_never_panics(millis: i64, nanos: u64, duration in any::<Duration>()) {
            let moment = Timestamp::from_millis(millis);
            let _ = (moment.plus(duration), moment.minus(duration), moment.since(UnixNanos::new(nanos).timestamp()));
            let _ = (Hour::containing(moment).end(), moment.to_string());
        }
    }

    #[test]
    fn hours_are_numbered_and_moments_apart() {
        assert_eq!(Hour::from_index(498_000).index(), 498_000);
        assert_eq!(Hour::containing(Hour::from_index(498_000).start()).index(), 498_000);
        let (early, late) = (Timestamp::from_millis(-500), Timestamp::from_millis(1500));
        assert_eq!((late.since(early), early.since(late)), (Duration::from_secs(2), Duration::ZERO));
    }

    #[test]
    fn events_tell_their_time_in_nanoseconds() {
        let moment = UnixNanos::new(1_793_620_800_123_999_999);
        assert_eq!((moment.timestamp().millis(), moment.rest()), (1_793_620_800_123, 999_999));
        assert_eq!(UnixNanos::from_parts(moment.timestamp(), moment.rest()), moment);
        assert!(UnixNanos::from(moment.timestamp()) < moment);
        assert_eq!([i64::MIN, -1].map(Timestamp::from_millis).map(UnixNanos::from), [UnixNanos::MIN; 2]);
        assert_eq!(UnixNanos::from(Timestamp::MAX), UnixNanos::new(u64::MAX));
    }

    #[test]
    fn hours_are_utc_hours() {
        let moment: Timestamp = "2024-02-29T23:59:59.999Z".parse().unwrap();
        assert_eq!(Hour::containing(moment).to_string(), "2024-02-29T23:00:00Z");
        assert_eq!(Hour::containing(moment).next().to_string(), "2024-03-01T00:00:00Z");
    }
}
