//! The configured clients (`[[grpc.client]]`): what each may do, and how many events it may send.

use std::{
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tonic::{Request, Status};

use crate::domain::{permission::Permission, product::ProductIndex, usage::event::RejectReason};

/// Time for which unused events may be saved up, and then sent at once.
const BURST: Duration = Duration::from_secs(1);

/// A configured client. It is part of the extensions of its requests; a request without one may do everything.
#[derive(Debug)]
pub(crate) struct Client {
    pub permission: Permission,
    throttle: Option<Throttle>,
}

impl Client {
    pub(super) fn new(permission: Permission, events_per_second: Option<NonZeroU32>) -> Self {
        Self { permission, throttle: events_per_second.map(Throttle::new) }
    }

    pub(in crate::api) fn from_request<T>(request: &Request<T>) -> Option<Arc<Self>> {
        request.extensions().get::<Arc<Self>>().cloned()
    }

    /// The name of the client that proved itself, or empty text where clients are not told apart.
    pub(in crate::api) fn name_of(client: Option<&Self>) -> Arc<str> {
        client.map_or_else(|| "".into(), |client| client.permission.client.clone())
    }

    /// Admits a request with so many events, or returns how long to wait before the next attempt. A request costs at
    /// least one event.
    pub(in crate::api) fn admit(&self, events: usize) -> Result<(), Duration> {
        let Some(throttle) = &self.throttle else { return Ok(()) };
        let now = throttle.since.elapsed();
        throttle.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(events, throttle.per_second, now)
    }
}

/// Refuses a request about a product or a customer outside the client's permission.
pub(in crate::api) fn authorize_customer(
    client: Option<&Client>,
    product: ProductIndex,
    customer: &str,
) -> Result<(), Status> {
    let Some(client) = client else { return Ok(()) };
    let refused = |refusal: RejectReason| Status::permission_denied(refusal.to_string());
    client.permission.check(product, customer).map_err(refused)
}

/// The limit of `events_per_second`.
#[derive(Debug)]
struct Throttle {
    per_second: NonZeroU32,
    since: Instant,
    bucket: Mutex<LeakyBucket>,
}

impl Throttle {
    fn new(per_second: NonZeroU32) -> Self {
        Self { per_second, since: Instant::now(), bucket: Mutex::default() }
    }
}

/// A leaky bucket, as the time at which it is empty. A request that is larger than the bucket is admitted whole, and
/// the next one waits.
#[derive(Debug, Default)]
struct LeakyBucket {
    empty_at: Duration,
}

impl LeakyBucket {
    fn take(&mut self, events: usize, per_second: NonZeroU32, now: Duration) -> Result<(), Duration> {
        let wait = self.empty_at.saturating_sub(now);
        if !wait.is_zero() {
            return Err(wait);
        }
        // A request without events costs work, too.
        let events = u32::try_from(events.max(1)).unwrap_or(u32::MAX);
        let cost = Duration::from_secs_f64(f64::from(events) / f64::from(per_second.get()));
        // What was not used of the last second may be used now: a burst of one second.
        self.empty_at = self.empty_at.max(now.saturating_sub(BURST)) + cost;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_rate_is_admitted_on_average() {
        let (mut bucket, rate, mut passed) = (LeakyBucket::default(), NonZeroU32::new(100).unwrap(), 0);
        let mut now = Duration::from_secs(10);
        let from = now;
        for step in 0..1000 {
            let events = 1 + step % 40;
            match bucket.take(events, rate, now) {
                Ok(()) => passed += events,
                Err(wait) => now += wait,
            }
        }
        let allowed = now.saturating_sub(from).as_secs_f64() * 100.0;
        let passed = f64::from(u32::try_from(passed).unwrap());
        assert!(passed >= allowed && passed <= allowed + 100.0 + 2.0 * 40.0, "{passed} of {allowed}");
    }

    #[test]
    fn a_large_request_is_admitted_whole_and_the_next_one_waits() {
        let (mut bucket, rate, second) =
            (LeakyBucket::default(), NonZeroU32::new(10).unwrap(), Duration::from_secs(1));
        assert_eq!(bucket.take(100, rate, second * 60), Ok(()));
        assert_eq!(bucket.take(1, rate, second * 60), Err(second * 9), "a burst of one second was free");
        assert_eq!(bucket.take(1, rate, second * 69), Ok(()));
    }

    #[test]
    fn requests_without_events_are_not_free() {
        let (mut bucket, rate, now) =
            (LeakyBucket::default(), NonZeroU32::new(10).unwrap(), Duration::from_mins(1));
        let passed = (0..100).take_while(|_| bucket.take(0, rate, now).is_ok()).count();
        assert_eq!(passed, 11, "a burst of one second, and one that the bucket is empty for");
    }
}
