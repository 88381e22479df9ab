//! What a start finds on disk: the manifest, the runs' filters, and the log's rows that no flush has put in runs. The
//! blocks of runs are not read.

use std::time::Duration;

use super::{Dedup, Generation, hashes::SHARDS, run::Run, starts_at};
use crate::{
    domain::time::Timestamp,
    store::{
        ReadTable, Rows, StoreError, Table,
        tables::dedup::{
            DedupKeys, FirstGeneration, FirstRows, RunBlocks, RunKey, RunManifests, hashes_in, run_of,
        },
    },
};

impl Dedup {
    pub fn load(store: &dyn Rows, window: Duration, started: Timestamp) -> Result<Self, StoreError> {
        let mut dedup = Self::new(window, started);
        dedup.load_runs(store)?;
        dedup.load_log(store)?;
        Ok(dedup)
    }

    fn load_runs(&mut self, store: &dyn Rows) -> Result<(), StoreError> {
        self.find_obsolete_runs(store)?;
        for (number, manifest) in store.all(RunManifests)? {
            self.compaction.obsolete.remove(number);
            let run = Run::load(store, number, manifest)?;
            let generation = self.generation(manifest.generation);
            generation.shards.resize_with(SHARDS, Vec::new);
            generation.shards[manifest.shard as usize].push(run);
        }
        Ok(())
    }

    /// Takes all runs that have rows for obsolete, at the cost of a seek each.
    fn find_obsolete_runs(&mut self, store: &dyn Rows) -> Result<(), StoreError> {
        let rows_of = |run| RunBlocks::encode_key(RunKey { run, number: 0 });
        let mut from = rows_of(0);
        while let Some((key, _)) = store.scan(RunBlocks::ID, &from, 1)?.first() {
            let number = run_of(key).ok_or_else(strange_key)?;
            self.compaction.obsolete.insert(number);
            self.compaction.next_run = number.checked_add(1).ok_or_else(strange_key)?;
            from = rows_of(self.compaction.next_run);
        }
        Ok(())
    }

    fn load_log(&mut self, store: &dyn Rows) -> Result<(), StoreError> {
        let first_generation = store.find(FirstGeneration, ())?.unwrap_or_default();
        if first_generation > 0 {
            self.known_since = starts_at(first_generation);
        }
        for generation in &self.generations {
            // Even if none of its rows is left: a lower number would not count.
            self.next_row = self.next_row.max(first_row(store, generation.start)?);
        }
        let mut current = (0, 0);
        store.visit(DedupKeys::ID, &[], &mut |key, row| {
            let (generation, number) = DedupKeys::decode_key(key)?;
            self.next_row = self.next_row.max(number.checked_add(1).ok_or_else(strange_key)?);
            if generation != current.0 {
                current = (generation, first_row(store, generation)?);
            }
            if generation < first_generation || number < current.1 {
                // It has expired, or is in a run.
                return Ok(());
            }
            let generation = self.generation(generation);
            for hash in hashes_in(row).map_err(unreadable)? {
                generation.memtable.insert(hash);
            }
            Ok(())
        })
    }

    /// The generation that starts then, which may be new.
    fn generation(&mut self, start: u32) -> &mut Generation {
        let found = self.generations.binary_search_by_key(&start, |generation| generation.start);
        let index = found.unwrap_or_else(|index| {
            self.generations.insert(index, Generation::new(start));
            index
        });
        &mut self.generations[index]
    }
}

/// The first row of a generation that is in no run.
fn first_row(store: &dyn Rows, generation: u32) -> Result<u64, StoreError> {
    Ok(store.find(FirstRows, generation)?.unwrap_or_default())
}

fn strange_key() -> StoreError {
    unreadable("its key makes no sense".to_owned())
}

fn unreadable(why: String) -> StoreError {
    StoreError::Unreadable { what: RunBlocks::WHAT, why }
}
