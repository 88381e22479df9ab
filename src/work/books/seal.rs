//! Sealing an hour, a few customers at a time, so that usage never waits long.
//!
//! First the watermark moves: from that commit on no event enters the hour. Then its customers are sealed in the
//! order of product code and key; each commit notes how far it came, so that a crash resumes there.

use std::collections::{HashMap, HashSet, VecDeque};

use crate::{
    domain::{
        bucket::Bucket,
        product::Product,
        record::RecordId,
        seal::{Billed, seal, seals_at},
        time::{Hour, Timestamp},
    },
    work::roster::{Customer, CustomerIndex, Inner},
    worlds::store::{
        Batch, Store, StoreError, Table, keys, load,
        values::{Number, SealingState, encode},
    },
};

use super::{Books, DimensionIndex, Series};

/// How many buckets and zero claims one step looks at: a few milliseconds of work.
const STEP: usize = if cfg!(test) { 3 } else { 1000 };

/// An hour on its way from open to sealed.
#[derive(Debug)]
pub(super) struct Sealing {
    customers: VecDeque<CustomerIndex>,
    last_done: Option<(String, String)>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealProgress {
    /// Hours that were sealed to the end in this step.
    pub hours: u32,
    pub records: u32,
    /// There is more to do at once.
    pub more: bool,
}

impl Books {
    /// When the next hour is due.
    pub fn next_seal(&self) -> Timestamp {
        seals_at(self.watermark, self.started, self.rules.grace, &self.rules.window)
    }

    /// Does one step of sealing, if anything is due.
    ///
    /// # Panics
    ///
    /// Should a bucket be left out of its hour's seal: better to stop than to forget it.
    pub fn seal_step(&mut self, now: Timestamp, batch: &mut Batch) -> SealProgress {
        let mut progress = SealProgress::default();
        let mut left = STEP;
        while left > 0 {
            if self.sealing.is_none() {
                if self.next_seal() > now {
                    break;
                }
                self.close_hour(now);
            }
            left = self.seal_customers(left, now, batch, &mut progress);
            if self.sealing.as_ref().is_some_and(|sealing| sealing.customers.is_empty()) {
                self.sealing = None;
                let forgotten = self.open.remove(&self.watermark);
                assert!(
                    forgotten.is_none_or(|buckets| buckets.is_empty()),
                    "a bucket was left out of its seal"
                );
                progress.hours += 1;
                left = left.saturating_sub(1);
            }
        }
        if progress.hours > 0 || progress.records > 0 || self.sealing.is_some() {
            self.note_progress(batch);
        }
        progress.more = self.sealing.is_some() || self.next_seal() <= now;
        progress
    }

    /// Goes on where an earlier process stopped.
    pub(super) fn resume_sealing(&mut self, done: Option<(String, String)>, now: Timestamp) {
        let customers = self.customers_to_seal(self.watermark, done.as_ref(), now);
        self.sealing = Some(Sealing { customers, last_done: done });
    }

    /// Moves the watermark: no event enters the hour any more.
    fn close_hour(&mut self, now: Timestamp) {
        self.watermark = self.watermark.next();
        let customers = self.customers_to_seal(self.watermark, None, now);
        self.sealing = Some(Sealing { customers, last_done: None });
    }

    /// The customers with something to seal in `hour`, sorted, those after `done`.
    fn customers_to_seal(
        &self,
        hour: Hour,
        done: Option<&(String, String)>,
        now: Timestamp,
    ) -> VecDeque<CustomerIndex> {
        let roster = self.roster.read();
        let used: HashSet<CustomerIndex> =
            self.open.get(&hour).into_iter().flat_map(HashMap::keys).map(|series| series.customer).collect();
        let mut customers: Vec<(&str, &str, CustomerIndex)> = roster
            .indices()
            .filter_map(|index| {
                let customer = roster.get(index)?;
                let product = self.rules.catalog.product(customer.product)?;
                let relevant = self.claims_zero(product, customer, hour, now) || used.contains(&index);
                relevant.then_some((&*product.code, &*customer.key, index))
            })
            .filter(|(code, key, _)| {
                done.is_none_or(|done| (*code, *key) > (done.0.as_str(), done.1.as_str()))
            })
            .collect();
        customers.sort_unstable();
        customers.into_iter().map(|(_, _, index)| index).collect()
    }

