//! What came of it.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::Instant;
use tonic::Status;

use super::pace::Ticket;

/// An agent's answer to one request.
pub(super) struct Answer {
    pub(super) accepted: u64,
    pub(super) duplicates: u64,
    pub(super) rejected: u64,
    pub(super) late: u64,
}

/// What one worker saw.
#[derive(Debug, Default)]
pub(super) struct Tally {
    sum: Sum,
    latencies: Latencies,
    last_answer: Option<Instant>,
    faults: BTreeMap<String, u64>,
}

/// Events and requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    requests: u64,
    sent: u64,
    accepted: u64,
    duplicates: u64,
    rejected: u64,
    late: u64,
    unanswered: u64,
}

impl Tally {
    pub(super) fn answered(&mut self, ticket: Ticket, answer: &Answer) {
        let now = Instant::now();
        self.last_answer = Some(now);
        self.latencies.add(now.saturating_duration_since(ticket.due));
        let Answer { accepted, duplicates, rejected, late } = *answer;
        let sent = ticket.slice.events;
        self.sum =
            self.sum.plus(Sum { requests: 1, sent, accepted, duplicates, rejected, late, unanswered: 0 });
    }

    pub(super) fn failed(&mut self, ticket: Ticket, status: &Status) {
        let events = ticket.slice.events;
        self.sum = self.sum.plus(Sum { requests: 1, sent: events, unanswered: events, ..Sum::default() });
        let what = format!("{}: {}", status.code(), status.message());
        if self.faults.len() < MOST_FAULTS || self.faults.contains_key(&what) {
            *self.faults.entry(what).or_default() += 1;
        }
    }
}

const MOST_FAULTS: usize = 20;

impl Sum {
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

/// How long answers took, in microseconds. Of very many, a sample in which each has the same chance to be.
#[derive(Debug, Default)]
struct Latencies {
    micros: Vec<u32>,
    seen: u64,
    longest: u32,
}

/// Of one worker; 4 MB.
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

/// What came of a whole run.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub requests: u64,
    /// Events.
    pub sent: u64,
    pub accepted: u64,
    pub duplicates: u64,
    pub rejected: u64,
    pub late: u64,
    /// Of requests that failed as a whole: whether they count is not known.
    pub unanswered: u64,
    /// Until the last answer.
    pub elapsed: Duration,
    /// Why requests failed, and how many.
    pub faults: BTreeMap<String, u64>,
    /// Sorted.
    micros: Vec<u32>,
    longest: u32,
}

impl Report {
    pub(super) fn new(began: Instant, tallies: Vec<Tally>) -> Self {
        let mut report = Self::default();
        let (mut sum, mut last) = (Sum::default(), began);
        for tally in tallies {
            sum = sum.plus(tally.sum);
            last = tally.last_answer.map_or(last, |answer| answer.max(last));
            report.longest = report.longest.max(tally.latencies.longest);
            report.micros.extend(tally.latencies.micros);
            for (fault, requests) in tally.faults {
                *report.faults.entry(fault).or_default() += requests;
            }
        }
        report.micros.sort_unstable();
        let Sum { requests, sent, accepted, duplicates, rejected, late, unanswered } = sum;
        let elapsed = last - began;
        Self { requests, sent, accepted, duplicates, rejected, late, unanswered, elapsed, ..report }
    }

    /// Accepted ones.
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

    /// The time within which so many of 100 000 answers came.
    pub fn latency(&self, of_100_000: u64) -> Duration {
        let count = self.micros.len() as u64;
        let rank = count.saturating_mul(of_100_000).div_ceil(100_000).max(1);
        let micros = usize::try_from(rank - 1).ok().and_then(|place| self.micros.get(place));
        Duration::from_micros(micros.copied().unwrap_or_default().into())
    }

    pub fn longest(&self) -> Duration {
        Duration::from_micros(self.longest.into())
    }

    /// Whether every event that was sent counted.
    pub fn is_clean(&self) -> bool {
        self.accepted == self.sent
    }
}

#[cfg(test)]
mod tests {
    use super::{super::requests::Slice, *};

    fn ticket(due: Instant) -> Ticket {
        Ticket { slice: Slice { first: 0, events: 10 }, due }
    }

    #[test]
    fn percentiles_are_those_of_all_workers_together() {
        let began = Instant::now();
        let mut tallies = Vec::new();
        for millis in 1..=100 {
            let mut tally = Tally::default();
            tally.latencies.add(Duration::from_millis(millis));
            tallies.push(tally);
        }
        let report = Report::new(began, tallies);
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
        let mut tally = Tally::default();
        tally.answered(ticket(now), &Answer { accepted: 10, duplicates: 0, rejected: 0, late: 0 });
        tally.failed(ticket(now), &Status::unavailable("gone"));
        let report = Report::new(now, vec![tally]);
        assert_eq!((report.sent, report.accepted, report.unanswered, report.requests), (20, 10, 10, 2));
        assert!(!report.is_clean());
        assert_eq!(report.faults.len(), 1);
    }
}
