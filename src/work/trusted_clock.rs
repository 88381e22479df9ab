//! The clock as far as it may be believed: what seals hours, and gives up on records, goes by this one.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tracing::{error, info};

use crate::{
    base::clock::Clock,
    domain::{
        clock_guard::{ClockGuard, Reading, Skew},
        time::Timestamp,
    },
};

/// Far below the least harmful jump, and far above what slow networks and busy machines make of an honest clock.
const TOLERANCE: Duration = Duration::from_mins(1);
/// A machine that halts between its readings of two clocks makes a fast clock jump; so much real time is overlooked.
const REAL_TOLERANCE: Duration = Duration::from_secs(5);
/// How soon a doubted clock is looked at again, in real time.
const DOUBT_NAP: Duration = Duration::from_millis(100);

/// A clock and its guard. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TrustedClock {
    clock: Clock,
    started: Instant,
    /// Both clocks are read under its lock, so that doubt begins and ends in order.
    guard: Arc<Mutex<ClockGuard>>,
    is_doubted: watch::Sender<bool>,
}

impl TrustedClock {
    pub fn new(clock: Clock) -> Self {
        let tolerance = TOLERANCE.max(REAL_TOLERANCE.mul_f64(clock.speed()));
        let started = Instant::now();
        let start = Reading { wall: clock.now(), monotonic: Duration::ZERO };
        let guard = Arc::new(Mutex::new(ClockGuard::new(tolerance, start)));
        Self { clock, started, guard, is_doubted: watch::Sender::new(false) }
    }

    /// The clock itself, for whatever does no lasting harm when it is wrong.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// `None` while the clock is in doubt.
    pub fn now(&self) -> Option<Timestamp> {
        let (now, doubt) = self.look(|_, _| {});
        doubt.is_none().then_some(now.wall)
    }

    /// How far the clock is off, while it is in doubt.
    pub fn doubt(&self) -> Option<Skew> {
        let (_, doubt) = self.look(|_, _| {});
        doubt
    }

    /// Takes in how AWS dated its answer, which has just come, to a call that was sent at `sent`.
    pub fn observe(&self, date: Timestamp, sent: Instant) {
        self.look(|guard, now| {
            // A server that knows nothing of a test's clock dates its answers by real time.
            let distance = |date: &Timestamp| Skew::of(*date, now.wall).size();
            let date = [date, self.clock.at(date)].into_iter().min_by_key(distance).unwrap_or(date);
            guard.observe(date, self.clock.since(sent), now);
        });
    }

    /// Waits until `moment` has come, by a clock that is not in doubt; returns the time.
    pub async fn sleep_until(&self, moment: Timestamp) -> Timestamp {
        loop {
            match self.now() {
                Some(now) if now >= moment => return now,
                Some(_) => self.clock.nap_until(moment).await,
                None => sleep(self.clock.stride(DOUBT_NAP)).await,
            }
        }
    }

    /// Tells when doubt begins and ends.
    pub fn watch_doubt(&self) -> watch::Receiver<bool> {
        self.is_doubted.subscribe()
    }

    fn look(&self, learn: impl FnOnce(&mut ClockGuard, Reading)) -> (Reading, Option<Skew>) {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Reading { monotonic: self.clock.since(self.started), wall: self.clock.now() };
        learn(&mut guard, now);
        let doubt = guard.doubt(now);
        self.note(doubt);
        (now, doubt)
    }

    fn note(&self, doubt: Option<Skew>) {
        self.is_doubted.send_if_modified(|is_doubted| {
            let has_changed = *is_doubted != doubt.is_some();
            *is_doubted = doubt.is_some();
            if has_changed {
                log(doubt);
            }
            has_changed
        });
    }
}

fn log(doubt: Option<Skew>) {
    if let Some(skew) = doubt {
        error!(%skew, "the clock is wrong or has jumped: no hour is sealed until it agrees with the time of AWS's answers");
    } else {
        info!("the clock is right again: hours are sealed");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::ClockSpec;

    const HOUR: Duration = Duration::from_hours(1);

    /// Far from any real time, so that nothing agrees by chance.
    fn spec(speed: f64) -> ClockSpec {
        ClockSpec::starting_now("2071-01-01T10:30:00Z".parse().unwrap(), speed)
    }

    #[test]
    fn a_step_is_doubted_at_any_speed_and_trusted_once_it_is_taken_back() {
        for speed in [1.0, 600.0] {
            let (clock, steps) = Clock::steppable(spec(speed));
            let trusted = TrustedClock::new(clock);
            let doubt = trusted.watch_doubt();
            assert!(trusted.now().is_some());
            for step in [5 * 3600, -5 * 3600] {
                steps.by_seconds(step);
                assert!(trusted.now().is_none() && *doubt.borrow());
                let seconds = trusted.doubt().unwrap().whole_seconds();
                assert!((seconds - step).abs() < 3000, "{seconds} after a step of {step}");
                steps.by_seconds(-step);
                assert!(trusted.now().is_some() && !*doubt.borrow());
            }
        }
    }

    #[test]
    fn the_date_of_an_answer_finds_a_wrong_clock_and_explains_a_jump() {
        let (clock, steps) = Clock::steppable(spec(1.0));
        let trusted = TrustedClock::new(clock);
        trusted.observe(clock.now().plus(HOUR), Instant::now());
        assert_eq!(trusted.doubt().unwrap().to_string(), "1h behind");
        steps.by_seconds(3600);
        assert!(trusted.now().is_some(), "the clock was mended");
        steps.by_seconds(3600);
        assert!(trusted.now().is_none());
        trusted.observe(clock.now(), Instant::now());
        assert!(trusted.now().is_some(), "it was the time that jumped");
    }

    #[test]
    fn a_date_in_real_time_suits_a_clock_of_a_test() {
        let trusted = TrustedClock::new(Clock::new(spec(600.0)));
        trusted.observe(Clock::SYSTEM.now(), Instant::now());
        assert!(trusted.now().is_some());
        trusted.observe(Clock::SYSTEM.now().plus(HOUR), Instant::now());
        assert!(trusted.now().is_none());
    }

    #[tokio::test]
    async fn a_doubted_clock_wakes_no_one() {
        let (clock, steps) = Clock::steppable(spec(600.0));
        let trusted = TrustedClock::new(clock);
        let due = clock.now().plus(Duration::from_mins(10));
        steps.by_seconds(5 * 3600);
        let early = tokio::time::timeout(Duration::from_millis(300), trusted.sleep_until(due)).await;
        assert!(early.is_err(), "woken by a clock that has jumped");
        steps.by_seconds(-5 * 3600);
        assert!(trusted.sleep_until(due).await >= due);
    }
}
