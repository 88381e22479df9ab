//! Forgets customers that usage has named and that AWS has never accepted, once nothing of them is left: their place is
//! for others. One that comes back begins anew.

use tracing::info;

use crate::{
    domain::product::DimensionIndex,
    engine::{
        counting::{Counting, series::Series},
        customers::{Customer, CustomerIndex},
        write_txn::WriteTxn,
    },
    store::tables::customers::CustomerRows,
};

use super::Billing;

/// How many customers one step looks at.
const LOOKS: u32 = if cfg!(test) { 3 } else { 20_000 };

impl Billing {
    /// Forgets some of the customers of whom nothing is left, a step at a time after each hour that is sealed; says
    /// whether there are more to look at.
    pub(crate) fn forget_customers(&mut self, counting: &Counting, txn: &mut WriteTxn<'_>) -> bool {
        // An identity that is free in the middle of a seal could fill a slot twice. The end of that hour begins anew.
        let Some(from) = self.forget_from.filter(|_| self.sealing.is_none()) else { return false };
        let directory = self.customers.clone();
        let mut customers = directory.write();
        customers.let_rest(txn.now);
        let (candidates, next) = customers.forgettable(from, LOOKS);
        let mut forgotten = 0_u64;
        for index in candidates {
            let Some(customer) = customers.get(index) else { continue };
            let Some(product) = self.rules.catalog.product(customer.product) else { continue };
            if self.is_something_left(index, product.dimensions.len(), counting) {
                continue;
            }
            let Customer { key, .. } = customer;
            txn.batch.delete(CustomerRows, (&product.code, &key));
            customers.forget(index, txn.now);
            forgotten += 1;
        }
        if forgotten > 0 {
            info!(
                customers = forgotten,
                "customers that AWS has never accepted are forgotten: nothing of them is left"
            );
        }
        self.forget_from = next;
        next.is_some()
    }

