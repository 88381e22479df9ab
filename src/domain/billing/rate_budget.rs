//! How many calls a second one seller account may make in one region.
//!
//! Calls keep an even beat, a little slower than the quota. Throttling halves the pace. Calls that go through win it
//! back along a cubic curve, as in TCP CUBIC and in the adaptive mode of AWS's own SDKs: fast at first, hardly at all
//! just below the pace that was too much, and then ever faster, since the quota may have risen.

use std::time::Duration;

/// At the quota itself, calls that are a little late on their way would make eleven out of ten in some second. Three
/// percent leave 31 ms of each second for that.
const SHARE_OF_QUOTA: f64 = 0.97;
/// So many calls after a halving, the pace is again just below the one that was too much. One throttled call thus
/// costs the time of five, and four in a thousand calls leave 95 percent of the quota in use.
const RECOVERY_CALLS: u32 = 8;
/// So many calls after that, it is half as much again. Where the quota turns out to be lower than configured, about
/// two percent of the calls find out that it still is.
const PROBING_CALLS: u32 = 100;
/// The pace never falls below this part of the fastest: a refused call now and then harms nobody, and a slower pace
/// would take long to find out that the throttling is over.
const SLOWEST: f64 = 0.1;

/// Time here is real time since some fixed moment: AWS counts real seconds.
#[derive(Clone, Debug)]
pub(crate) struct RateBudget {
    /// Paces are in calls per second.
    fastest: f64,
    /// The pace to win back: as far below the one that AWS throttled as the fastest is below the quota.
    aim: f64,
    /// The calls that went through since AWS throttled one.
    calls_since: u32,
    /// Answers to calls that were sent before this say nothing of the pace now.
    halved_at: Duration,
    next_free: Duration,
}

impl RateBudget {
    pub(crate) fn new(quota_per_second: f64) -> Self {
        let fastest = quota_per_second.clamp(0.1, 1000.0) * SHARE_OF_QUOTA;
        Self {
            fastest,
            aim: fastest,
            calls_since: RECOVERY_CALLS,
            halved_at: Duration::ZERO,
            next_free: Duration::ZERO,
        }
    }

    /// Takes the next place that is not before `earliest`; returns the moment at which the call may go out.
    pub(crate) fn reserve(&mut self, earliest: Duration) -> Duration {
        let place = self.next_free.max(earliest);
        self.next_free = place.saturating_add(self.spacing());
        place
    }

    /// AWS throttled a call that was sent at `sent`.
    pub(crate) fn throttled(&mut self, sent: Duration, now: Duration) {
        if sent < self.halved_at {
            return;
        }
        self.aim = self.pace() * SHARE_OF_QUOTA;
        self.calls_since = 0;
        self.halved_at = now;
        self.next_free = self.next_free.max(now.saturating_add(self.spacing()));
    }

    /// AWS took a call that was sent at `sent`.
    pub(crate) fn answered(&mut self, sent: Duration) {
        if sent >= self.halved_at {
            self.calls_since = self.calls_since.saturating_add(1);
        }
    }

    fn pace(&self) -> f64 {
        let progress = if self.calls_since < RECOVERY_CALLS {
            f64::from(self.calls_since) / f64::from(RECOVERY_CALLS) - 1.0
        } else {
            f64::from(self.calls_since.saturating_sub(RECOVERY_CALLS)) / f64::from(PROBING_CALLS)
        };
        let pace = self.aim * (1.0 + 0.5 * progress.powi(3));
        pace.clamp(self.fastest * SLOWEST, self.fastest)
    }

