//! What became of records.

use std::sync::Arc;

use crate::{
    domain::{
        backoff::slow_retry,
        journal::Entry,
        product::ProductIndex,
        record::{Delivery, HoldReason, Outcome, Record, RecordId, Settled, missed, rolled},
        time::{Hour, Timestamp},
    },
    worlds::store::{Batch, Store, StoreError, Table, journal::hash_of_row, keys, load, values::encode},
};

use super::{Books, Series, Tally};

/// A record is back among the pending ones.
pub type Resumed = (Record, Delivery);

/// A change in a pending record's fate.
#[derive(Clone, Debug)]
pub enum Settlement {
    /// An attempt begins, or has ended without settling it.
    Pending(RecordId, Delivery),
    /// AWS, or our reading of its answer, settled it.
    Done(Arc<Record>, u32, Outcome),
    /// Its deadline has passed.
    Missed(Arc<Record>, Delivery),
}

impl Settlement {
    fn record(&self) -> RecordId {
        match self {
            Self::Pending(id, _) => *id,
            Self::Done(record, ..) | Self::Missed(record, _) => record.id,
        }
    }
}

impl Books {
    /// Writes down what became of a record. News of one that is not pending any more says nothing: to settle a record
    /// twice could carry its usage twice.
    pub fn settle(
        &mut self,
        settlement: &Settlement,
        store: &dyn Store,
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<Option<Settled>, StoreError> {
        if !self.is_pending(settlement.record(), store)? {
            return Ok(None);
        }
        let (record, attempts, outcome) = match settlement {
            Settlement::Pending(id, delivery) => {
                batch.put(Table::Deliveries, keys::record(*id), encode(delivery));
                return Ok(None);
            }
            Settlement::Done(record, attempts, outcome) => {
                self.note_answer(record, outcome, batch);
                (record, *attempts, final_outcome(record, outcome))
            }
            Settlement::Missed(record, delivery) => {
                (record, delivery.attempts, self.give_up(record, delivery, now))
            }
        };
        let key = keys::record(record.id);
        let settled = Settled { record: (**record).clone(), attempts, outcome, at: now };
        self.write_settled(&settled, batch);
        batch.delete(Table::Records, key);
        batch.delete(Table::Deliveries, key);
        self.unpended.insert(record.id);
        self.tally.note_not_pending(&settled.record.product);
        self.hour_not_pending(settled.record.hour);
        self.tally.note_settled(&settled);
        self.wait_for_subscription(&settled, now);
        Ok(Some(settled))
    }

    fn is_pending(&self, id: RecordId, store: &dyn Store) -> Result<bool, StoreError> {
        Ok(!self.unpended.contains(&id) && store.get(Table::Records, &keys::record(id))?.is_some())
    }

    /// Puts a record among the held ones or into the ledger, with its line in the journal.
    pub(super) fn write_settled(&mut self, settled: &Settled, batch: &mut Batch) {
        let table = match settled.outcome {
            Outcome::Held { .. } => Table::Held,
            Outcome::Accepted { .. }
            | Outcome::RolledForward { .. }
            | Outcome::Expired
            | Outcome::Carried { .. }
            | Outcome::WrittenOff => Table::Receipts,
        };
        let (id, row) = (settled.record.id, encode(settled));
        self.journal.append(Entry::Settled { record: id, row: hash_of_row(&row) }, settled.at, batch);
        self.outstanding_settled(&settled.record, &settled.outcome);
        batch.put(table, keys::record(id), row);
    }

    fn note_answer(&self, record: &Record, outcome: &Outcome, batch: &mut Batch) {
        match outcome {
            Outcome::Accepted { .. } => self.note_subscription(record, true, batch),
            Outcome::Held { reason: HoldReason::NotSubscribed, .. } => {
                self.note_subscription(record, false, batch);
            }
            _ => {}
        }
    }

    /// Decides about a record past its deadline, and carries what rolls forward, in the same batch.
    fn give_up(&mut self, record: &Record, delivery: &Delivery, now: Timestamp) -> Outcome {
        let held = Outcome::Held { reason: HoldReason::Missed, detail: delivery.last_error.clone() };
        // Without a place in the configuration there is no bucket to carry it into; a closing customer has no later
        // hour.
        let place = self.series_of_record(record).filter(|(_, series)| !self.is_closing(*series));
        let current = self.hour_for(
            &self.roster.read(),
            place.map(|(_, series)| series.customer),
            Hour::containing(now),
            now,
        );
        match (missed(record, delivery, self.rules.missed, current), place) {
            (Outcome::RolledForward { .. }, None) => held,
            (Outcome::RolledForward { into }, Some((product, series))) => {
                self.carry_into(into, product, series, &rolled(record));
                Outcome::RolledForward { into }
            }
            (other, _) => other,
        }
    }

    pub(super) fn series_of_record(&self, record: &Record) -> Option<(ProductIndex, Series)> {
        let product = self.rules.catalog.find(&record.product)?;
        let customer = self.roster.read().find(product, &record.customer)?;
        let dimension = self.rules.catalog.find_dimension(product, &record.dimension)?;
        Some((product, Series { customer, dimension }))
    }

    pub(super) fn is_closing(&self, series: Series) -> bool {
        let roster = self.roster.read();
        roster.get(series.customer).is_some_and(|customer| customer.standing.closing.is_some())
    }

    /// Plans the next attempt of a record that is held because AWS knows no subscription: one may be on its way.
    pub(super) fn wait_for_subscription(&mut self, settled: &Settled, now: Timestamp) {
        let Outcome::Held { reason: HoldReason::NotSubscribed, .. } = settled.outcome else { return };
        let deadline = self.deadline(&settled.record);
        let next = slow_retry(settled.record.hour, deadline, now);
        self.waiting.extend(next.map(|moment| (moment, settled.record.id)));
    }

    /// When a record of a customer without a subscription is tried again.
    pub fn next_slow_retry(&self) -> Timestamp {
        self.waiting.first().map_or(Timestamp::MAX, |(moment, _)| *moment)
    }

    /// Puts some of the records whose slow retry is due back among the pending ones.
    pub fn retry_slowly(
        &mut self,
        store: &dyn Store,
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<Vec<Resumed>, StoreError> {
        const MOST: usize = 1000;
        let mut resumed = Vec::new();
        while let Some((moment, id)) = self.waiting.first().copied() {
            if moment > now || resumed.len() >= MOST {
                break;
            }
            self.waiting.pop_first();
            // A person may have decided about it meanwhile, and AWS may have refused it since for another reason.
            let waits = |settled: &Settled| {
                matches!(settled.outcome, Outcome::Held { reason: HoldReason::NotSubscribed, .. })
            };
            if let Some(settled) = self.held(id, store)?.filter(waits) {
                resumed.push(self.resume(settled, now, batch));
            }
        }
        Ok(resumed)
    }

    /// A held record, unless the batch in the making takes it away.
    pub(super) fn held(&self, id: RecordId, store: &dyn Store) -> Result<Option<Settled>, StoreError> {
        if self.unheld.contains(&id) { Ok(None) } else { load::held(store, id) }
    }

    pub(super) fn take_from_held(&mut self, settled: &Settled, batch: &mut Batch) {
        self.unheld.insert(settled.record.id);
        self.tally.note_not_held(settled);
        self.hour_not_held(settled.record.hour);
        batch.delete(Table::Held, keys::record(settled.record.id));
    }

    /// Takes a held record back among the pending ones, exactly as it is.
    pub(super) fn resume(&mut self, settled: Settled, now: Timestamp, batch: &mut Batch) -> Resumed {
        self.take_from_held(&settled, batch);
        let Settled { record, attempts, outcome, .. } = settled;
        let (outcome_unknown, last_error) = match outcome {
            Outcome::Held { reason, detail } => (reason == HoldReason::OutcomeUnknown, detail),
            _ => (true, "".into()),
        };
        let delivery = Delivery { attempts, outcome_unknown, next_attempt: now, last_error };
        let key = keys::record(record.id);
        self.journal.append(Entry::Resumed { record: record.id }, now, batch);
        batch.put(Table::Records, key, encode(&record));
        batch.put(Table::Deliveries, key, encode(&delivery));
        self.tally.note_pending(&record.product);
        self.hour_pending(record.hour);
        (record, delivery)
    }
}

/// A claim to zero for someone without a subscription leaves nothing to decide about.
fn final_outcome(record: &Record, outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Held { reason: HoldReason::NotSubscribed | HoldReason::OutcomeUnknown, .. }
            if !record.bills_something() =>
        {
            Outcome::Expired
        }
        other => other.clone(),
    }
}

impl Tally {
    pub(super) fn note_pending(&mut self, product: &Arc<str>) {
        *self.pending_records.entry(product.clone()).or_default() += 1;
    }

