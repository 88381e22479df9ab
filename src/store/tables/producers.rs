//! How far the producers of streams have come.
//!
//! A key is the byte FF, with which no text begins, then the client (its length and text; empty for none) and the name.
//! A row of before has a producer's name alone as its key, and its client in the value. It is read as well, and moves to
//! its new key with the producer's next message.

use std::sync::Arc;

use prost::Message;

use super::message_digests::{digests_in, digests_to_bytes};
use crate::{
    domain::time::Timestamp,
    store::{Rows, StoreError, TableId, key::Key, table::Table, value::Protobuf},
};

const IN_NO_TEXT: u8 = 0xff;

/// A producer: the client that it is of, empty for none, and its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerKey<'k> {
    pub client: &'k str,
    pub name: &'k str,
}

pub(crate) struct ProducerRows;

impl Table for ProducerRows {
    const ID: TableId = TableId::Producers;
    const WHAT: &'static str = "producer";
    type Key<'k> = ProducerKey<'k>;
    type Value = Producer;
}

/// Rows from when a producer's name was its key, and its owner in the value.
pub(crate) struct NamedProducerRows;

impl Table for NamedProducerRows {
    const ID: TableId = TableId::Producers;
    const WHAT: &'static str = "producer";
    /// The producer's name.
    type Key<'k> = &'k str;
    type Value = Producer;
}

impl<'k> Key<'k> for ProducerKey<'k> {
    fn write(&self, bytes: &mut Vec<u8>) {
        Key::write(&(IN_NO_TEXT, (self.client, self.name)), bytes);
    }

    fn read(bytes: &'k [u8]) -> Option<Self> {
        let (first, (client, name)) = <(u8, (&str, &str))>::read(bytes)?;
        (first == IN_NO_TEXT).then_some(Self { client, name })
    }
}

/// How far a stream's producer has come.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Producer {
    pub sequence: u64,
    pub last_seen: Timestamp,
    /// The client whose it is, in rows of before.
    pub owner: Option<Arc<str>>,
    /// The first message of which a digest was kept; 0 for none.
    pub first_digest: u64,
    /// The digests of the last messages, up to `sequence`.
    pub digests: Vec<u64>,
}

/// A producer's row, and the key that it has.
pub(crate) enum ProducerRow<'k> {
    Own(ProducerKey<'k>, Producer),
    /// By its name alone.
    Named(&'k str, Producer),
}

pub(crate) fn each_producer(
    store: &dyn Rows,
    mut each: impl FnMut(ProducerRow<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    store.visit(TableId::Producers, &[], &mut |key, value| {
        each(if key.first() == Some(&IN_NO_TEXT) {
            ProducerRow::Own(ProducerRows::decode_key(key)?, ProducerRows::decode(value)?)
        } else {
            ProducerRow::Named(NamedProducerRows::decode_key(key)?, NamedProducerRows::decode(value)?)
        })
    })
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StoredProducer {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(int64, tag = "2")]
    last_seen_millis: i64,
    /// The owner's name; empty for none.
    #[prost(string, tag = "3")]
    owner: String,
    #[prost(uint64, tag = "4")]
    first_digest: u64,
    /// 8 bytes for each.
    #[prost(bytes = "vec", tag = "5")]
    digests: Vec<u8>,
}

impl Protobuf for Producer {
    type Stored = StoredProducer;

    fn to_stored(&self) -> StoredProducer {
        StoredProducer {
            sequence: self.sequence,
            last_seen_millis: self.last_seen.millis(),
            owner: self.owner.as_deref().unwrap_or_default().to_owned(),
            first_digest: self.first_digest,
            digests: digests_to_bytes(&self.digests),
        }
    }

    fn from_stored(stored: StoredProducer) -> Result<Self, String> {
        let StoredProducer { sequence, last_seen_millis, owner, first_digest, digests } = stored;
        let digests = digests_in(&digests)?;
        if digests.len() as u64 > sequence {
            return Err("it has more digests than messages".to_owned());
        }
        Ok(Self {
            sequence,
            last_seen: Timestamp::from_millis(last_seen_millis),
            owner: Some(owner).filter(|owner| !owner.is_empty()).map(Arc::from),
            first_digest,
            digests,
        })
    }
}
