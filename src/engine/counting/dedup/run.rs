//! A sorted run of dedup keys on disk: blocks of hashes, a filter, and a row of the manifest, which is there as long as
//! the run counts.
//!
//! Each block has the hashes of an equal part of the run's shard, so that a hash leads to its only block, and one row
//! is read. Runs are written once, in the order of their numbers, and dropped as a whole.

use super::{
    filter::Filter,
    hashes::{SHARDS, scaled, shard_of},
};
use crate::store::{
    Batch, Encoded, Rows, StoreError, Table,
    tables::dedup::{RunBlocks, RunFilters, RunKey, RunManifest, RunManifests, hashes_in},
};

/// About so many hashes make a block: 4 KiB.
const BLOCK_HASHES: u64 = if cfg!(test) { 2 } else { 240 };
/// How many blocks are written, or read for a compaction, at a time.
const STEP_BLOCKS: u32 = if cfg!(test) { 2 } else { 16 };

/// A run that is complete.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) number: u64,
    pub(super) manifest: RunManifest,
    filter: Filter,
}

impl Run {
    pub(super) fn load(store: &dyn Rows, number: u64, manifest: RunManifest) -> Result<Self, StoreError> {
        if manifest.shards as usize != SHARDS {
            return Err(unreadable(format!("it is of one of {} shards, not of {SHARDS}", manifest.shards)));
        }
        // As many as a writer makes of so many blocks; the numbers decide how much is read and made.
        let most_lines = u64::from(manifest.blocks) * 8;
        if manifest.hashes > u64::from(manifest.blocks) * 8 * BLOCK_HASHES
            || u64::from(manifest.lines) > most_lines
        {
            return Err(unreadable(format!("run {number} cannot have {} hashes", manifest.hashes)));
        }
        let key = |row| RunFilters::encode_key(RunKey { run: number, number: row });
        let rows = store.scan(RunFilters::ID, &key(0), Filter::row_count(manifest.lines) as usize)?;
        let expected = (0..).map(key);
        let own = rows.iter().zip(expected).take_while(|((key, _), expected)| **key == expected[..]);
        let own = own.map(|((_, row), _)| RunFilters::decode(row)).collect::<Result<Vec<_>, _>>()?;
        let filter = Filter::from_rows(manifest.lines, own.iter().map(|row| &**row))?;
        Ok(Self { number, manifest, filter })
    }

    /// No is certain, and costs no look at the disk.
    pub(super) fn may_contain(&self, hash: u128) -> bool {
        self.filter.may_contain(hash)
    }

    pub(super) fn prefetch(&self, hash: u128) -> bool {
        self.filter.prefetch(hash)
    }

    pub(super) fn contains(&self, store: &dyn Rows, hash: u128) -> Result<bool, StoreError> {
        let block = block_of(hash, self.manifest.blocks);
        let key = RunBlocks::encode_key(RunKey { run: self.number, number: block });
        let row = store.get(RunBlocks::ID, &key)?;
        let row =
            row.ok_or_else(|| unreadable(format!("block {block} of run {} is missing", self.number)))?;
        let mut hashes = Vec::new();
        read_block(&self.manifest, block, &row, &mut hashes)?;
        Ok(hashes.binary_search(&hash).is_ok())
    }

    /// Enters the run in the manifest: from this batch on it counts.
    pub(super) fn list(&self, batch: &mut Batch) {
        batch.put(RunManifests, self.number, &self.manifest);
    }

    /// Takes a run out of the manifest: from this batch on it does not count.
    pub(super) fn unlist(number: u64, batch: &mut Batch) {
        batch.delete(RunManifests, number);
    }
}

/// A run that is being written.
#[derive(Debug)]
pub(super) struct Writer {
    number: u64,
    manifest: RunManifest,
    next_block: u32,
    filter: Filter,
}

