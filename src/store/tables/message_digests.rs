//! Digests of the messages that producers have sent, in blocks of those that follow each other.

use prost::Message;

use crate::store::{TableId, key::Key, table::Table, value::Protobuf};

pub(crate) struct DigestBlocks;

impl Table for DigestBlocks {
    const ID: TableId = TableId::MessageDigests;
    const WHAT: &'static str = "block of message digests";
    type Key<'k> = DigestBlockKey<'k>;
    type Value = DigestBlock;
}

/// The client (its length and text; empty for none), the name of the producer (likewise), and the place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct DigestBlockKey<'k> {
    pub client: &'k str,
    pub name: &'k str,
    /// The block's place in the ring of those that are kept.
    pub place: u32,
}

impl<'k> Key<'k> for DigestBlockKey<'k> {
    fn write(&self, bytes: &mut Vec<u8>) {
        Key::write(&(self.client, (self.name, self.place)), bytes);
    }

    fn read(bytes: &'k [u8]) -> Option<Self> {
        let (client, (name, place)) = Key::read(bytes)?;
        Some(Self { client, name, place })
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DigestBlock {
    /// The sequence of the first message.
    pub first: u64,
    pub digests: Vec<u64>,
}

impl DigestBlock {
    pub(crate) fn get(&self, sequence: u64) -> Option<u64> {
        let index = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.digests.get(index).copied()
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StoredDigestBlock {
    #[prost(uint64, tag = "1")]
    first: u64,
    /// 8 bytes for each.
    #[prost(bytes = "vec", tag = "2")]
    digests: Vec<u8>,
}

impl Protobuf for DigestBlock {
    type Stored = StoredDigestBlock;

    fn to_stored(&self) -> StoredDigestBlock {
        StoredDigestBlock { first: self.first, digests: digests_to_bytes(&self.digests) }
    }

    fn from_stored(stored: StoredDigestBlock) -> Result<Self, String> {
        Ok(Self { first: stored.first, digests: digests_in(&stored.digests)? })
    }
}

pub(super) fn digests_to_bytes(digests: &[u64]) -> Vec<u8> {
    digests.iter().flat_map(|digest| digest.to_be_bytes()).collect()
}

pub(super) fn digests_in(bytes: &[u8]) -> Result<Vec<u64>, String> {
    match bytes.as_chunks() {
        (digests, []) => Ok(digests.iter().map(|digest| u64::from_be_bytes(*digest)).collect()),
        (_, rest) => Err(format!("its digests have {} bytes too many", rest.len())),
    }
}
