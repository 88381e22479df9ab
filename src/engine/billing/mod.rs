//! Billing: hours become records, and each record is followed to its end.
//!
//! - `seal`: which customers' hours are sealed now, some at a time; `customer_hour`: how the buckets of one become
//!   records.
//! - `settle`: what becomes of a pending record; `held`: of one that waits for a person or a subscription.
//! - `decisions`: a person's word about held records; `moves`: about a product that goes to another destination.
//! - `registration`: who is billed, and until when; `early_seal`: the part of an hour of an identity that gives way.
//! - `record_reader`: records as others read them.
//! - `outstanding`: an independent balance; `hour_tallies`, `tally`: what people look at.
//! - `retention`: what is old enough to go.

mod customer_hour;
mod decisions;
mod early_seal;
mod held;
mod hour_tallies;
mod moves;
mod outstanding;
pub(crate) mod record_reader;
mod registration;
mod retention;
mod seal;
mod seal_step;
mod settle;
mod tally;
#[cfg(test)]
mod tenure_tests;
#[cfg(test)]
mod tests;

pub(crate) use hour_tallies::read_hours;

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
};

use crate::{
    base::tasks::side_by_side,
    domain::{
        billing::{
            record::{Record, RecordId},
            schedule::first_watermark,
        },
        time::{Hour, Timestamp},
    },
    store::{
        Batch, ReadTable, Rows, Store, StoreError,
        journal::Journal,
        tables::{
            records::Records,
            sealing::{NextRecord, Sealing, SealingState},
            settled::Held,
        },
    },
};

use super::{
    counting::series::Series,
    customers::{Customer, CustomerDirectory, CustomerIndex, CustomerTable},
    open_error::OpenError,
    rules::Rules,
    watermark::Watermark,
};
use hour_tallies::HourTallies;
use outstanding::Outstanding;
use seal::SealCursor;

pub(crate) use decisions::DecideError;
pub(crate) use held::Resumed;
pub(crate) use moves::doubtful_records;
pub(crate) use registration::{PutError, Registration};
pub(crate) use seal_step::SealProgress;
pub use settle::Settlement;
pub(crate) use tally::RunningTotals;

#[derive(Debug)]
pub(crate) struct Billing {
    rules: Arc<Rules>,
    customers: Arc<CustomerDirectory>,
    started: Timestamp,
    watermark: Watermark,
    sealing: Option<SealCursor>,
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
    next_record: RecordId,
    journal: Journal,
    outstanding: Outstanding,
    hours: HourTallies,
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
        let sealing_state = match store.find(Sealing, ())? {
            Some(state) => state,
            None => first_sealing_state(store, first_watermark(now, rules.grace))?,
        };
        let mut billing = Self {
            started: now,
            watermark: Watermark(sealing_state.watermark),
            sealing: sealing_state.unfinished.map(SealCursor::resumed),
            closing: BTreeSet::new(),
            changed: BTreeSet::new(),
            waiting: BTreeSet::new(),
            unheld: HashSet::new(),
            unpended: HashSet::new(),
            next_record: NextRecord::read(store)?,
            journal: open_journal(store, now)?,
            outstanding: Outstanding::default(),
            hours: HourTallies::load(store)?,
            tally: RunningTotals::default(),
            rules,
            customers,
        };
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
        let (pending, outstanding) = side_by_side(
            || Records::by_product(store),
            || Outstanding::load(store, &self.rules.catalog, &self.customers.read()),
        );
        self.outstanding = outstanding?;
        for (product, records) in pending? {
            if self.rules.catalog.find(&product).is_none() {
                let what = "a record that AWS has not accepted yet".to_owned();
                return Err(OpenError::NotConfigured { what, product });
            }
            self.tally.pending_records.insert(product.into(), records);
        }
        Ok(())
    }

    fn load_held(&mut self, store: &dyn Rows, now: Timestamp) -> Result<(), OpenError> {
        store.each(Held, |_, settled| {
            self.tally.settled(&settled);
            self.wait_for_subscription(&settled, now);
            Ok(())
        })?;
        Ok(())
    }

    pub(crate) fn watermark(&self) -> Watermark {
        self.watermark
    }

    pub(crate) fn tally(&self) -> &RunningTotals {
        &self.tally
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
    }

    fn series_of(&self, record: &Record, customers: &CustomerTable) -> Option<Series> {
        let product = self.rules.catalog.find(&record.product)?;
        let customer = customers.find(product, &record.customer)?;
        let dimension = self.rules.catalog.find_dimension(product, &record.dimension)?;
        Some(Series { customer, dimension })
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

fn first_sealing_state(store: &dyn Store, watermark: Hour) -> Result<SealingState, StoreError> {
    let state = SealingState { watermark, unfinished: None };
    let mut batch = Batch::default();
    batch.put(Sealing, (), &state);
    store.commit(batch)?;
    Ok(state)
}
