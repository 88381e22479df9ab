//! One hour of one customer is sealed: each of its buckets becomes a record, sent or held, and leaves the rest to the
//! next hour.

use crate::{
    base::sabotage::{Sabotage, is_sabotaged},
    domain::{
        billing::{
            record::{HoldReason, Outcome, Record, RecordId, Settled},
            seal::{BilledCustomer, SealContext, postpone, seal},
        },
        customer::{identity::Identity, state::BilledAs},
        product::{Dimension, DimensionIndex, Product},
        time::{Hour, Timestamp},
        usage::bucket::{Bucket, Carry},
    },
    engine::{
        counting::series::Series,
        customers::{Customer, CustomerIndex, CustomerTable},
    },
    store::Encoded,
};

use super::{Billing, seal_step::SealStep};

/// An hour of a customer on its way from open to sealed.
pub(super) struct CustomerHour<'a> {
    pub(super) index: CustomerIndex,
    pub(super) customer: &'a Customer,
    pub(super) product: &'a Product,
    pub(super) hour: Hour,
    /// Whether dimensions without usage get a zero record.
    pub(super) claims_zero: bool,
    /// The customer's last one.
    pub(super) is_last: bool,
}

/// Where the hour's usage goes.
#[derive(Debug, PartialEq, Eq)]
enum SealTarget<'a> {
    Sent(&'a Identity),
    Held(&'a Identity, HoldReason),
    /// The next hour takes it along.
    NextHour,
}

impl CustomerHour<'_> {
    fn target(&self) -> SealTarget<'_> {
        let state = &self.customer.state;
        if state.subscription.is_closed() {
            return SealTarget::Held(&state.identity, HoldReason::NotBillable);
        }
        match state.billed_as(self.product, self.hour) {
            BilledAs::Identity(identity) => SealTarget::Sent(identity),
            BilledAs::Later if !self.is_last => SealTarget::NextHour,
            BilledAs::Later | BilledAs::Unknown => SealTarget::Held(&state.identity, HoldReason::NoIdentity),
        }
    }

    /// How a bucket of a dimension is sealed. What is used after the last hour is kept to the unit, for whoever decides
    /// about it; but no level stands on.
    fn context(&self, dimension: &Dimension) -> SealContext {
        let ends_level = self.customer.state.subscription.is_closed() && !dimension.aggregate.adds_up();
        let is_last = self.is_last || ends_level;
        SealContext { hour: self.hour, claims_zero: self.claims_zero, is_last }
    }

    fn billed_as(&self, identity: &Identity) -> BilledCustomer {
        BilledCustomer {
            product: self.product.code.clone(),
            key: self.customer.key.clone(),
            identity: identity.clone(),
            since: self.customer.state.since,
        }
    }
}

impl Billing {
    /// Whether dimensions of which a customer used nothing get a zero record (I8). One that AWS would refuse for its age
    /// claims nothing.
    pub(super) fn claims_zero(
        &self,
        product: &Product,
        customer: &Customer,
        (hour, has_used): (Hour, bool),
        now: Timestamp,
    ) -> bool {
        let state = &customer.state;
        product.zero_records
            && state.claims_zero(hour, has_used)
            && matches!(state.billed_as(product, hour), BilledAs::Identity(_))
            && now < self.rules.window.deadline(hour)
    }

    /// Seals the hour's bucket of each dimension.
    pub(super) fn seal_buckets(
        &mut self,
        customer_hour: &CustomerHour<'_>,
        customers: &CustomerTable,
        step: &mut SealStep<'_, '_>,
    ) {
        let CustomerHour { index: customer, product, hour, claims_zero, .. } = *customer_hour;
        for (dimension, index) in product.dimensions.iter().zip(0..) {
            let series = Series { customer, dimension: DimensionIndex(index) };
            let bucket = step.counting.take(hour, series, customers, step.txn);
            if bucket.is_none() && !claims_zero {
                continue;
            }
            let bucket = bucket.unwrap_or_else(|| Bucket::new(dimension.aggregate));
            self.outstanding.used(series, bucket.usage.amount());
            let carry = self.seal_bucket(customer_hour, dimension, series, &bucket, step);
            if !is_sabotaged(Sabotage::DropCarry) {
                step.counting.carry(hour.next(), series, &carry, customers);
            }
        }
    }

    /// Returns what the bucket leaves to the next hour, which may be all of it.
    fn seal_bucket(
        &mut self,
        customer_hour: &CustomerHour<'_>,
        dimension: &Dimension,
        series: Series,
        bucket: &Bucket,
        step: &mut SealStep<'_, '_>,
    ) -> Carry {
        let (identity, held_for) = match customer_hour.target() {
            SealTarget::Sent(identity) => (identity, None),
            SealTarget::Held(identity, reason) => (identity, Some(reason)),
            SealTarget::NextHour => return postpone(customer_hour.hour, dimension, bucket),
        };
        let customer = customer_hour.billed_as(identity);
        let sealed = seal(self.next_record, customer_hour.context(dimension), &customer, dimension, bucket);
        if let Some(record) = sealed.record {
            self.write_sealed(record, held_for, series, step);
        }
        sealed.carry
    }

