//! Counting: usage is added up in open buckets, and each event counts once.
//!
//! Billing takes buckets out of their hour ([`Counting::take`]), puts into a later one what an hour leaves
//! ([`Counting::carry`]), and tells by its watermark which hours are open.

mod count;
pub(crate) mod dedup;
mod digests;
mod newcomers;
mod open_buckets;
mod paged_vec;
pub(crate) mod producers;
#[cfg(test)]
mod replay_tests;
pub(crate) mod request;
pub(crate) mod series;
pub(crate) mod streams;
mod subjects;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    domain::{
        product::{DimensionIndex, ProductIndex},
        time::{Hour, Timestamp},
        usage::bucket::{Bucket, Carry, Lowered},
    },
    store::{Batch, Rows, StoreError},
};

use super::{
    customers::{CustomerDirectory, CustomerIndex, CustomerTable},
    open_error::OpenError,
    rules::Rules,
    write_txn::WriteTxn,
};
use dedup::Dedup;
use newcomers::Newcomers;
use open_buckets::OpenBuckets;
use producers::Producers;
use series::{Series, SeriesNames};
use subjects::Subjects;

pub use count::CountError;
pub(crate) use producers::MAX_PRODUCERS;

#[derive(Debug)]
pub(crate) struct Counting {
    rules: Arc<Rules>,
    customers: Arc<CustomerDirectory>,
    buckets: OpenBuckets,
    subjects: Subjects,
    dedup: Dedup,
    producers: Producers,
    newcomers: Newcomers,
}

impl Counting {
    pub(crate) fn open(
        store: &dyn Rows,
        rules: Arc<Rules>,
        customers: Arc<CustomerDirectory>,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let buckets = OpenBuckets::load(store, &rules.catalog, &customers.read())?;
        let dedup = Dedup::load(store, rules.dedup_window, now)?;
        let producers = Producers::load(store)?;
        let (subjects, newcomers) = (Subjects::default(), Newcomers::default());
        Ok(Self { rules, customers, buckets, subjects, dedup, producers, newcomers })
    }

    pub(crate) fn open_buckets(&self) -> usize {
        self.buckets.len()
    }

    /// The oldest hour of each product with usage that is not sealed.
    pub(crate) fn oldest_open(&self) -> BTreeMap<ProductIndex, Hour> {
        self.buckets.oldest()
    }

    /// What is open of each dimension, in base units.
    pub(crate) fn open_units(&self) -> &BTreeMap<(ProductIndex, DimensionIndex), u128> {
        self.buckets.units()
    }

    pub(crate) fn is_empty(&self, hour: Hour) -> bool {
        self.buckets.is_empty(hour)
    }

    /// Whether nothing of a product is open in the hour.
    pub(crate) fn is_empty_of(&self, product: ProductIndex, hour: Hour) -> bool {
        self.buckets.is_empty_of(product, hour)
    }

    /// Whether a customer has used anything in the hour.
    pub(crate) fn has_used(&self, customer: CustomerIndex, hour: Hour) -> bool {
        self.buckets.has_had(customer, hour)
    }

    pub(crate) fn bucket(&self, hour: Hour, series: Series) -> Option<&Bucket> {
        self.buckets.get(hour, series)
    }

    /// Whether a customer has had anything in an hour that is open.
    pub(crate) fn has_open(&self, customer: CustomerIndex) -> bool {
        self.buckets.has_any(customer)
    }

    /// Takes a bucket out of its hour, to be sealed.
    pub(crate) fn take(
        &mut self,
        hour: Hour,
        series: Series,
        customers: &CustomerTable,
        txn: &mut WriteTxn<'_>,
    ) -> Option<Bucket> {
        let names = SeriesNames::new(&self.rules.catalog, customers);
        self.buckets.take(hour, series, &names, txn.batch)
    }

    /// Moves what an earlier hour left into an open bucket.
    pub(crate) fn carry(&mut self, hour: Hour, series: Series, carry: &Carry, customers: &CustomerTable) {
        self.buckets.carry(hour, series, carry, &SeriesNames::new(&self.rules.catalog, customers));
    }

    /// The open buckets of a customer and dimension, oldest first.
    pub(crate) fn open_of(&self, series: Series) -> Vec<(Hour, &Bucket)> {
        self.buckets.of(series)
    }

    /// What is open of a customer and dimension, in base units.
    pub(crate) fn open_total(&self, series: Series) -> u128 {
        self.open_of(series).iter().fold(0, |sum, (_, bucket)| sum.saturating_add(bucket.total()))
    }

    /// Takes from an open bucket what a person wants to be gone.
    pub(crate) fn lower(&mut self, hour: Hour, series: Series, lowered: &Lowered, customers: &CustomerTable) {
        self.buckets.lower(hour, series, lowered, &SeriesNames::new(&self.rules.catalog, customers));
    }

    /// Ends an hour, every bucket of which has been taken.
    pub(crate) fn end_hour(&mut self, hour: Hour, txn: &mut WriteTxn<'_>) {
        self.buckets.end(hour);
        Subjects::drop_hour(hour, txn.batch);
    }

    pub(crate) fn drop_expired(&mut self, now: Timestamp, txn: &mut WriteTxn<'_>) {
        self.dedup.drop_expired(now, txn.batch);
    }

    /// Puts what has changed into the batch. To be called once, when the batch is otherwise complete.
    pub(crate) fn flush(&mut self, store: &dyn Rows, batch: &mut Batch) -> Result<(), StoreError> {
        let customers = self.customers.read();
        self.buckets.flush(&SeriesNames::new(&self.rules.catalog, &customers), batch);
        self.producers.flush(batch);
        self.dedup.write(store, batch)
    }

    /// The batch is written: it is read from the store now.
    pub(crate) fn written(&mut self) {
        self.dedup.written();
        self.producers.written();
        self.subjects.written();
    }
}
