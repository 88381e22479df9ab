//! How many calls a second one seller account may make in one region.
//!
//! Calls are spaced evenly. Throttling halves the rate; calls that go through win it back step by step.

use std::time::Duration;

const MICROS_PER_SECOND: u64 = 1_000_000;
/// The rate never falls below a call every ten seconds, or nothing would find out that the throttling is over.
const SLOWEST: u64 = 10 * MICROS_PER_SECOND;
/// A full recovery from half the rate takes about this many successful calls.
const RECOVERY_CALLS: u64 = 50;

/// Time here is real time since some fixed moment, in microseconds: AWS counts real seconds.
#[derive(Clone, Debug)]
pub struct RateBudget {
    fastest: u64,
    /// The spacing between calls now.
    spacing: u64,
    next_free: u64,
    /// Throttled answers to calls that were sent before this say nothing new.
    halved_at: u64,
}

impl RateBudget {
    pub fn new(calls_per_second: f64) -> Self {
        let spacing = Duration::from_secs(1).div_f64(calls_per_second.clamp(0.1, 1000.0));
        let fastest = u64::try_from(spacing.as_micros()).unwrap_or(MICROS_PER_SECOND);
        Self { fastest, spacing: fastest, next_free: 0, halved_at: 0 }
    }

    /// Takes the next place; returns the moment at which the call may go out.
    pub fn reserve(&mut self, now: u64) -> u64 {
        let place = self.next_free.max(now);
        self.next_free = place.saturating_add(self.spacing);
        place
    }

    /// AWS throttled a call that was sent at `sent`.
    pub fn throttled(&mut self, sent: u64, now: u64) {
        if sent < self.halved_at {
            return;
        }
        self.halved_at = now;
        self.spacing = self.spacing.saturating_mul(2).min(SLOWEST);
        self.next_free = self.next_free.max(now.saturating_add(self.spacing));
    }

    pub fn succeeded(&mut self) {
        let step = self.spacing / RECOVERY_CALLS;
        self.spacing = self.spacing.saturating_sub(step.max(1)).max(self.fastest);
    }

    pub fn calls_per_second(&self) -> f64 {
        Duration::from_secs(1).div_duration_f64(Duration::from_micros(self.spacing))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn calls_are_spaced_by_the_rate() {
        let mut budget = RateBudget::new(10.0);
        let places: Vec<u64> = (0..3).map(|_| budget.reserve(5_000_000)).collect();
        assert_eq!(places, [5_000_000, 5_100_000, 5_200_000]);
        assert_eq!(budget.reserve(9_000_000), 9_000_000, "unused time is not saved up");
    }

    #[test]
    fn one_burst_of_throttling_halves_once_and_success_wins_it_back() {
        let mut budget = RateBudget::new(10.0);
        budget.throttled(1_000_000, 1_200_000);
        budget.throttled(1_100_000, 1_300_000);
        assert!((budget.calls_per_second() - 5.0).abs() < 0.01);
        for _ in 0..RECOVERY_CALLS {
            budget.succeeded();
        }
        assert!((budget.calls_per_second() - 10.0).abs() < 0.01);
    }

    proptest! {
        #[test]
        fn never_faster_than_allowed(steps in proptest::collection::vec((0..3_u8, 0..500_000_u64), 1..200)) {
            let mut budget = RateBudget::new(10.0);
            let (mut now, mut last) = (0, None);
            for (step, passed) in steps {
                now += passed;
                match step {
                    0 => budget.succeeded(),
                    1 => budget.throttled(now, now),
                    _ => {
                        let place = budget.reserve(now);
                        prop_assert!(place >= now);
                        prop_assert!(last.is_none_or(|last| place >= last + 100_000));
                        last = Some(place);
                    }
                }
            }
        }
    }
}
