//! Open buckets, without their tagged parts, which are rows of their own.

use prost::Message;

use super::numbers::{StoredAmount, amount};
use crate::{
    domain::{
        time::{Hour, Timestamp, UnixNanos},
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
    /// Nanoseconds inside that millisecond.
    #[prost(uint32, tag = "6")]
    at_rest: u32,
}

impl Protobuf for Bucket {
    type Stored = StoredBucket;

    fn to_stored(&self) -> StoredBucket {
        let (kind, at) = match self.usage {
            Usage::Sum(_) => (0, UnixNanos::MIN),
            Usage::Max(_) => (1, UnixNanos::MIN),
            Usage::Latest { at, .. } => (2, at),
            Usage::Unique(_) => (3, UnixNanos::MIN),
        };
        StoredBucket {
            usage: Some(self.usage.amount().into()),
            events: self.events,
            carried: origins(&self.carried),
            kind,
            at_millis: at.timestamp().millis(),
            at_rest: at.rest(),
        }
    }

    fn from_stored(stored: StoredBucket) -> Result<Self, String> {
        let amount = amount(stored.usage);
        let level = || u64::try_from(amount).map_err(|_| "its level is too large".to_owned());
        let usage = match stored.kind {
            0 => Usage::Sum(amount),
            1 => Usage::Max(level()?),
            2 => {
                let millisecond = Timestamp::from_millis(stored.at_millis);
                Usage::Latest { at: UnixNanos::from_parts(millisecond, stored.at_rest), level: level()? }
            }
            3 => Usage::Unique(level()?),
            other => return Err(format!("unknown kind {other}")),
        };
        let carried = carried(stored.carried);
        Ok(Self { usage, events: stored.events, carried, tagged: tags::Tagged::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::value::Value;

    fn level(row: &[u8]) -> (UnixNanos, u64) {
        match Bucket::decode(row).unwrap().usage {
            Usage::Latest { at, level } => (at, level),
            other => panic!("{other:?}"),
        }
    }

    /// As it was written when levels told no more than their millisecond.
    const LEVEL_OF_A_MILLISECOND: &[u8] = b"\x01\x0a\x02\x08\x07\x10\x01\x20\x02\x28\xfb\xe4\x85\xe1\x99\x34";

    #[test]
    fn a_level_without_nanoseconds_is_of_the_beginning_of_its_millisecond() {
        let millisecond = Timestamp::from_millis(1_793_620_800_123);
        assert_eq!(level(LEVEL_OF_A_MILLISECOND), (millisecond.into(), 7));
        let with_rest = [LEVEL_OF_A_MILLISECOND, b"\x30\xd5\xf0\x1b"].concat();
        assert_eq!(level(&with_rest), (UnixNanos::from_parts(millisecond, 456_789), 7));
    }

    #[test]
    fn a_level_that_nobody_told_is_older_than_any() {
        // The row tells the earliest moment in milliseconds, as older versions wrote it.
        let old = b"\x01\x0a\x00\x20\x02\x28\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01";
        assert_eq!(level(old), (UnixNanos::MIN, 0));
    }
}
