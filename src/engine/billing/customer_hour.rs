//! One hour of one customer is sealed: each of its buckets becomes a record, sent or held, and leaves the rest to the
//! next hour.

use std::{sync::Arc, time::Duration};

use tracing::{debug, error};

use crate::{
    base::{
        metrics,
        sabotage::{Sabotage, is_sabotaged},
    },
    domain::{
        billing::{
            record::{HoldReason, Outcome, Record, RecordId, Settled},
            seal::{BilledCustomer, SealContext, postpone, seal},
            seal_hold::{Suspicion, not_billable, suspicion},
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
    store::{Encoded, StoreError, key::SeriesKey},
};

use super::{Billing, seal_budget::SealStep};

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
    /// Only the part until now, of an identity that gives way to another.
    pub(super) part: Option<Part>,
}

/// The part of an hour that is sealed early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// Some of it may be of the identity that comes.
    pub(super) is_shared: bool,
}

/// Where the hour's usage goes.
#[derive(Debug, PartialEq, Eq)]
enum SealTarget<'a> {
    Sent(&'a Identity),
    Held(&'a Identity, HoldReason),
    /// The next hour takes it along.
    NextHour,
}

/// Why a record is held at its seal, and what it withholds.
struct Hold {
    reason: HoldReason,
    detail: Arc<str>,
    withheld: Carry,
}

impl CustomerHour<'_> {
    fn target(&self) -> SealTarget<'_> {
        let state = &self.customer.state;
        if state.subscription.is_closed() {
            return SealTarget::Held(&state.identity, HoldReason::NotBillable);
        }
        match state.billed_as(self.product, self.hour) {
            BilledAs::Identity(identity) => match self.doubt() {
                None => SealTarget::Sent(identity),
                Some(reason) => SealTarget::Held(identity, reason),
            },
            BilledAs::Later if !self.is_last => SealTarget::NextHour,
            BilledAs::Later | BilledAs::Unknown => SealTarget::Held(&state.identity, HoldReason::NoIdentity),
        }
    }

    /// Why it is not certain that all of the hour's usage is the identity's.
    fn doubt(&self) -> Option<HoldReason> {
        let state = &self.customer.state;
        if state.begins_after_end_of(self.hour) || state.doubtful == Some(self.hour) {
            return Some(HoldReason::BeforeSince);
        }
        self.part.is_some_and(|part| part.is_shared).then_some(HoldReason::Replaced)
    }

    /// How a bucket of a dimension is sealed. What is used after the last hour is kept to the unit, for whoever decides
    /// about it; but no level stands on. What an identity that gives way leaves below a step is not the next one's; but a
    /// level stands on.
    fn context(&self, dimension: &Dimension, late_by: Duration) -> SealContext {
        let state = &self.customer.state;
        let adds_up = dimension.aggregate.adds_up();
        let ends_level = state.subscription.is_closed() && !adds_up;
        let gives_way = (self.part.is_some() || state.gives_way_after(self.hour)) && adds_up;
        let is_last = self.is_last || ends_level || gives_way;
        SealContext { hour: self.hour, claims_zero: self.claims_zero, is_last, late_by }
    }

    /// Why the hour's record of a bucket is held, in words.
    fn detail(&self, reason: HoldReason, bucket: &Bucket) -> String {
        match reason {
            HoldReason::NotBillable => not_billable(self.hour, bucket, self.customer.state.sealed_through),
            HoldReason::BeforeSince => {
                "some of it may be from before the customer's `since`: it was counted when that was not known"
                    .to_owned()
            }
            HoldReason::Replaced => {
                "the customer's identity was replaced as of a moment in this hour, and some of what was counted since \
                 may be the new one's"
                    .to_owned()
            }
            _ => {
                "the product's identity has changed: register the customer under the new one, then carry this"
                    .to_owned()
            }
        }
    }

    fn series_key<'a>(&'a self, dimension: &'a Dimension) -> SeriesKey<'a> {
        let (product, customer) = (&*self.product.code, &*self.customer.key);
        SeriesKey { product, customer, dimension: &dimension.name }
    }

    fn billed_as(&self, identity: &Identity) -> BilledCustomer {
        BilledCustomer {
            product: self.product.code.clone(),
            key: self.customer.key.clone(),
            identity: identity.clone(),
            since: self.customer.state.start_in(self.hour).since,
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
    ) -> Result<(), StoreError> {
        let CustomerHour { index: customer, product, hour, claims_zero, .. } = *customer_hour;
        for (dimension, index) in product.dimensions.iter().zip(0..) {
            let series = Series { customer, dimension: DimensionIndex(index) };
            let bucket = step.counting.take(hour, series, customers, step.txn);
            if bucket.is_none() && !claims_zero {
                continue;
            }
            let bucket = bucket.unwrap_or_else(|| Bucket::new(dimension.aggregate));
            self.outstanding.used(series, bucket.usage.amount());
            let carry = self.seal_bucket(customer_hour, dimension, series, &bucket, step)?;
            if !is_sabotaged(Sabotage::DropCarry) {
                step.counting.carry(hour.next(), series, &carry, customers);
            }
        }
        Ok(())
    }

    /// Returns what the bucket leaves to the next hour, which may be all of it.
    fn seal_bucket(
        &mut self,
        customer_hour: &CustomerHour<'_>,
        dimension: &Dimension,
        series: Series,
        bucket: &Bucket,
        step: &mut SealStep<'_, '_>,
    ) -> Result<Carry, StoreError> {
        let late_by = self.rules.events_late_by;
        let (hour, key) = (customer_hour.hour, customer_hour.series_key(dimension));
        let usual = self.usual.of(series, (key, dimension), step.txn)?;
        let suspicion = suspicion(dimension, hour, bucket, &usual);
        let target = customer_hour.target();
        if suspicion.is_none() && matches!(target, SealTarget::Sent(_) | SealTarget::NextHour) {
            self.usual.count(series, (key, dimension), (hour, bucket.usage.amount()), step.txn)?;
        }
        let (identity, hold) = match (target, suspicion) {
            (SealTarget::Held(identity, reason), _) => {
                (identity, Some((reason, customer_hour.detail(reason, bucket))))
            }
            (SealTarget::Sent(identity), None) => (identity, None),
            (SealTarget::NextHour, None) => return Ok(postpone(hour, late_by, dimension, bucket)),
            (SealTarget::Sent(identity), Some(suspicion)) => (identity, Some(suspicious(suspicion))),
            // The next hour would not look at it again.
            (SealTarget::NextHour, Some(suspicion)) => {
                (&customer_hour.customer.state.identity, Some(suspicious(suspicion)))
            }
        };
        let customer = customer_hour.billed_as(identity);
        let mut sealed =
            seal(self.next_record, customer_hour.context(dimension, late_by), &customer, dimension, bucket);
        if let Some(record) = sealed.record.take() {
            let hold = hold.filter(|(reason, _)| !is_about_usage(*reason) || record.bills_something());
            let is_capped = sealed.is_capped && is_billable(hold.as_ref());
            self.capped.note(customer_hour.customer.product, series, &record, is_capped);
            let hold = hold.map(|(reason, detail)| Hold {
                reason,
                detail: detail.into(),
                withheld: sealed.withhold(),
            });
            self.write_sealed(customer_hour, record, hold, series, step);
        }
        Ok(sealed.carry)
    }

    fn write_sealed(
        &mut self,
        customer_hour: &CustomerHour<'_>,
        record: Record,
        hold: Option<Hold>,
        series: Series,
        step: &mut SealStep<'_, '_>,
    ) {
        self.next_record = RecordId(self.next_record.0 + 1);
        step.progress.records += 1;
        self.hours.begin(record.hour);
        self.outstanding.rounded(series, &record);
        let row = Encoded::of(&record);
        self.journal.note_sealed(record.id, &row);
        match hold {
            None => self.put_pending(&record, series.into(), row, step.txn),
            Some(hold) => self.hold_at_seal(customer_hour, record, hold, series, step),
        }
    }

    /// Keeps in plain sight what may not be sent.
    fn hold_at_seal(
        &mut self,
        customer_hour: &CustomerHour<'_>,
        record: Record,
        hold: Hold,
        series: Series,
        step: &mut SealStep<'_, '_>,
    ) {
        let Hold { reason, detail, withheld } = hold;
        let outcome = Outcome::Held { reason, detail };
        let settled = Settled { record, attempts: 0, outcome, at: step.now, withheld };
        self.write_settled(&settled, series.into(), step.txn);
        self.tally.settled(&settled);
        let by_closing = customer_hour.customer.state.deadline().unwrap_or(Timestamp::MAX);
        let deadline = self.rules.window.deadline(customer_hour.hour).min(by_closing);
        self.suspicious.note_held(&settled, deadline);
        note_held_at_seal(&settled, deadline);
    }
}

