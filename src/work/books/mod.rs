//! The books: everything that the committer owns.
//!
//! Each operation changes the state in memory and adds the same change to a batch. The committer writes the batch and
//! answers only then; should the write fail, these books are not used any more.

mod dedup;
mod ledger;
mod seal;
#[cfg(test)]
mod tests;
mod usage;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use thiserror::Error;

use crate::{
    domain::{
        bucket::{Bucket, Carried},
        deadline::Window,
        product::{Catalog, DimensionIndex, ProductIndex},
        record::{HoldReason, MissedPolicy, RecordId},
        seal::first_watermark,
        time::{Hour, Timestamp},
    },
    worlds::store::{
        Batch, Store, StoreError, Table,
        keys::{self, BucketKey},
        load,
        values::{Producer, SealingState, encode},
    },
};

use super::roster::{Customer, CustomerIndex, Roster};
use dedup::Dedup;
use seal::Sealing;

pub use ledger::Settlement;
pub use seal::SealProgress;
pub use usage::{PutError, RecordError};

/// What the books go by.
#[derive(Clone, Debug)]
pub struct Rules {
    pub catalog: Arc<Catalog>,
    pub grace: Duration,
    pub dedup_window: Duration,
    pub window: Window,
    pub missed: MissedPolicy,
    pub receipts_kept: Duration,
    pub max_customers: usize,
    pub max_open_buckets: usize,
}

#[derive(Debug)]
pub struct Books {
    rules: Rules,
    roster: Arc<Roster>,
    started: Timestamp,
    open: BTreeMap<Hour, HashMap<Series, Bucket>>,
    open_buckets: usize,
    /// Buckets whose change is not in the batch yet.
    touched: HashSet<(Hour, Series)>,
    watermark: Hour,
    sealing: Option<Sealing>,
    next_record: RecordId,
    dedup: Dedup,
    producers: HashMap<Arc<str>, Producer>,
    tally: Tally,
}

/// A customer and one of its product's dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Series {
    customer: CustomerIndex,
    dimension: DimensionIndex,
}

/// Running totals for operators, in base units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub open_units: BTreeMap<(ProductIndex, DimensionIndex), u128>,
    /// Sealed records that AWS has not accepted yet, by product.
    pub pending_records: BTreeMap<Arc<str>, u64>,
    pub held_records: BTreeMap<(Arc<str>, HoldReason), u64>,
    pub held_units: BTreeMap<(Arc<str>, Arc<str>), u128>,
    /// Since the start of this process.
    pub accepted_records: BTreeMap<Arc<str>, u64>,
    pub last_success: BTreeMap<Arc<str>, Timestamp>,
}

#[derive(Debug, Error)]
pub enum OpenError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(
        "{what} of product `{product}` is on disk, but the configuration does not know it any more: \
         put it back until everything is billed"
    )]
    NotConfigured { what: String, product: String },
    #[error(
        "product `{product}` has records under way to {before}, and the configuration names {now}: AWS could bill them \
         in both places; put it back until they are accepted"
    )]
    Moved { product: String, before: String, now: String },
    #[error(
        "dimension `{dimension}` of product `{product}` has open usage of aggregate `{before}`, and the configuration \
         says `{now}`: put it back until it is billed, or give the new aggregate a dimension of its own"
    )]
    AggregateChanged { product: String, dimension: String, before: String, now: String },
    #[error("customer `{customer}` of product `{product}`: {why}")]
    Customer { product: String, customer: String, why: String },
}

impl Books {
    /// Opens the books of a store, at the start of a process.
    pub fn open(
        store: &dyn Store,
        rules: Rules,
        roster: Arc<Roster>,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let sealing_state = match load::sealing(store)? {
            Some(state) => state,
            None => first_sealing_state(store, first_watermark(now, rules.grace))?,
        };
        let mut books = Self {
            dedup: Dedup::load(store, rules.dedup_window, now)?,
            next_record: load::next_record(store)?,
            rules,
            roster,
            started: now,
            open: BTreeMap::new(),
            open_buckets: 0,
            touched: HashSet::new(),
            watermark: sealing_state.watermark,
            sealing: None,
            producers: HashMap::new(),
            tally: Tally::default(),
        };
        load::producers(store, |id, producer| {
            books.producers.insert(id.into(), producer);
        })?;
        books.load_roster(store)?;
        books.load_buckets(store)?;
        books.load_pending(store)?;
        books.load_held(store)?;
        if let Some(done) = sealing_state.unfinished {
            books.resume_sealing(done, now);
        }
        Ok(books)
    }

    fn load_roster(&self, store: &dyn Store) -> Result<(), OpenError> {
        let mut roster = self.roster.write();
        let mut fault = None;
        load::customers(store, |product, key, entry| {
            // A customer of a product that is not configured has nothing open: buckets are checked below.
            let Some(product_index) = self.rules.catalog.find(product).filter(|_| !product.is_empty()) else {
                return Ok(());
            };
            let customer = Customer {
                product: product_index,
                key: key.into(),
                identity: entry.identity,
                since: entry.since,
                first_hour: entry.first_hour,
            };
            if let Err(taken) = roster.put(customer) {
                fault.get_or_insert_with(|| OpenError::Customer {
                    product: product.to_owned(),
                    customer: key.to_owned(),
                    why: taken.to_string(),
                });
            }
            Ok(())
        })?;
        fault.map_or(Ok(()), Err)
    }

