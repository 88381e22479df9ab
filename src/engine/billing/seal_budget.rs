//! One step of sealing: how much of it is left, and how far it came.

use crate::{
    domain::time::Timestamp,
    engine::{counting::Counting, write_txn::WriteTxn},
};

/// How many buckets and zero claims one step looks at: some milliseconds of work, to which comes a sync. More would
/// hold up requests, and with fewer a million buckets would take too many syncs.
const STEP: usize = if cfg!(test) { 3 } else { 500 };

/// One step of sealing, under way.
pub(super) struct SealStep<'a, 't> {
    pub(super) now: Timestamp,
    pub(super) counting: &'a mut Counting,
    pub(super) txn: &'a mut WriteTxn<'t>,
    /// How many more buckets and zero claims it may look at.
    left: usize,
    pub(super) progress: SealProgress,
}

/// The work that one step has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealProgress {
    /// Hours that were sealed to the end in this step.
    pub hours: u32,
    pub records: u32,
    /// There is more to do at once.
    pub more: bool,
}

impl<'a, 't> SealStep<'a, 't> {
    pub(super) fn new(now: Timestamp, counting: &'a mut Counting, txn: &'a mut WriteTxn<'t>) -> Self {
        Self { now, counting, txn, left: STEP, progress: SealProgress::default() }
    }

    pub(super) fn take(&mut self, looked_at: usize) {
        self.left = self.left.saturating_sub(looked_at);
    }

    /// Leaves the rest to the next step.
    pub(super) fn end(&mut self) {
        self.left = 0;
    }

    pub(super) fn is_full(&self) -> bool {
        self.left == 0
    }
}
