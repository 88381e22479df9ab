//! The counterpart of the ledger: for each customer and dimension, what is sealed and neither accepted nor written off.
//!
//! It is moved by what was used, rounded, accepted and written off, and never by what records and carries say. So it
//! can be held against them: the records under way, the held ones, and what open buckets carry must add up to it (I1).

use std::collections::{HashMap, HashSet};

use crate::{
    domain::record::{Outcome, Record},
    worlds::store::{
        Batch, Rows, StoreError, Table, keys, load,
        values::{SignedAmount, encode},
    },
};

/// In base units. What nothing is outstanding of has no row.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    amounts: HashMap<Box<[u8]>, i128>,
    touched: HashSet<Box<[u8]>>,
}

impl Outstanding {
    pub(super) fn load(store: &dyn Rows) -> Result<Self, StoreError> {
        let mut outstanding = Self::default();
        load::outstanding(store, |key, amount| {
            outstanding.amounts.insert(key.into(), amount);
        })?;
        Ok(outstanding)
    }

    /// What a store from before there was a journal has outstanding, by its records and carries.
    pub(super) fn opening(store: &dyn Rows) -> Result<Self, StoreError> {
        let mut outstanding = Self::default();
        load::buckets(store, |key, bucket| {
            let series = keys::series(key.product, key.customer, key.dimension);
            outstanding.add(series, signed(bucket.carried.total()));
            Ok(())
        })?;
        load::all_pending(store, |record, _| {
            outstanding.add(series(&record), signed(record.amounts.billed));
        })?;
        load::all_settled(store, Table::Held, |settled| {
            outstanding.add(series(&settled.record), signed(settled.record.amounts.billed));
        })?;
        Ok(outstanding)
    }

    pub(super) fn used(&mut self, product: &str, customer: &str, dimension: &str, usage: u128) {
        self.add(keys::series(product, customer, dimension), signed(usage));
    }

    pub(super) fn rounded(&mut self, record: &Record) {
        self.add(series(record), record.amounts.rounded);
    }

    pub(super) fn settled(&mut self, record: &Record, outcome: &Outcome) {
        let gone = match outcome {
            Outcome::Accepted { .. } | Outcome::WrittenOff => signed(record.amounts.billed),
            // What moves on is what was used, without what rounding added.
            Outcome::RolledForward { .. } | Outcome::Carried { .. } => record.amounts.rounded.max(0),
            Outcome::Held { .. } | Outcome::Expired => 0,
        };
        self.add(series(record), gone.saturating_neg());
    }

    fn add(&mut self, series: Vec<u8>, amount: i128) {
        if amount == 0 {
            return;
        }
        let series: Box<[u8]> = series.into();
        let outstanding = self.amounts.entry(series.clone()).or_default();
        *outstanding = outstanding.saturating_add(amount);
        self.touched.insert(series);
    }

    /// Puts the changed amounts into the batch. To be called once, when the batch is otherwise complete.
    pub(super) fn flush(&mut self, batch: &mut Batch) {
        for series in std::mem::take(&mut self.touched) {
            match self.amounts.get(&series) {
                Some(0) | None => {
                    self.amounts.remove(&series);
                    batch.delete(Table::Outstanding, series);
                }
                Some(amount) => batch.put(Table::Outstanding, series, encode(&SignedAmount(*amount))),
            }
        }
    }
}

fn series(record: &Record) -> Vec<u8> {
    keys::series(&record.product, &record.customer, &record.dimension)
}

fn signed(amount: u128) -> i128 {
    i128::try_from(amount).unwrap_or(i128::MAX)
}