    /// Whether a customer that used nothing gets a zero record (I8). One that AWS would refuse for its age claims
    /// nothing.
    fn claims_zero(&self, product: &Product, customer: &Customer, hour: Hour, now: Timestamp) -> bool {
        product.zero_records
            && hour >= customer.first_hour
            && customer.since.is_none_or(|since| since < hour.end())
            && now < self.rules.window.deadline(hour)
    }

    fn seal_customers(
        &mut self,
        mut left: usize,
        now: Timestamp,
        batch: &mut Batch,
        progress: &mut SealProgress,
    ) -> usize {
        let roster = self.roster.clone();
        let roster = roster.read();
        while left > 0 {
            let next = self.sealing.as_mut().and_then(|sealing| sealing.customers.pop_front());
            let Some(index) = next else { break };
            left = left.saturating_sub(self.seal_customer(&roster, index, now, batch, progress));
        }
        left
    }

    /// Seals all dimensions of one customer; returns how many it looked at.
    fn seal_customer(
        &mut self,
        roster: &Inner,
        index: CustomerIndex,
        now: Timestamp,
        batch: &mut Batch,
        progress: &mut SealProgress,
    ) -> usize {
        let catalog = self.rules.catalog.clone();
        let Some(customer) = roster.get(index) else { return 1 };
        let Some(product) = catalog.product(customer.product) else { return 1 };
        let hour = self.watermark;
        let claims_zero = self.claims_zero(product, customer, hour, now);
        let billed = Billed {
            product: product.code.clone(),
            customer: customer.key.clone(),
            identity: customer.identity.clone(),
            since: customer.since,
        };
        for (dimension, place) in product.dimensions.iter().zip(0..) {
            let series = Series { customer: index, dimension: DimensionIndex(place) };
            let bucket = self.take_bucket(roster, hour, series, batch);
            if bucket.is_none() && !claims_zero {
                continue;
            }
            let bucket = bucket.unwrap_or_default();
            let sealed = seal(self.next_record, hour, &billed, dimension, &bucket, claims_zero);
            if let Some(record) = sealed.record {
                batch.put(Table::Records, keys::record(record.id), encode(&record));
                self.next_record = RecordId(self.next_record.0 + 1);
                self.tally.note_pending(&record.product);
                progress.records += 1;
            }
            self.note_sealed(customer, series, bucket.total());
            self.carry_into(hour.next(), customer.product, series, &sealed.carry);
        }
        if let Some(sealing) = &mut self.sealing {
            sealing.last_done = Some((product.code.to_string(), customer.key.to_string()));
        }
        product.dimensions.len().max(1)
    }

    fn take_bucket(
        &mut self,
        roster: &Inner,
        hour: Hour,
        series: Series,
        batch: &mut Batch,
    ) -> Option<Bucket> {
        let bucket = self.open.get_mut(&hour)?.remove(&series)?;
        self.open_buckets -= 1;
        if let Some(key) = self.bucket_key(roster, hour, series) {
            batch.delete(Table::Buckets, key);
        }
        Some(bucket)
    }

    fn note_sealed(&mut self, customer: &Customer, series: Series, total: u128) {
        let open = self.tally.open_units.entry((customer.product, series.dimension)).or_default();
        *open = open.saturating_sub(total);
    }

    fn note_progress(&self, batch: &mut Batch) {
        let unfinished = self.sealing.as_ref().map(|sealing| sealing.last_done.clone());
        let state = SealingState { watermark: self.watermark, unfinished };
        batch.put(Table::Meta, keys::SEALING, encode(&state));
        batch.put(Table::Meta, keys::NEXT_RECORD, encode(&Number(self.next_record.0.into())));
    }

    /// Drops what is too old to be needed: markers past the dedup window, receipts past their retention. Says whether
    /// there is more of it.
    pub fn drop_expired(
        &mut self,
        store: &dyn Store,
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<bool, StoreError> {
        const PAGE: usize = 1000;
        self.dedup.drop_expired(now, batch);
        let oldest_kept = now.minus(self.rules.receipts_kept);
        let page = load::settled(store, Table::Receipts, RecordId(0), PAGE)?;
        let expired = page.iter().take_while(|settled| settled.record.hour.end() < oldest_kept).count();
        if let Some(last) = page.iter().take(expired).next_back() {
            let after_last = RecordId(last.record.id.0 + 1);
            batch.delete_range(Table::Receipts, keys::record(RecordId(0)), keys::record(after_last));
        }
        Ok(expired == PAGE)
    }
}
