//! What may hold up a seal: today a clock in doubt, as it is until AWS has told the time, and nothing else.
//!
//! An hour that is sealed can never be opened again, so the sealer asks here before it seals anything.

use std::time::Duration;

use tokio::time::sleep;

use crate::domain::time::Timestamp;

use super::trusted_clock::TrustedClock;

/// How soon a doubted clock is looked at again, in real time.
const DOUBT_NAP: Duration = Duration::from_millis(100);

/// Asked by the sealer, and only there.
#[derive(Debug)]
pub(crate) struct SealGate {
    clock: TrustedClock,
}

impl SealGate {
    pub(crate) const fn new(clock: TrustedClock) -> Self {
        Self { clock }
    }

    /// Waits until `moment` has come and nothing holds up a seal. What is due by the returned moment may be sealed.
    pub(super) async fn wait_until(&self, moment: Timestamp) -> Timestamp {
        let clock = self.clock.clock();
        loop {
            match self.clock.now() {
                Some(now) if now >= moment => return now,
                Some(_) => clock.nap_until(moment).await,
                None => sleep(clock.stride(DOUBT_NAP)).await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::clock::{Clock, ClockSpec};

    #[tokio::test]
    async fn a_doubted_clock_wakes_no_one() {
        let spec = ClockSpec::starting_now("2071-01-01T10:30:00Z".parse().unwrap(), 600.0);
        let (clock, steps) = Clock::steppable(spec);
        let gate = SealGate::new(TrustedClock::confirmed(clock));
        let due = clock.now().plus(Duration::from_mins(10));
        steps.by_seconds(5 * 3600);
        let early = tokio::time::timeout(Duration::from_millis(300), gate.wait_until(due)).await;
        assert!(early.is_err(), "woken by a clock that has jumped");
        steps.by_seconds(-5 * 3600);
        assert!(gate.wait_until(due).await >= due);
    }
}