    fn load_buckets(&mut self, store: &dyn Store) -> Result<(), OpenError> {
        let roster = self.roster.clone();
        let roster = roster.read();
        let mut fault = None;
        load::buckets(store, |key, bucket| {
            if let Some((product, series)) = self.series_of(&roster, key) {
                self.note_open(product, series.dimension, bucket.total());
                self.open.entry(key.hour).or_default().insert(series, bucket);
                self.open_buckets += 1;
            } else {
                fault.get_or_insert_with(|| OpenError::NotConfigured {
                    what: format!("usage of dimension `{}`", key.dimension),
                    product: key.product.to_owned(),
                });
            }
            Ok(())
        })?;
        fault.map_or(Ok(()), Err)
    }

    fn series_of(&self, roster: &super::roster::Inner, key: BucketKey<'_>) -> Option<(ProductIndex, Series)> {
        let product = self.rules.catalog.find(key.product)?;
        let customer = roster.find(product, key.customer)?;
        let dimension = self.rules.catalog.find_dimension(product, key.dimension)?;
        Some((product, Series { customer, dimension }))
    }

    fn load_pending(&mut self, store: &dyn Store) -> Result<(), OpenError> {
        const PAGE: usize = 1000;
        let mut after = RecordId(0);
        loop {
            let page = load::pending_after(store, after, PAGE)?;
            for (record, _) in &page {
                self.tally.note_pending(&record.product);
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => after = last.id,
                _ => return Ok(()),
            }
        }
    }

    fn load_held(&mut self, store: &dyn Store) -> Result<(), OpenError> {
        const PAGE: usize = 1000;
        let mut from = RecordId(0);
        loop {
            let page = load::settled(store, Table::Held, from, PAGE)?;
            for settled in &page {
                self.tally.note_settled(settled);
            }
            match page.last() {
                Some(last) if page.len() == PAGE => from = RecordId(last.record.id.0 + 1),
                _ => return Ok(()),
            }
        }
    }

    pub fn watermark(&self) -> Hour {
        self.watermark
    }

    pub fn open_buckets(&self) -> usize {
        self.open_buckets
    }

    /// The oldest hour with usage that is not sealed.
    pub fn oldest_open(&self) -> Option<Hour> {
        self.open.iter().find(|(_, buckets)| !buckets.is_empty()).map(|(hour, _)| *hour)
    }

    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// The number of the last record that was sealed.
    pub fn last_record(&self) -> RecordId {
        RecordId(self.next_record.0.saturating_sub(1))
    }

    /// Puts the changed buckets into the batch. To be called once, when the batch is otherwise complete.
    pub fn flush(&mut self, batch: &mut Batch) {
        let touched = std::mem::take(&mut self.touched);
        let roster = self.roster.clone();
        let roster = roster.read();
        for (hour, series) in touched {
            let bucket = self.open.get(&hour).and_then(|buckets| buckets.get(&series));
            let key = self.bucket_key(&roster, hour, series);
            if let (Some(bucket), Some(key)) = (bucket, key) {
                batch.put(Table::Buckets, key, encode(bucket));
            }
        }
    }

    /// The batch is on disk.
    pub fn committed(&mut self) {
        self.dedup.committed();
    }

    fn bucket_key(&self, roster: &super::roster::Inner, hour: Hour, series: Series) -> Option<Vec<u8>> {
        let customer = roster.get(series.customer)?;
        let product = self.rules.catalog.product(customer.product)?;
        let dimension = product.dimensions.get(usize::from(series.dimension.0))?;
        let key =
            BucketKey { hour, product: &product.code, customer: &customer.key, dimension: &dimension.name };
        Some(key.encode())
    }

    /// Moves amounts from earlier hours into an open bucket.
    fn carry_into(&mut self, hour: Hour, product: ProductIndex, series: Series, carried: &Carried) {
        if carried.is_empty() {
            return;
        }
        let bucket = self.open.entry(hour).or_default().entry(series).or_insert_with(|| {
            self.open_buckets += 1;
            Bucket::default()
        });
        bucket.carried.merge(carried);
        self.touched.insert((hour, series));
        self.note_open(product, series.dimension, carried.total());
    }

    fn note_open(&mut self, product: ProductIndex, dimension: DimensionIndex, amount: u128) {
        let open = self.tally.open_units.entry((product, dimension)).or_default();
        *open = open.saturating_add(amount);
    }
}

fn first_sealing_state(store: &dyn Store, watermark: Hour) -> Result<SealingState, StoreError> {
    let state = SealingState { watermark, unfinished: None };
    let mut batch = Batch::default();
    batch.put(Table::Meta, keys::SEALING, encode(&state));
    store.commit(batch)?;
    Ok(state)
}
