//! The tallies of the last hours, kept as records change their state.
//!
//! It is for people who look at the last days: to count it from the ledger would be to read a million records. A row of
//! a few bytes an hour goes into the batch of each change. Hours that no row is there for were sealed before this was
//! counted, or before there was an agent.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    domain::{billing::hour_tally::HourTally, time::Hour},
    store::{Batch, ReadTable, Rows, StoreError, tables::hour_tallies::HourTallyRows},
};

/// Two days are looked at. The tallies of older hours are dropped, whatever still becomes of their records.
const KEPT: u32 = 72;
/// A closing customer's records may be ahead of the other hours.
const MOST_ROWS: usize = 1000;

/// The tallies of the last hours, at most `limit` of them.
pub(crate) fn read_hours(store: &dyn Rows, limit: usize) -> Result<BTreeMap<Hour, HourTally>, StoreError> {
    let hours = store.page(HourTallyRows, Hour::FIRST, limit, |hour, tally| (hour, tally))?;
    Ok(hours.into_iter().collect())
}

#[derive(Debug, Default)]
pub(super) struct HourTallies {
    tallies: BTreeMap<Hour, HourTally>,
    dirty: BTreeSet<Hour>,
}

impl HourTallies {
    pub(super) fn load(store: &dyn Rows) -> Result<Self, StoreError> {
        Ok(Self { tallies: read_hours(store, MOST_ROWS)?, dirty: BTreeSet::new() })
    }

    /// Changes the tally of an hour that is counted.
    pub(super) fn change(&mut self, hour: Hour, change: impl FnOnce(&mut HourTally)) {
        if let Some(tally) = self.tallies.get_mut(&hour) {
            change(tally);
            self.dirty.insert(hour);
        }
    }

    /// A record of the hour is being sealed.
    pub(super) fn begin(&mut self, hour: Hour) {
        self.tallies.entry(hour).or_default();
        self.dirty.insert(hour);
    }

    /// The hour is sealed to the end, be there records of it or none.
    pub(super) fn end(&mut self, hour: Hour, batch: &mut Batch) {
        self.drop_before(Hour::from_index(hour.index().saturating_sub(KEPT)), batch);
        self.begin(hour);
    }

    fn drop_before(&mut self, oldest_kept: Hour, batch: &mut Batch) {
        let kept = self.tallies.split_off(&oldest_kept);
        for hour in std::mem::replace(&mut self.tallies, kept).into_keys() {
            self.dirty.remove(&hour);
            batch.delete(HourTallyRows, hour);
        }
    }

    pub(super) fn flush(&mut self, batch: &mut Batch) {
        for hour in std::mem::take(&mut self.dirty) {
            if let Some(tally) = self.tallies.get(&hour) {
                batch.put(HourTallyRows, hour, tally);
            }
        }
    }
}
