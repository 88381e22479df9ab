//! A store in memory, for tests: it can fail, and it can crash.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Batch, Change, Pair, Rows, Store, StoreError, Table};

/// Keeps what was committed across [`crash`](Self::crash); nothing else.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    tables: BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>,
    commits: usize,
    /// How many more commits succeed.
    commits_left: Option<u32>,
    /// Whether the commit that fails is on disk all the same, as it may be when a sync fails.
    failed_commit_lands: bool,
}

impl MemoryStore {
    /// Lets the commit after the next `commits` ones fail, and all that follow it.
    pub fn fail_after(&self, commits: u32, failed_commit_lands: bool) {
        let mut state = self.state();
        state.commits_left = Some(commits);
        state.failed_commit_lands = failed_commit_lands;
    }

    /// How many commits there were, each of them a sync on a real disk.
    pub fn commits(&self) -> usize {
        self.state().commits
    }

    /// The store as the next process finds it.
    #[must_use]
    pub fn crash(&self) -> Self {
        let tables = self.state().tables.clone();
        Self { state: Mutex::new(State { tables, ..State::default() }) }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rows for MemoryStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.state().tables.get(&table).and_then(|rows| rows.get(key)).cloned())
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        let state = self.state();
        let rows = state.tables.get(&table).into_iter().flat_map(|rows| rows.range(from.to_vec()..));
        Ok(rows.take(limit).map(|(key, value)| (key.clone().into(), value.clone().into())).collect())
    }
}

impl Store for MemoryStore {
    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        let mut state = self.state();
        state.commits += 1;
        let fails = state.commits_left == Some(0);
        if !fails || state.failed_commit_lands {
            apply(&mut state.tables, batch);
        }
        if fails {
            state.failed_commit_lands = false;
            return Err(StoreError::Engine { action: "write to", message: "injected fault".to_owned() });
        }
        state.commits_left = state.commits_left.map(|left| left - 1);
        Ok(())
    }

    fn snapshot(&self) -> Box<dyn Rows + '_> {
        Box::new(self.crash())
    }

    fn size(&self) -> u64 {
        0
    }
}

fn apply(tables: &mut BTreeMap<Table, BTreeMap<Vec<u8>, Vec<u8>>>, batch: Batch) {
    for change in batch.changes {
        match change {
            Change::Put(table, key, value) => {
                tables.entry(table).or_default().insert(key, value);
            }
            Change::Delete(table, key) => {
                tables.entry(table).or_default().remove(&key);
            }
            Change::DeleteRange(table, from, to) => {
                tables.entry(table).or_default().retain(|key, _| *key < from || *key >= to);
            }
            Change::Discard(table, from, through) => {
                // Now and then those at both ends stay, as they do in files that have other rows as well.
                let rows = tables.entry(table).or_default();
                let keys: Vec<_> = rows.range(from..=through).map(|(key, _)| key.clone()).collect();
                let at_ends = if keys.len() % 2 == 0 { 2 } else { 0 };
                for key in keys.iter().skip(at_ends).rev().skip(at_ends) {
                    rows.remove(key);
                }
            }
        }
    }
}
