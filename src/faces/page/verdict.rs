//! The page's first sentence: is everything billed?

use std::time::Duration;

use super::{
    snapshot::Snapshot,
    strip::HourState,
    words::{clock_time, records, span},
};
use crate::{
    domain::{hours::HourTally, time::Timestamp},
    work::{phase::Phase, submitter::Said},
};

/// What has waited longer than this is late: the agent means to be done within an hour.
const LATE: Duration = Duration::from_hours(1);
/// Grace, a seal and a few calls: until then a near deadline, as at the end of a month, is nothing to worry about.
pub(super) const SETTLING: Duration = Duration::from_mins(15);
/// As the alerts have it.
pub(super) const NEAR: Duration = Duration::from_hours(6);
pub(super) const IMMINENT: Duration = Duration::from_hours(2);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Good,
    /// On its way; nothing to do.
    Busy,
    /// Late, or soon to be.
    Warning,
    /// A person is needed.
    Bad,
}

impl Level {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Busy => "busy",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) level: Level,
    /// One or two words.
    pub(super) answer: &'static str,
    pub(super) sentence: String,
}

impl Verdict {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let say = |level, answer, sentence: &str| Self { level, answer, sentence: sentence.to_owned() };
        match &snapshot.phase {
            Phase::Failed(_) => {
                return say(
                    Level::Bad,
                    "No.",
                    "The store has failed: usage is refused, and what is on disk waits for you.",
                );
            }
            Phase::Starting => return say(Level::Busy, "Not known yet.", "The agent is starting."),
            Phase::Stopping => {
                return say(
                    Level::Busy,
                    "Stopping.",
                    "What was acknowledged is on disk, and goes on with the next start.",
                );
            }
            Phase::Serving => {}
        }
        if snapshot.unread.is_some() {
            return say(Level::Bad, "Not known.", "The store cannot be read.");
        }
        if !snapshot.summary.clock_fault.is_empty() {
            return say(
                Level::Bad,
                "No.",
                "The clock is in doubt, so no hour is sealed. Usage is counted meanwhile.",
            );
        }
        Self::of_books(snapshot)
    }

    /// By what waits.
    fn of_books(snapshot: &Snapshot) -> Self {
        let (unsent, held, waits) = (snapshot.unsent(), snapshot.held.records, snapshot.waits());
        let left = snapshot.nearest_deadline().map(|(deadline, _)| deadline.since(snapshot.now));
        let is_within = |bound| left.is_some_and(|left| left < bound);
        let is_stuck = waits > SETTLING || has_fault(snapshot, |_| true);
        let is_late = waits > LATE || (is_within(NEAR) && is_stuck);
        if unsent == 0 && held == 0 && !is_late {
            return Self::all_billed(snapshot);
        }
        let level = if held > 0 || (is_within(IMMINENT) && is_stuck) {
            Level::Bad
        } else if is_late || has_fault(snapshot, |said| matches!(said, Said::Setup(_))) {
            Level::Warning
        } else {
            Level::Busy
        };
        let waiting = match (unsent, is_late) {
            (0, false) => None,
            (0, true) => Some(format!("an hour that ended {} ago is not sealed", span(waits))),
            (unsent, _) if level == Level::Busy => Some(format!("{} on the way to AWS", are(unsent))),
            (unsent, _) if waits > LATE => {
                Some(format!("{} for AWS, the oldest for {}", wait(unsent), span(waits)))
            }
            (unsent, _) => Some(format!("{} for AWS", wait(unsent))),
        };
        let held = (held > 0).then(|| format!("{} held for you to decide", are(held)));
        let parts: Vec<_> = [waiting, held].into_iter().flatten().collect();
        let answer = match level {
            Level::Good | Level::Busy => "Almost.",
            Level::Warning => "Not yet.",
            Level::Bad => "No.",
        };
        Self { level, answer, sentence: format!("{}.", capitalised(&parts.join(", and "))) }
    }

    fn all_billed(snapshot: &Snapshot) -> Self {
        let sealed_through = snapshot.sealed_through.end();
        let has_billed = |line: &super::strip::HourLine| {
            matches!(line.state, HourState::Accepted | HourState::Missed | HourState::Decided)
        };
        let sentence = if snapshot.hours.iter().any(has_billed) {
            let until = clock_time(sealed_through, snapshot.now);
            format!("Everything up to {until} is with AWS{}.", but_for(snapshot))
        } else if snapshot.summary.open_buckets > 0 {
            "No hour with usage is over yet.".to_owned()
        } else {
            "There was no usage to bill in the last two days.".to_owned()
        };
        Self { level: Level::Good, answer: "Yes.", sentence }
    }
}

/// What of the last two days AWS was not told for its own hour.
fn but_for(snapshot: &Snapshot) -> &'static str {
    let any = |count: fn(&HourTally) -> u64| {
        snapshot.hours.iter().filter_map(|line| line.tally.as_ref()).any(|tally| count(tally) > 0)
    };
    let has_moved = any(|tally| tally.rolled_forward.saturating_add(tally.carried));
    match (has_moved, any(|tally| tally.written_off)) {
        (false, false) => "",
        (true, false) => ", or was moved into a later hour",
        (false, true) => ", or was written off",
        (true, true) => ", was moved into a later hour, or was written off",
    }
}

/// Whether AWS takes nothing of a product that has something to send, for one of these reasons.
fn has_fault(snapshot: &Snapshot, is_meant: impl Fn(&Said) -> bool) -> bool {
    let waiting = snapshot.products.iter().filter(|product| product.unsent > 0);
    waiting
        .filter_map(|product| product.last_answer.as_ref())
        .any(|last| last.said.keeps_all_back() && is_meant(&last.said))
}

fn are(number: u64) -> String {
    format!("{} {}", records(number), if number == 1 { "is" } else { "are" })
}

fn wait(number: u64) -> String {
    format!("{} {}", records(number), if number == 1 { "waits" } else { "wait" })
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// Until when what waits must be with AWS, in words.
pub(super) fn deadline_level(deadline: Timestamp, now: Timestamp) -> Level {
    match deadline.since(now) {
        left if left < IMMINENT => Level::Bad,
        left if left < NEAR => Level::Warning,
        _ => Level::Good,
    }
}
