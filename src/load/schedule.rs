//! Which request goes out next, and when.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{sync::Semaphore, task::spawn_blocking, time::Instant};

use super::{Load, requests::EventRange};

/// Hands out the requests, in order, to the workers that can send the next one.
pub(super) struct Schedule {
    began: Instant,
    until: Instant,
    next: AtomicU64,
    batch: u64,
    most_events: u64,
    timer: Option<RateTimer>,
}

/// With a rate, each request is due at a fixed time, and its answer is measured from there: when the agent holds up the
/// workers, the requests that they would have sent meanwhile are late too.
struct RateTimer {
    events_per_second: u64,
    due: Arc<Semaphore>,
}

impl Drop for RateTimer {
    /// Ends the thread that releases the requests.
    fn drop(&mut self) {
        self.due.close();
    }
}

/// A request to send, and the time from which its answer is measured.
#[derive(Clone, Copy, Debug)]
pub(super) struct ScheduledRequest {
    pub(super) range: EventRange,
    pub(super) due: Instant,
}

impl Schedule {
    pub(super) fn start(load: &Load, workers: usize) -> Self {
        let (began, batch) = (Instant::now(), u64::from(load.batch));
        let most_events = match load.rate {
            0 => load.most_events,
            rate => load.most_events.min(events_in(load.duration, rate)),
        };
        let timer = (load.rate > 0)
            .then(|| RateTimer { events_per_second: load.rate, due: Arc::new(Semaphore::new(0)) });
        if let Some(timer) = &timer {
            let (due, rate) = (timer.due.clone(), load.rate);
            spawn_blocking(move || {
                release_due_requests(&due, began, most_events.div_ceil(batch), batch, rate, workers);
            });
        }
        Self { began, until: began + load.duration, next: AtomicU64::new(0), batch, most_events, timer }
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// The next request once it is due; none when the run is over.
    pub(super) async fn next(&self) -> Option<ScheduledRequest> {
        if let Some(timer) = &self.timer {
            timer.due.acquire().await.ok()?.forget();
        }
        let first = self.next.fetch_add(1, Ordering::Relaxed).saturating_mul(self.batch);
        let events = self.batch.min(self.most_events.saturating_sub(first));
        let now = Instant::now();
        let due =
            self.timer.as_ref().map_or(now, |timer| self.began + due_after(first, timer.events_per_second));
        let is_over = events == 0 || (self.timer.is_none() && now >= self.until);
        (!is_over).then_some(ScheduledRequest { range: EventRange { first, events }, due })
    }
}

/// Releases each request when it is due; at the end, lets each worker see that the run is over. It is a thread, since
/// tokio's timers know only whole milliseconds, which is longer than many answers take.
#[expect(clippy::disallowed_methods, reason = "a thread of its own, which holds nobody up")]
fn release_due_requests(
    due: &Semaphore,
    began: Instant,
    requests: u64,
    batch: u64,
    rate: u64,
    workers: usize,
) {
    let mut released = 0;
    while released < requests && !due.is_closed() {
        let passed = began.elapsed();
        let wanted =
            events_in(passed, rate).checked_div(batch).unwrap_or_default().saturating_add(1).min(requests);
        due.add_permits(usize::try_from(wanted.saturating_sub(released)).unwrap_or_default());
        released = wanted.max(released);
        let rest = due_after(released.saturating_mul(batch), rate).saturating_sub(began.elapsed());
        if released < requests && !rest.is_zero() {
            thread::sleep(rest.min(LONGEST_SLEEP));
        }
    }
    due.add_permits(workers);
}

/// Upper bound of a sleep, after which the thread sees whether the run has ended.
const LONGEST_SLEEP: Duration = Duration::from_millis(50);

/// The time from the beginning until the event is due.
fn due_after(event: u64, rate: u64) -> Duration {
    let nanos = u128::from(event).saturating_mul(NANOS).checked_div(u128::from(rate)).unwrap_or_default();
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

fn events_in(span: Duration, rate: u64) -> u64 {
    let events = span.as_nanos().saturating_mul(u128::from(rate)).checked_div(NANOS).unwrap_or_default();
    u64::try_from(events).unwrap_or(u64::MAX)
}

const NANOS: u128 = 1_000_000_000;

#[cfg(test)]
mod tests {
    use super::{
        super::{Mode, Usage},
        *,
    };

    fn load(rate: u64) -> Load {
        Load {
            encodes_anew: false,
            mode: Mode::Unary,
            usage: Usage::default(),
            batch: 10,
            in_flight: 1,
            most_events: 25,
            duration: Duration::from_mins(1),
            rate,
        }
    }

    async fn all(schedule: &Schedule) -> Vec<ScheduledRequest> {
        let mut requests = Vec::new();
        while let Some(request) = schedule.next().await {
            requests.push(request);
        }
        requests
    }

    #[tokio::test]
    async fn every_event_has_one_place_and_the_last_request_has_what_is_left() {
        for rate in [0, 1000] {
            let requests = all(&Schedule::start(&load(rate), 1)).await;
            let places: Vec<_> =
                requests.iter().map(|request| (request.range.first, request.range.events)).collect();
            assert_eq!(places, [(0, 10), (10, 10), (20, 5)]);
        }
    }

    #[tokio::test]
    async fn with_a_rate_a_request_is_due_at_its_moment_however_late_it_goes() {
        let schedule = Schedule::start(&load(1000), 1);
        let requests = all(&schedule).await;
        let delays: Vec<_> =
            requests.iter().map(|request| (request.due - schedule.began()).as_millis()).collect();
        assert_eq!(delays, [0, 10, 20]);
    }

    #[tokio::test]
    async fn it_ends_in_time() {
        for rate in [0, 1000] {
            let schedule = Schedule::start(&Load { duration: Duration::ZERO, ..load(rate) }, 1);
            assert!(all(&schedule).await.is_empty(), "{rate}");
        }
    }
}
