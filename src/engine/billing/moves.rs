//! A product that goes to another destination by a person's word: what may have been billed at the old one is held.

use std::sync::Arc;

use crate::{
    domain::{
        billing::record::{HoldReason, Outcome, RecordId},
        destination::AllowedMove,
    },
    engine::{
        counting::Counting,
        moves::{self, MoveError, MoveOrder},
        write_txn::WriteTxn,
    },
    store::{
        ReadTable, Rows, StoreError,
        tables::{deliveries::Deliveries, records::Records},
    },
};

use super::{Billing, Settlement};

impl Billing {
    /// Writes a person's word down that a product may move to another destination.
    pub(crate) fn allow_move(
        &mut self,
        order: &MoveOrder,
        txn: &mut WriteTxn<'_>,
    ) -> Result<AllowedMove, MoveError> {
        moves::allow(order, txn.now, txn.store, &mut self.journal, txn.batch)
    }

    /// Holds the records, which the old destination of their product may have billed: a person must see whether it has,
    /// before they are billed at the new one.
    pub(crate) fn hold_doubtful(
        &mut self,
        records: &[RecordId],
        before: &str,
        counting: &mut Counting,
        txn: &mut WriteTxn<'_>,
    ) -> Result<(), StoreError> {
        let detail: Arc<str> =
            format!("it may have been billed in {before}, where its product went before").into();
        for id in records {
            let Some(record) = txn.store.find(Records, *id)? else { continue };
            let attempts = txn.store.find(Deliveries, *id)?.map_or(0, |delivery| delivery.attempts);
            let outcome = Outcome::Held { reason: HoldReason::OutcomeUnknown, detail: detail.clone() };
            self.settle(&Settlement::Done(Arc::new(record), attempts, outcome), counting, txn)?;
        }
        Ok(())
    }
}

/// The pending records of a product that bill something, and that an attempt may have brought to its destination.
pub(crate) fn doubtful_records(rows: &dyn Rows, product: &str) -> Result<Vec<RecordId>, StoreError> {
    let mut tried = Vec::new();
    rows.each(Deliveries, |id, delivery| {
        if delivery.outcome_unknown {
            tried.push(id);
        }
        Ok(())
    })?;
    let mut doubtful = Vec::new();
    for id in tried {
        let record = rows.find(Records, id)?;
        if record.is_some_and(|record| *record.product == *product && record.bills_something()) {
            doubtful.push(id);
        }
    }
    Ok(doubtful)
}
