//! Billing: hours become records, and each record is followed to its end.
//!
//! - `seal`: which customers' hours are sealed now, some at a time; `seal_scope`: which products' go together;
//!   `customer_hour`: how the buckets of one become records.
//! - `settle`: what becomes of a pending record; `held`: of one that waits for a person or a subscription.
//! - `decisions`: a person's word about held records; `adjustments`: about what is not sealed yet; `moves`: about a
//!   product that goes to another destination.
//! - `registration`: who is billed, and until when; `early_seal`: the part of an hour of an identity that gives way.
//! - `record_reader`: records as others read them.
//! - `usual_hours`, `suspicious`: what is usual, and by when a person must decide about what is not; `capped`: hours of
//!   AWS's largest quantity.
//! - `outstanding`: an independent balance; `hour_tallies`, `tally`: what people look at.
//! - `retention`: what is old enough to go; `forget`: customers of whom nothing is left, as `unsettled` tells.

mod adjustments;
mod capped;
mod customer_hour;
mod decisions;
mod early_seal;
mod forget;
mod held;
mod hour_tallies;
mod moves;
mod outstanding;
pub(crate) mod record_reader;
mod registration;
mod retention;
mod seal;
mod seal_budget;
mod seal_scope;
mod settle;
mod suspicious;
mod tally;
#[cfg(test)]
mod tenure_tests;
#[cfg(test)]
mod tests;
mod unsettled;
mod usual_hours;

pub(crate) use hour_tallies::read_hours;

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
};

use crate::{
    base::tasks::side_by_side,
    domain::{
        billing::record::{Record, RecordId},
        product::{Catalog, ProductIndex},
        time::{Hour, Timestamp},
    },
    store::{
        Batch, ReadTable, Rows, Store, StoreError,
        journal::Journal,
        tables::{records::Records, sealing::NextRecord, settled::Held},
    },
};

use super::{
    counting::series::Series,
    customers::{Customer, CustomerDirectory, CustomerIndex, CustomerTable},
    open_error::OpenError,
    rules::Rules,
    watermark::Watermarks,
};
use adjustments::AdjustmentBook;
use capped::CappedSeries;
use hour_tallies::HourTallies;
use outstanding::Outstanding;
use seal_scope::SealCursor;
use suspicious::SuspiciousRecords;
use unsettled::Unsettled;
use usual_hours::UsualHoursInBatch;

pub(crate) use adjustments::{AdjustError, AdjustRequest, Adjusted};
pub(crate) use capped::CappedCustomers;
pub(crate) use decisions::DecideError;
pub(crate) use held::Resumed;
pub(crate) use moves::doubtful_records;
pub(crate) use registration::{PutError, Registration};
pub(crate) use seal_budget::SealProgress;
pub use settle::Settlement;
pub(crate) use suspicious::{DecisionDeadlines, next_decision};
pub(crate) use tally::RunningTotals;

#[derive(Debug)]
pub(crate) struct Billing {
    rules: Arc<Rules>,
    customers: Arc<CustomerDirectory>,
    started: Timestamp,
    watermarks: Watermarks,
    sealing: Option<SealCursor>,
    /// The last hour that no product has open any more.
    ended: Hour,
    /// Closing customers by the moment of their last seal.
    closing: BTreeSet<(Timestamp, CustomerIndex)>,
    /// Customers that have changed, by the hour whose seal ends the change.
    changed: BTreeSet<(Hour, CustomerIndex)>,
    /// Held records of customers without a subscription, by the moment of their next attempt.
    waiting: BTreeSet<(Timestamp, RecordId)>,
    /// Held records that the batch in the making takes away: the store still shows them.
    unheld: HashSet<RecordId>,
    /// Pending records that the batch in the making settles.
    unpended: HashSet<RecordId>,
    unsettled: Unsettled,
    /// The first customer of the table that is yet to be looked at, whether it can be forgotten.
    forget_from: Option<u32>,
    next_record: RecordId,
    journal: Journal,
    outstanding: Outstanding,
    hours: HourTallies,
    usual: UsualHoursInBatch,
    capped: CappedSeries,
    suspicious: SuspiciousRecords,
    adjustments: AdjustmentBook,
    tally: RunningTotals,
}

impl Billing {
    /// `in_change` are the customers of the table whose usage ends, or whose terms have changed in an open hour.
    pub(crate) fn open(
        store: &dyn Store,
        rules: Arc<Rules>,
        customers: Arc<CustomerDirectory>,
        in_change: Vec<CustomerIndex>,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let (watermarks, sealing) = seal_scope::load(store, &rules.catalog, rules.grace, now)?;
        let mut billing = Self {
            started: now,
            ended: watermarks.lowest(),
            watermarks,
            sealing,
            closing: BTreeSet::new(),
            changed: BTreeSet::new(),
            waiting: BTreeSet::new(),
            unheld: HashSet::new(),
            unpended: HashSet::new(),
            unsettled: Unsettled::default(),
            forget_from: Some(0),
            next_record: NextRecord::read(store)?,
            journal: open_journal(store, now)?,
            outstanding: Outstanding::default(),
            hours: HourTallies::load(store)?,
            usual: UsualHoursInBatch::default(),
            capped: CappedSeries::default(),
            suspicious: SuspiciousRecords::default(),
            adjustments: AdjustmentBook::load(store)?,
            tally: RunningTotals::default(),
            rules,
            customers,
        };
        if let Some(cursor) = &billing.sealing {
            billing.ended = billing.ended.min(billing.watermark_of(cursor.scope).previous());
        }
        billing.schedule_changes(in_change);
        billing.load_records(store)?;
        billing.load_held(store, now)?;
        Ok(billing)
    }

