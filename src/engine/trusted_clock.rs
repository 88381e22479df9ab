//! The clock as far as it may be believed: what seals hours, and gives up on records, goes by this one.

use std::{
    mem::discriminant,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, time::Instant};
use tracing::{error, info};

use crate::{
    base::{
        clock::Clock,
        sabotage::{Sabotage, is_sabotaged},
    },
    domain::{
        clock_guard::{ClockGuard, Doubt, Reading, Skew},
        time::{Timestamp, UnixNanos},
    },
};

/// Far below the least harmful jump, and far above what slow networks and busy machines make of an honest clock.
const TOLERANCE: Duration = Duration::from_mins(1);
/// A machine that halts between its readings of two clocks makes a fast clock jump; so much real time is overlooked.
const REAL_TOLERANCE: Duration = Duration::from_secs(5);

/// A clock and its guard. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TrustedClock {
    clock: Clock,
    started: Instant,
    /// Both clocks are read under its lock, so that doubt begins and ends in order.
    guard: Arc<Mutex<ClockGuard>>,
    doubt: watch::Sender<Option<Doubt>>,
}

impl TrustedClock {
    pub fn new(clock: Clock) -> Self {
        let tolerance = TOLERANCE.max(REAL_TOLERANCE.mul_f64(clock.speed()));
        let started = Instant::now();
        let start = Reading { wall: clock.now(), monotonic: Duration::ZERO };
        let guard = Arc::new(Mutex::new(ClockGuard::new(tolerance, start)));
        Self { clock, started, guard, doubt: watch::Sender::new(Some(Doubt::Untold)) }
    }

    /// A clock that AWS has confirmed.
    #[cfg(test)]
    pub(crate) fn confirmed(clock: Clock) -> Self {
        let trusted = Self::new(clock);
        trusted.observe(clock.now(), Instant::now());
        trusted
    }

    /// The clock itself, for whatever does no lasting harm when it is wrong.
    pub const fn clock(&self) -> Clock {
        self.clock
    }

    /// `None` while the clock is in doubt.
    pub fn now(&self) -> Option<Timestamp> {
        let look = self.look(|_, _| {});
        look.doubt.is_none().then_some(look.wall)
    }

    /// The time for what cannot wait until the clock is out of doubt: which hour takes usage that comes in now.
    pub fn best_now(&self) -> Timestamp {
        self.best().now
    }

    /// The same, and whether it is more than a guess.
    pub fn best(&self) -> BestNow {
        let Look { best, doubt, .. } = self.look(|_, _| {});
        BestNow { now: best, is_clock_doubted: doubt.is_some() }
    }

    /// The same to the nanosecond, where the clock tells it.
    pub fn best_nanos(&self) -> UnixNanos {
        let Look { wall, best, .. } = self.look(|_, _| {});
        if wall == best { self.clock.now_nanos() } else { best.into() }
    }

    pub fn doubt(&self) -> Option<Doubt> {
        self.look(|_, _| {}).doubt
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

    /// Tells when doubt begins, ends, or has another reason.
    pub fn watch_doubt(&self) -> watch::Receiver<Option<Doubt>> {
        self.doubt.subscribe()
    }

    fn look(&self, learn: impl FnOnce(&mut ClockGuard, Reading)) -> Look {
        let mut guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Reading { monotonic: self.clock.since(self.started), wall: self.clock.now() };
        learn(&mut guard, now);
        let doubt = guard
            .doubt(now)
            .filter(|doubt| !(is_sabotaged(Sabotage::SealBeforeTold) && *doubt == Doubt::Untold));
        let look = Look { wall: now.wall, best: guard.best(now), doubt };
        self.note(look.doubt);
        look
    }

    fn note(&self, doubt: Option<Doubt>) {
        self.doubt.send_if_modified(|before| {
            let has_changed =
                before.map(|before| discriminant(&before)) != doubt.map(|doubt| discriminant(&doubt));
            if has_changed {
                log(*before, doubt);
                *before = doubt;
            }
            has_changed
        });
    }
}

/// The best known time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BestNow {
    pub now: Timestamp,
    /// The clock is in doubt.
    pub is_clock_doubted: bool,
}

