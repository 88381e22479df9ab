//! A sorted run of markers on disk: blocks of hashes, a filter, and a description among the meta rows, which is there as
//! long as the run counts.
//!
//! Each block has the hashes of an equal part of the run's shard, so that a hash leads to its only block, and one row
//! is read. Runs are written once, in the order of their numbers, and dropped as a whole.

use super::{
    filter::Filter,
    hashes::{SHARDS, scaled, shard_of},
};
use crate::worlds::store::{
    Batch, Rows, StoreError, Table,
    keys::{self, RunPart},
    values::{MarkRun, decode_hashes, encode, encode_hashes},
};

/// About so many hashes make a block: 4 KiB.
const BLOCK_HASHES: u64 = if cfg!(test) { 2 } else { 240 };
/// How many blocks are written, or read to be merged, at a time.
const STEP_BLOCKS: u32 = if cfg!(test) { 2 } else { 16 };

/// A run that is complete.
#[derive(Debug)]
pub(super) struct Run {
    pub(super) number: u64,
    pub(super) about: MarkRun,
    filter: Filter,
}

impl Run {
    pub(super) fn load(store: &dyn Rows, number: u64, about: MarkRun) -> Result<Self, StoreError> {
        if about.shards as usize != SHARDS {
            return Err(unreadable(format!("it is of one of {} shards, not of {SHARDS}", about.shards)));
        }
        // As many as a writer makes of so many blocks; the numbers decide how much is read and made.
        let most_lines = u64::from(about.blocks) * 8;
        if about.hashes > u64::from(about.blocks) * 8 * BLOCK_HASHES || u64::from(about.lines) > most_lines {
            return Err(unreadable(format!("run {number} cannot have {} hashes", about.hashes)));
        }
        let first = keys::mark_run(number, RunPart::Filter, 0);
        let rows = store.scan(Table::MarkRuns, &first, Filter::row_count(about.lines) as usize)?;
        let expected = (0..).map(|row| keys::mark_run(number, RunPart::Filter, row));
        let own = rows.iter().zip(expected).take_while(|((key, _), expected)| **key == expected[..]);
        let filter = Filter::from_rows(about.lines, own.map(|((_, row), _)| &**row))?;
        Ok(Self { number, about, filter })
    }

    /// No is certain, and costs no look at the disk.
    pub(super) fn may_have(&self, hash: u128) -> bool {
        self.filter.may_have(hash)
    }

    pub(super) fn touch(&self, hash: u128) -> bool {
        self.filter.touch(hash)
    }

    pub(super) fn has(&self, store: &dyn Rows, hash: u128) -> Result<bool, StoreError> {
        let block = block_of(hash, self.about.blocks);
        let row = store.get(Table::MarkRuns, &keys::mark_run(self.number, RunPart::Block, block))?;
        let row =
            row.ok_or_else(|| unreadable(format!("block {block} of run {} is missing", self.number)))?;
        let mut hashes = Vec::new();
        read_block(&self.about, block, &row, &mut hashes)?;
        Ok(hashes.binary_search(&hash).is_ok())
    }

    /// From now on it counts.
    pub(super) fn describe(&self, batch: &mut Batch) {
        batch.put(Table::Meta, keys::complete_run(self.number), encode(&self.about));
    }

    /// From now on it does not count.
    pub(super) fn forget(number: u64, batch: &mut Batch) {
        batch.delete(Table::Meta, keys::complete_run(number));
    }
}

/// A run that is being written.
#[derive(Debug)]
pub(super) struct Writer {
    number: u64,
    about: MarkRun,
    next_block: u32,
    filter: Filter,
}

impl Writer {
    /// Of about so many hashes.
    pub(super) fn new(number: u64, generation: u32, shard: usize, tier: u32, hashes: u64) -> Self {
        let lines = Filter::lines_for(hashes, bits_per_hash(tier));
        let about = MarkRun {
            generation,
            shard: number_of(shard),
            shards: number_of(SHARDS),
            tier,
            hashes: 0,
            blocks: u32::try_from(hashes.div_ceil(BLOCK_HASHES)).unwrap_or(u32::MAX).max(1),
            lines,
        };
        Self { number, about, next_block: 0, filter: Filter::new(lines) }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn generation(&self) -> u32 {
        self.about.generation
    }

    pub(super) fn shard(&self) -> usize {
        self.about.shard as usize
    }

    pub(super) fn is_complete(&self) -> bool {
        self.next_block == self.about.blocks
    }

    /// Where the next step ends.
    pub(super) fn step(&self) -> Step {
        let end = self.next_block.saturating_add(STEP_BLOCKS).min(self.about.blocks);
        Step { shard: self.shard(), blocks: self.about.blocks, end }
    }

    /// Takes the hashes of a step, sorted.
    pub(super) fn write(&mut self, step: Step, mut hashes: &[u128], batch: &mut Batch) {
        for hash in hashes {
            self.filter.insert(*hash);
        }
        self.about.hashes += hashes.len() as u64;
        while self.next_block < step.end {
            let in_block = |hash: &u128| block_of(*hash, step.blocks) == self.next_block;
            let (block, rest) = hashes.split_at(hashes.partition_point(in_block));
            let key = keys::mark_run(self.number, RunPart::Block, self.next_block);
            batch.put(Table::MarkRuns, key, encode_hashes(block));
            hashes = rest;
            self.next_block += 1;
        }
    }

    /// All blocks are written; the description is not.
    pub(super) fn finish(self, batch: &mut Batch) -> Run {
        for (row, number) in self.filter.rows().zip(0..) {
            batch.put(Table::MarkRuns, keys::mark_run(self.number, RunPart::Filter, number), row);
        }
        Run { number: self.number, about: self.about, filter: self.filter }
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

/// A run that is being merged with others.
#[derive(Debug)]
pub(super) struct Input {
    number: u64,
    about: MarkRun,
    next_block: u32,
    hashes: Vec<u128>,
    taken: usize,
}

impl Input {
    pub(super) fn new(run: &Run) -> Self {
        Self { number: run.number, about: run.about, next_block: 0, hashes: Vec::new(), taken: 0 }
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
            if self.taken < self.hashes.len() || self.next_block == self.about.blocks {
                return Ok(());
            }
            self.read_on(store)?;
        }
    }

    fn read_on(&mut self, store: &dyn Rows) -> Result<(), StoreError> {
        self.hashes.clear();
        self.taken = 0;
        let count = (self.about.blocks - self.next_block).min(STEP_BLOCKS);
        let first = keys::mark_run(self.number, RunPart::Block, self.next_block);
        let rows = store.scan(Table::MarkRuns, &first, count as usize)?;
        let end = self.next_block + count;
        for (key, row) in &rows {
            if **key != keys::mark_run(self.number, RunPart::Block, self.next_block) {
                break;
            }
            read_block(&self.about, self.next_block, row, &mut self.hashes)?;
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
fn read_block(about: &MarkRun, block: u32, row: &[u8], into: &mut Vec<u128>) -> Result<(), StoreError> {
    let before = into.len();
    into.extend(decode_hashes(row)?);
    let hashes = &into[before..];
    let is_own =
        |hash: &u128| shard_of(*hash) == about.shard as usize && block_of(*hash, about.blocks) == block;
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
