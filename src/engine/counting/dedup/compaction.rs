//! Flushes memtables to sorted runs, and compacts runs to fewer and longer ones.
//!
//! It is done in steps, within commits, about in proportion to what is inserted: so it never falls behind, and no commit
//! waits for more of it than for its own dedup keys. One job ends before the next one begins, so that the numbers of the
//! rows only grow, and RocksDB never has to sort them.
//!
//! What a step writes can be read only once its batch is written: until [`Compaction::install`], a job that is done
//! changes nothing for look-ups, and no other job works on the same shard.

use std::{collections::BTreeSet, mem, slice};

use super::{
    Generation,
    hashes::SHARDS,
    memtable::Immutable,
    obsolete::ObsoleteRuns,
    run::{Input, Run, Writer},
};
use crate::store::{
    Batch, Rows, StoreError,
    tables::dedup::{DedupKeys, FirstRows, RunManifest},
};

/// How many runs of a tier become one of the next.
const FAN_IN: usize = if cfg!(test) { 3 } else { 4 };
/// How many dedup keys are written again for each new one, at most. Each is written about four times in all.
const PACE: i64 = 6;
/// The least work in each commit, however small the commit.
const LEAST: i64 = if cfg!(test) { 2 } else { 256 };
/// The cost of a step beside that of its dedup keys.
const STEP_COST: i64 = if cfg!(test) { 1 } else { 100 };

#[derive(Debug, Default)]
pub(super) struct Compaction {
    job: Option<Job>,
    /// Done in the batch that is being made.
    done: Vec<Done>,
    pub(super) obsolete: ObsoleteRuns,
    pub(super) next_run: u64,
    credit: i64,
}

#[derive(Debug)]
enum Job {
    Flush { slot: usize, writer: Writer, runs: Vec<Run> },
    Compact { keep: usize, inputs: Vec<Input>, writer: Writer },
}

#[derive(Debug)]
enum Done {
    Flushed { generation: u32, runs: Vec<Run> },
    Compacted { keep: usize, run: Run },
}

impl Compaction {
    /// Does what is due after so many new dedup keys.
    pub(super) fn work(
        &mut self,
        generations: &[Generation],
        inserted: usize,
        store: &dyn Rows,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let due = i64::try_from(inserted).unwrap_or(i64::MAX).saturating_mul(PACE);
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
        if self.obsolete.are_many() {
            self.obsolete.sweep(&self.in_use(generations));
        }
        self.obsolete.discard_some(batch);
        Ok(())
    }

    /// The batch is written: what was done in it counts.
    pub(super) fn install(&mut self, generations: &mut [Generation]) {
        for done in mem::take(&mut self.done) {
            match done {
                Done::Flushed { generation, runs } => {
                    let Some(generation) = find(generations, generation) else { continue };
                    generation.immutable = None;
                    generation.shards.resize_with(SHARDS, Vec::new);
                    for (runs_of_shard, run) in generation.shards.iter_mut().zip(runs) {
                        runs_of_shard.push(run);
                    }
                }
                Done::Compacted { keep, run } => {
                    let Some(generation) = find(generations, run.manifest.generation) else { continue };
                    let runs = &mut generation.shards[run.manifest.shard as usize];
                    self.obsolete.extend(runs.drain(keep..).map(|run| run.number));
                    runs.push(run);
                }
            }
        }
    }

    /// Drops the runs and the log of a generation that has expired.
    pub(super) fn drop_generation(&mut self, expired: &Generation, batch: &mut Batch) {
        if self.job.as_ref().is_some_and(|job| job.writer().generation() == expired.start) {
            let job = self.job.take();
            self.obsolete.extend(job.iter().flat_map(Job::numbers));
        }
        for run in expired.shards.iter().flatten() {
            Run::unlist(run.number, batch);
            self.obsolete.insert(run.number);
        }
        batch.delete(FirstRows, expired.start);
        batch.discard(DedupKeys, (0, 0), (expired.start, u64::MAX));
    }

    /// The numbers of all runs that a look-up or a job needs.
    fn in_use(&self, generations: &[Generation]) -> BTreeSet<u64> {
        let runs = generations.iter().flat_map(|generation| generation.shards.iter().flatten());
        let mut in_use: BTreeSet<u64> = runs.map(|run| run.number).collect();
        in_use.extend(self.job.iter().flat_map(Job::numbers));
        in_use.extend(self.done.iter().flat_map(Done::numbers));
        in_use
    }

    /// A full memtable first, since it takes memory; then the shard of the oldest generation that has too many runs.
    fn next_job(&mut self, generations: &[Generation]) -> Option<Job> {
        if self.done.iter().any(|done| matches!(done, Done::Flushed { .. })) {
            return None;
        }
        for generation in generations {
            if let Some(immutable) = &generation.immutable {
                let writer = self.shard_writer(generation.start, 0, immutable);
                return Some(Job::Flush { slot: 0, writer, runs: Vec::new() });
            }
        }
        let current = generations.last().map(|generation| generation.start);
        for generation in generations {
            let is_current = Some(generation.start) == current;
            for (shard, runs) in generation.shards.iter().enumerate() {
                let Some((keep, tier)) = due_compaction(runs, shard, is_current) else { continue };
                if !self.is_busy(generation.start, shard) {
                    return Some(self.compact(generation.start, shard, keep, tier, runs));
                }
            }
        }
        None
    }

