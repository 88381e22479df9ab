//! A person's decisions about held records. Each is written down for ever, with who, when and why.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::{
    domain::{
        journal::Entry,
        record::{Decision, DecisionKind, HoldReason, Outcome, RecordId, Settled, rolled},
        time::{Hour, Timestamp},
    },
    worlds::store::{
        Batch, Store, StoreError, Table,
        journal::hash_of_row,
        keys, load,
        values::{Decided, encode},
    },
};

use super::{Books, ledger::Resumed};

/// Why a decision cannot be carried out. Then nothing of it is.
#[derive(Debug, Error)]
pub enum DecideError {
    #[error("record {0} is not held")]
    NotHeld(RecordId),
    #[error("AWS takes record {id} no more since {deadline}: carry it or write it off")]
    TooLate { id: RecordId, deadline: Timestamp },
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

impl Books {
    /// Decides about held records, all or none. Returns those that are to be sent again.
    pub fn decide(
        &mut self,
        ids: &BTreeSet<RecordId>,
        decision: &Decision,
        store: &dyn Store,
        batch: &mut Batch,
    ) -> Result<Vec<Resumed>, DecideError> {
        let mut held = Vec::with_capacity(ids.len());
        for id in ids {
            let settled = self.held(*id, store)?.ok_or(DecideError::NotHeld(*id))?;
            self.check(&settled, decision)?;
            held.push(settled);
        }
        let mut resumed = Vec::new();
        for settled in held {
            self.write_down(&settled, decision, store, batch)?;
            match decision.kind {
                DecisionKind::Retry => resumed.push(self.resume(settled, decision.at, batch)),
                DecisionKind::Carry => self.carry(settled, decision.at, batch),
                DecisionKind::WriteOff => self.close(settled, Outcome::WrittenOff, decision.at, batch),
            }
        }
        Ok(resumed)
    }

    fn check(&self, settled: &Settled, decision: &Decision) -> Result<(), DecideError> {
        let id = settled.record.id;
        match decision.kind {
            DecisionKind::Retry => {
                let deadline = self.deadline(&settled.record);
                if matches!(settled.outcome, Outcome::Held { reason: HoldReason::NoIdentity, .. }) {
                    return Err(DecideError::GivenUpIdentity(id));
                }
                if deadline <= decision.at { Err(DecideError::TooLate { id, deadline }) } else { Ok(()) }
            }
            DecisionKind::Carry => match self.series_of_record(&settled.record) {
                None => Err(DecideError::NotConfigured(id)),
                Some((_, series)) if self.is_closing(series) => Err(DecideError::Closed(id)),
                Some(_) => Ok(()),
            },
            DecisionKind::WriteOff => Ok(()),
        }
    }

    fn carry(&mut self, settled: Settled, now: Timestamp, batch: &mut Batch) {
        let Some((product, series)) = self.series_of_record(&settled.record) else { return };
        let into = self.hour_for(&self.roster.read(), Some(series.customer), Hour::containing(now), now);
        self.carry_into(into, product, series, &rolled(&settled.record));
        self.close(settled, Outcome::Carried { into }, now, batch);
    }

    /// Moves a held record to the ledger.
    fn close(&mut self, settled: Settled, outcome: Outcome, at: Timestamp, batch: &mut Batch) {
        self.take_from_held(&settled, batch);
        self.write_settled(&Settled { outcome, at, ..settled }, batch);
    }

    /// Decisions outlive the records that they are about.
    fn write_down(
        &mut self,
        settled: &Settled,
        decision: &Decision,
        store: &dyn Store,
        batch: &mut Batch,
    ) -> Result<(), StoreError> {
        let record = &settled.record;
        let Outcome::Held { reason: held_for, .. } = settled.outcome else { return Ok(()) };
        let before = load::decisions(store, record.id)?.len();
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
        let (id, row) = (record.id, encode(&decided));
        let number = u32::try_from(before).unwrap_or(u32::MAX);
        self.journal.append(
            Entry::Decided { record: id, number, row: hash_of_row(&row) },
            decision.at,
            batch,
        );
        batch.put(Table::Decisions, keys::decision(id, number), row);
        Ok(())
    }
}
