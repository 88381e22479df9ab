//! Running totals of records, for operators.

use std::{collections::BTreeMap, sync::Arc};

use crate::domain::{
    billing::record::{HoldReason, Outcome, Settled},
    time::Timestamp,
};

/// By product code, and by dimension name where units are added up. Units are base units.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunningTotals {
    /// Sealed records that AWS has not accepted yet.
    pub pending_records: BTreeMap<Arc<str>, u64>,
    pub held_records: BTreeMap<(Arc<str>, HoldReason), u64>,
    pub held_units: BTreeMap<(Arc<str>, Arc<str>), u128>,
    /// Records accepted since the start of this process, by product.
    pub accepted_records: BTreeMap<Arc<str>, u64>,
    pub last_success: BTreeMap<Arc<str>, Timestamp>,
}

impl RunningTotals {
    pub(super) fn pending(&mut self, product: &Arc<str>) {
        *self.pending_records.entry(product.clone()).or_default() += 1;
    }

    pub(super) fn not_pending(&mut self, product: &str) {
        if let Some(pending) = self.pending_records.get_mut(product) {
            *pending = pending.saturating_sub(1);
        }
    }

    pub(super) fn settled(&mut self, settled: &Settled) {
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
                *units = units.saturating_add(settled.amount());
            }
            Outcome::RolledForward { .. }
            | Outcome::Expired
            | Outcome::Carried { .. }
            | Outcome::WrittenOff => {}
        }
    }

    pub(super) fn not_held(&mut self, settled: &Settled) {
        let Outcome::Held { reason, .. } = &settled.outcome else { return };
        let record = &settled.record;
        if let Some(held) = self.held_records.get_mut(&(record.product.clone(), *reason)) {
            *held = held.saturating_sub(1);
        }
        if let Some(units) = self.held_units.get_mut(&(record.product.clone(), record.dimension.clone())) {
            *units = units.saturating_sub(settled.amount());
        }
    }
}
