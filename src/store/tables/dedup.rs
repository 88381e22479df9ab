//! Dedup keys: hashes of the ids of events that were counted, first as each commit wrote them, later sorted in runs.

use prost::Message;

use crate::store::{
    Batch, Change, TableId,
    key::{Key, KeyPart},
    table::{Encoded, Table},
    value::{Protobuf, VERSION, Value, unversioned},
};

/// The dedup keys of each commit, in the order in which they came.
pub(crate) struct DedupKeys;

impl Table for DedupKeys {
    const ID: TableId = TableId::DedupKeys;
    const WHAT: &'static str = "row of event ids";
    /// The generation, and the number of the row.
    type Key<'k> = (u32, u64);
    type Value = Vec<u128>;
}

/// The first row of a generation whose dedup keys are in no run.
pub(crate) struct FirstRows;

impl Table for FirstRows {
    const ID: TableId = TableId::Meta;
    const PREFIX: &'static str = "first_mark/";
    const WHAT: &'static str = "number of event ids";
    /// The generation.
    type Key<'k> = u32;
    type Value = u64;
}

/// The first generation whose rows count.
pub(crate) struct FirstGeneration;

impl Table for FirstGeneration {
    const ID: TableId = TableId::Meta;
    const PREFIX: &'static str = "first_generation";
    const WHAT: &'static str = "generation of event ids";
    type Key<'k> = ();
    type Value = u32;
}

/// The runs that are complete and not replaced.
pub(crate) struct RunManifests;

impl Table for RunManifests {
    const ID: TableId = TableId::Meta;
    const PREFIX: &'static str = "mark_run/";
    const WHAT: &'static str = "run of event ids";
    /// The number of the run.
    type Key<'k> = u64;
    type Value = RunManifest;
}

/// The blocks of runs: dedup keys, sorted.
pub(crate) struct RunBlocks;

impl Table for RunBlocks {
    const ID: TableId = TableId::DedupRuns;
    const WHAT: &'static str = "row of event ids";
    type Key<'k> = RunKey<0>;
    type Value = Vec<u128>;
}

/// The filters of runs.
pub(crate) struct RunFilters;

impl Table for RunFilters {
    const ID: TableId = TableId::DedupRuns;
    const WHAT: &'static str = "filter of event ids";
    type Key<'k> = RunKey<1>;
    type Value = Vec<u8>;
}

/// A row of a run. The blocks are part 0, the filter is part 1, which is the order in which they are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunKey<const PART: u8> {
    pub run: u64,
    pub number: u32,
}

impl<const PART: u8> Key<'_> for RunKey<PART> {
    fn write(&self, bytes: &mut Vec<u8>) {
        Key::write(&(self.run, (PART, self.number)), bytes);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        let (run, (part, number)) = <(u64, (u8, u32))>::read(bytes)?;
        (part == PART).then_some(Self { run, number })
    }
}

/// The run of a row, be it a block's or a filter's.
pub(crate) fn run_of(key: &[u8]) -> Option<u64> {
    KeyPart::split(key).map(|(run, _)| run)
}

/// Gives up all rows of the runs from one to another, both included.
pub(crate) fn discard_runs(batch: &mut Batch, first: u64, last: u64) {
    let from = RunBlocks::encode_key(RunKey { run: first, number: 0 });
    let through = RunFilters::encode_key(RunKey { run: last, number: u32::MAX });
    batch.changes.push(Change::Discard(TableId::DedupRuns, from, through));
}

/// 16 bytes for each.
impl Value for Vec<u128> {
    fn encode(&self) -> Vec<u8> {
        encode_hashes(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        hashes_in(bytes).map(Iterator::collect)
    }
}

impl Value for Vec<u8> {
    fn encode(&self) -> Vec<u8> {
        [&[VERSION], &**self].concat()
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        unversioned(bytes).map(<[u8]>::to_vec)
    }
}

impl<T: Table<Value = Vec<u128>>> Encoded<T> {
    pub(crate) fn of_hashes(hashes: &[u128]) -> Self {
        Self::from_bytes(encode_hashes(hashes))
    }
}

fn encode_hashes(hashes: &[u128]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(1 + size_of_val(hashes));
    bytes.push(VERSION);
    bytes.extend(hashes.iter().flat_map(|hash| hash.to_be_bytes()));
    bytes
}

/// The hashes of a row, without a copy of them.
pub(crate) fn hashes_in(row: &[u8]) -> Result<impl ExactSizeIterator<Item = u128>, String> {
    match unversioned(row)?.as_chunks() {
        (hashes, []) => Ok(hashes.iter().map(|hash| u128::from_be_bytes(*hash))),
        (_, rest) => Err(format!("it has {} bytes too many", rest.len())),
    }
}

/// The manifest's row of a sorted run of dedup keys. It is written once the run is complete, and deleted with the batch
/// that replaces the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RunManifest {
    pub generation: u32,
    /// The shard, an equal range of hashes, that the run is of.
    pub shard: u32,
    pub shards: u32,
    /// How often its dedup keys were compacted.
    pub tier: u32,
    pub hashes: u64,
    pub blocks: u32,
    /// Lines of 64 bytes of its filter.
    pub lines: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct StoredRunManifest {
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

impl RunManifest {
    /// The tier of the only run of a shard that takes no more dedup keys.
    pub(crate) const LAST_TIER: u32 = 255;
}

impl Protobuf for RunManifest {
    type Stored = StoredRunManifest;

    fn to_stored(&self) -> StoredRunManifest {
        let Self { generation, shard, shards, tier, hashes, blocks, lines } = *self;
        StoredRunManifest { generation, shard, shards, tier, hashes, blocks, lines }
    }

    fn from_stored(stored: StoredRunManifest) -> Result<Self, String> {
        let StoredRunManifest { generation, shard, shards, tier, hashes, blocks, lines } = stored;
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
            prop_assert_eq!(Vec::<u128>::decode(&hashes.encode()), Ok(hashes));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let hashes = Vec::<u128>::decode(&bytes).ok();
            prop_assert!(hashes.is_none_or(|hashes| hashes.encode() == bytes));
        }
    }
}
