//! Open buckets, without their tagged parts, which are rows of their own.

use prost::Message;

use super::numbers::{StoredAmount, amount};
use crate::{
    domain::{
        time::{Hour, Timestamp},
        usage::{
            bucket::{Bucket, Carried, Usage},
            tags,
        },
    },
    store::{TableId, key::BucketKey, table::Table, value::Protobuf},
};

pub(crate) struct Buckets;

impl Table for Buckets {
    const ID: TableId = TableId::Buckets;
    const WHAT: &'static str = "bucket";
    type Key<'k> = BucketKey<'k>;
    type Value = Bucket;
}

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

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StoredBucket {
    #[prost(message, optional, tag = "1")]
    usage: Option<StoredAmount>,
    #[prost(uint64, tag = "2")]
    events: u64,
    #[prost(message, repeated, tag = "3")]
    carried: Vec<StoredOrigin>,
    /// 0 sum, 1 max, 2 latest, 3 unique.
    #[prost(uint32, tag = "4")]
    kind: u32,
    /// The time of a latest level.
    #[prost(int64, tag = "5")]
    at_millis: i64,
}

impl Protobuf for Bucket {
    type Stored = StoredBucket;

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
        Ok(Self { usage, events: stored.events, carried, tagged: tags::Tagged::default() })
    }
}
