//! Held records, those that wait for a person and those that wait for a subscription, and the ways out. The ways in are
//! `customer_hour`, `settle` and `moves`.

use crate::{
    domain::{
        billing::{
            backoff::slow_retry,
            hour_tally::HourTally,
            journal::JournalEvent,
            record::{Delivery, HoldReason, Outcome, Record, RecordId, Settled},
        },
        time::Timestamp,
    },
    engine::write_txn::WriteTxn,
    store::{
        Encoded, ReadTable, Store, StoreError,
        tables::{deliveries::Deliveries, settled::Held},
    },
};

use super::Billing;

/// A record is back among the pending ones.
pub(crate) type Resumed = (Record, Delivery);

impl Billing {
    /// A held record, unless the batch in the making takes it away.
    pub(super) fn held(&self, id: RecordId, store: &dyn Store) -> Result<Option<Settled>, StoreError> {
        if self.unheld.contains(&id) { Ok(None) } else { store.find(Held, id) }
    }

    pub(super) fn remove_held(&mut self, settled: &Settled, txn: &mut WriteTxn<'_>) {
        self.unheld.insert(settled.record.id);
        let owner = self.customers.read().of_record(&self.rules.catalog, &settled.record);
        self.unsettled.remove(owner);
        self.tally.not_held(settled);
        self.suspicious.note_gone(settled.record.id);
        self.hours.change(settled.record.hour, HourTally::not_held);
        txn.batch.delete(Held, settled.record.id);
    }

    /// Takes a held record back among the pending ones, exactly as it is.
    pub(super) fn resume(&mut self, settled: Settled, now: Timestamp, txn: &mut WriteTxn<'_>) -> Resumed {
        self.remove_held(&settled, txn);
        let Settled { record, attempts, outcome, .. } = settled;
        let (outcome_unknown, last_error) = match outcome {
            Outcome::Held { reason, detail } => (reason == HoldReason::OutcomeUnknown, detail),
            _ => (true, "".into()),
        };
        let delivery = Delivery { attempts, outcome_unknown, next_attempt: now, last_error };
        self.journal.append(JournalEvent::Resumed { record: record.id }, now, txn.batch);
        let owner = self.owner_of(&record, &self.customers.read());
        self.put_pending(&record, owner, Encoded::of(&record), txn);
        txn.batch.put(Deliveries, record.id, &delivery);
        (record, delivery)
    }

    /// Plans the next attempt of a record that is held because AWS knows no subscription: one may be on its way.
    pub(super) fn wait_for_subscription(&mut self, settled: &Settled, now: Timestamp) {
        let Outcome::Held { reason: HoldReason::NotSubscribed, .. } = settled.outcome else { return };
        let next = slow_retry(settled.record.hour, self.deadline(&settled.record), now);
        self.waiting.extend(next.map(|moment| (moment, settled.record.id)));
    }

    /// When a record of a customer without a subscription is tried again.
    pub(crate) fn next_slow_retry(&self) -> Timestamp {
        self.waiting.first().map_or(Timestamp::MAX, |(moment, _)| *moment)
    }

    /// Puts some of the records whose slow retry is due back among the pending ones.
    pub(crate) fn retry_slowly(&mut self, txn: &mut WriteTxn<'_>) -> Result<Vec<Resumed>, StoreError> {
        const MOST: usize = 1000;
        let mut resumed = Vec::new();
        while let Some((moment, id)) = self.waiting.first().copied() {
            if moment > txn.now || resumed.len() >= MOST {
                break;
            }
            self.waiting.pop_first();
            // A person may have decided about it meanwhile, and AWS may have refused it since for another reason.
            let waits = |settled: &Settled| {
                matches!(settled.outcome, Outcome::Held { reason: HoldReason::NotSubscribed, .. })
            };
            if let Some(settled) = self.held(id, txn.store)?.filter(waits) {
                resumed.push(self.resume(settled, txn.now, txn));
            }
        }
        Ok(resumed)
    }
}
