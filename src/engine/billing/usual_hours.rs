//! The usual hours of customers and dimensions, where the configuration holds an hour that is above them.
//!
//! They are on disk and in no memory: a row is read when an hour of its customer and dimension is sealed, and written in
//! the same batch.

use std::collections::HashMap;

use crate::{
    domain::{
        billing::usual::UsualHours,
        product::{Dimension, QuantityLimits},
        time::Hour,
    },
    engine::{counting::series::Series, write_txn::WriteTxn},
    store::{ReadTable, StoreError, key::SeriesKey, tables::usual_hours::UsualHoursRows},
};

/// What the batch in the making changes: the store still shows the rows before it.
#[derive(Debug, Default)]
pub(super) struct UsualHoursInBatch(HashMap<Series, UsualHours>);

impl UsualHoursInBatch {
    /// The usual hours of a customer and dimension; empty where none are asked for.
    pub(super) fn of(
        &self,
        series: Series,
        (key, dimension): (SeriesKey<'_>, &Dimension),
        txn: &WriteTxn<'_>,
    ) -> Result<UsualHours, StoreError> {
        if !is_asked_for(dimension.limits) {
            return Ok(UsualHours::default());
        }
        match self.0.get(&series) {
            Some(usual) => Ok(usual.clone()),
            None => Ok(txn.store.find(UsualHoursRows, key)?.unwrap_or_default()),
        }
    }

    /// Counts an hour that is billed among the usual ones.
    pub(super) fn count(
        &mut self,
        series: Series,
        (key, dimension): (SeriesKey<'_>, &Dimension),
        (hour, usage): (Hour, u128),
        txn: &mut WriteTxn<'_>,
    ) -> Result<(), StoreError> {
        if !is_asked_for(dimension.limits) || usage == 0 {
            return Ok(());
        }
        let mut usual = self.of(series, (key, dimension), txn)?;
        if usual.count(hour, usage) {
            txn.batch.put(UsualHoursRows, key, &usual);
            self.0.insert(series, usual);
        }
        Ok(())
    }

    /// The batch is written: it is read from the store now.
    pub(super) fn written(&mut self) {
        self.0.clear();
    }
}

const fn is_asked_for(limits: QuantityLimits) -> bool {
    limits.hold_above_usual.is_some()
}
