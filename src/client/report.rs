//! What a client tells its application.

use std::{fmt, time::Duration};

use thiserror::Error;

use super::{Reason, UsageEvent};

/// Something that the client cannot settle by itself. Each event comes in one report at most.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Report {
    /// The agent has not counted the event, and says why. Mended, it may be recorded again with the same id.
    Rejected { event: Box<UsageEvent>, reason: Reason, message: String },
    /// The agent has the message with these events, but its answer was lost: they count, but for those that it has
    /// rejected. With event ids, to record them again inside `hour.dedup_window` tells: what counts is a duplicate.
    AnswerLost { events: Vec<UsageEvent> },
    /// The client has ended without an acknowledgement of these. If they were `sent`, they may count nevertheless: record
    /// them again only with their event ids. If not, the agent has never seen them.
    Unacknowledged { events: Vec<UsageEvent>, sent: bool },
}

/// What has become of the events that are settled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    pub accepted: u64,
    /// Not counted, since their ids had been counted before.
    pub duplicates: u64,
    pub rejected: u64,
    /// Of the accepted: counted in the current hour, because their own had been sealed.
    pub late: u64,
    /// Of the accepted: counted without their tags.
    pub untagged: u64,
    /// See [`Report::AnswerLost`].
    pub answers_lost: u64,
}

/// An event that was not recorded.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("the event was not recorded: {why}")]
pub struct Refused {
    pub event: Box<UsageEvent>,
    pub why: Why,
}

impl Refused {
    pub(super) fn new(event: UsageEvent, why: Why) -> Self {
        Self { event: Box::new(event), why }
    }
}

/// Why an event was not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Why {
    #[error("the buffer is full")]
    Full,
    #[error("the client has ended")]
    Closed,
    #[error("it is larger than any event may be (16 KiB)")]
    TooLarge,
}

/// Why a client has ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Ended {
    #[error("it was shut down")]
    ShutDown,
    #[error("it was shut down, and its deadline has passed")]
    Deadline,
    #[error("nothing got through for {0:?}: {1}")]
    GaveUp(Duration, String),
    #[error("the agent does not take what is sent: {0}")]
    NotTaken(String),
    /// Or the application was killed and started again so soon that the agent had not taken its last messages yet; then
    /// to open another client is right.
    #[error("another process sends as producer `{0}`: each needs a name of its own")]
    Shared(String),
    #[error(
        "the agent has acknowledged message {acknowledged}, and knows only of {durable} now: it is another agent, or has \
         lost its data folder"
    )]
    Forgotten { acknowledged: u64, durable: u64 },
    #[error("its task is gone: the runtime has ended, or the function for reports has panicked")]
    Vanished,
}

/// What was not acknowledged when the client ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Left {
    pub why: Ended,
    /// Events that were sent, and may count.
    pub sent: u64,
    /// Events that were never sent.
    pub unsent: u64,
}

impl Left {
    pub(super) fn is_nothing(&self) -> bool {
        self.sent == 0 && self.unsent == 0
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { why, sent, unsent } = self;
        write!(f, "{unsent} events were not sent, and {sent} were sent and not acknowledged: {why}")
    }
}

impl std::error::Error for Left {}
