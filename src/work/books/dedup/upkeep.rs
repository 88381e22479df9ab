//! Keeps markers findable: a full set becomes sorted runs, and runs become fewer and longer ones.
//!
//! It is done in steps, within commits, about in proportion to what is marked: so it never falls behind, and no commit
//! waits for more of it than for its own markers. One job ends before the next one begins, so that the numbers of the
//! rows only grow, and RocksDB never has to sort them.
//!
//! What a step writes can be read only once its batch is written: until [`Upkeep::settle`], a job that is done changes
//! nothing for look-ups, and no other job works on the same shard.

use std::{collections::BTreeSet, mem, slice};

use super::{
    Generation,
    hashes::SHARDS,
    run::{Input, Run, Writer},
    sorted::Sorted,
};
use crate::worlds::store::{
    Batch, Rows, StoreError, Table,
    keys::{self, RunPart},
    values::{MarkRun, Number, encode},
};

/// How many runs of a tier become one of the next.
const FAN_IN: usize = if cfg!(test) { 3 } else { 4 };
/// How many markers are written again for each new one, at most. Each is written about four times in all.
const PACE: i64 = 6;
/// What is done in each commit, however small.
const LEAST: i64 = if cfg!(test) { 2 } else { 256 };
/// What a step costs beside its markers.
const STEP_COST: i64 = if cfg!(test) { 1 } else { 100 };
/// Runs that are not needed any more are discarded when there are so many more of them.
const SWEEP_AT: usize = if cfg!(test) { 4 } else { 64 };
/// Fewer in a row hardly make a file.
const LEAST_DEAD: u64 = if cfg!(test) { 1 } else { 16 };

#[derive(Debug, Default)]
pub(super) struct Upkeep {
    job: Option<Job>,
    /// Done in the batch that is being made.
    done: Vec<Done>,
    /// The runs that no look-up needs, of which there may be rows on disk.
    pub(super) dead: BTreeSet<u64>,
    dead_at_sweep: usize,
    /// Numbers of runs to be discarded, from one to another.
    discards: Vec<(u64, u64)>,
    pub(super) next_run: u64,
    credit: i64,
}

/// A set that takes no more markers, on its way to disk.
#[derive(Debug)]
pub(super) struct Frozen {
    pub(super) set: Sorted,
    /// Its markers are in the rows with lower numbers.
    pub(super) marks_end: u64,
}

#[derive(Debug)]
enum Job {
    Freeze { slot: usize, writer: Writer, runs: Vec<Run> },
    Merge { keep: usize, inputs: Vec<Input>, writer: Writer },
}

#[derive(Debug)]
enum Done {
    Frozen { generation: u32, runs: Vec<Run> },
    Merged { keep: usize, run: Run },
}

impl Upkeep {
    /// Does what is due after so many new markers.
    pub(super) fn work(
        &mut self,
        generations: &[Generation],
        marked: usize,
        store: &dyn Rows,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let due = i64::try_from(marked).unwrap_or(i64::MAX).saturating_mul(PACE);
        self.credit = self.credit.saturating_add(due).saturating_add(LEAST);
        while self.credit > 0 {
            let Some(mut job) = self.job.take().or_else(|| self.next_job(generations)) else {
                self.credit = 0;
                break;
            };
            let written = job.step(generations, store, batch)?;
            self.credit -= i64::try_from(written).unwrap_or(i64::MAX).saturating_add(STEP_COST);
            self.job = self.finish(job, generations, batch);
        }
        if self.dead.len() >= self.dead_at_sweep + SWEEP_AT {
            self.sweep(generations);
        }
        // One at a time: the store changes its list of files for each.
        if let Some((first, last)) = self.discards.pop() {
            let first = keys::mark_run(first, RunPart::Block, 0);
            batch.discard(Table::MarkRuns, first, keys::mark_run_end(last));
        }
        Ok(())
    }

    /// The batch is written: what was done in it counts.
    pub(super) fn settle(&mut self, generations: &mut [Generation]) {
        for done in mem::take(&mut self.done) {
            match done {
                Done::Frozen { generation, runs } => {
                    let Some(generation) = find(generations, generation) else { continue };
                    generation.frozen = None;
                    generation.shards.resize_with(SHARDS, Vec::new);
                    for (runs_of_shard, run) in generation.shards.iter_mut().zip(runs) {
                        runs_of_shard.push(run);
                    }
                }
                Done::Merged { keep, run } => {
                    let Some(generation) = find(generations, run.about.generation) else { continue };
                    let runs = &mut generation.shards[run.about.shard as usize];
                    self.dead.extend(runs.drain(keep..).map(|run| run.number));
                    runs.push(run);
                }
            }
        }
    }

