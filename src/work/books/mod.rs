//! The books: everything that the committer owns.
//!
//! Each operation changes the state in memory and adds the same change to a batch. The committer writes the batch and
//! answers only then; should the write fail, these books are not used any more.

mod customers;
mod decisions;
pub mod dedup;
mod ledger;
mod outstanding;
mod pages;
mod producers;
mod retention;
mod rules;
mod seal;
mod series;
mod subjects;
#[cfg(test)]
mod tests;
mod usage;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    thread::{self, ScopedJoinHandle},
};

use foldhash::fast::RandomState;
use thiserror::Error;

use crate::{
    domain::{
        bucket::{Bucket, Carry},
        product::{Aggregate, DimensionIndex, ProductIndex},
        record::{HoldReason, RecordId},
        seal::first_watermark,
        tags::TagSet,
        time::{Hour, Timestamp},
    },
    worlds::store::{
        Batch, Store, StoreError, Table,
        journal::Journal,
        keys::{self, BucketKey},
        load,
        values::{Number, SealingState, encode},
    },
};

use super::roster::{Customer, CustomerIndex, Inner, Roster};
use dedup::Dedup;
use outstanding::Outstanding;
use producers::Producers;
use seal::Sealing;
use series::{BySeries, Finder, Series};
use subjects::Subjects;

pub use customers::{PutError, Registration};
pub use decisions::DecideError;
pub use ledger::{Resumed, Settlement};
pub use producers::{Foreign, MAX_PRODUCERS};
pub use rules::Rules;
pub use seal::SealProgress;
pub use usage::RecordError;

