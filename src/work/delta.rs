//! What a request asks the committer to count: folded where that is possible, one by one where ids must be checked.

use std::{collections::BTreeMap, sync::Arc};

use crate::domain::{
    bucket::{MAX_TOTAL, Usage},
    identity::Identity,
    product::{DimensionIndex, ProductIndex},
    tags::TagSet,
    time::Hour,
    usage::{Counts, Refusal},
};

use super::roster::CustomerIndex;

#[derive(Clone, Debug, Default)]
pub struct Delta {
    pub entries: Vec<Entry>,
    /// Events with ids, in the order in which they came.
    pub identified: Vec<Identified>,
    /// The stream message that brought the events.
    pub mark: Option<Mark>,
    /// How many events are in here.
    pub events: usize,
}

/// Events that add up: all that agree in where they count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub product: ProductIndex,
    pub customer: CustomerRef,
    pub dimension: DimensionIndex,
    pub hour: Hour,
    /// For few.
    pub apart: Option<Box<Apart>>,
    /// What those without ids come to.
    pub usage: Usage,
    /// How many those are.
    pub events: u64,
}

/// What keeps events apart that agree in all else.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Apart {
    pub tags: Option<TagSet>,
    /// Stands for (product, customer, dimension, subject) where distinct subjects are counted.
    pub subject: Option<u128>,
}

impl Apart {
    pub fn of(tags: Option<TagSet>, subject: Option<u128>) -> Option<Box<Self>> {
        (tags.is_some() || subject.is_some()).then(|| Box::new(Self { tags, subject }))
    }
}

impl Entry {
    pub fn tags(&self) -> Option<&TagSet> {
        self.apart.as_ref()?.tags.as_ref()
    }

    pub fn subject(&self) -> Option<u128> {
        self.apart.as_ref()?.subject
    }

    /// Adds an event without an id. What does not fit changes nothing.
    #[inline]
    pub fn add(&mut self, usage: Usage) -> Result<(), Refusal> {
        // One subject, however many events: the first has counted it.
        let usage = if self.subject().is_some() && self.events > 0 { Usage::Unique(0) } else { usage };
        if let Usage::Sum(more) = usage
            && self.usage.amount().saturating_add(more) > MAX_TOTAL
        {
            return Err(Refusal::QuantityOverflow);
        }
        self.usage.absorb(usage);
        self.events += 1;
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CustomerRef {
    Known(CustomerIndex),
    /// Not in the roster when the request was read: the committer registers it.
    New(Arc<Newcomer>),
}

#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Newcomer {
    pub key: Arc<str>,
    pub identity: Identity,
}

#[derive(Clone, Debug)]
pub struct Identified {
    /// Stands for (product, customer, dimension, event id).
    pub hash: u128,
    pub usage: Usage,
    /// Where it counts: a place in `entries`.
    pub entry: u32,
    /// The event's place in its request.
    pub index: u32,
}

/// A stream message's place in its producer's sequence.
#[derive(Clone, Debug)]
pub struct Mark {
    pub producer: Arc<str>,
    pub sequence: u64,
    /// The client that sends it, where clients are told apart.
    pub client: Option<Arc<str>>,
}

/// What became of a delta, once it is on disk.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// By product; those that the committer refused are listed below.
    pub counts: BTreeMap<ProductIndex, Counts>,
    /// Entries whose events without ids were refused, by their place.
    pub refused_entries: Vec<Refused>,
    /// Identified events that were refused, by their index.
    pub refused: Vec<Refused>,
    /// The producer's last durable sequence, for a delta with a mark.
    pub durable_sequence: u64,
    /// The stream message had been counted before; nothing was counted now.
    pub is_repeat: bool,
}

#[derive(Clone, Debug)]
pub struct Refused {
    pub place: u32,
    pub product: ProductIndex,
    pub why: Refusal,
}
