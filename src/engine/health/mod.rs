//! Whether everything is billed, and what asks for a person.
//!
//! Both are decided here from plain facts, so that all who show them agree. The result is data: whoever shows it finds
//! the words.

pub(crate) mod concern;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use crate::{
    domain::{
        billing::record::HoldReason,
        time::{Hour, Timestamp},
    },
    engine::{
        lifecycle::Phase,
        submitter::{LastAnswer, Said},
    },
};

/// Usage that has waited longer than this is late: the agent means to be done within an hour.
pub(crate) const LATE: Duration = Duration::from_hours(1);
/// The time for grace, a seal and a few calls. A near deadline is no reason to worry before it is over, since at the end
/// of a month every deadline is near.
const SETTLING: Duration = Duration::from_mins(15);
/// What is left of a window when the alert `TallymanDeadlineNear` fires.
const NEAR: Duration = Duration::from_hours(6);
/// What is left of a window when the alert `TallymanDeadlineImminent` fires.
const IMMINENT: Duration = Duration::from_hours(2);

/// What is known of the agent at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub now: Timestamp,
    pub phase: &'a Phase,
    /// Why the store cannot be read.
    pub store_fault: Option<&'a str>,
    /// Why the clock is in doubt, although AWS has told the time.
    pub clock_fault: Option<&'a str>,
    /// Why AWS has not told the time since the start.
    pub untold: Option<&'a str>,
    /// The last hour that is sealed.
    pub sealed_through: Hour,
    /// How many buckets are not sealed.
    pub open_buckets: u64,
    /// How many events were refused for want of room in the last five minutes.
    pub refused_events: u64,
    pub recent: RecentHours,
    pub products: &'a [ProductFacts],
}

/// What became of the usage of the last two days.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RecentHours {
    /// Some hour had usage, and nothing of it waits.
    pub some_done: bool,
    /// Some record was moved into a later hour.
    pub some_moved: bool,
    /// Some record was written off.
    pub some_written_off: bool,
}

/// What is known of a product.
#[derive(Clone, Debug)]
pub(crate) struct ProductFacts {
    pub code: Arc<str>,
    /// The moment until which AWS takes all that waits.
    pub deadline: Option<Timestamp>,
    /// How long ago the oldest hour ended whose usage AWS does not have.
    pub waits: Duration,
    /// How many sealed records AWS has not accepted yet.
    pub unsent: u64,
    /// How many records are held, by reason.
    pub held: Vec<(HoldReason, u64)>,
    /// The moment until which AWS takes the suspicious records that a person must decide about.
    pub decide_by: Option<Timestamp>,
    /// How many customers have reached AWS's largest quantity in the last sealed hour, by dimension.
    pub capped: Vec<(Arc<str>, u64)>,
    pub last_answer: Option<LastAnswer>,
}

/// How much attention something asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// All is as it should be.
    Good,
    /// Work is on its way, and nobody need do anything.
    Busy,
    /// Something is late, or soon will be.
    Warning,
    /// A person is needed.
    Bad,
}

/// The answer to "is everything billed?".
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    pub level: Level,
    pub answer: ShortAnswer,
    pub reason: Reason,
}

/// The answer in a word or two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ShortAnswer {
    Yes,
    Almost,
    NotYet,
    No,
    NotKnown,
    NotKnownYet,
    Stopping,
}

/// Why the answer is what it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The store has failed, and usage is refused.
    StoreFailed,
    Starting,
    Stopping,
    StoreUnreadable,
    /// No hour is sealed while the clock is in doubt.
    ClockInDoubt,
    /// Some usage is not billed: it waits by itself, it is held for a person, or both.
    Unbilled {
        waiting: Option<Waiting>,
        held: u64,
    },
    /// All usage before `until` is billed, but for what the last two days show.
    BilledUntil {
        until: Timestamp,
        recent: RecentHours,
    },
    /// No hour that has usage is over.
    NoHourOver,
    /// There was no usage in the last two days.
    NoUsage,
}

/// Usage that waits, but not for a person.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// An hour that ended so long ago is not sealed.
    Unsealed(Duration),
    /// So many records are on the way to AWS.
    OnTheWay(u64),
    /// So many records wait for AWS.
    ForAws(u64),
    /// So many records wait for AWS, the oldest one for so long.
    LateForAws(u64, Duration),
}

impl<'a> Facts<'a> {
    /// How many sealed records AWS has not accepted yet.
    pub(crate) fn unsent(&self) -> u64 {
        self.products.iter().map(|product| product.unsent).sum()
    }

