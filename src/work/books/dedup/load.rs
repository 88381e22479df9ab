//! What a start finds on disk: markers that are in no run yet, and the runs' filters, but not what is in the runs.

use std::time::Duration;

use super::{Dedup, Generation, hashes::SHARDS, run::Run};
use crate::{
    domain::time::Timestamp,
    worlds::store::{
        Batch, Rows, Store, StoreError, Table,
        keys::{self, RunPart},
        load, scan_all,
        values::decode_hashes,
    },
};

/// How many markers of an old store are moved at a time.
const PAGE: usize = if cfg!(test) { 4 } else { 10_000 };

impl Dedup {
    pub fn load(store: &dyn Store, window: Duration, started: Timestamp) -> Result<Self, StoreError> {
        let mut dedup = Self::new(window, started);
        dedup.load_runs(store)?;
        dedup.load_marks(store)?;
        dedup.take_over(store)?;
        Ok(dedup)
    }

    fn load_runs(&mut self, store: &dyn Rows) -> Result<(), StoreError> {
        self.find_dead_runs(store)?;
        for (number, about) in load::mark_runs(store)? {
            self.upkeep.dead.remove(&number);
            let run = Run::load(store, number, about)?;
            let generation = self.generation(about.generation);
            generation.shards.resize_with(SHARDS, Vec::new);
            generation.shards[about.shard as usize].push(run);
        }
        Ok(())
    }

    /// Takes all runs that have rows for dead. One seek each.
    fn find_dead_runs(&mut self, store: &dyn Rows) -> Result<(), StoreError> {
        let mut from = keys::mark_run(0, RunPart::Block, 0);
        while let Some((key, _)) = store.scan(Table::MarkRuns, &from, 1)?.first() {
            let (number, _, _) = keys::decode_mark_run(key).ok_or_else(strange_key)?;
            self.upkeep.dead.insert(number);
            self.upkeep.next_run = number.checked_add(1).ok_or_else(strange_key)?;
            from = keys::mark_run(self.upkeep.next_run, RunPart::Block, 0);
        }
        Ok(())
    }

    fn load_marks(&mut self, store: &dyn Rows) -> Result<(), StoreError> {
        let first_generation = load::first_generation(store)?;
        for generation in &self.generations {
            // Even if none of its rows is left: a lower number would not count.
            self.next_mark = self.next_mark.max(load::first_mark(store, generation.start)?);
        }
        let mut current = (0, 0);
        scan_all(store, Table::Marks, &[], |key, row| {
            let (generation, number) = keys::decode_mark(key).ok_or_else(strange_key)?;
            self.next_mark = self.next_mark.max(number.checked_add(1).ok_or_else(strange_key)?);
            if generation != current.0 {
                current = (generation, load::first_mark(store, generation)?);
            }
            if generation < first_generation || number < current.1 {
                // It has expired, or is in a run.
                return Ok(());
            }
            let generation = self.generation(generation);
            for hash in decode_hashes(row)? {
                generation.fresh.insert(hash);
            }
            Ok(())
        })
    }

    /// Moves the markers of a store from before there were runs.
    fn take_over(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        for start in load::generations(store)? {
            loop {
                let page = store.scan(Table::EventIds, &keys::generation(start), PAGE)?;
                let mut last = None;
                for (key, _) in &page {
                    let (of, hash) = keys::decode_event_id(key).ok_or_else(strange_key)?;
                    if of != start {
                        break;
                    }
                    self.generation(start).mark(hash);
                    last = Some(key);
                }
                let Some(last) = last else { break };
                let mut batch = Batch::default();
                batch.delete_range(Table::EventIds, keys::generation(start), [&**last, &[0]].concat());
                self.flush(store, &mut batch)?;
                store.commit(batch)?;
                self.written();
            }
        }
        Ok(())
    }

    /// The generation that starts then, which may be new.
    fn generation(&mut self, start: u32) -> &mut Generation {
        let place = self.generations.binary_search_by_key(&start, |generation| generation.start);
        let place = place.unwrap_or_else(|place| {
            self.generations.insert(place, Generation::new(start));
            place
        });
        &mut self.generations[place]
    }
}

fn strange_key() -> StoreError {
    StoreError::Unreadable { what: "row of event ids", why: "its key makes no sense".to_owned() }
}
