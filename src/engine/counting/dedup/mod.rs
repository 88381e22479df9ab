//! Which events were counted before: a log-structured merge tree (LSM tree) of hashes.
//!
//! The answer is exact. The tree is made for many: a dedup key costs 16 bytes in a row of the log, which it shares with
//! those of its commit, a place in the memtable, and later 12 to 16 bits of memory in the filter of a sorted run on disk.
//!
//! ```text
//!            +-> log: a row of each commit
//! dedup key -+
//!            +-> memtable -(full)-> immutable memtable -(flush)-> a run of each shard -(compaction)-> longer runs
//!                                                                 \_____ manifest: the runs that count _____/
//! ```
//!
//! A look-up asks the memtables, then the runs of the hash's shard. It reads a block of a run only where the run's filter
//! affirms.
//!
//! - `memtable`: a set of hashes. What is in it is in the log, too, until it is in runs. The log is the table `marks`.
//! - `run`: sorted runs of blocks, in the table `mark_runs`. The manifest has a row for each, among the meta rows.
//! - `filter`: says of most hashes that a run does not have them.
//! - `compaction`: flushes memtables and compacts runs, in steps, within commits. `obsolete` are the runs that it leaves.
//! - `load`: what a start finds; `verify`: what an audit of a whole folder looks through.
//!
//! Dedup keys are kept in generations, so that they expire by dropping a whole generation. A new one begins once the
//! current one is a sixth of the dedup window old; the oldest is dropped when no key in it can be younger than the
//! window. Not within two hours of the start, since applications resend after a down-time; and not before as many others
//! have passed as take a window, since a clock that is set forward makes all of them look old. What was counted since
//! the first generation that is left is known, whatever the clock does: `known_since` tells that moment.

mod compaction;
mod filter;
mod hashes;
mod load;
mod memtable;
mod obsolete;
mod run;
#[cfg(test)]
mod tests;
mod verify;

use std::{hint::black_box, mem, time::Duration};

use crate::{
    domain::time::Timestamp,
    store::{
        Batch, Rows, StoreError,
        tables::dedup::{DedupKeys, FirstGeneration},
    },
};

use compaction::Compaction;
use hashes::shard_of;
use memtable::{Immutable, Memtable};
use run::Run;

pub(crate) use verify::verify;

/// A generation is this part of the window.
const GENERATIONS_IN_WINDOW: u64 = 6;
/// Which may stay: those of a window, the one that is dropped last, and one that a step of the clock has cut short.
const MOST_GENERATIONS: usize = 8;
/// A memtable with more is flushed: with those of a large commit it still fits 16 MiB.
const MOST_IN_MEMTABLE: usize = if cfg!(test) { 7 } else { 600_000 };
/// The memtable of an earlier generation stays in memory if it has no more.
const MOST_KEPT: usize = if cfg!(test) { 2 } else { 10_000 };

/// So long after a start nothing is dropped: applications could not resend while the agent was away.
const KEPT_AFTER_START: Duration = Duration::from_hours(2);

#[derive(Debug)]
pub struct Dedup {
    window: Duration,
    started: Timestamp,
    /// The start of the first generation of which nothing was dropped; MIN while nothing ever was.
    known_since: Timestamp,
    /// Oldest first; the last one takes new dedup keys.
    generations: Vec<Generation>,
    compaction: Compaction,
    /// The number of the next row of the log.
    next_row: u64,
}

/// The dedup keys of a part of the window.
#[derive(Debug)]
struct Generation {
    /// The generation's first moment, in seconds.
    start: u32,
    memtable: Memtable,
    /// Those in the memtable that are not in the log yet, since their batch is being made.
    unwritten: Vec<u128>,
    immutable: Option<Immutable>,
    /// The runs of each shard, oldest first; no shards before the first run.
    shards: Vec<Vec<Run>>,
}

impl Dedup {
    fn new(window: Duration, started: Timestamp) -> Self {
        Self {
            window,
            started,
            known_since: Timestamp::MIN,
            generations: Vec::new(),
            compaction: Compaction::default(),
            next_row: 0,
        }
    }

    /// All that was counted from this moment on is known.
    pub(crate) const fn known_since(&self) -> Timestamp {
        self.known_since
    }

