//! The disk: each commit is looked at, and may be the process's last.

use std::sync::Arc;

use super::{
    invariants::{check_invariants, check_tally},
    ledger,
    plan::chance,
    world::World,
};
use crate::{
    work::books::Tally,
    worlds::store::{Batch, MemoryStore, Pair, Rows, Store, StoreError, Table},
};

pub(super) struct Disk {
    memory: MemoryStore,
    world: Arc<World>,
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
        Self { memory: MemoryStore::default(), world }
    }

    /// As the next process finds it.
    pub(super) fn crash(&self) -> Self {
        let memory = self.memory.crash();
        if chance(8) {
            check_invariants(&memory, &self.world);
        }
        Self { memory, world: self.world.clone() }
    }

    pub(super) fn commits(&self) -> usize {
        self.memory.commits()
    }

    /// While nothing is being written.
    pub(super) fn check(&self, tally: &Tally) {
        check_invariants(&self.memory, &self.world);
        check_tally(&self.memory, tally, &self.world);
    }

    fn end(&self) -> Option<End> {
        const ENDS: [End; 4] = [End::Failed, End::FailedButLanded, End::After, End::After];
        let is_last = !self.world.is_calm() && chance(self.world.plan.commits_per_crash);
        is_last.then(|| ENDS[fastrand::usize(..ENDS.len())])
    }
}

impl Rows for Disk {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.memory.get(table, key)
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        self.memory.scan(table, from, limit)
    }
}

impl Store for Disk {
    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        let rows = ledger::rows(&batch, self.world.catalog());
        let end = self.end();
        let trace = &self.world.trace;
        match end {
            Some(End::Failed) => {
                trace.tell("a write that failed", "");
                self.memory.fail_after(0, false);
            }
            Some(End::FailedButLanded) => {
                trace.tell("a write that failed and landed", "");
                self.memory.fail_after(0, true);
            }
            Some(End::After) => {
                trace.tell("a crash after a commit", "");
                self.world.crash.notify_one();
            }
            None => {}
        }
        let written = self.memory.commit(batch);
        if written.is_ok() || matches!(end, Some(End::FailedButLanded)) {
            self.world.ledger().take_in(rows, &self.world);
        }
        written
    }

    fn snapshot(&self) -> Box<dyn Rows + '_> {
        self.memory.snapshot()
    }

    fn size(&self) -> u64 {
        self.memory.size()
    }
}
