//! An identity of a customer gives way to another: what it has used is sealed under it, in the commit that changes the
//! customer.

use std::sync::Arc;

use thiserror::Error;
use tracing::{info, warn};

use crate::{
    domain::{
        customer::{replacement::EarlySeal, state::BilledAs},
        product::{Dimension, DimensionIndex},
        time::{Hour, Timestamp},
        usage::bucket::Bucket,
    },
    engine::{
        counting::{Counting, series::Series},
        customers::{Customer, CustomerIndex, CustomerTable},
        write_txn::WriteTxn,
    },
    store::StoreError,
};

use super::{
    Billing,
    customer_hour::{CustomerHour, Part},
    seal_budget::SealStep,
};

/// The rest would be billed to the identity that comes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "the customer has used more of `{dimension}` under its present identity than AWS takes for an hour: register the new \
     identity with another key, or change it once all is billed"
)]
pub struct DoesNotFit {
    dimension: Arc<str>,
}

/// What earlier hours have left, or what was counted ahead of the time, would be billed to the identity that comes.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "usage of `{dimension}` of the present identity counts in an hour that would be the new one's: register it as of a \
     moment inside the present hour, or once that hour has begun or is billed"
)]
pub struct CarriesOver {
    dimension: Arc<str>,
}

impl Billing {
    /// Whether an event of the customer was counted in an hour that is open.
    pub(super) fn is_used(
        &self,
        index: CustomerIndex,
        customer: &Customer,
        hour: Hour,
        counting: &Counting,
    ) -> bool {
        let mut buckets = self.open_buckets(index, customer, hour, counting);
        buckets.any(|(_, bucket)| bucket.events > 0)
    }

    /// Checks that an identity that gives way leaves nothing to later hours.
    pub(super) fn check_fits(
        &self,
        index: CustomerIndex,
        customer: &Customer,
        early: EarlySeal,
        counting: &Counting,
    ) -> Result<(), DoesNotFit> {
        let Some(product) = self.rules.catalog.product(customer.product) else { return Ok(()) };
        let first = customer.state.watermark(self.watermarks.of(customer.product)).next();
        let mut totals = vec![0_u128; product.dimensions.len()];
        for hour in hours(first, early.last) {
            for (dimension, bucket) in self.open_buckets(index, customer, hour, counting) {
                if let Some(total) = totals.get_mut(usize::from(dimension.0)) {
                    *total = total.saturating_add(bucket.total());
                }
            }
        }
        let leaves = |(dimension, total): &(&Dimension, u128)| {
            dimension.aggregate.adds_up() && dimension.unit.bill_rounded(*total, dimension.rounding).rest > 0
        };
        match product.dimensions.iter().zip(totals).find(leaves) {
            Some((dimension, _)) => Err(DoesNotFit { dimension: dimension.name.clone() }),
            None => Ok(()),
        }
    }

    /// Checks that an identity that gives way has left nothing in the hours from `first` on: they are the next one's. Less
    /// than a step does not count. Where the present hour was sealed early, since the customer was closing, what it has
    /// used since then counts in the next one.
    pub(super) fn check_carries_nothing(
        &self,
        index: CustomerIndex,
        customer: &Customer,
        (first, now): (Hour, Timestamp),
        counting: &Counting,
    ) -> Result<(), CarriesOver> {
        let Some(product) = self.rules.catalog.product(customer.product) else { return Ok(()) };
        let present = Hour::containing(now);
        let is_sealed_early = customer.state.watermark(self.watermarks.of(customer.product)) >= present;
        // A remainder may have gone one hour ahead.
        for hour in hours(first, present.next()) {
            for (dimension, bucket) in self.open_buckets(index, customer, hour, counting) {
                let Some(dimension) = product.dimensions.get(usize::from(dimension.0)) else { continue };
                let counts_ahead = is_sealed_early && dimension.aggregate.adds_up();
                let left = if counts_ahead { bucket.total() } else { bucket.carried.total() };
                if left >= dimension.unit.step() {
                    return Err(CarriesOver { dimension: dimension.name.clone() });
                }
            }
        }
        Ok(())
    }

    fn open_buckets<'a>(
        &'a self,
        customer: CustomerIndex,
        known: &Customer,
        hour: Hour,
        counting: &'a Counting,
    ) -> impl Iterator<Item = (DimensionIndex, &'a Bucket)> {
        let product = self.rules.catalog.product(known.product).into_iter();
        let dimensions = product.flat_map(|product| product.dimensions.iter().zip(0..));
        dimensions.filter_map(move |(_, index)| {
            let dimension = DimensionIndex(index);
            Some((dimension, counting.bucket(hour, Series { customer, dimension })?))
        })
    }

    /// Seals hours of a customer under the identity that it has until now, the last one as far as it has come.
    pub(super) fn seal_early(
        &mut self,
        index: CustomerIndex,
        customer: &Customer,
        early: EarlySeal,
        customers: &CustomerTable,
        counting: &mut Counting,
        txn: &mut WriteTxn<'_>,
    ) -> Result<(), StoreError> {
        let catalog = self.rules.catalog.clone();
        let Some(product) = catalog.product(customer.product) else { return Ok(()) };
        let now = txn.now;
        let mut step = SealStep::new(now, counting, txn);
        for hour in hours(early.first, early.last) {
            // Should the product's identity be about to change, neither the old nor the new one is billed yet.
            if customer.state.billed_as(product, hour) != BilledAs::Identity(customer.state.identity_in(hour))
            {
                continue;
            }
            let has_used = step.counting.has_used(index, hour);
            let claims_zero = self.claims_zero(product, customer, (hour, has_used), now);
            let part = (hour == early.last).then_some(Part { is_shared: early.is_shared });
            let customer_hour =
                CustomerHour { index, customer, product, hour, claims_zero, is_last: false, part };
            self.seal_buckets(&customer_hour, customers, &mut step)?;
        }
        let records = step.progress.records;
        self.journal.end_seal(now, txn.batch);
        self.write_progress(txn.batch);
        info!(
            records,
            is_shared = early.is_shared,
            "an identity was replaced, and what it has used is sealed"
        );
        Ok(())
    }

    /// AWS cannot be told otherwise about hours that are sealed.
    pub(super) fn warn_of_sealed(&self, known: &Customer, since: Option<Timestamp>) {
        let sealed_through = known.state.watermark(self.watermarks.of(known.product));
        if let Some(since) = since.filter(|since| Hour::containing(*since) <= sealed_through) {
            warn!(%since, %sealed_through, "an identity was replaced as of an hour that is billed under the old one");
        }
    }
}

fn hours(first: Hour, last: Hour) -> impl Iterator<Item = Hour> {
    (first.index()..=last.index()).map(Hour::from_index)
}