impl Writer {
    /// A writer of a run with about so many hashes.
    pub(super) fn new(number: u64, generation: u32, shard: usize, tier: u32, hashes: u64) -> Self {
        let lines = Filter::lines_for(hashes, bits_per_hash(tier));
        let manifest = RunManifest {
            generation,
            shard: number_of(shard),
            shards: number_of(SHARDS),
            tier,
            hashes: 0,
            blocks: u32::try_from(hashes.div_ceil(BLOCK_HASHES)).unwrap_or(u32::MAX).max(1),
            lines,
        };
        Self { number, manifest, next_block: 0, filter: Filter::new(lines) }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn generation(&self) -> u32 {
        self.manifest.generation
    }

    pub(super) fn shard(&self) -> usize {
        self.manifest.shard as usize
    }

    pub(super) fn is_complete(&self) -> bool {
        self.next_block == self.manifest.blocks
    }

    /// The next step.
    pub(super) fn step(&self) -> Step {
        let end = self.next_block.saturating_add(STEP_BLOCKS).min(self.manifest.blocks);
        Step { shard: self.shard(), blocks: self.manifest.blocks, end }
    }

    /// Takes the hashes of a step, sorted.
    pub(super) fn write(&mut self, step: Step, mut hashes: &[u128], batch: &mut Batch) {
        for hash in hashes {
            self.filter.insert(*hash);
        }
        self.manifest.hashes += hashes.len() as u64;
        while self.next_block < step.end {
            let in_block = |hash: &u128| block_of(*hash, step.blocks) == self.next_block;
            let (block, rest) = hashes.split_at(hashes.partition_point(in_block));
            let key = RunKey { run: self.number, number: self.next_block };
            batch.put_encoded(RunBlocks, key, Encoded::of_hashes(block));
            hashes = rest;
            self.next_block += 1;
        }
    }

    /// Writes the filter once all blocks are written. The manifest does not have the run yet.
    pub(super) fn finish(self, batch: &mut Batch) -> Run {
        for (row, number) in self.filter.rows().zip(0..) {
            batch.put(RunFilters, RunKey { run: self.number, number }, &row);
        }
        Run { number: self.number, manifest: self.manifest, filter: self.filter }
    }
}

/// A part of a run that is written at once.
#[derive(Clone, Copy)]
pub(super) struct Step {
    shard: usize,
    blocks: u32,
    end: u32,
}

impl Step {
    /// Whether a hash belongs to the step. Hashes are asked for in order.
    pub(super) fn takes(self, hash: u128) -> bool {
        shard_of(hash) == self.shard && block_of(hash, self.blocks) < self.end
    }
}

/// A run that is being compacted with others.
#[derive(Debug)]
pub(super) struct Input {
    number: u64,
    manifest: RunManifest,
    next_block: u32,
    hashes: Vec<u128>,
    taken: usize,
}

impl Input {
    pub(super) fn new(run: &Run) -> Self {
        Self { number: run.number, manifest: run.manifest, next_block: 0, hashes: Vec::new(), taken: 0 }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// Moves the hashes of a step out.
    pub(super) fn take(
        &mut self,
        store: &dyn Rows,
        step: Step,
        into: &mut Vec<u128>,
    ) -> Result<(), StoreError> {
        loop {
            let rest = &self.hashes[self.taken..];
            let count = rest.partition_point(|hash| step.takes(*hash));
            into.extend_from_slice(&rest[..count]);
            self.taken += count;
            if self.taken < self.hashes.len() || self.next_block == self.manifest.blocks {
                return Ok(());
            }
            self.read_on(store)?;
        }
    }

    /// The hashes of the next blocks, `None` behind the last one. Not to be mixed with [`take`](Self::take).
    pub(super) fn next_blocks(&mut self, store: &dyn Rows) -> Result<Option<&[u128]>, StoreError> {
        if self.next_block == self.manifest.blocks {
            return Ok(None);
        }
        self.read_on(store)?;
        Ok(Some(&self.hashes))
    }

    fn read_on(&mut self, store: &dyn Rows) -> Result<(), StoreError> {
        self.hashes.clear();
        self.taken = 0;
        let count = (self.manifest.blocks - self.next_block).min(STEP_BLOCKS);
        let key = |number| RunBlocks::encode_key(RunKey { run: self.number, number });
        let rows = store.scan(RunBlocks::ID, &key(self.next_block), count as usize)?;
        let end = self.next_block + count;
        for (found, row) in &rows {
            if **found != *key(self.next_block) {
                break;
            }
            read_block(&self.manifest, self.next_block, row, &mut self.hashes)?;
            self.next_block += 1;
        }
        if self.next_block == end {
            return Ok(());
        }
        Err(unreadable(format!("block {} of run {} is missing", self.next_block, self.number)))
    }
}

/// What is small may have a better filter: it is looked at as often.
fn bits_per_hash(tier: u32) -> u64 {
    match tier {
        // So bad that tests look into many blocks in vain.
        _ if cfg!(test) => 4,
        0 | 1 => 16,
        _ => 12,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "it is below `blocks`")]
fn block_of(hash: u128, blocks: u32) -> u32 {
    scaled(hash, blocks as usize) as u32
}

/// Appends the hashes of a block, which have to be its own, in order.
fn read_block(
    manifest: &RunManifest,
    block: u32,
    row: &[u8],
    into: &mut Vec<u128>,
) -> Result<(), StoreError> {
    let before = into.len();
    into.extend(hashes_in(row).map_err(unreadable)?);
    let hashes = &into[before..];
    let is_own =
        |hash: &u128| shard_of(*hash) == manifest.shard as usize && block_of(*hash, manifest.blocks) == block;
    if hashes.first().is_none_or(is_own)
        && hashes.last().is_none_or(is_own)
        && hashes.is_sorted_by(|one, next| one < next)
    {
        return Ok(());
    }
    Err(unreadable(format!("block {block} has hashes of another one, or in no order")))
}

fn number_of(shards: usize) -> u32 {
    u32::try_from(shards).unwrap_or(u32::MAX)
}

fn unreadable(why: String) -> StoreError {
    StoreError::Unreadable { what: "run of event ids", why }
}