    fn spacing(&self) -> Duration {
        Duration::from_secs(1).div_f64(self.pace())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn millis(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A service that takes so many calls in any second.
    struct SlidingWindow {
        quota: usize,
        taken: VecDeque<Duration>,
    }

    impl SlidingWindow {
        fn new(quota: usize) -> Self {
            Self { quota, taken: VecDeque::new() }
        }

        fn takes(&mut self, now: Duration) -> bool {
            while self.taken.front().is_some_and(|first| *first + SECOND <= now) {
                self.taken.pop_front();
            }
            let has_room = self.taken.len() < self.quota;
            if has_room {
                self.taken.push_back(now);
            }
            has_room
        }
    }

    /// A service that takes a burst, and then as many calls as a second refills.
    struct TokenBucket {
        quota: f64,
        tokens: f64,
        filled_at: Duration,
    }

    impl TokenBucket {
        fn takes(&mut self, now: Duration) -> bool {
            let refill = now.saturating_sub(self.filled_at).as_secs_f64() * self.quota;
            self.filled_at = now;
            self.tokens = (self.tokens + refill).min(self.quota);
            let has_one = self.tokens >= 1.0;
            self.tokens -= if has_one { 1.0 } else { 0.0 };
            has_one
        }
    }

    /// The calls of an agent that always has something to send.
    struct Caller {
        budget: RateBudget,
        rng: fastrand::Rng,
        now: Duration,
        /// When the answer comes, when its call was sent, and whether it was taken.
        answers: VecDeque<(Duration, Duration, bool)>,
    }

    #[derive(Debug, Default)]
    struct Stretch {
        calls: usize,
        throttled: usize,
        /// Calls that were taken, per second.
        rate: f64,
    }

    impl Caller {
        fn new(seed: u64) -> Self {
            let (budget, rng) = (RateBudget::new(10.0), fastrand::Rng::with_seed(seed));
            Self { budget, rng, now: SECOND, answers: VecDeque::new() }
        }

        /// Each call is on its way for a random time up to `jitter`, and its answer comes 300 ms after it was sent.
        fn send(
            &mut self,
            calls: usize,
            jitter: Duration,
            mut takes: impl FnMut(Duration) -> bool,
        ) -> Stretch {
            let (start, mut throttled) = (self.now, 0);
            for _ in 0..calls {
                while let Some((_, sent, is_taken)) = self.answers.pop_front_if(|(at, ..)| *at <= self.now) {
                    if is_taken {
                        self.budget.answered(sent);
                    } else {
                        self.budget.throttled(sent, self.now);
                    }
                }
                let sent = self.budget.reserve(self.now);
                let is_taken = takes(sent + jitter.mul_f64(self.rng.f64()));
                throttled += usize::from(!is_taken);
                self.answers.push_back((sent + millis(300), sent, is_taken));
                self.now = sent;
            }
            let taken = u32::try_from(calls - throttled).unwrap();
            let rate = f64::from(taken) / self.now.saturating_sub(start).as_secs_f64();
            Stretch { calls, throttled, rate }
        }
    }

    impl Stretch {
        fn throttled_share(&self) -> f64 {
            f64::from(u32::try_from(self.throttled).unwrap()) / f64::from(u32::try_from(self.calls).unwrap())
        }

        fn uses_the_quota(&self) -> bool {
            self.rate >= 9.5 && self.throttled_share() < 0.01
        }
    }

    #[test]
    fn calls_keep_a_beat_just_below_the_quota() {
        let mut budget = RateBudget::new(10.0);
        let places: Vec<u128> = (0..11).map(|_| budget.reserve(SECOND * 5).as_millis()).collect();
        assert_eq!(places[..3], [5000, 5103, 5206]);
        assert_eq!(places[10], 6030, "the eleventh call comes when the first one's second is over");
        assert_eq!(budget.reserve(SECOND * 9), SECOND * 9, "unused time is not saved up");
    }

    #[test]
    fn one_burst_of_throttling_halves_once_and_calls_that_go_through_win_it_back() {
        let mut budget = RateBudget::new(10.0);
        budget.throttled(millis(1000), millis(1200));
        budget.throttled(millis(1100), millis(1300));
        assert!((budget.pace() - 4.7).abs() < 0.01, "{}", budget.pace());
        budget.answered(millis(1150));
        assert!((budget.pace() - 4.7).abs() < 0.01, "an answer to an earlier call says nothing");
        let paces: Vec<f64> = (0..50)
            .map(|_| {
                budget.answered(millis(1300));
                budget.pace()
            })
            .collect();
        assert!(paces.is_sorted(), "{paces:?}");
        assert!((paces[7] - 9.4).abs() < 0.01, "{paces:?}");
        assert!((paces[49] - 9.7).abs() < 0.01, "{paces:?}");
    }

    #[test]
    fn a_token_bucket_of_the_quota_is_used_to_95_percent() {
        let mut bucket = TokenBucket { quota: 10.0, tokens: 10.0, filled_at: Duration::ZERO };
        let stretch = Caller::new(7).send(1000, millis(30), |now| bucket.takes(now));
        assert!(stretch.uses_the_quota(), "{stretch:?}");
    }

    #[test]
    fn a_strict_second_is_used_to_95_percent_though_calls_come_up_to_30_ms_late() {
        for seed in 0..100 {
            let mut window = SlidingWindow::new(10);
            let stretch = Caller::new(seed).send(1000, millis(30), |now| window.takes(now));
            assert!(stretch.uses_the_quota(), "seed {seed}: {stretch:?}");
        }
    }

    #[test]
    fn a_straggler_now_and_then_does_not_cost_the_quota() {
        let mut window = SlidingWindow::new(10);
        let (mut calls, mut last) = (0, Duration::ZERO);
        let stretch = Caller::new(7).send(1000, millis(20), |now| {
            calls += 1;
            let late = if calls % 300 == 0 { millis(100) } else { Duration::ZERO };
            last = last.max(now + late);
            window.takes(last)
        });
        assert!(stretch.throttled > 0 && stretch.uses_the_quota(), "{stretch:?}");
    }

    #[test]
    fn half_the_quota_is_found_kept_to_and_left_when_it_rises() {
        let (mut caller, mut window) = (Caller::new(7), SlidingWindow::new(5));
        caller.send(100, millis(30), |now| window.takes(now));
        let settled = caller.send(1000, millis(30), |now| window.takes(now));
        assert!(settled.rate > 4.0 && settled.throttled_share() < 0.03, "{settled:?}");
        window.quota = 10;
        let rising = caller.send(200, millis(30), |now| window.takes(now));
        assert_eq!(rising.throttled, 0);
        let risen = caller.send(1000, millis(30), |now| window.takes(now));
        assert!(risen.uses_the_quota(), "{risen:?}");
    }

    #[test]
    fn after_minutes_of_nothing_but_throttling_the_pace_is_back_within_minutes() {
        let mut caller = Caller::new(7);
        let refused = caller.send(300, millis(30), |_| false);
        assert_eq!(refused.throttled, 300);
        let start = caller.now;
        while caller.budget.pace() < caller.budget.fastest {
            caller.send(1, millis(30), |_| true);
        }
        let took = caller.now.saturating_sub(start);
        assert!(took < Duration::from_mins(3), "{took:?}");
    }

    proptest! {
        #[test]
        fn never_faster_than_allowed(steps in proptest::collection::vec((0..3_u8, 0..500_u64), 1..200)) {
            let mut budget = RateBudget::new(10.0);
            let (mut now, mut last) = (Duration::ZERO, None);
            for (step, passed) in steps {
                now += millis(passed);
                match step {
                    0 => budget.answered(now),
                    1 => budget.throttled(now, now),
                    _ => {
                        let place = budget.reserve(now);
                        prop_assert!(place >= now);
                        prop_assert!(last.is_none_or(|last| place >= last + millis(103)));
                        last = Some(place);
                    }
                }
            }
        }
    }
}
