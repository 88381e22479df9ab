//! The last 48 hours, each with a state that is seen at a glance.

use std::collections::BTreeMap;

use crate::{
    domain::{
        billing::hour_tally::HourTally,
        time::{Hour, Timestamp},
    },
    engine::health::RecentHours,
};

pub(super) const HOURS: u32 = 48;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HourLine {
    pub(super) hour: Hour,
    pub(super) state: HourState,
    /// `None` if nothing was counted for it.
    pub(super) tally: Option<HourTally>,
}

/// An hour at a glance: of several that apply, the one that asks for most attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum HourState {
    /// Some record waits for a person.
    Held,
    /// Sealed, and not all with AWS.
    Waiting,
    /// Some record missed AWS's deadline: a later hour bills it.
    Missed,
    /// The hour is over, and takes no more events once it is sealed.
    Closing,
    /// The hour is over, and is not sealed yet so that people can look at it.
    InReview,
    /// The hour is under way.
    Open,
    /// AWS has accepted it all.
    Accepted,
    /// Persons have decided about all that was not accepted.
    Decided,
    /// There was nothing to bill.
    Empty,
    /// It was sealed before this was counted, or there was no agent.
    Unknown,
}

impl HourState {
    pub(super) const ALL: [Self; 10] = [
        Self::Held,
        Self::Waiting,
        Self::Missed,
        Self::Closing,
        Self::InReview,
        Self::Open,
        Self::Accepted,
        Self::Decided,
        Self::Empty,
        Self::Unknown,
    ];

    /// The state's name for machines.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Waiting => "waiting",
            Self::Missed => "missed",
            Self::Closing => "closing",
            Self::InReview => "in_review",
            Self::Open => "open",
            Self::Accepted => "accepted",
            Self::Decided => "decided",
            Self::Empty => "empty",
            Self::Unknown => "unknown",
        }
    }

    /// The state's name for people.
    pub(super) const fn label(self) -> &'static str {
        match self {
            Self::Held => "held for you",
            Self::Waiting => "sealed, not sent yet",
            Self::Missed => "missed, billed later",
            Self::Closing => "over, not sealed yet",
            Self::InReview => "over, in review",
            Self::Open => "open",
            Self::Accepted => "accepted by AWS",
            Self::Decided => "decided by a person",
            Self::Empty => "nothing to bill",
            Self::Unknown => "not known here",
        }
    }

    fn of(
        hour: Hour,
        is_sealed: bool,
        is_in_review: bool,
        now: Timestamp,
        tally: Option<&HourTally>,
    ) -> Self {
        let is_over = hour.end() <= now;
        // Products that have sealed it may have something for a person, also while others wait.
        let is_held = tally.is_some_and(|tally| tally.held > 0);
        let has_news = is_sealed || (is_over && is_held);
        if !has_news {
            return match (is_over, is_in_review) {
                (false, _) => Self::Open,
                (true, false) => Self::Closing,
                (true, true) => Self::InReview,
            };
        }
        let Some(tally) = tally else { return Self::Unknown };
        match tally {
            HourTally { held: 1.., .. } => Self::Held,
            HourTally { pending: 1.., .. } => Self::Waiting,
            HourTally { rolled_forward: 1.., .. } => Self::Missed,
            HourTally { carried: 1.., .. } | HourTally { written_off: 1.., .. } => Self::Decided,
            HourTally { accepted: 1.., .. } => Self::Accepted,
            _ => Self::Empty,
        }
    }
}

/// The hours up to the one that `now` is in, oldest first.
pub(super) fn of(
    tallies: &BTreeMap<Hour, HourTally>,
    sealed_through: Hour,
    now: Timestamp,
    is_in_review: impl Fn(Hour) -> bool,
) -> Vec<HourLine> {
    let last = Hour::containing(now).index();
    let hours = last.saturating_sub(HOURS - 1)..=last;
    let line = |hour| {
        let tally = tallies.get(&hour).copied();
        let is_sealed = hour <= sealed_through;
        HourLine {
            hour,
            state: HourState::of(hour, is_sealed, is_in_review(hour), now, tally.as_ref()),
            tally,
        }
    };
    hours.map(Hour::from_index).map(line).collect()
}

/// What became of the usage of these hours.
pub(super) fn recent(lines: &[HourLine]) -> RecentHours {
    let is_done =
        |line: &HourLine| matches!(line.state, HourState::Accepted | HourState::Missed | HourState::Decided);
    let tallies = || lines.iter().filter_map(|line| line.tally.as_ref());
    RecentHours {
        some_done: lines.iter().any(is_done),
        some_moved: tallies().any(|tally| tally.rolled_forward > 0 || tally.carried > 0),
        some_written_off: tallies().any(|tally| tally.written_off > 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NONE: HourTally = HourTally {
        pending: 0,
        held: 0,
        accepted: 0,
        rolled_forward: 0,
        carried: 0,
        written_off: 0,
        expired: 0,
    };

    #[test]
    fn an_hour_shows_what_asks_for_most_attention() {
        let all = HourTally { held: 1, pending: 2, rolled_forward: 3, carried: 4, accepted: 9, ..NONE };
        let states = [
            (Some(all), "held"),
            (Some(HourTally { held: 0, ..all }), "waiting"),
            (Some(HourTally { held: 0, pending: 0, ..all }), "missed"),
            (Some(HourTally { carried: 4, accepted: 9, ..NONE }), "decided"),
            (Some(HourTally { written_off: 1, ..NONE }), "decided"),
            (Some(HourTally { accepted: 9, expired: 2, ..NONE }), "accepted"),
            (Some(HourTally { expired: 2, ..NONE }), "empty"),
            (Some(NONE), "empty"),
            (None, "unknown"),
        ];
        let now = "2026-11-22T12:10:00Z".parse().unwrap();
        let hour = Hour::containing(now);
        for (tally, expected) in states {
            let state = HourState::of(hour.previous(), true, false, now, tally.as_ref());
            assert_eq!(state.name(), expected, "{tally:?}");
        }
    }

    #[test]
    fn the_last_hours_are_open_until_they_are_over_and_then_wait_for_their_seal() {
        let now = "2026-11-22T12:02:00Z".parse().unwrap();
        let sealed = Hour::containing("2026-11-22T10:30:00Z".parse().unwrap());
        let accepted = HourTally { accepted: 7, ..NONE };
        let tallies = [(sealed, accepted), (sealed.next(), accepted)].into();
        let lines = of(&tallies, sealed, now, |_| false);
        assert_eq!(lines.len(), 48);
        assert_eq!(lines[0].hour.to_string(), "2026-11-20T13:00:00Z");
        let last: Vec<_> = lines[44..].iter().map(|line| line.state.name()).collect();
        assert_eq!(last, ["unknown", "accepted", "closing", "open"]);
        assert_eq!(of(&tallies, sealed, Timestamp::from_seconds(0), |_| false).len(), 1);
        let in_review = of(&tallies, sealed, now, |_| true);
        let last: Vec<_> = in_review[44..].iter().map(|line| line.state.name()).collect();
        assert_eq!(last, ["unknown", "accepted", "in_review", "open"]);
    }

    #[test]
    fn states_have_names_and_labels_of_their_own() {
        for one in HourState::ALL {
            let same = HourState::ALL
                .iter()
                .filter(|other| one.name() == other.name() || one.label() == other.label());
            assert_eq!(same.count(), 1, "{one:?}");
        }
    }
}
