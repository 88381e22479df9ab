//! From when on usage is billed under an identity, and until when.

use super::identity::Identity;
use crate::domain::time::{Hour, Timestamp};

/// When the time of a customer's identity begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// `None` where it is not known: then all usage is of its time.
    pub since: Option<Timestamp>,
    /// No one has said since when: it is the moment at which another identity gave way. In that hour usage is of the
    /// identity in whose time it comes.
    pub by_arrival: bool,
}

impl Start {
    /// The beginning, if usage that happened at `at`, and counts in `hour`, is from before.
    pub fn after(self, at: Timestamp, hour: Hour) -> Option<Timestamp> {
        let since = self.since.filter(|since| at < *since)?;
        let begins_in = Hour::containing(since);
        let comes_in_time = self.by_arrival && hour == begins_in && Hour::containing(at) == begins_in;
        (!comes_in_time).then_some(since)
    }
}

/// An identity that has given way to another of its kind: a license was replaced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replaced {
    pub identity: Identity,
    pub start: Start,
    /// The hour in which it gave way. Earlier ones are billed under it, and its part of this one is sealed: its slots are
    /// taken, and no other customer may have it before the hour is sealed for all.
    pub until: Hour,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-11-22T{text}:00Z").parse().unwrap()
    }

    #[test]
    fn usage_is_from_before_by_its_time_or_in_the_hour_of_a_change_by_its_arrival() {
        let [given, moment] = [false, true].map(|by_arrival| Start { since: Some(at("10:30")), by_arrival });
        // The time of the usage, the hour in which it counts, and whether it is from before.
        for (time, counts_in, before_given, before_moment) in [
            ("10:30", "10:00", false, false),
            ("10:29", "10:00", true, false),
            ("10:00", "10:00", true, false),
            ("09:59", "10:00", true, true),
            ("10:29", "11:00", true, true),
            ("11:10", "11:00", false, false),
        ] {
            let since = |start: Start| start.after(at(time), Hour::containing(at(counts_in))).is_some();
            assert_eq!([since(given), since(moment)], [before_given, before_moment], "{time} in {counts_in}");
            assert!(!since(Start::default()));
        }
    }
}
