//! The tree of `engine::counting::dedup`, on the agent's own store.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use tallyman::internals::{Batch, Dedup, NextRecord, RecordId, RocksStore, Store, Timestamp};

use crate::contender::{Contender, Lap};

const WINDOW: Duration = Duration::from_hours(2);

pub(crate) struct Tree {
    store: RocksStore,
    dedup: Dedup,
    count: u64,
}

impl Tree {
    pub(crate) fn open(folder: &Path, now: u32) -> Self {
        let store = RocksStore::open(folder).unwrap();
        let dedup = Dedup::load(&store, WINDOW, Timestamp::from_seconds(now.into())).unwrap();
        Self { store, dedup, count: 0 }
    }
}

impl Contender for Tree {
    fn commit(&mut self, ids: &[u128], now: u32, lap: &mut Lap) -> u64 {
        let now = Timestamp::from_seconds(now.into());
        let start = Instant::now();
        let mut new = 0;
        for part in ids.chunks(64) {
            self.dedup.prefetch(part.iter().copied());
            for id in part {
                if !self.dedup.contains(&self.store, *id).unwrap() {
                    self.dedup.insert(*id, now);
                    new += 1;
                }
            }
        }
        let looked = start.elapsed();
        self.count += new;
        let mut batch = Batch::default();
        batch.put(NextRecord, (), &RecordId(self.count));
        self.dedup.write(&self.store, &mut batch).unwrap();
        let made = start.elapsed();
        self.store.commit(batch).unwrap();
        self.dedup.written();
        lap.look += looked;
        lap.make += made - looked;
        lap.write += start.elapsed() - made;
        new
    }

    fn known(&mut self, ids: &[u128]) -> usize {
        self.dedup.prefetch(ids.iter().copied());
        ids.iter().filter(|id| self.dedup.contains(&self.store, **id).unwrap()).count()
    }

    fn shape(&self) -> String {
        "sorted runs".to_owned()
    }
}
