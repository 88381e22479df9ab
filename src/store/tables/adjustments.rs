//! What persons have taken from open hours. Never dropped.

use prost::Message;

use super::{
    buckets::{StoredOrigin, carried, origins},
    numbers::{StoredAmount, amount},
    tagged::{StoredPart, StoredTag, stored_parts, stored_tags, tag_set, tagged},
};
use crate::{
    domain::{
        billing::adjustment::{Adjustment, Taken, Wanted},
        time::{Hour, Timestamp},
        usage::bucket::Lowered,
    },
    store::{
        Batch, ReadTable, Rows, StoreError, TableId,
        key::{BucketKey, Key},
        table::Table,
        value::Protobuf,
    },
};

pub(crate) struct Adjustments;

impl Table for Adjustments {
    const ID: TableId = TableId::Meta;
    const PREFIX: &'static str = "adjustment/";
    const WHAT: &'static str = "adjustment";
    /// The adjustment's number.
    type Key<'k> = u64;
    type Value = Adjustment;
}

/// The number of the adjustment with a caller's id.
pub(crate) struct AdjustmentIds;

impl Table for AdjustmentIds {
    const ID: TableId = TableId::Meta;
    const PREFIX: &'static str = "adjustment_id/";
    const WHAT: &'static str = "id of an adjustment";
    type Key<'k> = &'k str;
    type Value = u64;
}

/// Which adjustments have taken from a bucket, so that its record can tell.
pub(crate) struct AdjustedBuckets;

impl Table for AdjustedBuckets {
    const ID: TableId = TableId::Meta;
    const PREFIX: &'static str = "adjusted/";
    const WHAT: &'static str = "adjusted bucket";
    type Key<'k> = AdjustedKey<'k>;
    type Value = ();
}

/// A bucket, and the number of an adjustment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct AdjustedKey<'k> {
    pub bucket: BucketKey<'k>,
    pub number: u64,
}

type Parts<'k> = (Hour, (&'k str, (&'k str, (&'k str, u64))));

impl<'k> Key<'k> for AdjustedKey<'k> {
    fn write(&self, bytes: &mut Vec<u8>) {
        let BucketKey { hour, product, customer, dimension } = self.bucket;
        let parts: Parts<'k> = (hour, (product, (customer, (dimension, self.number))));
        parts.write(bytes);
    }

    fn read(bytes: &'k [u8]) -> Option<Self> {
        let (hour, (product, (customer, (dimension, number)))) = Parts::read(bytes)?;
        Some(Self { bucket: BucketKey { hour, product, customer, dimension }, number })
    }
}

impl Adjustments {
    /// Writes down by what it is found: its id, and the buckets that it has taken from.
    pub(crate) fn put_ways_to_find(batch: &mut Batch, adjustment: &Adjustment) {
        let Adjustment { number, id, product, customer, dimension, taken, .. } = adjustment;
        batch.put(AdjustmentIds, id, number);
        for Taken { hour, .. } in taken {
            let bucket = BucketKey { hour: *hour, product, customer, dimension };
            batch.put(AdjustedBuckets, AdjustedKey { bucket, number: *number }, &());
        }
    }

    /// The adjustment with a caller's id.
    pub(crate) fn by_id(store: &dyn Rows, id: &str) -> Result<Option<Adjustment>, StoreError> {
        let Some(number) = store.find(AdjustmentIds, id)? else { return Ok(None) };
        store.find(Self, number)
    }

    /// The adjustments that have taken from a bucket, oldest first, at most 100.
    pub(crate) fn of(store: &dyn Rows, bucket: BucketKey<'_>) -> Result<Vec<Adjustment>, StoreError> {
        const MOST: usize = 100;
        let from = AdjustedBuckets::encode_key(AdjustedKey { bucket, number: 0 });
        let number_in = |key: &[u8]| {
            let found = AdjustedBuckets::decode_key(key).ok().filter(|found| found.bucket == bucket)?;
            Some(found.number)
        };
        // Most buckets have none, and one row tells.
        if !store.scan(TableId::Meta, &from, 1)?.iter().any(|(key, _)| number_in(key).is_some()) {
            return Ok(Vec::new());
        }
        let mut adjustments = Vec::new();
        for (key, _) in store.scan(TableId::Meta, &from, MOST)? {
            let Some(number) = number_in(&key) else { break };
            adjustments.extend(store.find(Self, number)?);
        }
        Ok(adjustments)
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StoredAdjustment {
    #[prost(uint64, tag = "1")]
    number: u64,
    #[prost(string, tag = "2")]
    id: String,
    #[prost(string, tag = "3")]
    product: String,
    #[prost(string, tag = "4")]
    customer: String,
    #[prost(string, tag = "5")]
    dimension: String,
    #[prost(message, optional, tag = "6")]
    minus: Option<StoredAmount>,
    #[prost(uint32, optional, tag = "7")]
    only_hour: Option<u32>,
    #[prost(message, repeated, tag = "8")]
    only_tags: Vec<StoredTag>,
    #[prost(message, repeated, tag = "9")]
    taken: Vec<StoredTaken>,
    #[prost(string, tag = "10")]
    reason: String,
    #[prost(string, tag = "11")]
    by: String,
    #[prost(int64, tag = "12")]
    at_millis: i64,
    #[prost(string, tag = "13")]
    client: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StoredTaken {
    #[prost(uint32, tag = "1")]
    hour: u32,
    #[prost(message, optional, tag = "2")]
    usage: Option<StoredAmount>,
    #[prost(message, repeated, tag = "3")]
    carried: Vec<StoredOrigin>,
    #[prost(message, repeated, tag = "4")]
    tagged: Vec<StoredPart>,
}

impl Protobuf for Adjustment {
    type Stored = StoredAdjustment;

    fn to_stored(&self) -> StoredAdjustment {
        let taken = |Taken { hour, lowered }: &Taken| StoredTaken {
            hour: hour.index(),
            usage: Some(lowered.usage.into()),
            carried: origins(&lowered.carried),
            tagged: stored_parts(&lowered.tagged),
        };
        StoredAdjustment {
            number: self.number,
            id: self.id.to_string(),
            product: self.product.clone(),
            customer: self.customer.clone(),
            dimension: self.dimension.clone(),
            minus: Some(self.wanted.minus.into()),
            only_hour: self.wanted.hour.map(Hour::index),
            only_tags: stored_tags(self.wanted.tags.as_ref()),
            taken: self.taken.iter().map(taken).collect(),
            reason: self.reason.to_string(),
            by: self.by.to_string(),
            at_millis: self.at.millis(),
            client: self.client.to_string(),
        }
    }

    fn from_stored(stored: StoredAdjustment) -> Result<Self, String> {
        let taken = |stored: StoredTaken| {
            let (usage, carried) = (amount(stored.usage), carried(stored.carried));
            let lowered = Lowered { usage, carried, tagged: tagged(stored.tagged)? };
            Ok(Taken { hour: Hour::from_index(stored.hour), lowered })
        };
        Ok(Self {
            number: stored.number,
            id: stored.id.into(),
            product: stored.product,
            customer: stored.customer,
            dimension: stored.dimension,
            wanted: Wanted {
                minus: amount(stored.minus),
                hour: stored.only_hour.map(Hour::from_index),
                tags: tag_set(&stored.only_tags)?,
            },
            taken: stored.taken.into_iter().map(taken).collect::<Result<_, String>>()?,
            reason: stored.reason.into(),
            by: stored.by.into(),
            client: stored.client.into(),
            at: Timestamp::from_millis(stored.at_millis),
        })
    }
}