    /// Forgets a generation that has expired.
    pub(super) fn drop_generation(&mut self, expired: &Generation, batch: &mut Batch) {
        if self.job.as_ref().is_some_and(|job| job.writer().generation() == expired.start) {
            let job = self.job.take();
            self.dead.extend(job.iter().flat_map(Job::numbers));
        }
        for run in expired.shards.iter().flatten() {
            Run::forget(run.number, batch);
            self.dead.insert(run.number);
        }
        batch.delete(Table::Meta, keys::first_mark(expired.start));
        batch.discard(Table::Marks, keys::mark(0, 0), keys::mark(expired.start, u64::MAX));
    }

    /// Finds stretches of dead runs, together with those that were discarded before: the files at the ends of a
    /// stretch can go only with what is next to it.
    fn sweep(&mut self, generations: &[Generation]) {
        let runs = generations.iter().flat_map(|generation| generation.shards.iter().flatten());
        let mut alive: BTreeSet<u64> = runs.map(|run| run.number).collect();
        alive.extend(self.job.iter().flat_map(Job::numbers));
        alive.extend(self.done.iter().flat_map(Done::numbers));
        let mut kept = BTreeSet::new();
        let mut dead = mem::take(&mut self.dead).into_iter().peekable();
        while let Some(first) = dead.next() {
            let before = alive.range(..first).next_back().map_or(0, |alive| alive + 1);
            let after = alive.range(first..).next().copied();
            let mut stretch = vec![first];
            while let Some(next) = dead.next_if(|next| after.is_none_or(|after| *next < after)) {
                stretch.push(next);
            }
            let end = after.unwrap_or_else(|| stretch.last().map_or(first, |last| last + 1));
            let last = end - 1;
            if last - before + 1 >= LEAST_DEAD {
                self.discards.push((before, last));
            } else {
                kept.extend(stretch);
            }
        }
        self.dead = kept;
        self.dead_at_sweep = self.dead.len();
    }

    /// A full set first, since it takes memory; then the shard of the oldest generation that has too many runs.
    fn next_job(&mut self, generations: &[Generation]) -> Option<Job> {
        if self.done.iter().any(|done| matches!(done, Done::Frozen { .. })) {
            return None;
        }
        for generation in generations {
            if let Some(frozen) = &generation.frozen {
                let writer = self.frozen_shard(generation.start, 0, frozen);
                return Some(Job::Freeze { slot: 0, writer, runs: Vec::new() });
            }
        }
        let current = generations.last().map(|generation| generation.start);
        for generation in generations {
            let is_current = Some(generation.start) == current;
            for (shard, runs) in generation.shards.iter().enumerate() {
                let Some((keep, tier)) = too_many(runs, shard, is_current) else { continue };
                if !self.is_busy(generation.start, shard) {
                    return Some(self.merge(generation.start, shard, keep, tier, runs));
                }
            }
        }
        None
    }

    fn frozen_shard(&mut self, generation: u32, shard: usize, frozen: &Frozen) -> Writer {
        let hashes = (frozen.set.len() / SHARDS + 1) as u64;
        Writer::new(self.take_number(), generation, shard, 0, hashes)
    }

    fn merge(&mut self, generation: u32, shard: usize, keep: usize, tier: u32, runs: &[Run]) -> Job {
        let merged = &runs[keep..];
        let hashes = merged.iter().map(|run| run.about.hashes).sum();
        let writer = Writer::new(self.take_number(), generation, shard, tier, hashes);
        Job::Merge { keep, inputs: merged.iter().map(Input::new).collect(), writer }
    }

    fn is_busy(&self, generation: u32, shard: usize) -> bool {
        self.done.iter().any(|done| match done {
            Done::Frozen { .. } => true,
            Done::Merged { run, .. } => {
                run.about.generation == generation && run.about.shard as usize == shard
            }
        })
    }

    fn take_number(&mut self) -> u64 {
        let number = self.next_run;
        self.next_run += 1;
        number
    }

