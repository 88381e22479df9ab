//! Which events were counted before.
//!
//! Exact, and made for many: a marker costs 16 bytes in a row that it shares with those of its commit, a place in a set
//! in memory, and later 12 to 16 bits of memory in the filter of a sorted run on disk.
//!
//! ```text
//! mark -> row of the commit, set in memory -(full)-> run of each shard -(several)-> longer runs
//! ```
//!
//! - `sorted`: the set. What is in it is also in rows of the table `marks`, until it is in runs.
//! - `run`: sorted runs in the table `mark_runs`. A look-up reads a row only where the run's `filter` affirms.
//! - `upkeep`: writes and merges runs, in steps, within commits.
//! - `load`: what a start finds.
//!
//! Markers are kept in generations, so that they expire by dropping a whole generation. A new one begins once the
//! current one is a sixth of the dedup window old; the oldest is dropped when no marker in it can be younger than the
//! window. Not within a window of the start, since applications resend after a down-time; and not before as many others
//! have passed as take a window, since a clock that is set forward makes all of them look old.

mod filter;
mod hashes;
mod load;
mod run;
mod sorted;
#[cfg(test)]
mod tests;
mod upkeep;

use std::{hint::black_box, mem, time::Duration};

use crate::{
    domain::time::Timestamp,
    worlds::store::{
        Batch, Rows, StoreError, Table, keys,
        values::{Number, encode, encode_hashes},
    },
};

use hashes::shard_of;
use run::Run;
use sorted::Sorted;
use upkeep::{Frozen, Upkeep};

/// A generation is this part of the window.
const GENERATIONS_IN_WINDOW: u64 = 6;
/// Which may stay: those of a window, the one that is dropped last, and one that a step of the clock has cut short.
const MOST_GENERATIONS: usize = 8;
/// With so many markers the set in memory goes to disk: with those of a large commit it still fits 16 MiB.
const MOST_FRESH: usize = if cfg!(test) { 7 } else { 600_000 };
/// An earlier generation with so few markers stays in memory.
const MOST_KEPT: usize = if cfg!(test) { 2 } else { 10_000 };

#[derive(Debug)]
pub struct Dedup {
    window: Duration,
    started: Timestamp,
    /// Oldest first; the last one takes the markers.
    generations: Vec<Generation>,
    upkeep: Upkeep,
    /// The number of the next row of markers.
    next_mark: u64,
}

/// The markers of a part of the window.
#[derive(Debug)]
struct Generation {
    /// In seconds.
    start: u32,
    /// Those that are in no run.
    fresh: Sorted,
    /// Those that are in no row either, since their batch is being made.
    unwritten: Vec<u128>,
    frozen: Option<Frozen>,
    /// Of each shard, oldest first; none at all before the first one.
    shards: Vec<Vec<Run>>,
}

impl Dedup {
    fn new(window: Duration, started: Timestamp) -> Self {
        Self { window, started, generations: Vec::new(), upkeep: Upkeep::default(), next_mark: 0 }
    }

    /// Whether an event was marked. Knows also what was marked since the last commit.
    pub fn is_marked(&self, store: &dyn Rows, hash: u128) -> Result<bool, StoreError> {
        for generation in self.generations.iter().rev() {
            if generation.has(store, hash)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Reads what [`is_marked`](Self::is_marked) will look at in memory, all at once, so that the processor waits for
    /// it once. Changes nothing.
    pub fn expect(&self, hashes: impl IntoIterator<Item = u128>) {
        for hash in hashes {
            let mut touched = false;
            for generation in &self.generations {
                touched ^= generation.touch(hash);
            }
            black_box(touched);
        }
    }

    /// Marks an event that is not marked. It is to be written by [`flush`](Self::flush), in the batch of its count.
    pub fn mark(&mut self, hash: u128, now: Timestamp) {
        self.current(now).mark(hash);
    }

    /// Puts the new markers into the batch, and does some upkeep. To be called once, when the batch is otherwise
    /// complete; nothing may be looked up between this and [`written`](Self::written).
    pub fn flush(&mut self, store: &dyn Rows, batch: &mut Batch) -> Result<(), StoreError> {
        let marked = self.write(batch);
        self.freeze();
        self.upkeep.work(&self.generations, marked, store, batch)
    }

    /// The batch is written: it is read from the store now.
    pub fn written(&mut self) {
        self.upkeep.settle(&mut self.generations);
    }

    pub fn drop_expired(&mut self, now: Timestamp, batch: &mut Batch) {
        if now < self.started.plus(self.window) {
            return;
        }
        if !self.generations.is_empty() {
            // Also without new markers, so that those there are get old.
            self.current(now);
        }
        while self.generations.len() > MOST_GENERATIONS
            && let [oldest, successor, ..] = &self.generations[..]
        {
            if now < starts_at(successor.start).plus(self.window) {
                return;
            }
            self.upkeep.drop_generation(oldest, batch);
            batch.put(Table::Meta, keys::FIRST_GENERATION, encode(&Number(successor.start.into())));
            self.generations.remove(0);
        }
    }

    fn write(&mut self, batch: &mut Batch) -> usize {
        let mut marked = 0;
        for generation in self.generations.iter_mut().filter(|generation| !generation.unwritten.is_empty()) {
            let hashes = mem::take(&mut generation.unwritten);
            let key = keys::mark(generation.start, self.next_mark);
            batch.put(Table::Marks, key, encode_hashes(&hashes));
            self.next_mark += 1;
            marked += hashes.len();
        }
        marked
    }

    /// Takes full sets out of use, and those of earlier generations that are not small.
    fn freeze(&mut self) {
        let last = self.generations.len().saturating_sub(1);
        for (place, generation) in self.generations.iter_mut().enumerate() {
            let most = if place == last { MOST_FRESH } else { MOST_KEPT };
            if generation.frozen.is_none() && generation.fresh.len() > most {
                let set = mem::take(&mut generation.fresh);
                generation.frozen = Some(Frozen { set, marks_end: self.next_mark });
            }
        }
    }

    /// The generation that takes markers now. A clock that steps back begins no new one.
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
        Self { start, fresh: Sorted::default(), unwritten: Vec::new(), frozen: None, shards: Vec::new() }
    }

    fn has(&self, store: &dyn Rows, hash: u128) -> Result<bool, StoreError> {
        if self.fresh.contains(hash) || self.frozen.as_ref().is_some_and(|frozen| frozen.set.contains(hash)) {
            return Ok(true);
        }
        for run in self.shards.get(shard_of(hash)).into_iter().flatten() {
            if run.may_have(hash) && run.has(store, hash)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn touch(&self, hash: u128) -> bool {
        let runs = self.shards.get(shard_of(hash)).into_iter().flatten();
        let frozen = self.frozen.as_ref().is_some_and(|frozen| frozen.set.touch(hash));
        runs.fold(self.fresh.touch(hash) ^ frozen, |touched, run| touched ^ run.touch(hash))
    }

    fn mark(&mut self, hash: u128) {
        if self.fresh.insert(hash) {
            self.unwritten.push(hash);
        }
    }
}

fn starts_at(generation: u32) -> Timestamp {
    Timestamp::from_seconds(generation.into())
}

/// How long a generation takes markers: whole seconds, as its successor starts at one.
fn span_of(window: Duration) -> Duration {
    let millis = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
    Duration::from_secs(millis.div_ceil(1000 * GENERATIONS_IN_WINDOW).max(1))
}
