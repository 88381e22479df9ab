//! What a request asks the committer to count: folded where that is possible, one by one where ids must be checked.

use std::{collections::BTreeMap, sync::Arc};

use crate::domain::{
    bucket::Usage,
    identity::Identity,
    product::{DimensionIndex, ProductIndex},
    tags::TagSet,
    time::Hour,
    usage::{Counts, Refusal},
};

use super::roster::CustomerIndex;

#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// Sums of events without ids.
    pub folded: Vec<Entry>,
    /// Events with ids.
    pub identified: Vec<Identified>,
    /// The stream message that brought the events.
    pub mark: Option<Mark>,
    /// How many events are in here.
    pub events: usize,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub product: ProductIndex,
    pub customer: CustomerRef,
    pub dimension: DimensionIndex,
    pub hour: Hour,
    pub usage: Usage,
    pub events: u64,
    pub tags: Option<TagSet>,
    /// Stands for (product, customer, dimension, subject) where distinct subjects are counted.
    pub subject: Option<u128>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CustomerRef {
    Known(CustomerIndex),
    /// Not in the roster when the request was read: the committer registers it.
    New {
        key: Arc<str>,
        identity: Identity,
    },
}

#[derive(Clone, Debug)]
pub struct Identified {
    pub entry: Entry,
    /// Stands for (product, customer, dimension, event id).
    pub hash: u128,
    /// The event's place in its request.
    pub index: u32,
}

/// A stream message's place in its producer's sequence.
#[derive(Clone, Debug)]
pub struct Mark {
    pub producer: Arc<str>,
    pub sequence: u64,
}

/// What became of a delta, once it is on disk.
#[derive(Clone, Debug, Default)]
pub struct Recorded {
    /// By product; those that the committer refused are listed below.
    pub counts: BTreeMap<ProductIndex, Counts>,
    /// Entries of `folded` that were refused as a whole, by their place in it.
    pub refused_folds: Vec<(usize, Refusal)>,
    /// Identified events that were refused, by their index.
    pub refused: Vec<(u32, Refusal)>,
    /// The producer's last durable sequence, for a delta with a mark.
    pub durable_sequence: u64,
    /// The stream message had been counted before; nothing was counted now.
    pub is_repeat: bool,
}
