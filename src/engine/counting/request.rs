//! What a request asks to count, folded where that is possible and one by one where ids must be checked; and what became
//! of it.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    domain::{
        customer::identity::Identity,
        product::{DimensionIndex, ProductIndex},
        time::{Hour, Timestamp},
        usage::{
            bucket::{MAX_TOTAL, Usage},
            event::{Counts, RejectReason},
            tags::TagSet,
        },
    },
    engine::customers::{CustomerIndex, CustomerTable},
};

use super::streams::ProducerStream;

#[derive(Clone, Debug, Default)]
pub struct CountRequest {
    pub entries: Vec<UsageEntry>,
    /// Events with ids, in the order in which they came.
    pub identified: Vec<Identified>,
    /// The position of the stream message that brought the events.
    pub position: Option<StreamPosition>,
    /// The number of events.
    pub events: usize,
    /// The client that sends them, where clients are told apart.
    pub client: Option<Arc<str>>,
    /// How many customers had been forgotten when the request's customers were looked up.
    pub vacated: u64,
}

/// Events that add up: all that agree in where they count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageEntry {
    pub product: ProductIndex,
    pub customer: CustomerRef,
    pub dimension: DimensionIndex,
    pub hour: Hour,
    /// The earliest time that one of its events told; the end of time if none did.
    pub earliest: Timestamp,
    /// Few events have any.
    pub split: Option<Box<Split>>,
    /// The sum of the events without ids.
    pub usage: Usage,
    /// The number of events without ids.
    pub events: u64,
}

/// What splits events that agree in all else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Split {
    pub tags: Option<TagSet>,
    /// Stands for (product, customer, dimension, subject) where distinct subjects are counted.
    pub subject: Option<u128>,
}

impl Split {
    pub fn of(tags: Option<TagSet>, subject: Option<u128>) -> Option<Box<Self>> {
        (tags.is_some() || subject.is_some()).then(|| Box::new(Self { tags, subject }))
    }
}

impl UsageEntry {
    pub fn tags(&self) -> Option<&TagSet> {
        self.split.as_ref()?.tags.as_ref()
    }

    pub fn subject(&self) -> Option<u128> {
        self.split.as_ref()?.subject
    }

    /// Adds an event without an id. What does not fit changes nothing.
    #[inline]
    pub fn add(&mut self, usage: Usage) -> Result<(), RejectReason> {
        // One subject, however many events: the first has counted it.
        let usage = if self.subject().is_some() && self.events > 0 { Usage::Unique(0) } else { usage };
        if let Usage::Sum(more) = usage
            && self.usage.amount().saturating_add(more) > MAX_TOTAL
        {
            return Err(RejectReason::QuantityOverflow);
        }
        self.usage.absorb(usage);
        self.events += 1;
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CustomerRef {
    Known(CustomerIndex),
    /// Unknown when the request was read: the committer makes it known.
    New(Arc<NewCustomer>),
}

impl CustomerRef {
    /// The key and the identity under which the customer is made known, if it is not: a new one, or one that was known
    /// when the request was read and was forgotten since.
    pub(super) fn named(&self, customers: &CustomerTable) -> (Arc<str>, Identity) {
        match self {
            Self::New(new) => (new.key.clone(), new.identity.clone()),
            Self::Known(index) => {
                let forgotten = customers.get_or_forgotten(*index);
                let forgotten = forgotten.unwrap_or_else(|| unreachable!("a row stays where it is"));
                (forgotten.key, forgotten.state.identity)
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct NewCustomer {
    pub key: Arc<str>,
    pub identity: Identity,
}

#[derive(Clone, Debug)]
pub struct Identified {
    /// Stands for (product, customer, dimension, event id).
    pub hash: u128,
    pub usage: Usage,
    /// The entry that it counts in: an index into `entries`.
    pub entry: u32,
    /// The event's index in its request.
    pub index: u32,
    /// The event cannot have been counted before this moment. MIN for one that says no time, which is as good at any.
    pub not_before: Timestamp,
}

impl Identified {
    /// Whether it may have been counted, with an id that is forgotten, when ids are known of what counted since a moment.
    pub(crate) fn may_be_forgotten(&self, known_since: Timestamp) -> bool {
        self.not_before != Timestamp::MIN && self.not_before < known_since
    }
}

/// A stream message's place in its producer's sequence.
#[derive(Clone, Debug)]
pub struct StreamPosition {
    pub stream: Arc<ProducerStream>,
    pub sequence: u64,
    /// Stands for the message's events: others have another one.
    pub digest: u64,
}

/// How a message is known to have counted before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Its events are those of the first time.
    Same,
    /// It counted before digests were kept, so its events cannot be compared.
    Unverified,
}

/// What became of a request, once it is on disk.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// By product, without the refused events, which are listed below.
    pub counts: BTreeMap<ProductIndex, Counts>,
    /// Entries whose events without ids were refused, by their index.
    pub refused_entries: Vec<Refused>,
    /// Identified events that were refused, by their index.
    pub refused: Vec<Refused>,
    /// The producer's last durable sequence, for a stream message.
    pub durable_sequence: u64,
    /// The stream message had been counted before; nothing was counted now.
    pub repeat: Option<Repeat>,
}

#[derive(Clone, Debug)]
pub struct Refused {
    pub index: u32,
    pub product: ProductIndex,
    pub why: RejectReason,
}
