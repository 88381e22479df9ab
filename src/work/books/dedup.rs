//! Which events were counted before.
//!
//! Markers are kept in generations, so that they expire by dropping a whole generation. A new one begins once the
//! current one is as old as the dedup window; the one before it is dropped when no marker in it can be younger than
//! the window, and not within a window of the start, since applications resend after a down-time.

use std::{collections::HashSet, time::Duration};

use crate::{
    domain::time::Timestamp,
    worlds::store::{Batch, Store, StoreError, Table, keys, load, values::VERSION},
};

#[derive(Debug)]
pub(super) struct Dedup {
    window: Duration,
    started: Timestamp,
    /// The starts of the generations on disk, in seconds, oldest first; the last one takes the markers.
    generations: Vec<u32>,
    /// Marked in the batch that is being made.
    fresh: HashSet<u128>,
}

impl Dedup {
    pub(super) fn load(store: &dyn Store, window: Duration, started: Timestamp) -> Result<Self, StoreError> {
        Ok(Self { window, started, generations: load::generations(store)?, fresh: HashSet::new() })
    }

    pub(super) fn is_marked(&self, store: &dyn Store, hash: u128) -> Result<bool, StoreError> {
        if self.fresh.contains(&hash) {
            return Ok(true);
        }
        for generation in self.generations.iter().rev() {
            if store.get(Table::EventIds, &keys::event_id(*generation, hash))?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn mark(&mut self, hash: u128, now: Timestamp, batch: &mut Batch) {
        let generation = self.current(now);
        self.fresh.insert(hash);
        batch.put(Table::EventIds, keys::event_id(generation, hash), vec![VERSION]);
    }

    /// The batch is on disk.
    pub(super) fn committed(&mut self) {
        self.fresh.clear();
    }

    pub(super) fn drop_expired(&mut self, now: Timestamp, batch: &mut Batch) {
        if now < self.started.plus(self.window) {
            return;
        }
        while let [oldest, successor, ..] = self.generations[..] {
            if now < starts_at(successor).plus(self.window) {
                return;
            }
            batch.delete_range(
                Table::EventIds,
                keys::generation(oldest),
                keys::generation(oldest.saturating_add(1)),
            );
            self.generations.remove(0);
        }
    }

    /// The generation that takes markers now. A clock that steps back begins no new one.
    fn current(&mut self, now: Timestamp) -> u32 {
        match self.generations.last() {
            Some(current) if now < starts_at(*current).plus(self.window) => *current,
            last => {
                let seconds = u32::try_from(now.seconds()).unwrap_or_default();
                let next = last.map_or(seconds, |last| seconds.max(last.saturating_add(1)));
                self.generations.push(next);
                next
            }
        }
    }
}

fn starts_at(generation: u32) -> Timestamp {
    Timestamp::from_seconds(generation.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worlds::store::MemoryStore;

    const WINDOW: Duration = Duration::from_hours(2);

    struct Book {
        store: MemoryStore,
        dedup: Dedup,
    }

    impl Book {
        fn new(store: MemoryStore, started: i64) -> Self {
            let dedup = Dedup::load(&store, WINDOW, Timestamp::from_seconds(started)).unwrap();
            Self { store, dedup }
        }

        fn mark(&mut self, hash: u128, now: i64) {
            let mut batch = Batch::default();
            self.dedup.mark(hash, Timestamp::from_seconds(now), &mut batch);
            self.commit(batch);
        }

        fn expire(&mut self, now: i64) {
            let mut batch = Batch::default();
            self.dedup.drop_expired(Timestamp::from_seconds(now), &mut batch);
            self.commit(batch);
        }

        fn commit(&mut self, batch: Batch) {
            self.store.commit(batch).unwrap();
            self.dedup.committed();
        }

        fn knows(&self, hash: u128) -> bool {
            self.dedup.is_marked(&self.store, hash).unwrap()
        }
    }

    #[test]
    fn an_id_is_known_for_at_least_the_window() {
        let mut book = Book::new(MemoryStore::default(), 10_000);
        for hour in 0..20_u32 {
            let now = 10_000 + i64::from(hour) * 1800;
            book.expire(now);
            book.mark(u128::from(hour), now);
            for young in hour.saturating_sub(3)..=hour {
                assert!(book.knows(u128::from(young)), "id {young} was forgotten at {hour}");
            }
        }
        assert!(!book.knows(0), "ids are forgotten some day");
        assert!(book.dedup.generations.len() <= 3);
    }

    #[test]
    fn a_down_time_does_not_use_up_the_window() {
        let mut book = Book::new(MemoryStore::default(), 10_000);
        book.mark(1, 10_000);
        let mut book = Book::new(book.store.crash(), 500_000);
        book.mark(2, 500_001);
        book.expire(500_002);
        assert!(book.knows(1), "the application could not resend before");
        book.expire(500_001 + 7200);
        assert!(!book.knows(1));
        assert!(book.knows(2));
    }

    #[test]
    fn an_id_is_known_within_its_own_batch() {
        let mut book = Book::new(MemoryStore::default(), 0);
        let mut batch = Batch::default();
        book.dedup.mark(9, Timestamp::from_seconds(1), &mut batch);
        assert!(book.knows(9));
    }
}
