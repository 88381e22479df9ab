//! What becomes of a record: pending until AWS accepts it, then in the ledger, or held.

use std::sync::Arc;

use crate::{
    domain::{
        billing::{
            hour_tally::HourTally,
            journal::{Digest, JournalEvent},
            record::{Delivery, HoldReason, Outcome, Record, RecordId, Settled, missed, rolled},
        },
        customer::transition::CustomerEvent,
        time::Hour,
        usage::bucket::Carry,
    },
    engine::{counting::Counting, write_txn::WriteTxn},
    store::{
        Batch, Encoded, ReadTable, Store, StoreError, Table,
        journal::hash_of_row,
        tables::{
            deliveries::Deliveries,
            records::Records,
            settled::{Held, Receipts},
        },
    },
};

use super::{Billing, unsettled::RecordOwner};

/// A change in a pending record's fate.
#[derive(Clone, Debug)]
pub enum Settlement {
    /// An attempt begins, or has ended without settling it.
    Pending(RecordId, Delivery),
    /// AWS, or our reading of its answer, settled it.
    Done(Arc<Record>, u32, Outcome),
    /// The record's deadline has passed.
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

impl Billing {
    /// Writes down what became of a record. What is said of one that is not pending any more changes nothing: to
    /// settle a record twice could carry its usage twice.
    pub(crate) fn settle(
        &mut self,
        settlement: &Settlement,
        counting: &mut Counting,
        txn: &mut WriteTxn<'_>,
    ) -> Result<Option<Settled>, StoreError> {
        if !self.is_pending(settlement.record(), txn.store)? {
            return Ok(None);
        }
        let (record, attempts, outcome) = match settlement {
            Settlement::Pending(id, delivery) => {
                txn.batch.put(Deliveries, *id, delivery);
                return Ok(None);
            }
            Settlement::Done(record, attempts, outcome) => {
                self.note_answer(record, outcome, txn);
                (record, *attempts, final_outcome(record, outcome))
            }
            Settlement::Missed(record, delivery) => {
                (record, delivery.attempts, self.give_up(record, delivery, counting, txn))
            }
        };
        let settled = Settled {
            record: (**record).clone(),
            attempts,
            outcome,
            at: txn.now,
            withheld: Carry::default(),
        };
        let owner = self.owner_of(record, &self.customers.read());
        self.write_settled(&settled, owner, txn);
        self.remove_pending(&settled.record, owner, txn);
        self.tally.settled(&settled);
        self.wait_for_subscription(&settled, txn.now);
        Ok(Some(settled))
    }

    fn is_pending(&self, id: RecordId, store: &dyn Store) -> Result<bool, StoreError> {
        Ok(!self.unpended.contains(&id) && store.has(Records, id)?)
    }

    /// Puts a record among the pending ones.
    pub(super) fn put_pending(
        &mut self,
        record: &Record,
        owner: RecordOwner,
        row: Encoded<Records>,
        txn: &mut WriteTxn<'_>,
    ) {
        self.unsettled.add(owner.customer);
        txn.batch.put_encoded(Records, record.id, row);
        self.tally.pending(&record.product);
        self.hours.change(record.hour, HourTally::sealed);
    }

    fn remove_pending(&mut self, record: &Record, owner: RecordOwner, txn: &mut WriteTxn<'_>) {
        self.unsettled.remove(owner.customer);
        txn.batch.delete(Records, record.id);
        txn.batch.delete(Deliveries, record.id);
        self.unpended.insert(record.id);
        self.tally.not_pending(&record.product);
        self.hours.change(record.hour, HourTally::not_pending);
    }

    /// Puts a record among the held ones or into the ledger, with its line in the journal.
    pub(super) fn write_settled(&mut self, settled: &Settled, owner: RecordOwner, txn: &mut WriteTxn<'_>) {
        let record = &settled.record;
        let row = match settled.outcome {
            Outcome::Held { .. } => {
                self.unsettled.add(owner.customer);
                put_settled(Held, settled, txn.batch)
            }
            Outcome::Accepted { .. }
            | Outcome::RolledForward { .. }
            | Outcome::Expired
            | Outcome::Carried { .. }
            | Outcome::WrittenOff => put_settled(Receipts, settled, txn.batch),
        };
        let line = JournalEvent::Settled { record: record.id, row };
        self.journal.append(line, settled.at, txn.batch);
        self.outstanding.settled(settled, owner.series);
        self.hours.change(record.hour, |tally| tally.settled(&settled.outcome));
    }

    /// AWS's answer tells whether it knows the customer.
    fn note_answer(&mut self, record: &Record, outcome: &Outcome, txn: &mut WriteTxn<'_>) {
        let event = match outcome {
            Outcome::Accepted { .. } => CustomerEvent::RecordAccepted,
            Outcome::Held { reason: HoldReason::NotSubscribed, .. } => CustomerEvent::NotSubscribed,
            Outcome::Held { reason: HoldReason::UnknownCustomer, .. } => CustomerEvent::IdentityRefused,
            _ => return,
        };
        let customers = self.customers.read();
        // Of an identity that was replaced the answer says nothing about the new one.
        let customer = customers.of_record(&self.rules.catalog, record);
        let customer = customer.filter(|index| customers.goes_by(*index, &record.identity));
        drop(customers);
        if let Some(index) = customer {
            self.change_customer(index, event, txn);
        }
    }

    /// Decides about a record past its deadline, and carries what rolls forward, in the same batch.
    fn give_up(
        &self,
        record: &Record,
        delivery: &Delivery,
        counting: &mut Counting,
        txn: &WriteTxn<'_>,
    ) -> Outcome {
        let customers = self.customers.read();
        // Of a customer or dimension that is not configured there is no bucket to carry it into; a closing customer has
        // no later hour, nor has an identity that was replaced: the next one is not billed for its usage.
        let series = self.series_of(record, &customers).filter(|series| {
            !customers.is_closing(series.customer) && customers.goes_by(series.customer, &record.identity)
        });
        let current = series
            .map_or_else(|| Hour::containing(txn.now), |series| self.open_hour(series, &customers, txn.now));
        match (missed(record, delivery, self.rules.missed, current), series) {
            (Outcome::RolledForward { .. }, None) => {
                Outcome::Held { reason: HoldReason::Missed, detail: delivery.last_error.clone() }
            }
            (Outcome::RolledForward { into }, Some(series)) => {
                counting.carry(into, series, &rolled(record), &customers);
                Outcome::RolledForward { into }
            }
            (other, _) => other,
        }
    }
}

/// Puts a record into its table, and returns the hash of its row.
fn put_settled<T>(table: T, settled: &Settled, batch: &mut Batch) -> Digest
where
    T: for<'k> Table<Key<'k> = RecordId, Value = Settled>,
{
    let row = Encoded::of(settled);
    let hash = hash_of_row(row.bytes());
    batch.put_encoded(table, settled.record.id, row);
    hash
}

/// A claim to zero for someone without a subscription, or unknown to AWS, leaves nothing to decide about.
fn final_outcome(record: &Record, outcome: &Outcome) -> Outcome {
    let is_about_the_customer = |reason: HoldReason| {
        matches!(reason, HoldReason::NotSubscribed | HoldReason::UnknownCustomer | HoldReason::OutcomeUnknown)
    };
    match outcome {
        Outcome::Held { reason, .. } if !record.bills_something() && is_about_the_customer(*reason) => {
            Outcome::Expired
        }
        other => other.clone(),
    }
}
