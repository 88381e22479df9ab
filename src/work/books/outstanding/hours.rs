//! What became of the records of the last hours, counted as it happens.
//!
//! It is for people who look at the last days: to count it from the ledger would be to read a million records. A row of
//! a few bytes an hour goes into the batch of each change. Hours that no row is there for were sealed before this was
//! counted, or before there was an agent.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    domain::{hours::HourTally, time::Hour},
    worlds::store::{Batch, Rows, StoreError, Table, keys, load, values::encode},
};

use super::Books;

/// Two days are looked at. What is older is nobody's news, whatever still becomes of it.
const KEPT: u32 = 72;
/// A closing customer's records may be ahead of the other hours.
const MOST_ROWS: usize = 1000;

#[derive(Debug, Default)]
pub(super) struct Hours {
    tallies: BTreeMap<Hour, HourTally>,
    touched: BTreeSet<Hour>,
}

impl Hours {
    pub(super) fn load(store: &dyn Rows) -> Result<Self, StoreError> {
        Ok(Self { tallies: load::hours(store, MOST_ROWS)?, touched: BTreeSet::new() })
    }

    /// Changes the tally of an hour that is counted.
    pub(super) fn change(&mut self, hour: Hour, change: impl FnOnce(&mut HourTally)) {
        if let Some(tally) = self.tallies.get_mut(&hour) {
            change(tally);
            self.touched.insert(hour);
        }
    }

    fn begin(&mut self, hour: Hour) {
        self.tallies.entry(hour).or_default();
        self.touched.insert(hour);
    }

    fn drop_before(&mut self, oldest_kept: Hour, batch: &mut Batch) {
        let kept = self.tallies.split_off(&oldest_kept);
        for hour in std::mem::replace(&mut self.tallies, kept).into_keys() {
            self.touched.remove(&hour);
            batch.delete(Table::Meta, keys::hour_tally(hour));
        }
    }

    pub(super) fn flush(&mut self, batch: &mut Batch) {
        for hour in std::mem::take(&mut self.touched) {
            if let Some(tally) = self.tallies.get(&hour) {
                batch.put(Table::Meta, keys::hour_tally(hour), encode(tally));
            }
        }
    }
}

impl Books {
    /// A record of the hour is being sealed.
    pub(in crate::work::books) fn hour_has_records(&mut self, hour: Hour) {
        self.outstanding.hours.begin(hour);
    }

    pub(in crate::work::books) fn hour_pending(&mut self, hour: Hour) {
        self.outstanding.hours.change(hour, HourTally::sealed);
    }

    pub(in crate::work::books) fn hour_not_pending(&mut self, hour: Hour) {
        self.outstanding.hours.change(hour, HourTally::not_pending);
    }

    pub(in crate::work::books) fn hour_not_held(&mut self, hour: Hour) {
        self.outstanding.hours.change(hour, HourTally::not_held);
    }

    /// The hour is sealed to the end, be there records of it or none.
    pub(in crate::work::books) fn hour_sealed(&mut self, hour: Hour, batch: &mut Batch) {
        let oldest_kept = Hour::from_index(hour.index().saturating_sub(KEPT));
        self.outstanding.hours.drop_before(oldest_kept, batch);
        self.outstanding.hours.begin(hour);
    }
}
