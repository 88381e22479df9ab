//! The counterpart of the ledger: for each customer and dimension, what is sealed and neither accepted nor written off.
//!
//! It is moved by what was used, rounded, accepted and written off, and never by what records and carries say. So it
//! can be held against them: the records under way, the held ones, and what open buckets carry must add up to it (I1).

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    domain::{
        billing::record::{Outcome, Record, Settled},
        product::Catalog,
        time::Hour,
    },
    engine::{
        counting::series::{Series, SeriesFinder, SeriesMap, SeriesNames},
        customers::CustomerTable,
    },
    store::{Batch, ReadTable, Rows, StoreError, key::SeriesKey, tables::outstanding::OutstandingRows},
};

/// In base units. A customer and dimension of which nothing is outstanding has no row.
#[derive(Debug, Default)]
pub(super) struct Outstanding {
    amounts: SeriesMap<Amount>,
    /// The amounts of customers and dimensions that are not configured.
    others: BTreeMap<SeriesName, i128>,
    dirty: BTreeSet<Series>,
    dirty_others: BTreeSet<SeriesName>,
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

/// A customer and dimension by their names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SeriesName {
    product: Arc<str>,
    customer: Arc<str>,
    dimension: Arc<str>,
}

impl SeriesName {
    fn of_record(record: &Record) -> Self {
        let Record { product, customer, dimension, .. } = record;
        Self { product: product.clone(), customer: customer.clone(), dimension: dimension.clone() }
    }

    fn of_key(key: SeriesKey<'_>) -> Self {
        let SeriesKey { product, customer, dimension } = key;
        Self { product: product.into(), customer: customer.into(), dimension: dimension.into() }
    }

    fn as_key(&self) -> SeriesKey<'_> {
        SeriesKey { product: &self.product, customer: &self.customer, dimension: &self.dimension }
    }
}

/// Whose amount it is.
enum Owner {
    Series(Series),
    Other(SeriesName),
}

impl Outstanding {
    pub(super) fn load(
        store: &dyn Rows,
        catalog: &Catalog,
        customers: &CustomerTable,
    ) -> Result<Self, StoreError> {
        let mut finder = SeriesFinder::new(catalog, customers);
        let mut outstanding = Self::default();
        store.each(OutstandingRows, |key, amount| {
            if let Some((_, series)) = finder.find(key.product, key.customer, key.dimension) {
                outstanding.amounts.get_or_insert_with(series, Amount::default).add(amount);
            } else {
                outstanding.others.insert(SeriesName::of_key(key), amount);
            }
            Ok(())
        })?;
        Ok(outstanding)
    }

    /// A bucket is sealed.
    pub(super) fn used(&mut self, series: Series, usage: u128) {
        self.add(Owner::Series(series), signed(usage));
    }

    /// The record of a sealed bucket was rounded.
    pub(super) fn rounded(&mut self, series: Series, record: &Record) {
        self.add(Owner::Series(series), record.amounts.rounded);
    }

    /// A person has taken away what earlier hours had left.
    pub(super) fn lowered(&mut self, series: Series, carried: u128) {
        self.add(Owner::Series(series), signed(carried).saturating_neg());
    }

    /// A record has left the pending ones. Without a series, it is of a customer or dimension that is not configured.
    pub(super) fn settled(&mut self, settled: &Settled, series: Option<Series>) {
        let record = &settled.record;
        let gone = match settled.outcome {
            Outcome::Accepted { .. } => signed(record.amounts.billed),
            Outcome::WrittenOff => signed(settled.amount()),
            // What moves on is what was used, without what rounding added.
            Outcome::RolledForward { .. } | Outcome::Carried { .. } => record.amounts.rounded.max(0),
            Outcome::Held { .. } | Outcome::Expired => 0,
        };
        let owner = series.map_or_else(|| Owner::Other(SeriesName::of_record(record)), Owner::Series);
        self.add(owner, gone.saturating_neg());
    }

    pub(super) fn has_any(&self, series: Series) -> bool {
        self.amounts.get(series).is_some_and(|amount| amount.get() != 0)
    }

    fn add(&mut self, owner: Owner, amount: i128) {
        if amount == 0 {
            return;
        }
        match owner {
            Owner::Series(series) => {
                self.amounts.get_or_insert_with(series, Amount::default).add(amount);
                self.dirty.insert(series);
            }
            Owner::Other(key) => {
                let outstanding = self.others.entry(key.clone()).or_default();
                *outstanding = outstanding.saturating_add(amount);
                self.dirty_others.insert(key);
            }
        }
    }

    /// Puts the changed amounts into the batch. To be called once, when the batch is otherwise complete.
    pub(super) fn flush(&mut self, catalog: &Catalog, customers: &CustomerTable, batch: &mut Batch) {
        let names = SeriesNames::new(catalog, customers);
        for series in std::mem::take(&mut self.dirty) {
            let amount = self.amounts.get(series).map_or(0, |amount| amount.get());
            if amount == 0 {
                self.amounts.remove(series);
            }
            let Some(key) = names.bucket_key(Hour::FIRST, series) else { continue };
            put(key.series(), amount, batch);
        }
        for key in std::mem::take(&mut self.dirty_others) {
            let amount = self.others.get(&key).copied().unwrap_or_default();
            if amount == 0 {
                self.others.remove(&key);
            }
            put(key.as_key(), amount, batch);
        }
    }
}

fn put(key: SeriesKey<'_>, amount: i128, batch: &mut Batch) {
    if amount == 0 {
        batch.delete(OutstandingRows, key);
    } else {
        batch.put(OutstandingRows, key, &amount);
    }
}

fn signed(amount: u128) -> i128 {
    i128::try_from(amount).unwrap_or(i128::MAX)
}