    fn schedule_changes(&mut self, in_change: Vec<CustomerIndex>) {
        let customers = self.customers.read();
        for index in in_change {
            let Some(Customer { state, .. }) = customers.get(index) else { continue };
            self.closing.extend(state.seals_at(self.rules.grace).map(|moment| (moment, index)));
            self.changed.extend(state.changed_in().map(|hour| (hour, index)));
        }
    }

    /// Loads what there may be a million of, side by side: applications wait for it.
    fn load_records(&mut self, store: &dyn Store) -> Result<(), OpenError> {
        let (catalog, customers) = (&self.rules.catalog, self.customers.read());
        let (pending, outstanding) = side_by_side(
            || load_pending(store, catalog, &customers),
            || Outstanding::load(store, catalog, &customers),
        );
        drop(customers);
        self.outstanding = outstanding?;
        (self.tally.pending_records, self.unsettled) = pending?;
        Ok(())
    }

    fn load_held(&mut self, store: &dyn Rows, now: Timestamp) -> Result<(), OpenError> {
        store.each(Held, |_, settled| {
            self.tally.settled(&settled);
            self.suspicious.note_held(&settled, self.deadline(&settled.record));
            self.unsettled.add(self.customers.read().of_record(&self.rules.catalog, &settled.record));
            self.wait_for_subscription(&settled, now);
            Ok(())
        })?;
        Ok(())
    }

    pub(crate) fn watermarks(&self) -> &Watermarks {
        &self.watermarks
    }

    pub(crate) fn tally(&self) -> &RunningTotals {
        &self.tally
    }

    /// How many customers have reached AWS's largest quantity in the last sealed hour.
    pub(crate) fn capped_customers(&self) -> CappedCustomers {
        self.capped.in_last_hour(&self.watermarks)
    }

    /// By when persons must have decided about suspicious records.
    pub(crate) fn decision_deadlines(&self) -> Arc<DecisionDeadlines> {
        self.suspicious.deadlines()
    }

    #[cfg(test)]
    pub(crate) fn customers(&self) -> &CustomerDirectory {
        &self.customers
    }

    /// The number of the last record that was sealed.
    #[cfg(test)]
    pub(crate) fn last_record(&self) -> RecordId {
        RecordId(self.next_record.0.saturating_sub(1))
    }

    /// Puts what has changed into the batch. To be called once, when the batch is otherwise complete.
    pub(crate) fn flush(&mut self, batch: &mut Batch) {
        self.journal.flush(batch);
        self.hours.flush(batch);
        self.outstanding.flush(&self.rules.catalog, &self.customers.read(), batch);
    }

    /// The batch is written: it is read from the store now.
    pub(crate) fn written(&mut self) {
        self.unheld.clear();
        self.unpended.clear();
        self.usual.written();
        self.adjustments.written();
    }

    /// The hour that takes what moves on now.
    fn open_hour(&self, series: Series, customers: &CustomerTable, now: Timestamp) -> Hour {
        let product = customers.name(series.customer).map_or(ProductIndex(0), |(product, _)| product);
        let hour = Hour::containing(now);
        self.watermarks.open_hour(customers, product, Some(series.customer), (hour, now))
    }

    fn series_of(&self, record: &Record, customers: &CustomerTable) -> Option<Series> {
        let product = self.rules.catalog.find(&record.product)?;
        let customer = customers.find(product, &record.customer)?;
        let dimension = self.rules.catalog.find_dimension(product, &record.dimension)?;
        Some(Series { customer, dimension })
    }
}

/// How many records are pending of each product, and of which customers.
fn load_pending(
    store: &dyn Rows,
    catalog: &Catalog,
    customers: &CustomerTable,
) -> Result<(BTreeMap<Arc<str>, u64>, Unsettled), OpenError> {
    let (mut by_product, mut unsettled) = (BTreeMap::<Arc<str>, u64>::new(), Unsettled::default());
    let mut unknown = None;
    Records::each_owner(store, |product, customer| {
        let index = catalog.find(product).filter(|_| !product.is_empty());
        let (Some(index), Some(known)) = (index, index.and_then(|index| catalog.product(index))) else {
            unknown.get_or_insert_with(|| product.to_owned());
            return;
        };
        *by_product.entry(known.code.clone()).or_default() += 1;
        unsettled.add(customers.find(index, customer));
    })?;
    match unknown {
        Some(product) => {
            let what = "a record that AWS has not accepted yet".to_owned();
            Err(OpenError::NotConfigured { what, product })
        }
        None => Ok((by_product, unsettled)),
    }
}

fn open_journal(store: &dyn Store, now: Timestamp) -> Result<Journal, StoreError> {
    if let Some(journal) = Journal::load(store)? {
        return Ok(journal);
    }
    let mut batch = Batch::default();
    let mut journal = Journal::begin(now, &mut batch);
    journal.flush(&mut batch);
    store.commit(batch)?;
    Ok(journal)
}