#[derive(Debug)]
pub struct Books {
    rules: Rules,
    roster: Arc<Roster>,
    started: Timestamp,
    open: BTreeMap<Hour, BySeries<Bucket>>,
    open_buckets: usize,
    /// Distinct subjects that open buckets have counted.
    open_subjects: u64,
    /// Tagged parts of open buckets.
    open_tag_sets: usize,
    /// Buckets, and tagged parts of them, whose change is not in the batch yet.
    touched: HashSet<(Hour, Series), RandomState>,
    touched_tags: HashSet<(Hour, Series, TagSet)>,
    watermark: Hour,
    sealing: Option<Sealing>,
    /// Closing customers by the moment of their last seal.
    closing: BTreeSet<(Timestamp, CustomerIndex)>,
    /// Held records of customers without a subscription, by the moment of their next attempt.
    waiting: BTreeSet<(Timestamp, RecordId)>,
    /// Held records that the batch in the making takes away: the store still shows them.
    unheld: HashSet<RecordId>,
    /// Pending records that it settles.
    unpended: HashSet<RecordId>,
    next_record: RecordId,
    dedup: Dedup,
    subjects: Subjects,
    producers: Producers,
    journal: Journal,
    outstanding: Outstanding,
    tally: Tally,
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
        "product `{product}` has usage that was taken for an endpoint on this machine, and the configuration names {now}: \
         take a new data_dir, or a test would be billed there"
    )]
    OnlyATest { product: String, now: String },
    #[error(
        "dimension `{dimension}` of product `{product}` has open usage of aggregate `{before}`, and the configuration \
         says `{now}`: put it back until it is billed, or give the new aggregate a dimension of its own"
    )]
    AggregateChanged { product: String, dimension: String, before: String, now: String },
    #[error(
        "product `{product}` changed to identity `{before}` a moment ago, and the hour from {until} is not sealed yet: put \
         `{before}` back until it is, since one hour under two identities is billed twice"
    )]
    IdentityChangedTwice { product: String, before: String, until: Hour },
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
            journal: open_journal(store, now)?,
            outstanding: Outstanding::default(),
            dedup: Dedup::load(store, rules.dedup_window, now)?,
            next_record: load::next_record(store)?,
            rules,
            roster,
            started: now,
            open: BTreeMap::new(),
            open_buckets: 0,
            open_subjects: 0,
            open_tag_sets: 0,
            touched: HashSet::default(),
            touched_tags: HashSet::new(),
            watermark: sealing_state.watermark,
            sealing: None,
            closing: BTreeSet::new(),
            waiting: BTreeSet::new(),
            unheld: HashSet::new(),
            unpended: HashSet::new(),
            subjects: Subjects::default(),
            producers: Producers::load(store)?,
            tally: Tally::default(),
        };
        books.load_roster(store)?;
        books.load_usage(store)?;
        books.load_held(store, now)?;
        if let Some(done) = sealing_state.unfinished {
            books.resume_sealing(done);
        }
        Ok(books)
    }

    fn load_roster(&mut self, store: &dyn Store) -> Result<(), OpenError> {
        let mut roster = self.roster.write();
        let mut fault = None;
        load::customers(store, |product, key, standing| {
            // A customer of a product that is not configured has nothing open: buckets are checked below.
            let Some(product_index) = self.rules.catalog.find(product).filter(|_| !product.is_empty()) else {
                return Ok(());
            };
            let seals_at = standing.seals_at(self.rules.grace);
            match roster.put(Customer { product: product_index, key: key.into(), standing }) {
                Ok(index) => self.closing.extend(seals_at.map(|moment| (moment, index))),
                Err(taken) => {
                    fault.get_or_insert_with(|| OpenError::Customer {
                        product: product.to_owned(),
                        customer: key.to_owned(),
                        why: taken.to_string(),
                    });
                }
            }
            Ok(())
        })?;
        fault.map_or(Ok(()), Err)
    }

    /// Loads what there may be a million of, each on a thread of its own: whoever sends usage waits for it.
    fn load_usage(&mut self, store: &dyn Store) -> Result<(), OpenError> {
        let (catalog, roster) = (self.rules.catalog.clone(), self.roster.clone());
        let (pending, outstanding) = thread::scope(|scope| {
            let pending = scope.spawn(|| load::pending_by_product(store));
            let outstanding = scope.spawn(|| Outstanding::load(store, &catalog, &roster.read()));
            self.load_buckets(store)?;
            Ok::<_, OpenError>((joined(pending)?, joined(outstanding)?))
        })?;
        self.outstanding = outstanding;
        for (product, records) in pending {
            if self.rules.catalog.find(&product).is_none() {
                let what = "a record that AWS has not accepted yet".to_owned();
                return Err(OpenError::NotConfigured { what, product });
            }
            self.tally.pending_records.insert(product.into(), records);
        }
        Ok(())
    }

    fn load_buckets(&mut self, store: &dyn Store) -> Result<(), OpenError> {
        let (catalog, roster) = (self.rules.catalog.clone(), self.roster.clone());
        let roster = roster.read();
        let mut finder = Finder::new(&catalog, &roster);
        let mut fault = None;
        load::buckets(store, |key, bucket| {
            if let Some((product, series)) = finder.find(key.product, key.customer, key.dimension) {
                self.note_open(product, series.dimension, 0, bucket.total());
                self.open_buckets += 1;
                self.open_subjects += bucket.usage.subjects();
                self.open.entry(key.hour).or_default().get_or_insert_with(series, || bucket);
            } else {
                fault.get_or_insert_with(|| OpenError::NotConfigured {
                    what: format!("usage of dimension `{}`", key.dimension),
                    product: key.product.to_owned(),
                });
            }
            Ok(())
        })?;
        load::tagged(store, |key, tags, amount| {
            let series = finder.find(key.product, key.customer, key.dimension).map(|(_, series)| series);
            let bucket = series.and_then(|series| self.open.get_mut(&key.hour)?.get_mut(series));
            if bucket.is_some_and(|bucket| bucket.tagged.add(&tags, amount)) {
                self.open_tag_sets += 1;
            }
            Ok(())
        })?;
        fault.map_or(Ok(()), Err)
    }

    fn load_held(&mut self, store: &dyn Store, now: Timestamp) -> Result<(), OpenError> {
        Ok(load::all_settled(store, Table::Held, |settled| {
            self.tally.note_settled(&settled);
            self.wait_for_subscription(&settled, now);
        })?)
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

    /// Puts the changed buckets and the new markers into the batch. To be called once, when the batch is otherwise complete.
    pub fn flush(&mut self, store: &dyn Store, batch: &mut Batch) -> Result<(), StoreError> {
        self.journal.flush(batch);
        self.flush_outstanding(batch);
        let touched = std::mem::take(&mut self.touched);
        let touched_tags = std::mem::take(&mut self.touched_tags);
        let roster = self.roster.clone();
        let roster = roster.read();
        for (hour, series) in touched {
            if let (Some(bucket), Some(key)) =
                (self.bucket(hour, series), self.bucket_key(&roster, hour, series))
            {
                batch.put(Table::Buckets, key.encode(), encode(bucket));
            }
        }
        for (hour, series, tags) in touched_tags {
            let amount = self.bucket(hour, series).and_then(|bucket| bucket.tagged.get(&tags));
            if let (Some(amount), Some(key)) = (amount, self.bucket_key(&roster, hour, series)) {
                let mut key = keys::tagged_of(key);
                key.extend(encode(&tags));
                batch.put(Table::Tagged, key, encode(&Number(amount)));
            }
        }
        self.dedup.flush(store, batch)
    }

    /// The batch is written: it is read from the store now.
    pub fn written(&mut self) {
        self.dedup.written();
        self.subjects.written();
        self.unheld.clear();
        self.unpended.clear();
    }

    fn bucket(&self, hour: Hour, series: Series) -> Option<&Bucket> {
        self.open.get(&hour)?.get(series)
    }

    /// The bucket of an hour that is open, to be changed.
    fn open_bucket(&mut self, hour: Hour, series: Series, aggregate: Aggregate) -> &mut Bucket {
        let place = self.open_place(hour, series, aggregate);
        let bucket = self.open.get_mut(&hour).and_then(|open| open.at_mut(place));
        bucket.unwrap_or_else(|| unreachable!("it was opened"))
    }

    /// As [`open_bucket`](Self::open_bucket), by its place.
    fn open_place(&mut self, hour: Hour, series: Series, aggregate: Aggregate) -> usize {
        self.touched.insert((hour, series));
        let open_buckets = &mut self.open_buckets;
        self.open.entry(hour).or_default().place_or_insert_with(series, || {
            *open_buckets += 1;
            Bucket::new(aggregate)
        })
    }

    fn bucket_key<'a>(&'a self, roster: &'a Inner, hour: Hour, series: Series) -> Option<BucketKey<'a>> {
        let (product, customer) = roster.name(series.customer)?;
        let product = self.rules.catalog.product(product)?;
        let dimension = product.dimensions.get(usize::from(series.dimension.0))?;
        Some(BucketKey { hour, product: &product.code, customer, dimension: &dimension.name })
    }

    /// Moves what an earlier hour left into an open bucket.
    fn carry_into(&mut self, hour: Hour, product: ProductIndex, series: Series, carry: &Carry) {
        let dimension = self.rules.catalog.dimension(product, series.dimension);
        let Some(aggregate) = dimension.map(|dimension| dimension.aggregate).filter(|_| !carry.is_empty())
        else {
            return;
        };
        let bucket = self.open_bucket(hour, series, aggregate);
        let (before, sets_before) = (bucket.total(), bucket.tagged.len());
        bucket.take_in(carry);
        let (after, sets) = (bucket.total(), bucket.tagged.len());
        self.open_tag_sets += sets - sets_before;
        self.touched_tags.extend(carry.tagged.iter().map(|(tags, _)| (hour, series, tags.clone())));
        self.note_open(product, series.dimension, before, after);
    }

    /// A bucket's total has changed.
    fn note_open(&mut self, product: ProductIndex, dimension: DimensionIndex, before: u128, after: u128) {
        let open = self.tally.open_units.entry((product, dimension)).or_default();
        *open = open.saturating_sub(before).saturating_add(after);
    }
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A store from before there was a journal begins one with what it holds.
fn open_journal(store: &dyn Store, now: Timestamp) -> Result<Journal, StoreError> {
    if let Some(journal) = Journal::load(store)? {
        return Ok(journal);
    }
    let mut batch = Batch::default();
    let mut journal = Journal::begin(load::next_record(store)?, now, &mut batch);
    outstanding::write_opening(store, &mut batch)?;
    journal.flush(&mut batch);
    store.commit(batch)?;
    Ok(journal)
}

fn first_sealing_state(store: &dyn Store, watermark: Hour) -> Result<SealingState, StoreError> {
    let state = SealingState { watermark, unfinished: None };
    let mut batch = Batch::default();
    batch.put(Table::Meta, keys::SEALING, encode(&state));
    store.commit(batch)?;
    Ok(state)
}
