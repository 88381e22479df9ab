//! The errors of recording and of delivery.

use std::time::Duration;

use thiserror::Error;

use crate::UsageEvent;

/// An event that was not recorded, given back.
#[derive(Clone, Debug, Error, PartialEq)]
#[error("the event was not recorded: {kind}")]
#[non_exhaustive]
pub struct RecordError {
    /// The event. Its `event_id` and time may have been filled in.
    pub event: Box<UsageEvent>,
    /// Why it was not recorded.
    pub kind: RecordErrorKind,
}

impl RecordError {
    pub(crate) fn new(event: UsageEvent, kind: RecordErrorKind) -> Self {
        Self { event: Box::new(event), kind }
    }
}

/// Why an event was not recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RecordErrorKind {
    /// The buffer holds [`Settings::buffer`](crate::Settings::buffer) events. Only
    /// [`Client::try_record`](crate::Client::try_record) says so.
    #[error("the buffer is full")]
    BufferFull,
    /// The client was shut down, or has ended by itself: [`Client::ended`](crate::Client::ended) says why.
    #[error("the client has ended")]
    Closed,
    /// The event is larger than 16 KiB, encoded. No agent takes such an event.
    #[error("it is larger than any event may be (16 KiB)")]
    TooLarge,
}

/// The client has ended with events that the agent has not acknowledged.
///
/// The events themselves are in [`Report::Unacknowledged`](crate::Report::Unacknowledged).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{unsent} events were not sent, and {sent} were sent and not acknowledged: {reason}")]
#[non_exhaustive]
pub struct DeliveryError {
    /// Why the client has ended.
    pub reason: EndReason,
    /// The number of events that were sent. They may count.
    pub sent: u64,
    /// The number of events that were never sent. They do not count.
    pub unsent: u64,
}

impl DeliveryError {
    pub(crate) fn is_nothing(&self) -> bool {
        self.sent == 0 && self.unsent == 0
    }
}

/// Why a client has ended.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EndReason {
    /// [`Client::shutdown`](crate::Client::shutdown) was called, or the last handle was dropped.
    #[error("it was shut down")]
    ShutDown,
    /// The deadline of [`Client::shutdown`](crate::Client::shutdown) has passed.
    #[error("it was shut down, and its deadline has passed")]
    DeadlinePassed,
    /// Nothing was acknowledged for [`Settings::give_up_after`](crate::Settings::give_up_after).
    #[error("nothing got through for {after:?}: {last_error}")]
    GaveUp {
        /// The time that was set.
        after: Duration,
        /// What the last attempt failed with.
        last_error: String,
    },
    /// The agent refuses the messages in a way that no retry mends. The text is the agent's.
    #[error("the agent does not take what is sent: {0}")]
    Refused(String),
    /// Another process sends under this producer id, and its stream has taken over. Of a producer's streams, the agent
    /// takes the one that was opened last; a client that went on would end the other's in turn.
    #[error("another process sends as producer `{0}`: each needs a name of its own")]
    ProducerIdInUse(String),
    /// The agent has counted other events under the number of a message: another process has sent as this producer.
    ///
    /// The events of that message, and of those behind it, have not been counted.
    #[error("other events were counted under a number of producer `{producer_id}`: {why}")]
    Diverged {
        /// The producer id.
        producer_id: String,
        /// What the agent says.
        why: String,
    },
    /// The agent no longer knows a message that it has acknowledged.
    #[error(
        "the agent has acknowledged message {acknowledged}, and knows only of {durable} now: it is another agent, or has \
         lost its data folder"
    )]
    SequenceWentBack {
        /// The number of the last message that the agent acknowledged.
        acknowledged: u64,
        /// The number of the last message that the agent knows.
        durable: u64,
    },
    /// The background task is gone: the runtime has ended, or the function for reports has panicked.
    #[error("its task is gone: the runtime has ended, or the function for reports has panicked")]
    TaskGone,
}
