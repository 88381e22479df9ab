//! A store in memory, for tests: it can fail, and it can crash.

use std::{
    collections::BTreeMap,
    mem,
    ops::RangeBounds,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Batch, Change, Pair, Rows, Store, StoreError, TableId};

/// Keeps across [`crash`](Self::crash) what was synced; nothing else.
#[derive(Debug, Default)]
pub(crate) struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Clone, Debug, Default)]
struct Tables(BTreeMap<TableId, BTreeMap<Vec<u8>, Vec<u8>>>);

/// A row, and what it was before.
type Before = (TableId, Vec<u8>, Option<Vec<u8>>);

#[derive(Debug, Default)]
struct State {
    tables: Tables,
    /// What was written and not synced.
    unsynced: Option<Vec<Before>>,
    syncs: usize,
    /// How many more syncs succeed.
    syncs_left: Option<u32>,
    /// Whether what a sync that fails was to write is on disk all the same, as it may be.
    failed_sync_lands: bool,
}

impl MemoryStore {
    /// Lets the sync after the next `syncs` ones fail, and all that follow it. A commit syncs, too.
    pub(crate) fn fail_after(&self, syncs: u32, failed_sync_lands: bool) {
        let mut state = self.state();
        state.syncs_left = Some(syncs);
        state.failed_sync_lands = failed_sync_lands;
    }

    /// How many syncs there were.
    pub(crate) fn syncs(&self) -> usize {
        self.state().syncs
    }

    pub(crate) fn is_synced(&self) -> bool {
        self.state().unsynced.is_none()
    }

    /// The store as the next process finds it: what was not synced is lost.
    #[must_use]
    pub(crate) fn crash(&self) -> Self {
        let crashed = self.crash_after_write();
        crashed.state().tables.undo(self.state().unsynced.iter().flatten());
        crashed
    }

    /// The store as the next process finds it, if also what was not synced is there.
    #[must_use]
    pub(crate) fn crash_after_write(&self) -> Self {
        let tables = self.state().tables.clone();
        Self { state: Mutex::new(State { tables, ..State::default() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows for MemoryStore {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.state().tables.0.get(&table).and_then(|rows| rows.get(key)).cloned())
    }

    fn scan(&self, table: TableId, from: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        let state = self.state();
        let rows = state.tables.0.get(&table).into_iter().flat_map(|rows| rows.range(from.to_vec()..));
        Ok(rows.take(limit).map(|(key, value)| (key.clone().into(), value.clone().into())).collect())
    }
}

impl Store for MemoryStore {
    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.write(batch)?;
        self.sync()
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let mut state = self.state();
        assert!(state.unsynced.is_none(), "what was written before is not synced yet");
        state.unsynced = Some(state.tables.apply(batch));
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        let mut state = self.state();
        state.syncs += 1;
        let unsynced = state.unsynced.take();
        if state.syncs_left == Some(0) {
            if !mem::take(&mut state.failed_sync_lands) {
                state.tables.undo(unsynced.iter().flatten());
            }
            return Err(StoreError::Engine { action: "write to", message: "injected fault".to_owned() });
        }
        state.syncs_left = state.syncs_left.map(|left| left - 1);
        Ok(())
    }

    fn snapshot(&self) -> Box<dyn Rows + '_> {
        Box::new(self.crash_after_write())
    }

    fn size(&self) -> u64 {
        0
    }
}

impl Tables {
    /// Says what was there before.
    fn apply(&mut self, batch: Batch) -> Vec<Before> {
        let mut before = Vec::new();
        for change in batch.changes {
            match change {
                Change::Put(table, key, value) => before.push(self.put(table, key, Some(value))),
                Change::Delete(table, key) => before.push(self.put(table, key, None)),
                Change::DeleteRange(table, from, to) => {
                    let keys = self.keys(table, from..to);
                    before.extend(keys.into_iter().map(|key| self.put(table, key, None)));
                }
                Change::Discard(table, from, through) => {
                    // Now and then those at both ends stay, as they do in files that have other rows as well.
                    let keys = self.keys(table, from..=through);
                    let at_ends = if keys.len().is_multiple_of(2) { 2 } else { 0 };
                    let within = keys.into_iter().skip(at_ends).rev().skip(at_ends);
                    before.extend(within.map(|key| self.put(table, key, None)));
                }
            }
        }
        before
    }

    fn put(&mut self, table: TableId, key: Vec<u8>, value: Option<Vec<u8>>) -> Before {
        let rows = self.0.entry(table).or_default();
        let before = match value {
            Some(value) => rows.insert(key.clone(), value),
            None => rows.remove(&key),
        };
        (table, key, before)
    }

    fn keys(&self, table: TableId, range: impl RangeBounds<Vec<u8>>) -> Vec<Vec<u8>> {
        let Some(rows) = self.0.get(&table) else { return Vec::new() };
        rows.range(range).map(|(key, _)| key.clone()).collect()
    }

    fn undo<'a>(&mut self, changes: impl DoubleEndedIterator<Item = &'a Before>) {
        for (table, key, before) in changes.rev() {
            self.put(*table, key.clone(), before.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_takes_back_what_was_not_synced() {
        let store = MemoryStore::default();
        let change = |value: u8, deleted: u8| {
            let mut batch = Batch::default();
            batch.put_bytes(TableId::Meta, [0], vec![value]);
            batch.put_bytes(TableId::Meta, [value], vec![value]);
            batch.delete_bytes(TableId::Meta, [deleted]);
            batch.delete_range_bytes(TableId::Meta, [100], [200]);
            batch
        };
        let rows = |store: &MemoryStore| {
            let rows = store.scan(TableId::Meta, &[], 9).unwrap();
            rows.into_iter().map(|(key, value)| (key[0], value[0])).collect::<Vec<_>>()
        };
        store.commit(change(1, 9)).unwrap();
        store.commit(change(110, 9)).unwrap();
        store.write(change(2, 1)).unwrap();
        assert_eq!(rows(&store), [(0, 2), (2, 2)]);
        assert_eq!(rows(&store.crash()), [(0, 110), (1, 1)]);
        assert_eq!(rows(&store.crash_after_write()), rows(&store));
        store.fail_after(0, false);
        store.sync().unwrap_err();
        assert_eq!(rows(&store), [(0, 110), (1, 1)]);
    }
}
