//! The one source of time. Everything that tallyman waits for follows it, but for network time-outs and the rate
//! budget, which are real.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, sleep};

use crate::domain::time::{Timestamp, UnixNanos};

/// How long a wait goes without looking at the clock again, so that a stepped clock is noticed.
const LONGEST_NAP: Duration = Duration::from_secs(1);
#[cfg(test)]
const SIMULATED_STRIDE: Duration = Duration::from_mins(2);
/// Naps shorter than this are not worth their timer.
const SHORTEST_NAP: Duration = Duration::from_millis(1);

/// Real time, or real time shifted and sped up.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    spec: Option<ClockSpec>,
    #[cfg(test)]
    steps: Option<&'static Steps>,
}

/// A clock that shows what tokio's clock, which a test may have paused, has counted since `anchor`.
#[cfg(test)]
#[derive(Clone, Copy, Debug)]
struct Simulated {
    anchor: Instant,
    start: Timestamp,
}

/// What a test has set its clock forward or back by.
#[cfg(test)]
#[derive(Debug, Default)]
pub(crate) struct Steps {
    millis: std::sync::atomic::AtomicI64,
    simulated: Option<Simulated>,
}

/// `anchor=<unix seconds>,start=<RFC 3339>,speed=<n>`: the time is `start + (real time - anchor) * speed`.
/// Processes with the same spec agree on the time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClockSpec {
    pub anchor: Timestamp,
    pub start: Timestamp,
    pub speed: f64,
}

impl Clock {
    pub const SYSTEM: Self = Self {
        spec: None,
        #[cfg(test)]
        steps: None,
    };

    pub const fn new(spec: ClockSpec) -> Self {
        let mut clock = Self::SYSTEM;
        clock.spec = Some(spec);
        clock
    }

    /// With a handle to step it by; the handle lives on after the test.
    #[cfg(test)]
    pub(crate) fn steppable(spec: ClockSpec) -> (Self, &'static Steps) {
        let steps: &'static Steps = Box::leak(Box::default());
        (Self { spec: Some(spec), steps: Some(steps) }, steps)
    }

    /// A clock in tokio's time, with a handle to step it by.
    #[cfg(test)]
    pub(crate) fn simulated(start: Timestamp) -> (Self, &'static Steps) {
        let simulated = Some(Simulated { anchor: Instant::now(), start });
        let steps: &'static Steps = Box::leak(Box::new(Steps { simulated, ..Steps::default() }));
        (Self { spec: None, steps: Some(steps) }, steps)
    }

    pub fn now(&self) -> Timestamp {
        #[cfg(test)]
        if let Some(steps) = self.steps {
            let simulated = steps.simulated.map(|simulated| simulated.start.plus(simulated.anchor.elapsed()));
            return steps.applied_to(simulated.unwrap_or_else(|| self.at(system_now())));
        }
        self.at(system_now())
    }

    /// The same to the nanosecond, where real time is neither shifted nor sped up.
    pub fn now_nanos(&self) -> UnixNanos {
        if !self.is_system() || cfg!(test) {
            return self.now().into();
        }
        UnixNanos::new(u64::try_from(since_epoch().as_nanos()).unwrap_or(u64::MAX))
    }

    /// What this clock shows at a moment of real time.
    pub fn at(&self, real: Timestamp) -> Timestamp {
        self.spec.map_or(real, |spec| spec.at(real))
    }

    /// By this clock's measure, how long ago `moment` was. Setting the clock does not change it.
    pub fn since(&self, moment: Instant) -> Duration {
        moment.elapsed().mul_f64(self.speed())
    }

    /// Returns once `moment` has come.
    pub async fn sleep_until(&self, moment: Timestamp) {
        while self.now() < moment {
            self.nap_until(moment).await;
        }
    }

    /// Returns once `moment` has come, or somewhat sooner: it is time to look at the clock again.
    pub async fn nap_until(&self, moment: Timestamp) {
        let real = moment.since(self.now()).div_f64(self.speed());
        sleep(real.clamp(SHORTEST_NAP, self.stride(LONGEST_NAP))).await;
    }

    /// How long one who looks every `real` of real time may look away. In a simulation that is longer: days pass in it,
    /// and each look takes its time.
    pub fn stride(&self, real: Duration) -> Duration {
        #[cfg(test)]
        if self.steps.is_some_and(|steps| steps.simulated.is_some()) {
            return real.max(SIMULATED_STRIDE);
        }
        real
    }

    pub fn speed(&self) -> f64 {
        self.spec.map_or(1.0, |spec| spec.speed)
    }

    pub const fn is_system(&self) -> bool {
        self.spec.is_none()
    }
}