/// Whether a record that bills nothing leaves nothing to decide about.
const fn is_about_usage(reason: HoldReason) -> bool {
    matches!(reason, HoldReason::BeforeSince | HoldReason::Replaced)
}

fn suspicious(suspicion: Suspicion) -> (HoldReason, String) {
    (HoldReason::Suspicious, suspicion.to_string())
}

/// Whether AWS is told of a record, at once or when a person says so.
fn is_billable(hold: Option<&(HoldReason, String)>) -> bool {
    hold.is_none_or(|(reason, _)| *reason == HoldReason::Suspicious)
}

fn note_held_at_seal(settled: &Settled, deadline: Timestamp) {
    let record = &settled.record;
    metrics::settled(&record.product, &settled.outcome);
    let Outcome::Held { reason, detail } = &settled.outcome else { return };
    if *reason == HoldReason::Suspicious {
        error!(
            record = %record.id, product = %record.product, dimension = %record.dimension, hour = %record.hour,
            quantity = %record.quantity, %detail, until = %deadline,
            "a record is held as suspicious and was not sent: decide about it while AWS takes it"
        );
    }
    debug!(record = %record.id, customer = %record.customer, reason = reason.name(), %detail, "held at its seal");
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
        CustomerHour {
            index: CustomerIndex(0),
            customer,
            product,
            hour,
            claims_zero: true,
            is_last,
            part: None,
        }
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
            let context = in_hour(UNTIL, is_last, customer, &product).context(&dimension, Duration::ZERO);
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
