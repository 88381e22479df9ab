//! Each id is a key, put into the batch of its count.

use std::{collections::HashSet, path::Path, time::Instant};

use rocksdb::{ColumnFamilyDescriptor, DB, Options, WriteBatch, WriteOptions};

use crate::{
    contender::{Contender, Lap},
    lookup::{self, family},
    tuning::Tuning,
};

const META: &str = "meta";

pub(crate) struct Keys {
    db: DB,
    tuning: Tuning,
    /// Oldest first.
    generations: Vec<u32>,
    count: u64,
}

impl Keys {
    pub(crate) fn open(folder: &Path, tuning: Tuning) -> Self {
        let options = tuning.database();
        let there = DB::list_cf(&options, folder).unwrap_or_else(|_| vec![META.to_owned()]);
        let families = there.iter().map(|name| {
            let options = if name.starts_with(lookup::TABLE) { tuning.table() } else { Options::default() };
            ColumnFamilyDescriptor::new(name, options)
        });
        let db = DB::open_cf_descriptors(&options, folder, families).unwrap();
        let generations = db.get_cf(family(&db, META), b"generations").unwrap().unwrap_or_default();
        let generations = generations.as_chunks().0.iter().map(|bytes| u32::from_be_bytes(*bytes)).collect();
        Self { db, tuning, generations, count: 0 }
    }

    fn enter(&mut self, generation: u32) {
        if self.generations.last() == Some(&generation) {
            return;
        }
        self.generations.push(generation);
        let table = self.tuning.layout.table(generation);
        if self.db.cf_handle(&table).is_none() {
            self.db.create_cf(table, &self.tuning.table()).unwrap();
        }
        let generations: Vec<u8> = self.generations.iter().flat_map(|start| start.to_be_bytes()).collect();
        self.db.put_cf(family(&self.db, META), b"generations", generations).unwrap();
    }

    /// Those of the ids that are new, sorted.
    fn new_ones(&self, ids: &[u128]) -> Vec<u128> {
        let batch = if self.tuning.batch == 0 { ids.len() } else { self.tuning.batch };
        let mut new = Vec::with_capacity(ids.len());
        let mut seen = HashSet::new();
        for part in ids.chunks(batch) {
            let mut part = part.to_vec();
            part.sort_unstable();
            part.dedup();
            let known = self.tuning.layout.known(&self.db, &self.generations, &part);
            let unknown = part.into_iter().zip(known).filter(|(_, known)| !known).map(|(id, _)| id);
            if batch < ids.len() {
                // A part does not find what the one before has not written yet.
                new.extend(unknown.filter(|id| seen.insert(*id)));
            } else {
                new.extend(unknown);
            }
        }
        new.sort_unstable();
        new
    }
}

impl Contender for Keys {
    fn commit(&mut self, ids: &[u128], now: u32, lap: &mut Lap) -> u64 {
        let start = Instant::now();
        self.enter(now);
        let new = self.new_ones(ids);
        let looked = start.elapsed();
        let mut batch = WriteBatch::default();
        let layout = self.tuning.layout;
        let table = family(&self.db, &layout.table(now));
        let value = layout.value(now);
        for id in &new {
            batch.put_cf(table, layout.key(now, *id), &value);
        }
        self.count += new.len() as u64;
        batch.put_cf(family(&self.db, META), b"count", self.count.to_be_bytes());
        let made = start.elapsed();
        let mut options = WriteOptions::default();
        options.set_sync(true);
        options.set_memtable_insert_hint_per_batch(self.tuning.hint);
        self.db.write_opt(batch, &options).unwrap();
        lap.look += looked;
        lap.make += made - looked;
        lap.write += start.elapsed() - made;
        new.len() as u64
    }

    fn known(&mut self, ids: &[u128]) -> usize {
        let mut sorted = ids.to_vec();
        sorted.sort_unstable();
        let known = self.tuning.layout.known(&self.db, &self.generations, &sorted);
        known.into_iter().filter(|known| *known).count()
    }

    fn shape(&self) -> String {
        let mut tables: Vec<String> =
            self.generations.iter().map(|start| self.tuning.layout.table(*start)).collect();
        tables.dedup();
        lookup::shape(&self.db, &tables)
    }
}
