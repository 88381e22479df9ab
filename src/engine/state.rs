//! Everything that the committer owns.
//!
//! Each operation changes the state in memory and adds the same change to a batch. The committer writes the batch and
//! answers only then; should the write fail, this state is not used any more.

use std::{collections::BTreeMap, sync::Arc};

use tracing::error;

use crate::{
    base::tasks::side_by_side,
    domain::{
        product::{DimensionIndex, ProductIndex},
        time::{Hour, Timestamp},
    },
    store::{Batch, Store, StoreError},
};

use super::{
    billing::{Billing, CappedCustomers, DecisionDeadlines, RunningTotals},
    counting::{
        CountError, Counting,
        request::{CountRequest, Counted},
    },
    customers::CustomerDirectory,
    open_error::OpenError,
    rules::Rules,
    watermark::Watermarks,
    write_txn::WriteTxn,
};

#[derive(Debug)]
pub struct EngineState {
    pub(crate) counting: Counting,
    pub(crate) billing: Billing,
}

/// The state at a glance, as of the last write.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Up to which hour everything is sealed, and what of the products whose hours wait for a review.
    pub(crate) watermarks: Watermarks,
    /// When an hour or a closing customer is sealed, or a record of a customer without a subscription tried again.
    pub next_due: Timestamp,
    pub open_buckets: usize,
    /// The oldest hour of each product with usage that is not sealed.
    pub oldest_open: BTreeMap<ProductIndex, Hour>,
    /// The open amounts, in base units.
    pub open_units: BTreeMap<(ProductIndex, DimensionIndex), u128>,
    pub tally: RunningTotals,
    /// By when persons must have decided about suspicious records.
    pub(crate) decision_deadlines: Arc<DecisionDeadlines>,
    /// How many customers have reached AWS's largest quantity in the last sealed hour.
    pub(crate) capped_customers: CappedCustomers,
}

impl EngineState {
    /// Reads what a store holds, at the start of a process, and takes its customers into the directory.
    #[expect(clippy::needless_pass_by_value, reason = "the state keeps it")]
    pub fn open(
        store: &dyn Store,
        rules: Rules,
        customers: Arc<CustomerDirectory>,
        now: Timestamp,
    ) -> Result<Self, OpenError> {
        let rules = Arc::new(rules);
        let in_change = customers.load(store, &rules.catalog)?;
        // Open buckets and pending records may be a million each, and applications wait for them.
        let (billing, counting) = side_by_side(
            || Billing::open(store, rules.clone(), customers.clone(), in_change, now),
            || Counting::open(store, rules.clone(), customers.clone(), now),
        );
        Ok(Self { counting: counting?, billing: billing? })
    }

    /// Counts a request's usage, in the hours that billing has left open.
    pub fn count(&mut self, request: &CountRequest, txn: &mut WriteTxn<'_>) -> Result<Counted, CountError> {
        self.counting.count(request, self.billing.watermarks(), txn)
    }

    /// Drops some of what has expired by `now`; says whether there is more. Housekeeping that fails stops nothing.
    pub(crate) fn drop_expired(&mut self, now: Timestamp, txn: &mut WriteTxn<'_>) -> bool {
        self.counting.drop_expired(now, txn);
        let are_more_customers = self.billing.forget_customers(&self.counting, txn);
        let are_more_receipts = self.billing.drop_expired(now, txn).unwrap_or_else(|fault| {
            error!(%fault, "old receipts cannot be dropped");
            false
        });
        are_more_customers || are_more_receipts
    }

    /// Puts what has changed into the batch. To be called once, when the batch is otherwise complete.
    pub fn flush(&mut self, store: &dyn Store, batch: &mut Batch) -> Result<(), StoreError> {
        self.billing.flush(batch);
        self.counting.flush(store, batch)
    }

    /// The batch is written: it is read from the store now.
    pub fn written(&mut self) {
        self.billing.written();
        self.counting.written();
    }

    pub(crate) fn status(&self) -> Status {
        Status {
            watermarks: self.billing.watermarks().clone(),
            next_due: self.billing.next_seal().min(self.billing.next_slow_retry()),
            open_buckets: self.counting.open_buckets(),
            oldest_open: self.counting.oldest_open(),
            open_units: self.counting.open_units().clone(),
            tally: self.billing.tally().clone(),
            decision_deadlines: self.billing.decision_deadlines(),
            capped_customers: self.billing.capped_customers(),
        }
    }
}