    fn shard_writer(&mut self, generation: u32, shard: usize, immutable: &Immutable) -> Writer {
        let hashes = (immutable.memtable.len() / SHARDS + 1) as u64;
        Writer::new(self.take_number(), generation, shard, 0, hashes)
    }

    fn compact(&mut self, generation: u32, shard: usize, keep: usize, tier: u32, runs: &[Run]) -> Job {
        let inputs = &runs[keep..];
        let hashes = inputs.iter().map(|run| run.manifest.hashes).sum();
        let writer = Writer::new(self.take_number(), generation, shard, tier, hashes);
        Job::Compact { keep, inputs: inputs.iter().map(Input::new).collect(), writer }
    }

    fn is_busy(&self, generation: u32, shard: usize) -> bool {
        self.done.iter().any(|done| match done {
            Done::Flushed { .. } => true,
            Done::Compacted { run, .. } => {
                run.manifest.generation == generation && run.manifest.shard as usize == shard
            }
        })
    }

    fn take_number(&mut self) -> u64 {
        let number = self.next_run;
        self.next_run += 1;
        number
    }

    /// The rest of a job after a step.
    fn finish(&mut self, job: Job, generations: &[Generation], batch: &mut Batch) -> Option<Job> {
        if !job.writer().is_complete() {
            return Some(job);
        }
        match job {
            Job::Compact { keep, inputs, writer } => {
                let run = writer.finish(batch);
                run.list(batch);
                for input in &inputs {
                    Run::unlist(input.number(), batch);
                }
                self.done.push(Done::Compacted { keep, run });
                None
            }
            Job::Flush { slot, writer, mut runs } => {
                let generation = writer.generation();
                runs.push(writer.finish(batch));
                let immutable = immutable(generations, generation)?;
                if runs.len() < SHARDS {
                    let writer = self.shard_writer(generation, runs.len(), immutable);
                    return Some(Job::Flush { slot, writer, runs });
                }
                for run in &runs {
                    run.list(batch);
                }
                let end = immutable.rows_end;
                batch.put(FirstRows, generation, &end);
                let last = end.saturating_sub(1);
                batch.discard(DedupKeys, (generation, 0), (generation, last));
                self.done.push(Done::Flushed { generation, runs });
                None
            }
        }
    }
}

impl Job {
    /// Writes some blocks; says how many dedup keys are in them.
    fn step(
        &mut self,
        generations: &[Generation],
        store: &dyn Rows,
        batch: &mut Batch,
    ) -> Result<usize, StoreError> {
        let step = self.writer().step();
        let mut hashes = Vec::new();
        let writer = match self {
            Self::Flush { slot, writer, .. } => {
                if let Some(immutable) = immutable(generations, writer.generation()) {
                    let rest = immutable.memtable.in_order(*slot);
                    for (next, hash) in rest.take_while(|(_, hash)| step.takes(*hash)) {
                        hashes.push(hash);
                        *slot = next;
                    }
                }
                writer
            }
            Self::Compact { inputs, writer, .. } => {
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
            Self::Flush { writer, .. } | Self::Compact { writer, .. } => writer,
        }
    }

    /// The runs that it has begun.
    fn numbers(&self) -> impl Iterator<Item = u64> {
        let finished = match self {
            Self::Flush { runs, .. } => &runs[..],
            Self::Compact { .. } => &[],
        };
        finished.iter().map(|run| run.number).chain([self.writer().number()])
    }
}

impl Done {
    fn numbers(&self) -> impl Iterator<Item = u64> {
        let runs = match self {
            Self::Flushed { runs, .. } => &runs[..],
            Self::Compacted { run, .. } => slice::from_ref(run),
        };
        runs.iter().map(|run| run.number)
    }
}

/// Puts stretches that are in order themselves in order.
#[expect(clippy::stable_sort_primitive, reason = "only the stable sort knows what is in order already")]
fn merge_sorted(hashes: &mut [u128]) {
    hashes.sort();
}

/// Whether a shard's runs, oldest first, are to be compacted: from which one on, and to which tier.
///
/// It is always the latest runs, and all of them. A generation that takes no more dedup keys ends with one run in each
/// shard.
fn due_compaction(runs: &[Run], shard: usize, is_current: bool) -> Option<(usize, u32)> {
    if !is_current {
        return (runs.len() > 1).then_some((0, RunManifest::LAST_TIER));
    }
    let (mut keep, mut tier) = (runs.len(), 0);
    loop {
        let kept = &runs[..keep];
        let first = kept.iter().rposition(|run| run.manifest.tier > tier).map_or(0, |above| above + 1);
        let made = usize::from(tier > 0);
        if keep - first + made < fan_in(tier, shard, first == 0) {
            return (tier > 0).then_some((keep, tier));
        }
        keep = first;
        tier += 1;
    }
}

/// Shards take turns: the first compaction of each comes at another time.
fn fan_in(tier: u32, shard: usize, is_first: bool) -> usize {
    let turn = if is_first { shard / FAN_IN.pow(tier.min(9)) % FAN_IN } else { 0 };
    (FAN_IN - turn).max(2)
}

fn immutable(generations: &[Generation], start: u32) -> Option<&Immutable> {
    generations.iter().find(|generation| generation.start == start)?.immutable.as_ref()
}

fn find(generations: &mut [Generation], start: u32) -> Option<&mut Generation> {
    generations.iter_mut().find(|generation| generation.start == start)
}
