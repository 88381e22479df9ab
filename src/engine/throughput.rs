//! How many events came in the last minutes, in short spans of real time.

use std::time::Duration;

const SPAN: Duration = Duration::from_secs(2);
const SPANS: usize = 150;

/// The last five minutes. Its memory is bounded, and to add to it costs next to nothing.
#[derive(Debug)]
pub(crate) struct Throughput {
    samples: [Sample; SPANS],
    /// The number of the span that was last added to, since the start.
    newest: u64,
}

/// The events of one span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sample {
    pub accepted: u64,
    /// Events that were refused for want of room.
    pub refused: u64,
}

impl Default for Throughput {
    fn default() -> Self {
        Self { samples: [Sample::default(); SPANS], newest: 0 }
    }
}

impl Throughput {
    pub(crate) const SPAN: Duration = SPAN;

    /// `age` is how long there has been a throughput.
    pub(crate) fn add(&mut self, age: Duration, events: Sample) {
        self.pass(age);
        if let Some(sample) = self.samples.get_mut(place(self.newest)) {
            sample.accepted = sample.accepted.saturating_add(events.accepted);
            sample.refused = sample.refused.saturating_add(events.refused);
        }
    }

    /// The spans that are over, oldest first.
    pub(crate) fn samples(&mut self, age: Duration) -> Vec<Sample> {
        self.pass(age);
        let oldest = self.newest.saturating_sub(SPANS as u64 - 1);
        (oldest..self.newest).filter_map(|span| self.samples.get(place(span)).copied()).collect()
    }

    /// Begins all spans up to now.
    fn pass(&mut self, age: Duration) {
        let now = age.as_secs() / SPAN.as_secs();
        let first_new = self.newest.saturating_add(1).max(now.saturating_sub(SPANS as u64));
        for span in first_new..=now {
            if let Some(sample) = self.samples.get_mut(place(span)) {
                *sample = Sample::default();
            }
        }
        self.newest = self.newest.max(now);
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the remainder is below SPANS")]
fn place(span: u64) -> usize {
    (span % SPANS as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted(throughput: &mut Throughput, seconds: u64) -> Vec<u64> {
        throughput.samples(Duration::from_secs(seconds)).iter().map(|sample| sample.accepted).collect()
    }

    fn add(throughput: &mut Throughput, seconds: u64, accepted: u64) {
        throughput.add(Duration::from_secs(seconds), Sample { accepted, refused: 1 });
    }

    #[test]
    fn events_are_counted_in_the_span_in_which_they_came_and_silence_is_zero() {
        let mut throughput = Throughput::default();
        for (seconds, events) in [(0, 1), (1, 2), (2, 4), (7, 8)] {
            add(&mut throughput, seconds, events);
        }
        assert_eq!(accepted(&mut throughput, 7), [3, 4, 0], "the span under way is not over");
        assert_eq!(accepted(&mut throughput, 10), [3, 4, 0, 8, 0]);
        assert_eq!(throughput.samples(Duration::from_secs(10))[0].refused, 2);
    }

    #[test]
    fn five_minutes_are_kept_however_long_nothing_came() {
        let mut throughput = Throughput::default();
        for second in 0..1000 {
            add(&mut throughput, second, 1);
        }
        let samples = accepted(&mut throughput, 1000);
        assert_eq!((samples.len(), samples.iter().all(|events| *events == 2)), (SPANS - 1, true));
        add(&mut throughput, 1_000_000, 7);
        let samples = accepted(&mut throughput, 1_000_002);
        assert_eq!((samples.iter().sum::<u64>(), samples.last()), (7, Some(&7)));
        assert_eq!(accepted(&mut throughput, u64::MAX).iter().sum::<u64>(), 0);
    }
}