    pub(super) fn note_not_pending(&mut self, product: &str) {
        if let Some(pending) = self.pending_records.get_mut(product) {
            *pending = pending.saturating_sub(1);
        }
    }

    pub(super) fn note_settled(&mut self, settled: &Settled) {
        let record = &settled.record;
        match &settled.outcome {
            Outcome::Accepted { .. } => {
                *self.accepted_records.entry(record.product.clone()).or_default() += 1;
                self.last_success.insert(record.product.clone(), settled.at);
            }
            Outcome::Held { reason, .. } => {
                *self.held_records.entry((record.product.clone(), *reason)).or_default() += 1;
                let units =
                    self.held_units.entry((record.product.clone(), record.dimension.clone())).or_default();
                *units = units.saturating_add(record.amounts.billed);
            }
            Outcome::RolledForward { .. }
            | Outcome::Expired
            | Outcome::Carried { .. }
            | Outcome::WrittenOff => {}
        }
    }

    pub(super) fn note_not_held(&mut self, settled: &Settled) {
        let Outcome::Held { reason, .. } = &settled.outcome else { return };
        let record = &settled.record;
        if let Some(held) = self.held_records.get_mut(&(record.product.clone(), *reason)) {
            *held = held.saturating_sub(1);
        }
        if let Some(units) = self.held_units.get_mut(&(record.product.clone(), record.dimension.clone())) {
            *units = units.saturating_sub(record.amounts.billed);
        }
    }
}
