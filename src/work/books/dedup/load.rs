//! What a start finds on disk: markers that are in no run yet, and the runs' filters, but not what is in the runs.

use std::{collections::HashMap, time::Duration};

use super::{Dedup, Generation, hashes::SHARDS, run::Run};
use crate::{
    domain::time::Timestamp,
    worlds::store::{
        Batch, Rows, Store, StoreError, Table,
        keys::{self, RunPart},
        load, scan_all,
        values::{MarkRun, decode, decode_hashes},
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
        let found = descriptions(store)?;
        self.upkeep.next_run = found.last().map_or(0, |(number, _)| number.saturating_add(1));
        let mut runs = Vec::new();
        let mut later: HashMap<(u32, u32), u32> = HashMap::new();
        let first_generation = load::first_generation(store)?;
        for (number, about) in found.into_iter().rev() {
            let Some(about) = about.filter(|about| about.generation >= first_generation) else {
                // It has expired, or a process ended before it was complete.
                self.upkeep.dead.insert(number);
                continue;
            };
            let tier = later.entry((about.generation, about.shard)).or_default();
            if *tier > about.tier || *tier == MarkRun::LAST_TIER {
                self.upkeep.dead.insert(number);
            } else {
                *tier = about.tier;
                runs.push((number, about));
            }
        }
        for (number, about) in runs.into_iter().rev() {
            let run = Run::load(store, number, about)?;
            let generation = self.generation(about.generation);
            generation.shards.resize_with(SHARDS, Vec::new);
            generation.shards[about.shard as usize].push(run);
        }
        Ok(())
    }

    fn load_marks(&mut self, store: &dyn Rows) -> Result<(), StoreError> {
        scan_all(store, Table::Marks, &[], |key, row| {
            let (generation, number) = keys::decode_mark(key).ok_or_else(strange_key)?;
            self.next_mark = self.next_mark.max(number.saturating_add(1));
            let generation = self.generation(generation);
            decode_hashes(row)?.for_each(|hash| {
                generation.fresh.insert(hash);
            });
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
                self.committed();
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

/// Each run that has rows, in order, with its description if it is complete. Two seeks each.
fn descriptions(store: &dyn Rows) -> Result<Vec<(u64, Option<MarkRun>)>, StoreError> {
    let mut found = Vec::new();
    let mut from = keys::mark_run(0, RunPart::Block, 0);
    while let Some((key, _)) = store.scan(Table::MarkRuns, &from, 1)?.first() {
        let (number, _, _) = keys::decode_mark_run(key).ok_or_else(strange_key)?;
        let description = store.get(Table::MarkRuns, &keys::mark_run(number, RunPart::Description, 0))?;
        found.push((number, description.map(|row| decode(&row)).transpose()?));
        let Some(next) = number.checked_add(1) else { break };
        from = keys::mark_run(next, RunPart::Block, 0);
    }
    Ok(found)
}

fn strange_key() -> StoreError {
    StoreError::Unreadable { what: "row of event ids", why: "its key makes no sense".to_owned() }
}
