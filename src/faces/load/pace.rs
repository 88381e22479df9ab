//! When the next request goes out.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::{sync::Semaphore, task::spawn_blocking, time::Instant};

use super::{Load, requests::Slice};

/// Hands out the requests, in order, to whoever can send the next one.
pub(super) struct Pace {
    began: Instant,
    until: Instant,
    next: AtomicU64,
    batch: u64,
    most_events: u64,
    beat: Option<Beat>,
}

/// With a rate, a request has its moment, and its answer is measured from there: when the agent holds up those that
/// send, what they would have sent meanwhile is late, too.
struct Beat {
    events_per_second: u64,
    due: Arc<Semaphore>,
}

impl Drop for Beat {
    /// Ends the thread, too.
    fn drop(&mut self) {
        self.due.close();
    }
}

/// A request to send.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ticket {
    pub(super) slice: Slice,
    pub(super) due: Instant,
}

impl Pace {
    pub(super) fn start(load: &Load, workers: usize) -> Self {
        let (began, batch) = (Instant::now(), u64::from(load.batch));
        let most_events = match load.rate {
            0 => load.most_events,
            rate => load.most_events.min(events_in(load.duration, rate)),
        };
        let beat =
            (load.rate > 0).then(|| Beat { events_per_second: load.rate, due: Arc::new(Semaphore::new(0)) });
        if let Some(beat) = &beat {
            let (due, rate) = (beat.due.clone(), load.rate);
            spawn_blocking(move || keep_time(&due, began, most_events.div_ceil(batch), batch, rate, workers));
        }
        Self { began, until: began + load.duration, next: AtomicU64::new(0), batch, most_events, beat }
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// The next request once it is due, or none when it is over.
    pub(super) async fn next(&self) -> Option<Ticket> {
        if let Some(beat) = &self.beat {
            beat.due.acquire().await.ok()?.forget();
        }
        let first = self.next.fetch_add(1, Ordering::Relaxed).saturating_mul(self.batch);
        let events = self.batch.min(self.most_events.saturating_sub(first));
        let now = Instant::now();
        let due = self.beat.as_ref().map_or(now, |beat| self.began + moment(first, beat.events_per_second));
        let is_over = events == 0 || (self.beat.is_none() && now >= self.until);
        (!is_over).then_some(Ticket { slice: Slice { first, events }, due })
    }
}

/// Lets requests go when they are due; in the end each worker once more, to see that it is over. tokio's timers know
/// whole milliseconds only, which is more than many an answer takes.
#[expect(clippy::disallowed_methods, reason = "a thread of its own, which holds nobody up")]
fn keep_time(due: &Semaphore, began: Instant, requests: u64, batch: u64, rate: u64, workers: usize) {
    let mut let_go = 0;
    while let_go < requests && !due.is_closed() {
        let passed = began.elapsed();
        let wanted =
            events_in(passed, rate).checked_div(batch).unwrap_or_default().saturating_add(1).min(requests);
        due.add_permits(usize::try_from(wanted.saturating_sub(let_go)).unwrap_or_default());
        let_go = wanted.max(let_go);
        let rest = moment(let_go.saturating_mul(batch), rate).saturating_sub(began.elapsed());
        if let_go < requests && !rest.is_zero() {
            thread::sleep(rest.min(LONGEST_NAP));
        }
    }
    due.add_permits(workers);
}

/// So that the thread soon sees that nobody sends any more.
const LONGEST_NAP: Duration = Duration::from_millis(50);

/// When the event is due, from the beginning.
fn moment(event: u64, rate: u64) -> Duration {
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
            mode: Mode::Unary,
            usage: Usage::default(),
            batch: 10,
            in_flight: 1,
            most_events: 25,
            duration: Duration::from_mins(1),
            rate,
        }
    }

    async fn all(pace: &Pace) -> Vec<Ticket> {
        let mut tickets = Vec::new();
        while let Some(ticket) = pace.next().await {
            tickets.push(ticket);
        }
        tickets
    }

    #[tokio::test]
    async fn every_event_has_one_place_and_the_last_request_has_what_is_left() {
        for rate in [0, 1000] {
            let tickets = all(&Pace::start(&load(rate), 1)).await;
            let places: Vec<_> =
                tickets.iter().map(|ticket| (ticket.slice.first, ticket.slice.events)).collect();
            assert_eq!(places, [(0, 10), (10, 10), (20, 5)]);
        }
    }

    #[tokio::test]
    async fn with_a_rate_a_request_is_due_at_its_moment_however_late_it_goes() {
        let pace = Pace::start(&load(1000), 1);
        let tickets = all(&pace).await;
        let moments: Vec<_> = tickets.iter().map(|ticket| (ticket.due - pace.began()).as_millis()).collect();
        assert_eq!(moments, [0, 10, 20]);
    }

    #[tokio::test]
    async fn it_ends_in_time() {
        for rate in [0, 1000] {
            let pace = Pace::start(&Load { duration: Duration::ZERO, ..load(rate) }, 1);
            assert!(all(&pace).await.is_empty(), "{rate}");
        }
    }
}
