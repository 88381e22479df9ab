//! What a client tells its application while it runs.

use crate::{RejectionReason, UsageEvent};

/// Events whose fate the client cannot settle by itself. An event is in one report at most.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Report {
    /// The agent has not counted the event. Corrected, it may be recorded again with the same id.
    Rejected {
        /// The event, as it was sent.
        event: Box<UsageEvent>,
        /// Why, for a program. A reason that this version does not know is
        /// [`Unspecified`](RejectionReason::Unspecified).
        reason: RejectionReason,
        /// What is wrong and what to do, for a person. May be empty when a message has more than 100 rejections.
        message: String,
    },
    /// The agent has taken the message with these events, but its response was lost. Each event counts unless it was
    /// rejected.
    ///
    /// Recorded again with their event ids and times, the events that count are duplicates, and the others are rejected
    /// again.
    ResponseLost {
        /// The events of the message.
        events: Vec<UsageEvent>,
    },
    /// The client has ended without an acknowledgement of these events.
    Unacknowledged {
        /// The events, in the order of their recording.
        events: Vec<UsageEvent>,
        /// Whether they were sent. If so, they may count: record them again only with their event ids. If not, the agent
        /// has never seen them.
        sent: bool,
    },
}

/// The number of events so far, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Totals {
    /// Counted.
    pub accepted: u64,
    /// Events whose ids were counted before, and which are not counted again.
    pub duplicates: u64,
    /// Events that the agent rejected: see [`Report::Rejected`].
    pub rejected: u64,
    /// Of the accepted: counted in the current hour, because their own was sealed.
    pub late: u64,
    /// Of the accepted: counted without their tags, because the hour's record takes no more sets of tags.
    pub untagged: u64,
    /// Of the accepted: counted for a customer that has ended, and held as not billable unless it subscribes again.
    pub not_billable: u64,
    /// Events in none of the other figures: see [`Report::ResponseLost`].
    pub responses_lost: u64,
}