    fn write_sealed(
        &mut self,
        record: Record,
        held_for: Option<HoldReason>,
        series: Series,
        step: &mut SealStep<'_, '_>,
    ) {
        self.next_record = RecordId(self.next_record.0 + 1);
        step.progress.records += 1;
        self.hours.begin(record.hour);
        self.outstanding.rounded(series, &record);
        let row = Encoded::of(&record);
        self.journal.note_sealed(record.id, &row);
        match held_for {
            None => self.put_pending(&record, series.into(), row, step.txn),
            Some(reason) => self.hold_at_seal(record, reason, series, step),
        }
    }

    /// Keeps in plain sight what may not be sent.
    fn hold_at_seal(
        &mut self,
        record: Record,
        reason: HoldReason,
        series: Series,
        step: &mut SealStep<'_, '_>,
    ) {
        let detail = match reason {
            HoldReason::NotBillable => "used after the customer's last hour was sealed",
            _ => {
                "the product's identity has changed: register the customer under the new one, then carry this"
            }
        };
        let outcome = Outcome::Held { reason, detail: detail.into() };
        let settled = Settled { record, attempts: 0, outcome, at: step.now };
        self.write_settled(&settled, series.into(), step.txn);
        self.tally.settled(&settled);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{
            customer::{
                identity::IdentityMode,
                state::{CustomerState, Subscription},
            },
            product::{Aggregate, FormerIdentity},
            sample::product,
        },
        testing::sample,
    };

    const UNTIL: Hour = Hour::from_index(100);

    /// Billed by account up to [`UNTIL`], and by license after it.
    fn changed_product() -> Product {
        let former = Some(FormerIdentity { mode: IdentityMode::Account, until: UNTIL });
        Product { identity: IdentityMode::License, former, ..product("prod", true) }
    }

    fn account() -> Customer {
        sample::customer("acme", "000000000001")
    }

    fn license() -> Customer {
        let license_arn = "arn:aws:license-manager::123456789012:license:l-1".into();
        let identity = Identity::License { account_id: "000000000001".into(), license_arn };
        with(CustomerState::new(identity, None, Hour::FIRST))
    }

    fn closed() -> Customer {
        let subscription = Subscription::Closed { noticed: UNTIL.start(), not_subscribed: false };
        with(CustomerState { subscription, ..account().state })
    }

    fn with(state: CustomerState) -> Customer {
        Customer { state, ..account() }
    }

    fn in_hour<'a>(
        hour: Hour,
        is_last: bool,
        customer: &'a Customer,
        product: &'a Product,
    ) -> CustomerHour<'a> {
        CustomerHour { index: CustomerIndex(0), customer, product, hour, claims_zero: true, is_last }
    }

    #[test]
    fn usage_is_sent_under_the_identity_of_its_hour_and_held_or_left_to_the_next_hour_without_one() {
        let (product, account, license) = (changed_product(), account(), license());
        let unknown = |customer| SealTarget::Held(customer, HoldReason::NoIdentity);
        for (hour, is_last, customer, target) in [
            (UNTIL, false, &account, SealTarget::Sent(&account.state.identity)),
            (UNTIL.next(), false, &account, unknown(&account.state.identity)),
            (UNTIL, false, &license, SealTarget::NextHour),
            (UNTIL, true, &license, unknown(&license.state.identity)),
            (UNTIL.next(), false, &license, SealTarget::Sent(&license.state.identity)),
        ] {
            assert_eq!(in_hour(hour, is_last, customer, &product).target(), target, "{hour} {is_last}");
        }
    }

    #[test]
    fn what_is_used_after_the_last_hour_is_held_under_whatever_identity() {
        let (product, customer) = (changed_product(), closed());
        let held = SealTarget::Held(&customer.state.identity, HoldReason::NotBillable);
        for hour in [UNTIL, UNTIL.next()] {
            assert_eq!(in_hour(hour, false, &customer, &product).target(), held);
        }
    }

    #[test]
    fn a_level_ends_after_the_last_hour_and_a_sum_is_kept_to_the_unit() {
        let product = changed_product();
        let is_last = |customer: &Customer, is_last, aggregate| {
            let dimension = Dimension { aggregate, ..product.dimensions[0].clone() };
            let context = in_hour(UNTIL, is_last, customer, &product).context(&dimension);
            assert_eq!((context.hour, context.claims_zero), (UNTIL, true));
            context.is_last
        };
        let (active, closed, level) = (account(), closed(), Aggregate::Latest { hold: true });
        assert_eq!([Aggregate::Sum, level].map(|each| is_last(&closed, false, each)), [false, true]);
        assert_eq!([Aggregate::Sum, level].map(|each| is_last(&active, false, each)), [false, false]);
        assert_eq!([Aggregate::Sum, level].map(|each| is_last(&active, true, each)), [true, true]);
    }

    #[test]
    fn a_customer_is_billed_from_the_start_of_its_subscription() {
        let since = Some(UNTIL.start());
        let (product, customer) = (changed_product(), with(CustomerState { since, ..account().state }));
        let identity = license().state.identity;
        let billed = in_hour(UNTIL, false, &customer, &product).billed_as(&identity);
        let (product, key) = ("prod".into(), "acme".into());
        assert_eq!(billed, BilledCustomer { product, key, identity, since });
    }
}
