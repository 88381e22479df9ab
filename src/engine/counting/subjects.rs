//! Which subjects an open hour has counted, so that each counts once.
//!
//! Their dedup keys are on disk, beside the bucket that holds their number, and leave with their hour.

use std::collections::HashSet;

use crate::{
    domain::time::Hour,
    store::{Batch, ReadTable, Store, StoreError, tables::subjects::SubjectRows},
};

#[derive(Debug, Default)]
pub(super) struct Subjects {
    /// Subjects of the batch that is being made.
    fresh: HashSet<(Hour, u128)>,
}

impl Subjects {
    pub(super) fn contains(&self, store: &dyn Store, hour: Hour, subject: u128) -> Result<bool, StoreError> {
        if self.fresh.contains(&(hour, subject)) {
            return Ok(true);
        }
        store.has(SubjectRows, (hour, subject))
    }

    pub(super) fn insert(&mut self, hour: Hour, subject: u128, batch: &mut Batch) {
        self.fresh.insert((hour, subject));
        batch.put(SubjectRows, (hour, subject), &());
    }

    /// The batch is written: it is read from the store now.
    pub(super) fn written(&mut self) {
        self.fresh.clear();
    }

    /// Forgets an hour that is sealed.
    pub(super) fn drop_hour(hour: Hour, batch: &mut Batch) {
        batch.delete_range(SubjectRows, (hour, 0), (hour.next(), 0));
    }
}
