//! Markers of events: hashes one after the other, and what a sorted run of them is.

use prost::Message;

use super::{VERSION, Value};
use crate::worlds::store::StoreError;

/// The version, then 16 bytes for each hash.
pub fn encode_hashes(hashes: &[u128]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + size_of_val(hashes));
    bytes.push(VERSION);
    bytes.extend(hashes.iter().flat_map(|hash| hash.to_be_bytes()));
    bytes
}

pub fn decode_hashes(bytes: &[u8]) -> Result<impl ExactSizeIterator<Item = u128>, StoreError> {
    let unreadable = |why| StoreError::Unreadable { what: "row of event ids", why };
    match bytes.split_first() {
        Some((&VERSION, rest)) => match rest.as_chunks() {
            (hashes, []) => Ok(hashes.iter().map(|hash| u128::from_be_bytes(*hash))),
            (_, rest) => Err(unreadable(format!("it has {} bytes too many", rest.len()))),
        },
        Some((version, _)) => Err(unreadable(format!("its version is {version}, not {VERSION}"))),
        None => Err(unreadable("it is empty".to_owned())),
    }
}

/// A sorted run of markers. Its row is written once the run is complete, and deleted with the batch that replaces it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarkRun {
    pub generation: u32,
    /// Which of how many equal ranges of hashes it is of.
    pub shard: u32,
    pub shards: u32,
    /// How often its markers were merged.
    pub tier: u32,
    pub hashes: u64,
    pub blocks: u32,
    /// Lines of 64 bytes of its filter.
    pub lines: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct StoredMarkRun {
    #[prost(uint32, tag = "1")]
    generation: u32,
    #[prost(uint32, tag = "2")]
    shard: u32,
    #[prost(uint32, tag = "3")]
    shards: u32,
    #[prost(uint32, tag = "4")]
    tier: u32,
    #[prost(uint64, tag = "5")]
    hashes: u64,
    #[prost(uint32, tag = "6")]
    blocks: u32,
    #[prost(uint32, tag = "7")]
    lines: u32,
}

impl MarkRun {
    /// Of the only run of a shard that takes no more markers.
    pub const LAST_TIER: u32 = 255;
}

impl Value for MarkRun {
    type Stored = StoredMarkRun;
    const WHAT: &'static str = "run of event ids";

    fn to_stored(&self) -> StoredMarkRun {
        let Self { generation, shard, shards, tier, hashes, blocks, lines } = *self;
        StoredMarkRun { generation, shard, shards, tier, hashes, blocks, lines }
    }

    fn from_stored(stored: StoredMarkRun) -> Result<Self, String> {
        let StoredMarkRun { generation, shard, shards, tier, hashes, blocks, lines } = stored;
        if shard >= shards {
            return Err(format!("shard {shard} of {shards}"));
        }
        if blocks == 0 || lines == 0 {
            return Err("it has no blocks, or no filter".to_owned());
        }
        Ok(Self { generation, shard, shards, tier, hashes, blocks, lines })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn hashes_round_trip(hashes: Vec<u128>) {
            let bytes = encode_hashes(&hashes);
            prop_assert!(decode_hashes(&bytes).unwrap().eq(hashes));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let hashes: Option<Vec<_>> = decode_hashes(&bytes).ok().map(Iterator::collect);
            prop_assert!(hashes.is_none_or(|hashes| encode_hashes(&hashes) == bytes));
        }
    }
}
