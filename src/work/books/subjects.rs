//! Which subjects an open hour has counted, so that each counts once.
//!
//! Markers are on disk, beside the bucket that holds their number, and leave with their hour.

use std::collections::HashSet;

use crate::{
    domain::time::Hour,
    worlds::store::{Batch, Store, StoreError, Table, keys, values::VERSION},
};

#[derive(Debug, Default)]
pub(super) struct Subjects {
    /// Marked in the batch that is being made.
    fresh: HashSet<(Hour, u128)>,
}

impl Subjects {
    pub(super) fn is_marked(&self, store: &dyn Store, hour: Hour, subject: u128) -> Result<bool, StoreError> {
        if self.fresh.contains(&(hour, subject)) {
            return Ok(true);
        }
        Ok(store.get(Table::Subjects, &keys::subject(hour, subject))?.is_some())
    }

    pub(super) fn mark(&mut self, hour: Hour, subject: u128, batch: &mut Batch) {
        self.fresh.insert((hour, subject));
        batch.put(Table::Subjects, keys::subject(hour, subject), vec![VERSION]);
    }

    /// The batch is written: it is read from the store now.
    pub(super) fn written(&mut self) {
        self.fresh.clear();
    }

    /// Forgets an hour that is sealed.
    pub(super) fn drop_hour(hour: Hour, batch: &mut Batch) {
        let [from, to] = [hour, hour.next()].map(|hour| keys::generation(hour.index()));
        batch.delete_range(Table::Subjects, from, to);
    }
}
