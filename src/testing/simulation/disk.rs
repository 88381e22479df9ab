//! The disk: each commit is looked at, and may be the process's last.

use std::sync::{Arc, Mutex, MutexGuard};

use super::{
    ledger,
    plan::chance,
    store_checks::{check_invariants, check_tally},
    world::World,
};
use crate::{
    engine::state::Status,
    store::{Batch, MemoryStore, Pair, Rows, Store, StoreError, TableId},
};

pub(super) struct Disk {
    memory: MemoryStore,
    world: Arc<World>,
    /// What was written and not synced.
    unsynced: Mutex<Option<Vec<ledger::Row>>>,
}

/// How a process ends at a commit.
#[derive(Clone, Copy)]
enum End {
    Failed,
    /// The sync fails, and what it was to write is on disk all the same.
    FailedButLanded,
    /// At some moment after it, perhaps before anyone is answered.
    After,
}

impl Disk {
    pub(super) fn new(world: Arc<World>) -> Self {
        Self { memory: MemoryStore::default(), world, unsynced: Mutex::default() }
    }

    /// As the next process finds it: what was not synced may be there all the same.
    pub(super) fn crash(&self) -> Self {
        let unsynced = lock(&self.unsynced).take();
        if unsynced.is_some() {
            self.world.trace.saw("a crash between a write and its sync");
        }
        let memory = if fastrand::bool() {
            self.take_in(unsynced);
            self.memory.crash_after_write()
        } else {
            self.memory.crash()
        };
        if chance(8) {
            check_invariants(&memory, &self.world);
        }
        Self { memory, world: self.world.clone(), unsynced: Mutex::default() }
    }

    fn take_in(&self, rows: Option<Vec<ledger::Row>>) {
        if let Some(rows) = rows {
            self.world.ledger().take_in(rows, &self.world);
        }
    }

    pub(super) fn syncs(&self) -> usize {
        self.memory.syncs()
    }

    pub(super) fn is_synced(&self) -> bool {
        self.memory.is_synced()
    }

    /// While nothing is being written.
    pub(super) fn check(&self, status: &Status) {
        check_invariants(&self.memory, &self.world);
        check_tally(&self.memory, status, &self.world);
    }

    fn is_last(&self) -> bool {
        !self.world.is_calm() && chance(self.world.plan.commits_per_crash)
    }

    fn end(&self) -> Option<End> {
        const ENDS: [End; 4] = [End::Failed, End::FailedButLanded, End::After, End::After];
        self.is_last().then(|| ENDS[fastrand::usize(..ENDS.len())])
    }
}

impl Rows for Disk {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.memory.get(table, key)
    }

    fn scan(&self, table: TableId, from: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        self.memory.scan(table, from, limit)
    }
}

impl Store for Disk {
    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.write(batch)?;
        self.sync()
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        *lock(&self.unsynced) = Some(ledger::rows(&batch, self.world.catalog()));
        if self.is_last() {
            self.world.trace.tell("a crash after a write", "");
            self.world.crash.notify_one();
        }
        self.memory.write(batch)
    }

    fn sync(&self) -> Result<(), StoreError> {
        let end = self.end();
        let trace = &self.world.trace;
        match end {
            Some(End::Failed) => {
                trace.tell("a write that failed", "");
                self.memory.fail_after(0, false);
            }
            Some(End::FailedButLanded) => {
                trace.tell("a write that failed and completed", "");
                self.memory.fail_after(0, true);
            }
            Some(End::After) => {
                trace.tell("a crash after a commit", "");
                self.world.crash.notify_one();
            }
            None => {}
        }
        let synced = self.memory.sync();
        let unsynced = lock(&self.unsynced).take();
        if synced.is_ok() || matches!(end, Some(End::FailedButLanded)) {
            self.take_in(unsynced);
        }
        synced
    }

    fn snapshot(&self) -> Box<dyn Rows + '_> {
        self.memory.snapshot()
    }

    fn size(&self) -> u64 {
        self.memory.size()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap()
}