    /// What is left of a job after a step.
    fn finish(&mut self, job: Job, generations: &[Generation], batch: &mut Batch) -> Option<Job> {
        if !job.writer().is_complete() {
            return Some(job);
        }
        match job {
            Job::Merge { keep, inputs, writer } => {
                let run = writer.finish(batch);
                run.describe(batch);
                for input in &inputs {
                    Run::forget(input.number(), batch);
                }
                self.done.push(Done::Merged { keep, run });
                None
            }
            Job::Freeze { slot, writer, mut runs } => {
                let generation = writer.generation();
                runs.push(writer.finish(batch));
                let frozen = frozen(generations, generation)?;
                if runs.len() < SHARDS {
                    let writer = self.frozen_shard(generation, runs.len(), frozen);
                    return Some(Job::Freeze { slot, writer, runs });
                }
                for run in &runs {
                    run.describe(batch);
                }
                let end = frozen.marks_end;
                batch.put(Table::Meta, keys::first_mark(generation), encode(&Number(end.into())));
                let last = end.saturating_sub(1);
                batch.discard(Table::Marks, keys::mark(generation, 0), keys::mark(generation, last));
                self.done.push(Done::Frozen { generation, runs });
                None
            }
        }
    }
}

impl Job {
    /// Writes some blocks; says how many markers are in them.
    fn step(
        &mut self,
        generations: &[Generation],
        store: &dyn Rows,
        batch: &mut Batch,
    ) -> Result<usize, StoreError> {
        let step = self.writer().step();
        let mut hashes = Vec::new();
        let writer = match self {
            Self::Freeze { slot, writer, .. } => {
                if let Some(frozen) = frozen(generations, writer.generation()) {
                    let rest = frozen.set.in_order(*slot);
                    for (next, hash) in rest.take_while(|(_, hash)| step.takes(*hash)) {
                        hashes.push(hash);
                        *slot = next;
                    }
                }
                writer
            }
            Self::Merge { inputs, writer, .. } => {
                for input in inputs {
                    input.take(store, step, &mut hashes)?;
                }
                merge_sorted(&mut hashes);
                hashes.dedup();
                writer
            }
        };
        writer.write(step, &hashes, batch);
        Ok(hashes.len())
    }

    fn writer(&self) -> &Writer {
        match self {
            Self::Freeze { writer, .. } | Self::Merge { writer, .. } => writer,
        }
    }

    /// The runs that it has begun.
    fn numbers(&self) -> impl Iterator<Item = u64> {
        let finished = match self {
            Self::Freeze { runs, .. } => &runs[..],
            Self::Merge { .. } => &[],
        };
        finished.iter().map(|run| run.number).chain([self.writer().number()])
    }
}

impl Done {
    fn numbers(&self) -> impl Iterator<Item = u64> {
        let runs = match self {
            Self::Frozen { runs, .. } => &runs[..],
            Self::Merged { run, .. } => slice::from_ref(run),
        };
        runs.iter().map(|run| run.number)
    }
}

/// Puts stretches that are in order themselves in order.
#[expect(clippy::stable_sort_primitive, reason = "only the stable sort knows what is in order already")]
fn merge_sorted(hashes: &mut [u128]) {
    hashes.sort();
}

/// Whether a shard's runs, oldest first, are to be merged: from which one on, and to which tier.
///
/// Runs that are merged are always the latest ones, and all of them. A generation that takes no more markers ends with one run in each shard.
fn too_many(runs: &[Run], shard: usize, is_current: bool) -> Option<(usize, u32)> {
    if !is_current {
        return (runs.len() > 1).then_some((0, MarkRun::LAST_TIER));
    }
    let (mut keep, mut tier) = (runs.len(), 0);
    loop {
        let kept = &runs[..keep];
        let first = kept.iter().rposition(|run| run.about.tier > tier).map_or(0, |above| above + 1);
        let made = usize::from(tier > 0);
        if keep - first + made < fan_in(tier, shard, first == 0) {
            return (tier > 0).then_some((keep, tier));
        }
        keep = first;
        tier += 1;
    }
}

/// Shards take turns: the first merge of each comes at another time.
fn fan_in(tier: u32, shard: usize, is_first: bool) -> usize {
    let turn = if is_first { shard / FAN_IN.pow(tier.min(9)) % FAN_IN } else { 0 };
    (FAN_IN - turn).max(2)
}

fn frozen(generations: &[Generation], start: u32) -> Option<&Frozen> {
    generations.iter().find(|generation| generation.start == start)?.frozen.as_ref()
}

fn find(generations: &mut [Generation], start: u32) -> Option<&mut Generation> {
    generations.iter_mut().find(|generation| generation.start == start)
}
