//! Whether the clock may be believed, and what time it is if not. An hour that is sealed too early can never be opened
//! again, so AWS must have told the time once, and the clock that seals must not have jumped since.

use std::{fmt, time::Duration};

use jiff::SignedDuration;

use super::time::Timestamp;

/// A monotonic clock may go wrong by a second in this many: twice what NTP slews, so that slewing is never a jump.
const DRIFT: u32 = 1000;

/// Both clocks, read at the same moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    pub wall: Timestamp,
    /// The time since some fixed moment. No one can set it.
    pub monotonic: Duration,
}

/// How far a clock is ahead of the time, or behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skew {
    millis: i64,
}

/// Why the clock is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// AWS has not told the time since the start, and nothing else would show that the clock was wrong from then on.
    Untold,
    /// The clock is off by so much.
    Off(Skew),
}

/// Holds the clock against the best known time: what AWS said last, and what the monotonic clock has counted since.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClockGuard {
    tolerance: Duration,
    /// What the clock should have shown at some moment. Only AWS moves it; would each look that finds nothing move it
    /// too, many small steps could go unseen.
    reference: Reading,
    /// How far the clock was off when AWS told the time last; `None` before it has.
    told: Option<Skew>,
}

impl ClockGuard {
    /// The clock as it is at the start, which AWS is yet to confirm.
    pub(crate) const fn new(tolerance: Duration, start: Reading) -> Self {
        Self { tolerance, reference: start, told: None }
    }

    /// Why the clock is not to be believed; `None` while it is.
    pub(crate) fn doubt(&self, now: Reading) -> Option<Doubt> {
        let (skew, tolerance) = self.skew(now);
        if skew.size() > tolerance {
            return Some(Doubt::Off(skew));
        }
        self.told.is_none().then_some(Doubt::Untold)
    }

    /// The best guess at the time. Where the clock differs from what AWS said of it, AWS is right. A jump since then
    /// tells that a machine has slept rather than that its clock was set, and the monotonic clock has not counted that.
    pub(crate) fn best(&self, now: Reading) -> Timestamp {
        let (skew, tolerance) = self.skew(now);
        let was_off = self.told.is_some_and(|told| told.size() > self.tolerance);
        if was_off && skew.size() > tolerance { skew.taken_from(now.wall) } else { now.wall }
    }

    /// Takes the word of AWS, which dated its answer to a call that took `took` until `now`.
    pub(crate) fn observe(&mut self, date: Timestamp, took: Duration, now: Reading) {
        let written = date.clamp(now.wall.minus(took), now.wall);
        let skew = Skew::of(written, date);
        self.reference = Reading { wall: skew.taken_from(now.wall), ..now };
        self.told = Some(skew);
    }

    /// How far the clock is from the best known time, and how far it may be.
    fn skew(&self, now: Reading) -> (Skew, Duration) {
        let elapsed = now.monotonic.saturating_sub(self.reference.monotonic);
        let drift = elapsed.checked_div(DRIFT).unwrap_or_default();
        let skew = Skew::of(now.wall, self.reference.wall.plus(elapsed));
        (skew, self.tolerance.saturating_add(drift))
    }
}

impl Skew {
    pub fn of(clock: Timestamp, time: Timestamp) -> Self {
        Self { millis: clock.millis().saturating_sub(time.millis()) }
    }

    pub const fn size(self) -> Duration {
        Duration::from_millis(self.millis.unsigned_abs())
    }

    /// Positive if the clock is ahead.
    pub const fn whole_seconds(self) -> i64 {
        self.millis.saturating_div(1000)
    }

    fn taken_from(self, clock: Timestamp) -> Timestamp {
        Timestamp::from_millis(clock.millis().saturating_sub(self.millis))
    }
}

