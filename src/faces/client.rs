//! Clients that are told apart: what each may do, and how much.

use std::{
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tonic::{Request, Status};
use tracing::{debug, warn};

use crate::{
    domain::{permission::Permission, product::ProductIndex, usage::Refusal},
    work::books::Foreign,
};

/// A client of the configuration. Part of the extensions of its requests; others have none, and may do everything.
#[derive(Debug)]
pub struct Client {
    pub permission: Permission,
    throttle: Option<Throttle>,
    is_told: AtomicBool,
}

impl Client {
    pub(super) fn new(permission: Permission, events_per_second: Option<NonZeroU32>) -> Self {
        Self { permission, throttle: events_per_second.map(Throttle::new), is_told: AtomicBool::new(false) }
    }

    pub(super) fn of<T>(request: &Request<T>) -> Option<Arc<Self>> {
        request.extensions().get::<Arc<Self>>().cloned()
    }

    /// Tells the operator that it was refused another's producer: loudly once, since it may try without end.
    pub(super) fn note_foreign(&self, foreign: &Foreign) {
        const TEXT: &str = "a client sends as another's producer, and is refused";
        let (Foreign { producer, owner }, client) = (foreign, &self.permission.client);
        if self.is_told.swap(true, Ordering::Relaxed) {
            debug!(%client, %owner, %producer, "{TEXT}");
        } else {
            warn!(%client, %owner, %producer, "{TEXT}");
        }
    }

    /// Lets so many events pass, and costs one at least; or says after what time to ask again.
    pub(super) fn admit(&self, events: usize) -> Result<(), Duration> {
        let Some(throttle) = &self.throttle else { return Ok(()) };
        let now = throttle.since.elapsed();
        throttle.debt.lock().unwrap_or_else(PoisonError::into_inner).take(events, throttle.per_second, now)
    }
}

/// Refuses a request about a customer whom the client has nothing to do with.
pub(super) fn check(client: Option<&Client>, product: ProductIndex, customer: &str) -> Result<(), Status> {
    let Some(client) = client else { return Ok(()) };
    let refused = |refusal: Refusal| Status::permission_denied(refusal.to_string());
    client.permission.check(product, customer).map_err(refused)
}

#[derive(Debug)]
struct Throttle {
    per_second: NonZeroU32,
    since: Instant,
    debt: Mutex<Debt>,
}

impl Throttle {
    fn new(per_second: NonZeroU32) -> Self {
        Self { per_second, since: Instant::now(), debt: Mutex::default() }
    }
}

/// When what was let pass is paid for, at the pace that is allowed. A request may be larger than a second's worth: it
/// passes whole, and the next one waits.
#[derive(Debug, Default)]
struct Debt {
    paid_at: Duration,
}

impl Debt {
    fn take(&mut self, events: usize, per_second: NonZeroU32, now: Duration) -> Result<(), Duration> {
        let wait = self.paid_at.saturating_sub(now);
        if !wait.is_zero() {
            return Err(wait);
        }
        // A request without any is work, too.
        let events = u32::try_from(events.max(1)).unwrap_or(u32::MAX);
        let took = Duration::from_secs_f64(f64::from(events) / f64::from(per_second.get()));
        // What was not used of the last second may be used now.
        self.paid_at = self.paid_at.max(now.saturating_sub(SAVED)) + took;
        Ok(())
    }
}

const SAVED: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_average_no_more_passes_than_is_allowed() {
        let (mut debt, rate, mut passed) = (Debt::default(), NonZeroU32::new(100).unwrap(), 0);
        let mut now = Duration::from_secs(10);
        let from = now;
        for step in 0..1000 {
            let events = 1 + step % 40;
            match debt.take(events, rate, now) {
                Ok(()) => passed += events,
                Err(wait) => now += wait,
            }
        }
        let allowed = now.saturating_sub(from).as_secs_f64() * 100.0;
        let passed = f64::from(u32::try_from(passed).unwrap());
        assert!(passed >= allowed && passed <= allowed + 100.0 + 2.0 * 40.0, "{passed} of {allowed}");
    }

    #[test]
    fn a_large_request_passes_whole_and_the_next_one_waits() {
        let (mut debt, rate, second) =
            (Debt::default(), NonZeroU32::new(10).unwrap(), Duration::from_secs(1));
        assert_eq!(debt.take(100, rate, second * 60), Ok(()));
        assert_eq!(debt.take(1, rate, second * 60), Err(second * 9), "one second's worth was saved");
        assert_eq!(debt.take(1, rate, second * 69), Ok(()));
    }

    #[test]
    fn requests_without_events_are_not_free() {
        let (mut debt, rate, now) = (Debt::default(), NonZeroU32::new(10).unwrap(), Duration::from_mins(1));
        let passed = (0..100).take_while(|_| debt.take(0, rate, now).is_ok()).count();
        assert_eq!(passed, 11, "a second's worth was saved, and the last one passes before it is paid");
    }
}