#[cfg(test)]
impl Steps {
    pub(crate) fn by_seconds(&self, seconds: i64) {
        self.millis.fetch_add(seconds * 1000, std::sync::atomic::Ordering::SeqCst);
    }

    fn applied_to(&self, moment: Timestamp) -> Timestamp {
        Timestamp::from_millis(moment.millis() + self.millis.load(std::sync::atomic::Ordering::SeqCst))
    }
}

fn system_now() -> Timestamp {
    Timestamp::default().plus(since_epoch())
}

#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the system's time")]
fn since_epoch() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

impl ClockSpec {
    /// A spec under which it is `start` now.
    pub fn starting_now(start: Timestamp, speed: f64) -> Self {
        Self { anchor: system_now(), start, speed }
    }

    fn at(&self, real: Timestamp) -> Timestamp {
        if real >= self.anchor {
            self.start.plus(self.scaled(real.since(self.anchor)))
        } else {
            self.start.minus(self.scaled(self.anchor.since(real)))
        }
    }

    fn scaled(&self, real: Duration) -> Duration {
        Duration::try_from_secs_f64(real.as_secs_f64() * self.speed).unwrap_or(Duration::MAX)
    }
}

const SPEC_FORM: &str = "a clock is given as anchor=<unix seconds>,start=<RFC 3339>,speed=<n>";
const SLOWEST: f64 = 0.001;
const FASTEST: f64 = 1_000_000.0;

impl FromStr for ClockSpec {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut anchor, mut start, mut speed) = (None, None, None);
        for part in text.split(',') {
            let (key, value) = part.split_once('=').ok_or(SPEC_FORM)?;
            match key.trim() {
                "anchor" => anchor = Some(seconds(value.trim())?),
                "start" => start = Some(value.trim().parse()?),
                "speed" => speed = Some(value.trim().parse::<f64>().map_err(|_| SPEC_FORM)?),
                other => return Err(format!("unknown part `{other}`: {SPEC_FORM}")),
            }
        }
        let speed = speed.ok_or(SPEC_FORM)?;
        if !(SLOWEST..=FASTEST).contains(&speed) {
            return Err(format!("the clock's speed must be from {SLOWEST} to {FASTEST}"));
        }
        Ok(Self { anchor: anchor.ok_or(SPEC_FORM)?, start: start.ok_or(SPEC_FORM)?, speed })
    }
}

fn seconds(text: &str) -> Result<Timestamp, String> {
    // A float is somewhat above or below a millisecond: without this, 0.123 s would become 122 ms.
    const HALF_A_MILLISECOND: Duration = Duration::from_micros(500);
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let since_epoch = seconds.ok_or_else(|| SPEC_FORM.to_owned())?;
    Ok(Timestamp::default().plus(since_epoch.saturating_add(HALF_A_MILLISECOND)))
}

impl fmt::Display for ClockSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.anchor.seconds(), self.anchor.millis().rem_euclid(1000));
        write!(f, "anchor={seconds}.{millis:03},start=")?;
        // A timestamp shows whole seconds only.
        match jiff::Timestamp::from_millisecond(self.start.millis()) {
            Ok(start) => start.fmt(f)?,
            Err(_) => self.start.fmt(f)?,
        }
        write!(f, ",speed={}", self.speed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spec_maps_real_time_to_its_own() {
        let spec: ClockSpec = "anchor=1000,start=2026-11-30T22:00:00Z,speed=3600".parse().unwrap();
        assert_eq!(spec.at(Timestamp::from_seconds(1001)).to_string(), "2026-11-30T23:00:00Z");
        assert_eq!(spec.at(Timestamp::from_seconds(998)).to_string(), "2026-11-30T20:00:00Z");
    }

    #[test]
    fn a_spec_prints_and_parses_back() {
        for text in [
            "anchor=1000.250,start=2026-11-30T22:00:00Z,speed=1.5",
            "anchor=1700000000.123,start=2026-11-30T22:00:00.456Z,speed=3600",
        ] {
            let spec: ClockSpec = text.parse().unwrap();
            assert_eq!(spec.to_string(), text);
            assert_eq!(spec.to_string().parse(), Ok(spec));
        }
    }

    #[test]
    fn a_clock_far_from_its_anchor_stands_at_the_end_of_time() {
        let spec: ClockSpec = "anchor=1e18,start=2026-11-30T22:00:00Z,speed=1000000".parse().unwrap();
        assert!(spec.at(Timestamp::default()) < Timestamp::from_millis(i64::MIN / 2));
    }

    #[test]
    fn wrong_specs_are_refused() {
        for text in
            ["", "anchor=1", "anchor=1,start=now,speed=1", "anchor=1,start=2026-11-30T22:00:00Z,speed=0"]
        {
            assert!(text.parse::<ClockSpec>().is_err(), "{text}");
        }
    }
}
