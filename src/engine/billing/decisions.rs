//! A person's decisions about held records. Each is written down for ever, with who, when and why.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::{
    domain::{
        billing::{
            journal::JournalEvent,
            record::{Decided, Decision, DecisionKind, HoldReason, Outcome, Record, RecordId, Settled},
        },
        time::Timestamp,
    },
    engine::{counting::Counting, write_txn::WriteTxn},
    store::{Encoded, StoreError, journal::hash_of_row, key::SeriesKey, tables::decisions::Decisions},
};

use super::{Billing, held::Resumed};

/// Why a decision cannot be carried out. Then nothing of it is.
#[derive(Debug, Error)]
pub enum DecideError {
    #[error("record {0} is not held")]
    NotHeld(RecordId),
    #[error("AWS takes record {id} no more since {deadline}: carry it or write it off")]
    TooLate { id: RecordId, deadline: Timestamp },
    #[error(
        "AWS keeps what another reporter sent in place of record {0}, whatever is sent: carry it or write it off"
    )]
    InConflict(RecordId),
    #[error(
        "record {0} would go out under an identity that its product has given up: register the customer under the new \
         one, and carry it"
    )]
    GivenUpIdentity(RecordId),
    #[error(
        "record {0} is of an hour that is billed under the identity before its product's change: carry it"
    )]
    LaterIdentity(RecordId),
    #[error(
        "the customer of record {0} is closed, and has no later hour: reopen the customer first, or write it off"
    )]
    Closed(RecordId),
    #[error(
        "the customer or dimension of record {0} is not in the configuration, so there is no hour to carry it into"
    )]
    NotConfigured(RecordId),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Billing {
    /// Decides about held records, all or none. Returns those that are to be sent again.
    pub(crate) fn decide(
        &mut self,
        ids: &BTreeSet<RecordId>,
        decision: &Decision,
        counting: &mut Counting,
        txn: &mut WriteTxn<'_>,
    ) -> Result<Vec<Resumed>, DecideError> {
        let mut held = Vec::with_capacity(ids.len());
        for id in ids {
            let settled = self.held(*id, txn.store)?.ok_or(DecideError::NotHeld(*id))?;
            self.check(&settled, decision)?;
            held.push(settled);
        }
        let mut resumed = Vec::new();
        for settled in held {
            self.write_down(&settled, decision, txn)?;
            if decision.kind != DecisionKind::WriteOff {
                self.count_among_usual(&settled, txn)?;
            }
            match decision.kind {
                DecisionKind::Retry => {
                    self.release(&settled, decision.at, counting);
                    resumed.push(self.resume(settled, decision.at, txn));
                }
                DecisionKind::Carry => self.carry(settled, decision.at, counting, txn),
                DecisionKind::WriteOff => self.close(settled, Outcome::WrittenOff, decision.at, txn),
            }
        }
        Ok(resumed)
    }

    fn check(&self, settled: &Settled, decision: &Decision) -> Result<(), DecideError> {
        let id = settled.record.id;
        match decision.kind {
            DecisionKind::Retry => {
                let deadline = self.deadline(&settled.record);
                match settled.outcome {
                    Outcome::Held { reason: HoldReason::NoIdentity, .. } => {
                        return Err(DecideError::GivenUpIdentity(id));
                    }
                    // If its answer was lost, AWS's next `DuplicateRecord` would be taken for our own success.
                    Outcome::Held { reason: HoldReason::Conflict, .. } => {
                        return Err(DecideError::InConflict(id));
                    }
                    Outcome::Held { reason: HoldReason::Suspicious, .. }
                        if self.is_early(&settled.record) =>
                    {
                        return Err(DecideError::LaterIdentity(id));
                    }
                    _ => {}
                }
                if deadline <= decision.at {
                    return Err(DecideError::TooLate { id, deadline });
                }
                let has_place = || self.series_of(&settled.record, &self.customers.read()).is_some();
                if settled.withheld.is_empty() || has_place() {
                    Ok(())
                } else {
                    Err(DecideError::NotConfigured(id))
                }
            }
            DecisionKind::Carry => {
                let customers = self.customers.read();
                match self.series_of(&settled.record, &customers) {
                    None => Err(DecideError::NotConfigured(id)),
                    Some(series) if customers.is_closing(series.customer) => Err(DecideError::Closed(id)),
                    Some(_) => Ok(()),
                }
            }
            DecisionKind::WriteOff => Ok(()),
        }
    }

    /// Whether a record has an identity that its product has only from a later hour on.
    fn is_early(&self, record: &Record) -> bool {
        let catalog = &self.rules.catalog;
        let product = catalog.find(&record.product).and_then(|index| catalog.product(index));
        product.is_some_and(|product| product.identity_for(record.hour) != record.identity.mode())
    }

    /// A suspicious hour that a person has billed was right, and is a measure for later ones.
    fn count_among_usual(&mut self, settled: &Settled, txn: &mut WriteTxn<'_>) -> Result<(), StoreError> {
        let Outcome::Held { reason: HoldReason::Suspicious, .. } = settled.outcome else { return Ok(()) };
        let (record, catalog) = (&settled.record, self.rules.catalog.clone());
        let Some(series) = self.series_of(record, &self.customers.read()) else { return Ok(()) };
        let Some(product) = catalog.find(&record.product).and_then(|index| catalog.product(index)) else {
            return Ok(());
        };
        let Some(dimension) = product.dimensions.get(usize::from(series.dimension.0)) else { return Ok(()) };
        let Record { product, customer, dimension: name, .. } = record;
        let key = SeriesKey { product, customer, dimension: name };
        self.usual.count(series, (key, dimension), (record.hour, record.amounts.usage), txn)
    }

    fn carry(&mut self, settled: Settled, now: Timestamp, counting: &mut Counting, txn: &mut WriteTxn<'_>) {
        let customers = self.customers.read();
        let Some(series) = self.series_of(&settled.record, &customers) else { return };
        let into = self.open_hour(series, &customers, now);
        counting.carry(into, series, &settled.moved(), &customers);
        drop(customers);
        self.close(settled, Outcome::Carried { into }, now, txn);
    }

    /// Lets what is withheld with a record go on, into the hour that is open now.
    fn release(&self, settled: &Settled, now: Timestamp, counting: &mut Counting) {
        let customers = self.customers.read();
        let Some(series) = self.series_of(&settled.record, &customers) else { return };
        let into = self.open_hour(series, &customers, now);
        counting.carry(into, series, &settled.withheld, &customers);
    }

    /// Moves a held record to the ledger.
    fn close(&mut self, settled: Settled, outcome: Outcome, at: Timestamp, txn: &mut WriteTxn<'_>) {
        self.remove_held(&settled, txn);
        let owner = self.owner_of(&settled.record, &self.customers.read());
        self.write_settled(&Settled { outcome, at, ..settled }, owner, txn);
    }

    /// Decisions outlive the records that they are about.
    fn write_down(
        &mut self,
        settled: &Settled,
        decision: &Decision,
        txn: &mut WriteTxn<'_>,
    ) -> Result<(), StoreError> {
        let record = &settled.record;
        let Outcome::Held { reason: held_for, .. } = settled.outcome else { return Ok(()) };
        let before = Decisions::of(txn.store, record.id)?.len();
        let decided = Decided {
            record: record.id,
            product: record.product.to_string(),
            customer: record.customer.to_string(),
            dimension: record.dimension.to_string(),
            hour: record.hour,
            amount: settled.amount(),
            held_for,
            decision: decision.clone(),
        };
        let (id, row) = (record.id, Encoded::of(&decided));
        let number = u32::try_from(before).unwrap_or(u32::MAX);
        let line = JournalEvent::Decided { record: id, number, row: hash_of_row(row.bytes()) };
        self.journal.append(line, decision.at, txn.batch);
        txn.batch.put_encoded(Decisions, (id, number), row);
        Ok(())
    }
}