/// A skew as text, as in "5h 3s ahead".
impl fmt::Display for Skew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.whole_seconds();
        let side = if seconds < 0 { "behind" } else { "ahead" };
        write!(f, "{:#} {side}", SignedDuration::from_secs(seconds.saturating_abs()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT_ONCE: Duration = Duration::ZERO;
    const TOLERANCE: Duration = Duration::from_mins(1);
    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    /// At `true_time` by a monotonic clock that is right, and a wall clock that is ahead by `ahead`.
    fn at(true_time: i64, ahead: i64) -> Reading {
        let monotonic = Duration::from_secs(u64::try_from(true_time).unwrap());
        Reading { wall: Timestamp::from_seconds(true_time + ahead), monotonic }
    }

    /// AWS has told the time at the start.
    fn guard() -> ClockGuard {
        let mut guard = ClockGuard::new(TOLERANCE, at(0, 0));
        guard.observe(at(0, 0).wall, AT_ONCE, at(0, 0));
        guard
    }

    fn off(guard: &ClockGuard, now: Reading) -> Option<i64> {
        guard.doubt(now).map(|doubt| match doubt {
            Doubt::Off(skew) => skew.whole_seconds(),
            Doubt::Untold => panic!("AWS has told the time"),
        })
    }

    fn best(guard: &ClockGuard, now: Reading) -> i64 {
        guard.best(now).seconds()
    }

    #[test]
    fn no_clock_is_believed_before_aws_has_told_the_time() {
        let mut guard = ClockGuard::new(TOLERANCE, at(0, 0));
        assert_eq!(guard.doubt(at(100, 0)), Some(Doubt::Untold));
        assert!(matches!(guard.doubt(at(101, 90)), Some(Doubt::Off(skew)) if skew.whole_seconds() == 90));
        assert_eq!(best(&guard, at(101, 90)), 191, "there is nothing better");
        guard.observe(Timestamp::from_seconds(102), AT_ONCE, at(102, 0));
        assert_eq!(guard.doubt(at(103, 0)), None);
    }

    #[test]
    fn a_clock_that_aws_has_found_wrong_is_put_right_until_it_agrees() {
        let mut guard = guard();
        guard.observe(Timestamp::from_seconds(100), AT_ONCE, at(100, 3 * DAY));
        assert_eq!(best(&guard, at(160, 3 * DAY)), 160);
        assert_eq!(best(&guard, at(170, 0)), 170, "the clock was mended");
        assert_eq!(best(&guard, at(180, 30)), 210, "the clock is within the tolerance, and believed");
        guard.observe(Timestamp::from_seconds(200), AT_ONCE, at(200, 0));
        assert_eq!(best(&guard, at(300, 5 * HOUR)), 300 + 5 * HOUR, "the machine has slept");
    }

    #[test]
    fn a_large_step_is_doubted_in_either_direction_until_it_is_taken_back() {
        let guard = guard();
        assert_eq!(off(&guard, at(100, 0)), None);
        assert_eq!(off(&guard, at(101, 5 * HOUR)), Some(5 * HOUR));
        assert_eq!(off(&guard, at(102, -5 * HOUR)), Some(-5 * HOUR));
        assert_eq!(off(&guard, at(103, 0)), None, "the clock was mended");
    }

    #[test]
    fn a_small_step_is_tolerated_but_many_do_not_go_unseen() {
        let guard = guard();
        for ahead in [59, -59] {
            assert_eq!(off(&guard, at(100, ahead)), None);
        }
        assert_eq!(off(&guard, at(200, 59 + 59)), Some(118));
    }

    #[test]
    fn slewing_for_days_is_no_jump() {
        let fastest_of_ntp = |true_time: i64| true_time / 2000;
        let guard = guard();
        for hour in 0..30 * 24 {
            let true_time = hour * HOUR;
            assert_eq!(off(&guard, at(true_time, fastest_of_ntp(true_time))), None);
        }
    }

    #[test]
    fn a_second_in_a_thousand_is_no_jump_and_more_is() {
        for side in [1, -1] {
            assert_eq!(off(&guard(), at(60_000, 120 * side)), None);
            assert_eq!(off(&guard(), at(60_000, 121 * side)), Some(121 * side));
        }
    }

    #[test]
    fn a_clock_that_was_wrong_from_the_start_is_found_by_the_first_answer() {
        let mut guard = ClockGuard::new(TOLERANCE, at(0, 0));
        guard.observe(Timestamp::from_seconds(100 + 5 * HOUR), AT_ONCE, at(100, 0));
        assert_eq!(off(&guard, at(101, 0)), Some(-5 * HOUR));
        assert_eq!(off(&guard, at(102, 5 * HOUR)), None, "the clock was mended");
    }

    #[test]
    fn a_suspended_machine_is_explained_by_the_next_answer() {
        let mut guard = guard();
        // Five hours pass, and the monotonic clock stands still.
        let resumed = at(100, 5 * HOUR);
        assert_eq!(off(&guard, resumed), Some(5 * HOUR));
        guard.observe(resumed.wall, AT_ONCE, resumed);
        assert_eq!(off(&guard, at(101, 5 * HOUR)), None);
    }

    #[test]
    fn an_answer_that_confirms_a_doubt_keeps_it() {
        let mut guard = guard();
        let stepped = at(100, 5 * HOUR);
        guard.observe(Timestamp::from_seconds(100), AT_ONCE, stepped);
        assert_eq!(off(&guard, at(200, 5 * HOUR)), Some(5 * HOUR));
    }

    #[test]
    fn a_slow_answer_is_old_and_not_wrong() {
        let mut guard = guard();
        guard.observe(Timestamp::from_seconds(100), Duration::from_mins(10), at(700, 0));
        assert_eq!(off(&guard, at(701, 0)), None);
        assert_eq!(off(&guard, at(702, 61)), Some(61), "the reference did not fall behind");
    }

    #[test]
    fn an_answer_from_before_a_suspension_is_put_right_by_the_next() {
        let mut guard = guard();
        let resumed = at(100, DAY);
        guard.observe(Timestamp::from_seconds(100), AT_ONCE, resumed);
        assert_eq!(off(&guard, resumed), Some(DAY));
        guard.observe(resumed.wall, AT_ONCE, resumed);
        assert_eq!(off(&guard, resumed), None);
    }

    #[test]
    fn a_skew_is_told_in_words() {
        let skew = |seconds| Skew::of(Timestamp::from_seconds(seconds), Timestamp::default()).to_string();
        assert_eq!(skew(5 * HOUR + 3), "5h 3s ahead");
        assert_eq!(skew(-90), "1m 30s behind");
    }

    proptest! {
        #[test]
        fn no_sequence_panics_and_the_last_answer_is_believed(
            looks in proptest::collection::vec((any::<i64>(), any::<Duration>(), any::<i64>(), any::<Duration>()), 1..50)
        ) {
            let mut guard = guard();
            for (wall, monotonic, date, took) in looks {
                let now = Reading { wall: Timestamp::from_millis(wall), monotonic };
                if let Some(Doubt::Off(skew)) = guard.doubt(now) {
                    let _ = (skew.to_string(), skew.whole_seconds());
                }
                let _ = guard.best(now);
                guard.observe(Timestamp::from_millis(date), took, now);
                let _ = guard.doubt(now);
                guard.observe(now.wall, took, now);
                prop_assert_eq!(guard.doubt(now), None);
            }
        }
    }

    #[test]
    fn a_skew_of_the_whole_tolerance_is_still_believed() {
        assert_eq!(off(&guard(), at(0, 60)), None);
        assert_eq!(off(&guard(), at(0, -60)), None);
        assert_eq!(off(&guard(), at(0, 61)), Some(61));
    }
}
