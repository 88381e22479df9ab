//! How many events came in the last minutes, in short spans of real time.

use std::time::Duration;

const SPAN: Duration = Duration::from_secs(2);
const SPANS: usize = 150;

/// The last five minutes. Its memory is bounded, and to add to it costs next to nothing.
#[derive(Debug)]
pub struct Pulse {
    beats: [Beat; SPANS],
    /// The number of the span that was last added to, since the start.
    newest: u64,
}

/// The events of one span.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Beat {
    pub accepted: u64,
    /// For want of room.
    pub refused: u64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { beats: [Beat::default(); SPANS], newest: 0 }
    }
}

impl Pulse {
    pub const SPAN: Duration = SPAN;

    /// `age` is how long there has been a pulse.
    pub fn add(&mut self, age: Duration, events: Beat) {
        self.pass(age);
        if let Some(beat) = self.beats.get_mut(place(self.newest)) {
            beat.accepted = beat.accepted.saturating_add(events.accepted);
            beat.refused = beat.refused.saturating_add(events.refused);
        }
    }

    /// The spans that are over, oldest first.
    pub fn beats(&mut self, age: Duration) -> Vec<Beat> {
        self.pass(age);
        let oldest = self.newest.saturating_sub(SPANS as u64 - 1);
        (oldest..self.newest).filter_map(|span| self.beats.get(place(span)).copied()).collect()
    }

    /// Begins all spans up to now.
    fn pass(&mut self, age: Duration) {
        let now = age.as_secs() / SPAN.as_secs();
        let first_new = self.newest.saturating_add(1).max(now.saturating_sub(SPANS as u64));
        for span in first_new..=now {
            if let Some(beat) = self.beats.get_mut(place(span)) {
                *beat = Beat::default();
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

    fn accepted(pulse: &mut Pulse, seconds: u64) -> Vec<u64> {
        pulse.beats(Duration::from_secs(seconds)).iter().map(|beat| beat.accepted).collect()
    }

    fn add(pulse: &mut Pulse, seconds: u64, accepted: u64) {
        pulse.add(Duration::from_secs(seconds), Beat { accepted, refused: 1 });
    }

    #[test]
    fn events_are_counted_in_the_span_in_which_they_came_and_silence_is_zero() {
        let mut pulse = Pulse::default();
        for (seconds, events) in [(0, 1), (1, 2), (2, 4), (7, 8)] {
            add(&mut pulse, seconds, events);
        }
        assert_eq!(accepted(&mut pulse, 7), [3, 4, 0], "the span under way is not over");
        assert_eq!(accepted(&mut pulse, 10), [3, 4, 0, 8, 0]);
        assert_eq!(pulse.beats(Duration::from_secs(10))[0].refused, 2);
    }

    #[test]
    fn five_minutes_are_kept_however_long_nothing_came() {
        let mut pulse = Pulse::default();
        for second in 0..1000 {
            add(&mut pulse, second, 1);
        }
        let beats = accepted(&mut pulse, 1000);
        assert_eq!((beats.len(), beats.iter().all(|events| *events == 2)), (SPANS - 1, true));
        add(&mut pulse, 1_000_000, 7);
        let beats = accepted(&mut pulse, 1_000_002);
        assert_eq!((beats.iter().sum::<u64>(), beats.last()), (7, Some(&7)));
        assert_eq!(accepted(&mut pulse, u64::MAX).iter().sum::<u64>(), 0);
    }
}
