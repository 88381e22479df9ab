//! Which faults strike a call, by chance, clock and rate.

use std::time::Duration;

use fastrand::Rng;

use super::{rate_limit::RateLimit, settings::Faults};
use crate::{
    domain::time::Timestamp,
    sandbox::exception::{Exception, Kind},
};

/// Decides what goes wrong with each call.
#[derive(Debug)]
pub(in crate::sandbox) struct FaultInjector {
    faults: Faults,
    randomness: Rng,
    rate_limit: RateLimit,
}

impl FaultInjector {
    pub(in crate::sandbox) fn new(faults: Faults, randomness: Rng) -> Self {
        Self { faults, randomness, rate_limit: RateLimit::default() }
    }

    pub(in crate::sandbox) const fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Replaces all faults. The calls that were taken before still count for the rate.
    pub(in crate::sandbox) fn set(&mut self, faults: Faults) {
        self.faults = faults;
    }

    /// Draws the faults of the next call. Every call takes as much from the randomness, whatever its records and the
    /// faults in force, so that the n-th call of a seed draws the same in every run.
    pub(in crate::sandbox) fn draw(&mut self) -> DrawnFaults {
        let mut rng = self.randomness.fork();
        let throttled = happens(&mut rng, self.faults.throttle);
        let failed = happens(&mut rng, self.faults.error);
        let reply_lost = happens(&mut rng, self.faults.lose_reply);
        DrawnFaults { throttled, failed, reply_lost, unprocessed: self.faults.unprocessed, rng }
    }

    /// Refuses the call if a fault strikes it as a whole. `real` is the real time since the sandbox's start.
    pub(in crate::sandbox) fn check(
        &mut self,
        drawn: &DrawnFaults,
        now: Timestamp,
        real: Duration,
    ) -> Result<(), Exception> {
        if self.faults.outage.is_some_and(|outage| outage.covers(now)) {
            return Err(Kind::ServiceUnavailable.because("the sandbox has an outage"));
        }
        if let Some(kind) = self.faults.refuse {
            return Err(kind.because("the sandbox refuses every call"));
        }
        let limit = self.faults.calls_per_second;
        if drawn.throttled || !limit.is_none_or(|limit| self.rate_limit.take(real, limit)) {
            return Err(Kind::Throttling.because("Rate exceeded"));
        }
        if drawn.failed {
            return Err(Kind::InternalServiceError.because("the sandbox failed on purpose"));
        }
        Ok(())
    }
}

/// The faults that chance has drawn for one call.
#[derive(Debug)]
pub(in crate::sandbox) struct DrawnFaults {
    throttled: bool,
    failed: bool,
    pub(in crate::sandbox) reply_lost: bool,
    unprocessed: f64,
    rng: Rng,
}

impl DrawnFaults {
    /// Asked once per record.
    pub(in crate::sandbox) fn leaves_unprocessed(&mut self) -> bool {
        happens(&mut self.rng, self.unprocessed)
    }
}

fn happens(rng: &mut Rng, probability: f64) -> bool {
    rng.f64() < probability
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(faults: &Faults, seed: u64) -> Vec<(bool, bool, bool, [bool; 3])> {
        let mut injector = FaultInjector::new(faults.clone(), Rng::with_seed(seed));
        let draw = |_| {
            let mut drawn = injector.draw();
            let records = [(); 3].map(|()| drawn.leaves_unprocessed());
            (drawn.throttled, drawn.failed, drawn.reply_lost, records)
        };
        (0..200).map(draw).collect()
    }

    #[test]
    fn without_faults_nothing_goes_wrong() {
        assert!(drawn(&Faults::default(), 1).iter().all(|call| *call == (false, false, false, [false; 3])));
    }

    #[test]
    fn a_seed_decides_the_faults_of_every_call() {
        let faults =
            Faults { throttle: 0.3, error: 0.3, lose_reply: 0.3, unprocessed: 0.3, ..Faults::default() };
        assert_eq!(drawn(&faults, 7), drawn(&faults, 7));
        assert_ne!(drawn(&faults, 7), drawn(&faults, 8));
        let throttled = drawn(&faults, 7).iter().filter(|call| call.0).count();
        assert!((30..90).contains(&throttled), "{throttled} of 200 at a probability of 0.3");
    }

    #[test]
    fn one_fault_does_not_shift_when_another_strikes() {
        let alone = drawn(&Faults { lose_reply: 0.3, ..Faults::default() }, 7);
        let among = drawn(&Faults { throttle: 1.0, error: 0.5, lose_reply: 0.3, ..Faults::default() }, 7);
        assert!(alone.iter().zip(among).all(|(alone, among)| alone.2 == among.2));
    }

    #[test]
    fn probability_one_always_strikes() {
        let always = Faults { throttle: 1.0, unprocessed: 1.0, ..Faults::default() };
        assert!(drawn(&always, 7).iter().all(|call| call.0 && call.3 == [true; 3]));
    }
}