    /// How many records are held for a person.
    pub(crate) fn held(&self) -> u64 {
        self.products.iter().flat_map(|product| &product.held).map(|(_, count)| count).sum()
    }

    /// How long ago the oldest hour ended whose usage AWS does not have.
    pub(crate) fn waits(&self) -> Duration {
        self.products.iter().map(|product| product.waits).max().unwrap_or_default()
    }

    /// The product whose usage AWS refuses first, and when.
    pub(crate) fn nearest_deadline(&self) -> Option<(Timestamp, &'a ProductFacts)> {
        let deadlines = self.products.iter().filter_map(|product| Some((product.deadline?, product)));
        deadlines.min_by_key(|(deadline, _)| *deadline)
    }

    /// Whether AWS takes nothing of a product that has something to send, for one of these reasons.
    fn is_kept_back(&self, is_meant: impl Fn(&Said) -> bool) -> bool {
        self.products.iter().filter_map(ProductFacts::obstacle).any(is_meant)
    }
}

impl ProductFacts {
    /// AWS's last answer, if it keeps back all that the product has to send.
    fn obstacle(&self) -> Option<&Said> {
        let said = &self.last_answer.as_ref().filter(|_| self.unsent > 0)?.said;
        said.keeps_all_back().then_some(said)
    }
}

impl Level {
    /// The level's name for machines.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Busy => "busy",
            Self::Warning => "warning",
            Self::Bad => "bad",
        }
    }

    /// How much attention a deadline asks for.
    pub(crate) fn of_deadline(deadline: Timestamp, now: Timestamp) -> Self {
        match deadline.since(now) {
            left if left < IMMINENT => Self::Bad,
            left if left < NEAR => Self::Warning,
            _ => Self::Good,
        }
    }
}

impl Health {
    pub(crate) fn of(facts: &Facts<'_>) -> Self {
        let (level, answer, reason) = match facts.phase {
            Phase::Failed(_) => (Level::Bad, ShortAnswer::No, Reason::StoreFailed),
            Phase::Starting => (Level::Busy, ShortAnswer::NotKnownYet, Reason::Starting),
            Phase::Stopping => (Level::Busy, ShortAnswer::Stopping, Reason::Stopping),
            Phase::Serving if facts.store_fault.is_some() => {
                (Level::Bad, ShortAnswer::NotKnown, Reason::StoreUnreadable)
            }
            Phase::Serving if facts.clock_fault.is_some() => {
                (Level::Bad, ShortAnswer::No, Reason::ClockInDoubt)
            }
            Phase::Serving => match Self::unbilled(facts) {
                Some(unbilled) => return unbilled,
                None => (Level::Good, ShortAnswer::Yes, Reason::of_all_billed(facts)),
            },
        };
        Self { level, answer, reason }
    }

    /// `None` if everything is billed.
    fn unbilled(facts: &Facts<'_>) -> Option<Self> {
        let (unsent, held, waits) = (facts.unsent(), facts.held(), facts.waits());
        let left = facts.nearest_deadline().map(|(deadline, _)| deadline.since(facts.now));
        let is_within = |bound| left.is_some_and(|left| left < bound);
        let is_stuck = waits > SETTLING || facts.is_kept_back(|_| true);
        let is_late = waits > LATE || (is_within(NEAR) && is_stuck);
        if unsent == 0 && held == 0 && !is_late {
            return None;
        }
        let (level, answer) = if held > 0 || (is_within(IMMINENT) && is_stuck) {
            (Level::Bad, ShortAnswer::No)
        } else if is_late || facts.is_kept_back(|said| matches!(said, Said::Setup(_))) {
            (Level::Warning, ShortAnswer::NotYet)
        } else {
            (Level::Busy, ShortAnswer::Almost)
        };
        let waiting = match unsent {
            0 => is_late.then_some(Waiting::Unsealed(waits)),
            _ if level == Level::Busy => Some(Waiting::OnTheWay(unsent)),
            _ if waits > LATE => Some(Waiting::LateForAws(unsent, waits)),
            _ => Some(Waiting::ForAws(unsent)),
        };
        Some(Self { level, answer, reason: Reason::Unbilled { waiting, held } })
    }
}

impl Reason {
    fn of_all_billed(facts: &Facts<'_>) -> Self {
        if facts.recent.some_done {
            Self::BilledUntil { until: facts.sealed_through.end(), recent: facts.recent }
        } else if facts.open_buckets > 0 {
            Self::NoHourOver
        } else {
            Self::NoUsage
        }
    }
}
