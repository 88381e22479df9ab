//! The results of a run: counts, latencies and failures.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;
use tonic::Status;

use super::schedule::ScheduledRequest;

/// An agent's answer to one request.
pub(super) struct Answer {
    pub(super) accepted: u64,
    pub(super) duplicates: u64,
    pub(super) rejected: u64,
    pub(super) late: u64,
}

/// The results of one worker.
#[derive(Debug, Default)]
pub(super) struct WorkerReport {
    counts: Counts,
    latencies: Latencies,
    last_answer: Option<Instant>,
    faults: BTreeMap<String, u64>,
}

/// Counts of events, and of the requests that held them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counts {
    requests: u64,
    sent: u64,
    accepted: u64,
    duplicates: u64,
    rejected: u64,
    late: u64,
    unanswered: u64,
}

impl WorkerReport {
    pub(super) fn answered(&mut self, scheduled: ScheduledRequest, answer: &Answer) {
        let now = Instant::now();
        self.last_answer = Some(now);
        self.latencies.add(now.saturating_duration_since(scheduled.due));
        let Answer { accepted, duplicates, rejected, late } = *answer;
        let sent = scheduled.range.events;
        self.counts = self.counts.plus(Counts {
            requests: 1,
            sent,
            accepted,
            duplicates,
            rejected,
            late,
            unanswered: 0,
        });
    }

    pub(super) fn failed(&mut self, scheduled: ScheduledRequest, status: &Status) {
        let events = scheduled.range.events;
        self.counts =
            self.counts.plus(Counts { requests: 1, sent: events, unanswered: events, ..Counts::default() });
        let what = format!("{}: {}", status.code(), status.message());
        if self.faults.len() < MOST_FAULTS || self.faults.contains_key(&what) {
            *self.faults.entry(what).or_default() += 1;
        }
    }
}

const MOST_FAULTS: usize = 20;

impl Counts {
    fn plus(self, other: Self) -> Self {
        Self {
            requests: self.requests.saturating_add(other.requests),
            sent: self.sent.saturating_add(other.sent),
            accepted: self.accepted.saturating_add(other.accepted),
            duplicates: self.duplicates.saturating_add(other.duplicates),
            rejected: self.rejected.saturating_add(other.rejected),
            late: self.late.saturating_add(other.late),
            unanswered: self.unanswered.saturating_add(other.unanswered),
        }
    }
}

/// How long answers took, in microseconds. If there are very many, a random sample of them.
#[derive(Debug, Default)]
struct Latencies {
    micros: Vec<u32>,
    seen: u64,
    longest: u32,
}

/// Upper bound of one worker's sample: 4 MB.
const MOST_LATENCIES: usize = 1 << 20;

impl Latencies {
    fn add(&mut self, latency: Duration) {
        let micros = u32::try_from(latency.as_micros()).unwrap_or(u32::MAX);
        self.longest = self.longest.max(micros);
        self.seen = self.seen.saturating_add(1);
        if self.micros.len() < MOST_LATENCIES {
            self.micros.push(micros);
        } else if let Ok(place) = usize::try_from(fastrand::u64(0..self.seen))
            && let Some(kept) = self.micros.get_mut(place)
        {
            *kept = micros;
        }
    }
}

/// The results of a whole run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub requests: u64,
    /// Events.
    pub sent: u64,
    pub accepted: u64,
    pub duplicates: u64,
    pub rejected: u64,
    pub late: u64,
    /// Events of requests that failed as a whole: it is not known whether they count.
    pub unanswered: u64,
    /// The time from the beginning to the last answer.
    pub elapsed: Duration,
    /// How many requests failed, by the reason.
    pub faults: BTreeMap<String, u64>,
    /// Sorted.
    micros: Vec<u32>,
    longest: u32,
}

impl Report {
    pub(super) fn new(began: Instant, workers: Vec<WorkerReport>) -> Self {
        let mut report = Self::default();
        let (mut counts, mut last) = (Counts::default(), began);
        for worker in workers {
            counts = counts.plus(worker.counts);
            last = worker.last_answer.map_or(last, |answer| answer.max(last));
            report.longest = report.longest.max(worker.latencies.longest);
            report.micros.extend(worker.latencies.micros);
            for (fault, requests) in worker.faults {
                *report.faults.entry(fault).or_default() += requests;
            }
        }
        report.micros.sort_unstable();
        let Counts { requests, sent, accepted, duplicates, rejected, late, unanswered } = counts;
        let elapsed = last - began;
        Self { requests, sent, accepted, duplicates, rejected, late, unanswered, elapsed, ..report }
    }

    /// Accepted events a second.
    pub fn events_per_second(&self) -> u64 {
        self.per_second(self.accepted)
    }

    pub fn requests_per_second(&self) -> u64 {
        self.per_second(self.requests)
    }

    fn per_second(&self, number: u64) -> u64 {
        let rate = u128::from(number).saturating_mul(1_000_000_000).checked_div(self.elapsed.as_nanos());
        rate.and_then(|rate| u64::try_from(rate).ok()).unwrap_or_default()
    }

    /// The time within which `of_100_000` of 100 000 answers came.
    pub fn latency(&self, of_100_000: u64) -> Duration {
        let count = self.micros.len() as u64;
        let rank = count.saturating_mul(of_100_000).div_ceil(100_000).max(1);
        let micros = usize::try_from(rank - 1).ok().and_then(|place| self.micros.get(place));
        Duration::from_micros(micros.copied().unwrap_or_default().into())
    }

    pub fn longest(&self) -> Duration {
        Duration::from_micros(self.longest.into())
    }

    /// Whether every event that was sent was accepted.
    pub fn is_clean(&self) -> bool {
        self.accepted == self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::{super::requests::EventRange, *};

    fn scheduled(due: Instant) -> ScheduledRequest {
        ScheduledRequest { range: EventRange { first: 0, events: 10 }, due }
    }

    #[test]
    fn percentiles_are_those_of_all_workers_together() {
        let began = Instant::now();
        let mut workers = Vec::new();
        for millis in 1..=100 {
            let mut worker = WorkerReport::default();
            worker.latencies.add(Duration::from_millis(millis));
            workers.push(worker);
        }
        let report = Report::new(began, workers);
        let millis = |of_100_000| report.latency(of_100_000).as_millis();
        assert_eq!((millis(50_000), millis(99_000), millis(99_900)), (50, 99, 100));
        assert_eq!(report.longest(), Duration::from_millis(100));
        assert_eq!(Report::default().latency(50_000), Duration::ZERO);
    }

    #[test]
    fn the_longest_is_known_even_when_it_is_not_in_the_sample() {
        let mut latencies = Latencies::default();
        latencies.add(Duration::from_secs(9));
        for _ in 0..2 * MOST_LATENCIES {
            latencies.add(Duration::from_millis(1));
        }
        assert_eq!((latencies.micros.len(), latencies.longest), (MOST_LATENCIES, 9_000_000));
    }

    #[test]
    fn what_was_not_answered_is_no_success() {
        let now = Instant::now();
        let mut worker = WorkerReport::default();
        worker.answered(scheduled(now), &Answer { accepted: 10, duplicates: 0, rejected: 0, late: 0 });
        worker.failed(scheduled(now), &Status::unavailable("gone"));
        let report = Report::new(now, vec![worker]);
        assert_eq!((report.sent, report.accepted, report.unanswered, report.requests), (20, 10, 10, 2));
        assert!(!report.is_clean());
        assert_eq!(report.faults.len(), 1);
    }
}
