//! The parts of open buckets that have tags.

use prost::Message;

use super::numbers::{StoredAmount, amount};
use crate::{
    domain::usage::tags::{TagSet, Tagged},
    store::{
        Batch, Change, ReadTable, Rows, StoreError, TableId,
        key::{BucketKey, Key, KeyPart},
        table::{Table, unreadable},
        value::{Protobuf, Value},
    },
};

/// Amounts in base units.
pub(crate) struct TaggedRows;

impl Table for TaggedRows {
    const ID: TableId = TableId::Tagged;
    const WHAT: &'static str = "tagged part of a bucket";
    type Key<'k> = TaggedKey<'k>;
    type Value = u128;
}

/// A bucket, and a set of tags as it is laid out as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaggedKey<'k> {
    pub bucket: BucketKey<'k>,
    pub tags: &'k [u8],
}

impl<'k> Key<'k> for TaggedKey<'k> {
    fn write(&self, bytes: &mut Vec<u8>) {
        write_bucket(&self.bucket, bytes);
        bytes.extend(self.tags);
    }

    fn read(bytes: &'k [u8]) -> Option<Self> {
        let (hour, rest) = KeyPart::split(bytes)?;
        let (product, rest) = KeyPart::split(rest)?;
        let (customer, rest) = KeyPart::split(rest)?;
        let (dimension, tags) = KeyPart::split(rest)?;
        Some(Self { bucket: BucketKey { hour, product, customer, dimension }, tags })
    }
}

/// The start of the keys of a bucket's parts.
fn write_bucket(bucket: &BucketKey<'_>, bytes: &mut Vec<u8>) {
    KeyPart::write(&bucket.hour, bytes);
    for text in [bucket.product, bucket.customer, bucket.dimension] {
        KeyPart::write(&text, bytes);
    }
}

impl TaggedRows {
    pub(crate) fn put(batch: &mut Batch, bucket: BucketKey<'_>, tags: &TagSet, amount: u128) {
        batch.put(Self, TaggedKey { bucket, tags: &tags.encode() }, &amount);
    }

    pub(crate) fn delete(batch: &mut Batch, bucket: BucketKey<'_>, tags: &TagSet) {
        batch.delete(Self, TaggedKey { bucket, tags: &tags.encode() });
    }

    pub(crate) fn delete_of(batch: &mut Batch, bucket: BucketKey<'_>) {
        let mut from = Vec::new();
        write_bucket(&bucket, &mut from);
        // It ends in text, and thus not in the highest byte.
        let mut to = from.clone();
        if let Some(last) = to.last_mut() {
            *last = last.saturating_add(1);
        }
        batch.changes.push(Change::DeleteRange(Self::ID, from, to));
    }

    pub(crate) fn each(
        store: &dyn Rows,
        mut each: impl FnMut(BucketKey<'_>, TagSet, u128) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        store.each(Self, |TaggedKey { bucket, tags }, amount| {
            each(bucket, TagSet::decode(tags).map_err(unreadable::<Self>)?, amount)
        })
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
pub(crate) struct StoredTags {
    #[prost(message, repeated, tag = "1")]
    tags: Vec<StoredTag>,
}

impl Protobuf for TagSet {
    type Stored = StoredTags;

    fn to_stored(&self) -> StoredTags {
        StoredTags { tags: stored_tags(Some(self)) }
    }

    fn from_stored(stored: StoredTags) -> Result<Self, String> {
        tag_set(&stored.tags)?.ok_or_else(|| "it is empty".to_owned())
    }
}

/// An amount with one set of tags, where it is part of another value.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct StoredPart {
    #[prost(message, repeated, tag = "1")]
    tags: Vec<StoredTag>,
    #[prost(message, optional, tag = "2")]
    amount: Option<StoredAmount>,
}

pub(super) fn stored_parts(tagged: &Tagged) -> Vec<StoredPart> {
    let part = |(tags, amount): (&TagSet, u128)| StoredPart {
        tags: stored_tags(Some(tags)),
        amount: Some(amount.into()),
    };
    tagged.iter().map(part).collect()
}

pub(super) fn tagged(stored: Vec<StoredPart>) -> Result<Tagged, String> {
    let mut tagged = Tagged::default();
    for part in stored {
        let tags = tag_set(&part.tags)?.ok_or("a tagged part has no tags")?;
        tagged.add(&tags, amount(part.amount));
    }
    Ok(tagged)
}

pub(super) fn stored_tags(tags: Option<&TagSet>) -> Vec<StoredTag> {
    let stored = |(key, value): (&str, &str)| StoredTag { key: key.to_owned(), value: value.to_owned() };
    tags.into_iter().flat_map(TagSet::tags).map(stored).collect()
}

pub(super) fn tag_set(stored: &[StoredTag]) -> Result<Option<TagSet>, String> {
    TagSet::new(stored.iter().map(|tag| (&*tag.key, &*tag.value)))
}
