//! What became of records.

use std::sync::Arc;

use crate::{
    domain::{
        product::ProductIndex,
        record::{Delivery, HoldReason, Outcome, Record, RecordId, Settled, missed, rolled},
        seal::open_hour,
        time::{Hour, Timestamp},
    },
    worlds::store::{Batch, Table, keys, values::encode},
};

use super::{Books, Series, Tally};

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

impl Books {
    pub fn settle(&mut self, settlement: &Settlement, now: Timestamp, batch: &mut Batch) -> Option<Settled> {
        let (record, attempts, outcome) = match settlement {
            Settlement::Pending(id, delivery) => {
                batch.put(Table::Deliveries, keys::record(*id), encode(delivery));
                return None;
            }
            Settlement::Done(record, attempts, outcome) => {
                (record, *attempts, final_outcome(record, outcome))
            }
            Settlement::Missed(record, delivery) => {
                let current = open_hour(Hour::containing(now), self.watermark, now);
                (record, delivery.attempts, self.give_up(record, delivery, current))
            }
        };
        let key = keys::record(record.id);
        let settled = Settled { record: (**record).clone(), attempts, outcome, at: now };
        let table = match settled.outcome {
            Outcome::Held { .. } => Table::Held,
            Outcome::Accepted { .. } | Outcome::RolledForward { .. } | Outcome::Expired => Table::Receipts,
        };
        batch.put(table, key, encode(&settled));
        batch.delete(Table::Records, key);
        batch.delete(Table::Deliveries, key);
        self.tally.note_not_pending(&settled.record.product);
        self.tally.note_settled(&settled);
        Some(settled)
    }

    /// Decides about a record past its deadline, and carries what rolls forward, in the same batch.
    fn give_up(&mut self, record: &Record, delivery: &Delivery, current: Hour) -> Outcome {
        let outcome = missed(record, delivery, self.rules.missed, current);
        if let Outcome::RolledForward { into } = &outcome {
            let Some((product, series)) = self.series_of_record(record) else {
                // Its customer or dimension left the configuration: there is no bucket to carry it into.
                let reason = HoldReason::Missed;
                return Outcome::Held { reason, detail: delivery.last_error.clone() };
            };
            self.carry_into(*into, product, series, &rolled(record));
        }
        outcome
    }

    fn series_of_record(&self, record: &Record) -> Option<(ProductIndex, Series)> {
        let product = self.rules.catalog.find(&record.product)?;
        let customer = self.roster.read().find(product, &record.customer)?;
        let dimension = self.rules.catalog.find_dimension(product, &record.dimension)?;
        Some((product, Series { customer, dimension }))
    }
}

/// A claim to zero for someone without a subscription leaves nothing to decide about.
fn final_outcome(record: &Record, outcome: &Outcome) -> Outcome {
    match outcome {
        Outcome::Held { reason: HoldReason::NotSubscribed, .. } if !record.bills_something() => {
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
            Outcome::RolledForward { .. } | Outcome::Expired => {}
        }
    }
}