    /// Whether a customer has open usage, a record that is pending or held, or anything that must be billed.
    fn is_something_left(&self, customer: CustomerIndex, dimensions: usize, counting: &Counting) -> bool {
        let series = (0..dimensions).filter_map(|index| u16::try_from(index).ok());
        let mut series = series.map(|index| Series { customer, dimension: DimensionIndex(index) });
        self.unsettled.has_any(customer)
            || counting.has_open(customer)
            || series.any(|series| self.outstanding.has_any(series))
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;
    use crate::{
        domain::{
            billing::record::{DecisionKind, HoldReason, MissedPolicy, Record},
            product::ProductIndex,
            time::Hour,
        },
        engine::{
            counting::{
                CountError,
                request::{CountRequest, CustomerRef, UsageEntry},
            },
            state::EngineState,
        },
        store::TableId,
        testing::{harness::Harness, sample},
    };

    const STRANGER: &str = "900000000001";
    const HOUR: Duration = Duration::from_hours(1);

    /// An hour passes, and is sealed.
    fn hour_passes(harness: &mut Harness) {
        harness.pass(HOUR);
        harness.seal_all();
        harness.drop_expired();
    }

    fn entry(harness: &Harness, amount: u128) -> UsageEntry {
        sample::entry(STRANGER, 0, Hour::containing(harness.now), amount)
    }

    fn refuse_all(harness: &mut Harness) -> Vec<Record> {
        let pending = harness.pending();
        for record in &pending {
            harness.hold(record, HoldReason::UnknownCustomer);
        }
        pending
    }

    /// A customer that AWS does not know, all of whose records are written off and whose hours are over.
    fn forgotten() -> (Harness, CustomerIndex) {
        let mut harness = Harness::new(MissedPolicy::Hold);
        harness.count(entry(&harness, 7));
        let index = harness.state.billing.customers().read().find(ProductIndex(0), STRANGER).unwrap();
        hour_passes(&mut harness);
        let held = refuse_all(&mut harness).into_iter().find(Record::bills_something).unwrap();
        harness.decide(&held, DecisionKind::WriteOff).unwrap();
        hour_passes(&mut harness);
        assert_eq!(harness.customers(), Vec::<String>::new());
        (harness, index)
    }

    #[test]
    fn a_customer_that_aws_never_accepted_is_forgotten_once_nothing_of_it_is_left() {
        let mut harness = Harness::new(MissedPolicy::Hold);
        harness.count(entry(&harness, 7));
        harness.drop_expired();
        assert_eq!(harness.customers(), [STRANGER], "its hour is open");
        hour_passes(&mut harness);
        assert_eq!(harness.customers(), [STRANGER], "its records are pending");
        let records = refuse_all(&mut harness);
        assert_eq!((records.len(), harness.held().len()), (4, 1), "of the zeros there is nothing to decide");
        hour_passes(&mut harness);
        harness.crash();
        hour_passes(&mut harness);
        assert_eq!(harness.customers(), [STRANGER], "a record is held");
        let held = harness.held().remove(0).record;
        harness.decide(&held, DecisionKind::WriteOff).unwrap();
        hour_passes(&mut harness);
        assert_eq!((harness.customers().len(), harness.rows(TableId::Customers)), (0, 0));
        harness.crash();
        harness.count(entry(&harness, 5));
        hour_passes(&mut harness);
        assert_eq!(harness.pending().len(), 4, "it begins anew");
    }

    #[test]
    fn whoever_is_registered_accepted_or_closed_stays_known() {
        let mut harness = Harness::new(MissedPolicy::Hold);
        let [registered, accepted, closed] = ["000000000001", "000000000002", "000000000003"];
        let hour = Hour::containing(harness.now);
        for account in [accepted, closed, STRANGER] {
            harness.count(sample::entry(account, 0, hour, 0));
        }
        harness.write(|EngineState { billing, counting }, txn| {
            let registration = sample::registration(registered, registered, hour);
            billing.put_customer(registration, counting, txn).unwrap();
            billing.close_customer(ProductIndex(0), closed, txn.now, txn).unwrap();
        });
        hour_passes(&mut harness);
        for record in harness.pending() {
            if *record.customer == *accepted {
                harness.accept(&record);
            } else {
                harness.hold(&record, HoldReason::UnknownCustomer);
            }
        }
        for _ in 0..3 {
            hour_passes(&mut harness);
            harness.crash();
        }
        assert_eq!(harness.customers(), [registered, accepted, closed], "and the stranger had only zeros");
    }

    #[test]
    fn usage_on_its_way_finds_a_customer_that_is_forgotten_meanwhile() {
        let (mut harness, index) = forgotten();
        let known = |amount| UsageEntry { customer: CustomerRef::Known(index), ..entry(&harness, amount) };
        let [first, second] = [known(7), known(5)];
        let request = |entry| CountRequest { entries: vec![entry], events: 1, ..CountRequest::default() };
        for entry in [first, second] {
            harness.write(|state, txn| state.count(&request(entry), txn)).unwrap();
        }
        assert_eq!((harness.customers(), harness.open_units()), (vec![STRANGER.to_owned()], 12));
    }

    #[test]
    fn usage_that_waited_until_the_place_is_anothers_must_be_looked_up_again() {
        let (mut harness, index) = forgotten();
        let other = "000000000002";
        hour_passes(&mut harness);
        harness.count(sample::entry(other, 0, Hour::containing(harness.now), 1));
        let customers = Arc::clone(&harness.state.billing.customers);
        assert_eq!(customers.read().find(ProductIndex(0), other), Some(index), "the place is taken");
        let late = UsageEntry { customer: CustomerRef::Known(index), ..entry(&harness, 5) };
        let request = CountRequest { entries: vec![late], events: 1, vacated: 0, ..CountRequest::default() };
        let counted = harness.write(|state, txn| state.count(&request, txn));
        assert!(matches!(counted, Err(CountError::Outdated)), "{counted:?}");
        assert_eq!(harness.open_units(), 1, "it counts for nobody");
    }
}
