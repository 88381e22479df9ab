//! How long to wait before a record is sent to AWS again.

use std::time::Duration;

use crate::domain::time::{Hour, Timestamp};

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_mins(1);
/// A last attempt is kept for shortly before the deadline, however long the backoff has grown.
const LAST_CALL: Duration = Duration::from_mins(1);

/// The wait after `attempts` failed attempts: doubling from one second to a minute, of which a random half is kept
/// so that records do not come back in step. `random` is uniform over its range.
pub(crate) fn delay(attempts: u32, random: u32) -> Duration {
    let doublings = attempts.saturating_sub(1).min(16);
    let full = FIRST.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(LONGEST);
    let half = full.div_f64(2.0);
    half.saturating_add(half.mul_f64(f64::from(random) / f64::from(u32::MAX)))
}

/// The moment of the next attempt. Never past the deadline, as long as there is time before it.
pub(crate) fn next_attempt(now: Timestamp, attempts: u32, deadline: Timestamp, random: u32) -> Timestamp {
    let next = now.plus(delay(attempts, random));
    let last_call = deadline.minus(LAST_CALL);
    if now < last_call { next.min(last_call) } else { next }
}

const FIRST_SLOW: Duration = Duration::from_mins(10);
const LONGEST_SLOW: Duration = Duration::from_hours(4);

/// The next attempt of a record whose customer has no subscription yet: ever slower as its hour grows old, and once
/// more shortly before the deadline. `None` when there is no time for another.
pub(crate) fn slow_retry(hour: Hour, deadline: Timestamp, now: Timestamp) -> Option<Timestamp> {
    let last_call = deadline.minus(LAST_CALL);
    let wait = now.since(hour.end()).div_f64(2.0).clamp(FIRST_SLOW, LONGEST_SLOW);
    (now < last_call).then(|| now.plus(wait).min(last_call))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn doubles_up_to_a_minute() {
        let longest = |attempts| delay(attempts, u32::MAX).as_secs();
        assert_eq!([1, 2, 3, 6, 7, 8].map(longest), [1, 2, 4, 32, 60, 60]);
        assert_eq!(delay(1, 0), FIRST / 2);
    }

    proptest! {
        #[test]
        fn the_wait_is_between_half_and_all_of_the_backoff(attempts: u32, random: u32) {
            let wait = delay(attempts, random);
            prop_assert!(wait >= FIRST / 2 && wait <= LONGEST);
        }

        #[test]
        fn there_is_an_attempt_before_the_deadline(attempts: u32, random: u32, now in 0..1_000_000_i64, left in 61..100_000_i64) {
            let now = Timestamp::from_seconds(now);
            let deadline = now.plus(Duration::from_secs(u64::try_from(left).unwrap()));
            let next = next_attempt(now, attempts, deadline, random);
            prop_assert!(now <= next && next < deadline);
        }
    }

    #[test]
    fn the_last_attempt_is_kept_for_a_minute_before_the_deadline() {
        let deadline = Timestamp::from_seconds(1_000_000);
        let last_call = deadline.minus(LAST_CALL);
        let just_before = last_call.minus(Duration::from_secs(5));
        assert_eq!(next_attempt(just_before, 9, deadline, u32::MAX), last_call);
        assert_eq!(next_attempt(last_call, 9, deadline, u32::MAX), last_call.plus(LONGEST));
    }

    #[test]
    fn a_record_without_a_subscription_is_tried_ever_more_slowly_and_once_more_at_the_end() {
        let hour = Hour::from_index(498_000);
        let deadline = hour.start().plus(Duration::from_hours(24));
        let last_call = deadline.minus(LAST_CALL);
        let next =
            |age| slow_retry(hour, deadline, hour.end().plus(age)).unwrap().since(hour.end().plus(age));
        assert_eq!(next(Duration::ZERO), FIRST_SLOW);
        assert_eq!(next(Duration::from_hours(2)), Duration::from_hours(1));
        assert_eq!(next(Duration::from_hours(12)), LONGEST_SLOW);
        let moment = Duration::from_millis(1);
        assert_eq!(slow_retry(hour, deadline, last_call.minus(moment)), Some(last_call));
        assert_eq!(slow_retry(hour, deadline, last_call), None);
    }
}