    /// Whether an event was counted. Knows also what was inserted since the last commit.
    pub fn contains(&self, store: &dyn Rows, hash: u128) -> Result<bool, StoreError> {
        for generation in self.generations.iter().rev() {
            if generation.contains(store, hash)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads what [`contains`](Self::contains) will look at in memory, all at once, so that the processor waits for
    /// it once. Changes nothing.
    pub fn prefetch(&self, hashes: impl IntoIterator<Item = u128>) {
        for hash in hashes {
            let mut touched = false;
            for generation in &self.generations {
                touched ^= generation.prefetch(hash);
            }
            black_box(touched);
        }
    }

    /// Inserts the dedup key of an event that was not counted. It is written by [`write`](Self::write), in the batch of
    /// the event's count.
    pub fn insert(&mut self, hash: u128, now: Timestamp) {
        self.current(now).insert(hash);
    }

    /// Puts the new dedup keys into the batch, and does the steps of flushing and compaction that are due. To be called
    /// once, when the batch is otherwise complete; nothing may be looked up between this and [`written`](Self::written).
    pub fn write(&mut self, store: &dyn Rows, batch: &mut Batch) -> Result<(), StoreError> {
        let inserted = self.write_log(batch);
        self.rotate();
        self.compaction.work(&self.generations, inserted, store, batch)
    }

    /// The batch is written: it is read from the store now.
    pub fn written(&mut self) {
        self.compaction.install(&mut self.generations);
    }

    pub fn drop_expired(&mut self, now: Timestamp, batch: &mut Batch) {
        if now < self.started.plus(self.window.min(KEPT_AFTER_START)) {
            return;
        }
        if !self.generations.is_empty() {
            // Also without new dedup keys, so that those there are get old.
            self.current(now);
        }
        while self.generations.len() > MOST_GENERATIONS
            && let [oldest, successor, ..] = &self.generations[..]
        {
            if now < starts_at(successor.start).plus(self.window) {
                return;
            }
            self.compaction.drop_generation(oldest, batch);
            batch.put(FirstGeneration, (), &successor.start);
            self.known_since = starts_at(successor.start);
            self.generations.remove(0);
        }
    }

    /// Says how many dedup keys are new.
    fn write_log(&mut self, batch: &mut Batch) -> usize {
        let mut inserted = 0;
        for generation in self.generations.iter_mut().filter(|generation| !generation.unwritten.is_empty()) {
            let hashes = mem::take(&mut generation.unwritten);
            batch.put(DedupKeys, (generation.start, self.next_row), &hashes);
            self.next_row += 1;
            inserted += hashes.len();
        }
        inserted
    }

    /// Makes full memtables immutable, and those of earlier generations that are not small.
    fn rotate(&mut self) {
        let last = self.generations.len().saturating_sub(1);
        for (index, generation) in self.generations.iter_mut().enumerate() {
            let most = if index == last { MOST_IN_MEMTABLE } else { MOST_KEPT };
            if generation.immutable.is_none() && generation.memtable.len() > most {
                let memtable = mem::take(&mut generation.memtable);
                generation.immutable = Some(Immutable { memtable, rows_end: self.next_row });
            }
        }
    }

    /// The generation that takes dedup keys now. A clock that steps back begins no new one.
    fn current(&mut self, now: Timestamp) -> &mut Generation {
        let is_current =
            |generation: &Generation| now < starts_at(generation.start).plus(span_of(self.window));
        if !self.generations.last().is_some_and(is_current) {
            let seconds = u32::try_from(now.seconds()).unwrap_or_default();
            let last = self.generations.last();
            let start = last.map_or(seconds, |last| seconds.max(last.start.saturating_add(1)));
            self.generations.push(Generation::new(start));
        }
        let last = self.generations.len() - 1;
        &mut self.generations[last]
    }
}

impl Generation {
    fn new(start: u32) -> Self {
        Self {
            start,
            memtable: Memtable::default(),
            unwritten: Vec::new(),
            immutable: None,
            shards: Vec::new(),
        }
    }

    fn contains(&self, store: &dyn Rows, hash: u128) -> Result<bool, StoreError> {
        if self.memtable.contains(hash)
            || self.immutable.as_ref().is_some_and(|immutable| immutable.memtable.contains(hash))
        {
            return Ok(true);
        }
        for run in self.shards.get(shard_of(hash)).into_iter().flatten() {
            if run.may_contain(hash) && run.contains(store, hash)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn prefetch(&self, hash: u128) -> bool {
        let runs = self.shards.get(shard_of(hash)).into_iter().flatten();
        let immutable = self.immutable.as_ref().is_some_and(|immutable| immutable.memtable.prefetch(hash));
        runs.fold(self.memtable.prefetch(hash) ^ immutable, |touched, run| touched ^ run.prefetch(hash))
    }

    fn insert(&mut self, hash: u128) {
        if self.memtable.insert(hash) {
            self.unwritten.push(hash);
        }
    }
}

fn starts_at(generation: u32) -> Timestamp {
    Timestamp::from_seconds(generation.into())
}

/// How long a generation takes dedup keys: whole seconds, as its successor starts at one.
fn span_of(window: Duration) -> Duration {
    let millis = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
    Duration::from_secs(millis.div_ceil(1000 * GENERATIONS_IN_WINDOW).max(1))
}
