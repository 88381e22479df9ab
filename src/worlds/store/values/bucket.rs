//! Buckets, and the tags of their parts.

use prost::Message;

use super::{StoredAmount, Value, amount};
use crate::domain::{
    bucket::{Bucket, Carried, Usage},
    tags::{TagSet, Tagged},
    time::{Hour, Timestamp},
};

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct StoredOrigin {
    #[prost(uint32, tag = "1")]
    hour: u32,
    #[prost(message, optional, tag = "2")]
    amount: Option<StoredAmount>,
}

pub(super) fn origins(carried: &Carried) -> Vec<StoredOrigin> {
    let stored =
        |(hour, amount): (Hour, u128)| StoredOrigin { hour: hour.index(), amount: Some(amount.into()) };
    carried.origins().map(stored).collect()
}

pub(super) fn carried(origins: Vec<StoredOrigin>) -> Carried {
    origins.into_iter().map(|origin| (Hour::from_index(origin.hour), amount(origin.amount))).collect()
}

/// A bucket without its tagged parts, which have rows of their own.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredBucket {
    #[prost(message, optional, tag = "1")]
    usage: Option<StoredAmount>,
    #[prost(uint64, tag = "2")]
    events: u64,
    #[prost(message, repeated, tag = "3")]
    carried: Vec<StoredOrigin>,
    /// 0 sum, 1 max, 2 latest, 3 unique.
    #[prost(uint32, tag = "4")]
    kind: u32,
    /// When a latest level was told.
    #[prost(int64, tag = "5")]
    at_millis: i64,
}

impl Value for Bucket {
    type Stored = StoredBucket;
    const WHAT: &'static str = "bucket";

    fn to_stored(&self) -> StoredBucket {
        let (kind, at_millis) = match self.usage {
            Usage::Sum(_) => (0, 0),
            Usage::Max(_) => (1, 0),
            Usage::Latest { at, .. } => (2, at.millis()),
            Usage::Unique(_) => (3, 0),
        };
        StoredBucket {
            usage: Some(self.usage.amount().into()),
            events: self.events,
            carried: origins(&self.carried),
            kind,
            at_millis,
        }
    }

    fn from_stored(stored: StoredBucket) -> Result<Self, String> {
        let amount = amount(stored.usage);
        let level = || u64::try_from(amount).map_err(|_| "its level is too large".to_owned());
        let usage = match stored.kind {
            0 => Usage::Sum(amount),
            1 => Usage::Max(level()?),
            2 => Usage::Latest { at: Timestamp::from_millis(stored.at_millis), level: level()? },
            3 => Usage::Unique(level()?),
            other => return Err(format!("unknown kind {other}")),
        };
        let carried = carried(stored.carried);
        Ok(Self { usage, events: stored.events, carried, tagged: Tagged::default() })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct StoredTag {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredTags {
    #[prost(message, repeated, tag = "1")]
    tags: Vec<StoredTag>,
}

impl Value for TagSet {
    type Stored = StoredTags;
    const WHAT: &'static str = "set of tags";

    fn to_stored(&self) -> StoredTags {
        StoredTags { tags: stored_tags(Some(self)) }
    }

    fn from_stored(stored: StoredTags) -> Result<Self, String> {
        tag_set(&stored.tags)?.ok_or_else(|| "it is empty".to_owned())
    }
}

pub(super) fn stored_tags(tags: Option<&TagSet>) -> Vec<StoredTag> {
    let stored = |(key, value): (&str, &str)| StoredTag { key: key.to_owned(), value: value.to_owned() };
    tags.into_iter().flat_map(TagSet::tags).map(stored).collect()
}

pub(super) fn tag_set(stored: &[StoredTag]) -> Result<Option<TagSet>, String> {
    TagSet::new(stored.iter().map(|tag| (&*tag.key, &*tag.value)))
}
