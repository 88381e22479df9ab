//! The counterpart of the ledger: for each customer and dimension, what is sealed and neither accepted nor written off.
//!
//! It is moved by what was used, rounded, accepted and written off, and never by what records and carries say. So it
//! can be held against them: the records under way, the held ones, and what open buckets carry must add up to it (I1).

mod hours;

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    domain::{
        product::Catalog,
        record::{Outcome, Record},
        time::Hour,
    },
    work::roster::Inner,
    worlds::store::{
        Batch, Rows, StoreError, Table, keys, load,
        values::{SignedAmount, encode},
    },
};

use hours::Hours;

use super::{
    Books,
    series::{BySeries, Finder, Series},
};

/// In base units. What nothing is outstanding of has no row.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    amounts: BySeries<Amount>,
    /// Of customers and dimensions that are not configured, by their keys.
    others: BTreeMap<Box<[u8]>, i128>,
    touched: BTreeSet<Series>,
    touched_others: BTreeSet<Box<[u8]>>,
    hours: Hours,
}

/// A number without an alignment, since a million of them lie beside their dimension.
#[derive(Clone, Copy, Debug, Default)]
struct Amount([u8; 16]);

impl Amount {
    fn get(self) -> i128 {
        i128::from_ne_bytes(self.0)
    }

    fn add(&mut self, amount: i128) {
        self.0 = self.get().saturating_add(amount).to_ne_bytes();
    }
}

/// Whose amount it is.
enum Place {
    Series(Series),
    Other(Box<[u8]>),
}

impl Outstanding {
    pub(super) fn load(store: &dyn Rows, catalog: &Catalog, roster: &Inner) -> Result<Self, StoreError> {
        let mut finder = Finder::new(catalog, roster);
        let mut outstanding = Self { hours: Hours::load(store)?, ..Self::default() };
        load::outstanding(store, |key, amount| {
            let found = keys::decode_series(key)
                .and_then(|(product, customer, dimension)| finder.find(product, customer, dimension));
            if let Some((_, series)) = found {
                outstanding.amounts.get_or_insert_with(series, Amount::default).add(amount);
            } else {
                outstanding.others.insert(key.into(), amount);
            }
        })?;
        Ok(outstanding)
    }

    fn add(&mut self, place: Place, amount: i128) {
        if amount == 0 {
            return;
        }
        match place {
            Place::Series(series) => {
                self.amounts.get_or_insert_with(series, Amount::default).add(amount);
                self.touched.insert(series);
            }
            Place::Other(key) => {
                let outstanding = self.others.entry(key.clone()).or_default();
                *outstanding = outstanding.saturating_add(amount);
                self.touched_others.insert(key);
            }
        }
    }
}

impl Books {
    /// A bucket is sealed.
    pub(super) fn outstanding_used(&mut self, series: Series, usage: u128) {
        self.outstanding.add(Place::Series(series), signed(usage));
    }

    /// Its record was rounded.
    pub(super) fn outstanding_rounded(&mut self, series: Series, record: &Record) {
        self.outstanding.add(Place::Series(series), record.amounts.rounded);
    }

    pub(super) fn outstanding_settled(&mut self, record: &Record, outcome: &Outcome) {
        let gone = match outcome {
            Outcome::Accepted { .. } | Outcome::WrittenOff => signed(record.amounts.billed),
            // What moves on is what was used, without what rounding added.
            Outcome::RolledForward { .. } | Outcome::Carried { .. } => record.amounts.rounded.max(0),
            Outcome::Held { .. } | Outcome::Expired => 0,
        };
        let place = match self.series_of_record(record) {
            Some((_, series)) => Place::Series(series),
            None => Place::Other(series_key(record).into()),
        };
        self.outstanding.add(place, gone.saturating_neg());
        self.outstanding.hours.change(record.hour, |tally| tally.settled(outcome));
    }

    /// Puts the changed amounts into the batch. To be called once, when the batch is otherwise complete.
    pub(super) fn flush_outstanding(&mut self, batch: &mut Batch) {
        self.outstanding.hours.flush(batch);
        let roster = self.roster.clone();
        let roster = roster.read();
        for series in std::mem::take(&mut self.outstanding.touched) {
            let amount = self.outstanding.amounts.get(series).map_or(0, |amount| amount.get());
            if amount == 0 {
                self.outstanding.amounts.remove(series);
            }
            let Some(key) = self.bucket_key(&roster, Hour::FIRST, series) else { continue };
            put(keys::series(key.product, key.customer, key.dimension), amount, batch);
        }
        for key in std::mem::take(&mut self.outstanding.touched_others) {
            let amount = self.outstanding.others.get(&key).copied().unwrap_or_default();
            if amount == 0 {
                self.outstanding.others.remove(&key);
            }
            put(key.into(), amount, batch);
        }
    }
}

/// Writes down what a store from before there was a journal has outstanding, by its records and carries.
pub(super) fn write_opening(store: &dyn Rows, batch: &mut Batch) -> Result<(), StoreError> {
    let mut amounts: BTreeMap<Vec<u8>, i128> = BTreeMap::new();
    let mut add = |key, amount| {
        let outstanding = amounts.entry(key).or_default();
        *outstanding = outstanding.saturating_add(signed(amount));
    };
    load::buckets(store, |key, bucket| {
        add(keys::series(key.product, key.customer, key.dimension), bucket.carried.total());
        Ok(())
    })?;
    load::all_pending(store, |record, _| add(series_key(&record), record.amounts.billed))?;
    load::all_settled(store, Table::Held, |settled| {
        add(series_key(&settled.record), settled.record.amounts.billed);
    })?;
    for (key, amount) in amounts.into_iter().filter(|(_, amount)| *amount != 0) {
        put(key, amount, batch);
    }
    Ok(())
}

fn put(key: Vec<u8>, amount: i128, batch: &mut Batch) {
    if amount == 0 {
        batch.delete(Table::Outstanding, key);
    } else {
        batch.put(Table::Outstanding, key, encode(&SignedAmount(amount)));
    }
}

fn series_key(record: &Record) -> Vec<u8> {
    keys::series(&record.product, &record.customer, &record.dimension)
}

fn signed(amount: u128) -> i128 {
    i128::try_from(amount).unwrap_or(i128::MAX)
}