/// The clock at one moment.
struct Look {
    wall: Timestamp,
    best: Timestamp,
    doubt: Option<Doubt>,
}

fn log(before: Option<Doubt>, doubt: Option<Doubt>) {
    match (before, doubt) {
        (_, Some(Doubt::Off(skew))) => {
            error!(%skew, "the clock is wrong or has jumped: no hour is sealed until it agrees with the time of AWS's answers");
        }
        (Some(Doubt::Untold), None) => {
            info!("AWS has told the time, and the clock is right: hours are sealed");
        }
        (_, None) => info!("the clock is right again: hours are sealed"),
        (_, Some(Doubt::Untold)) => {}
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
            let trusted = TrustedClock::confirmed(clock);
            let doubt = trusted.watch_doubt();
            assert!(trusted.now().is_some());
            for step in [5 * 3600, -5 * 3600] {
                steps.by_seconds(step);
                assert!(trusted.now().is_none() && doubt.borrow().is_some());
                let Some(Doubt::Off(skew)) = trusted.doubt() else { panic!("the clock is not found off") };
                let seconds = skew.whole_seconds();
                assert!((seconds - step).abs() < 3000, "{seconds} after a step of {step}");
                steps.by_seconds(-step);
                assert!(trusted.now().is_some() && doubt.borrow().is_none());
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_minute_is_tolerated_in_either_direction_and_a_second_more_is_not() {
        let (clock, steps) = Clock::simulated("2071-01-01T10:30:00Z".parse().unwrap());
        let trusted = TrustedClock::confirmed(clock);
        for (step, is_trusted) in [(60, true), (1, false), (-121, true), (-1, false), (1, true)] {
            steps.by_seconds(step);
            assert_eq!(trusted.now().is_some(), is_trusted, "after {step} s more");
        }
    }

    #[test]
    fn a_clock_that_runs_faster_tolerates_five_seconds_of_real_time() {
        let (clock, steps) = Clock::steppable(spec(600.0));
        let trusted = TrustedClock::confirmed(clock);
        steps.by_seconds(40 * 60);
        assert!(trusted.now().is_some());
        steps.by_seconds(20 * 60);
        assert!(trusted.now().is_none());
    }

    #[test]
    fn the_date_of_an_answer_finds_a_wrong_clock_and_explains_a_jump() {
        let (clock, steps) = Clock::steppable(spec(1.0));
        let trusted = TrustedClock::new(clock);
        trusted.observe(clock.now().plus(HOUR), Instant::now());
        assert!(matches!(trusted.doubt(), Some(Doubt::Off(skew)) if skew.to_string() == "1h behind"));
        let best = trusted.best_now().since(clock.now());
        assert!(best > Duration::from_mins(59) && best <= HOUR, "{best:?}");
        steps.by_seconds(3600);
        assert!(trusted.now().is_some(), "the clock was mended");
        steps.by_seconds(3600);
        assert!(trusted.now().is_none());
        trusted.observe(clock.now(), Instant::now());
        assert!(trusted.now().is_some(), "it was the time that jumped");
    }

    #[test]
    fn nothing_is_trusted_before_aws_has_told_the_time() {
        let clock = Clock::new(spec(1.0));
        let trusted = TrustedClock::new(clock);
        assert_eq!((trusted.now(), trusted.doubt()), (None, Some(Doubt::Untold)));
        trusted.observe(clock.now(), Instant::now());
        assert!(trusted.now().is_some());
    }

    #[test]
    fn a_date_in_real_time_suits_a_clock_of_a_test() {
        let trusted = TrustedClock::new(Clock::new(spec(600.0)));
        trusted.observe(Clock::SYSTEM.now(), Instant::now());
        assert!(trusted.now().is_some());
        trusted.observe(Clock::SYSTEM.now().plus(HOUR), Instant::now());
        assert!(trusted.now().is_none());
    }
}
