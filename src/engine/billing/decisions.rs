//! A person's decisions about held records. Each is written down for ever, with who, when and why.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::{
    domain::{
        billing::{
            journal::JournalEvent,
            record::{Decided, Decision, DecisionKind, HoldReason, Outcome, RecordId, Settled, rolled},
        },
        time::{Hour, Timestamp},
    },
    engine::{counting::Counting, write_txn::WriteTxn},
    store::{Encoded, StoreError, journal::hash_of_row, tables::decisions::Decisions},
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
            match decision.kind {
                DecisionKind::Retry => resumed.push(self.resume(settled, decision.at, txn)),
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
                    _ => {}
                }
                if deadline <= decision.at { Err(DecideError::TooLate { id, deadline }) } else { Ok(()) }
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

    fn carry(&mut self, settled: Settled, now: Timestamp, counting: &mut Counting, txn: &mut WriteTxn<'_>) {
        let customers = self.customers.read();
        let Some(series) = self.series_of(&settled.record, &customers) else { return };
        let into = self.watermark.open_hour(&customers, Some(series.customer), Hour::containing(now), now);
        counting.carry(into, series, &rolled(&settled.record), &customers);
        drop(customers);
        self.close(settled, Outcome::Carried { into }, now, txn);
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
            amount: record.amounts.billed,
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
