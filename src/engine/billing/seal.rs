//! Sealing an hour, a few customers at a time, so that usage never waits long.
//!
//! First the watermark moves: from that commit on no event enters the hour. Then its customers are sealed in the
//! order of product code and key; each commit notes how far it came, so that a crash resumes there. After the last
//! customer the hour ends.
//!
//! The hours of most products are sealed together. A product whose hours wait for a review has a watermark of its own
//! (`seal_scope`), and its hours are sealed on their own, later.
//!
//! A closing customer is sealed on its own, its open hour included, in one commit.

use std::sync::Arc;

use crate::{
    base::sabotage::{Sabotage, is_sabotaged},
    domain::{
        billing::schedule::{OpenFor, seals_at},
        customer::transition::CustomerEvent,
        product::Product,
        time::{Hour, Timestamp},
    },
    engine::{
        counting::Counting,
        customers::{Customer, CustomerIndex, CustomerTable},
        write_txn::WriteTxn,
    },
    store::StoreError,
};

use super::{
    Billing,
    customer_hour::CustomerHour,
    seal_budget::{SealProgress, SealStep},
    seal_scope::{ProductsInOrder, Scope, SealCursor},
};

/// How many customers one step looks at, be there anything to seal of them or not.
const LOOKS: usize = if cfg!(test) { 5 } else { 20_000 };

/// The next thing to seal.
enum Due {
    /// More customers of the hour whose seal has begun.
    Customers,
    /// All hours of a closing customer.
    ClosingCustomer(CustomerIndex),
    /// The next hour of some products, whose seal begins.
    Hour(Scope),
}

impl Billing {
    /// When the next hour, or a closing customer, is due.
    pub(crate) fn next_seal(&self) -> Timestamp {
        let closing = self.closing.first().map_or(Timestamp::MAX, |(moment, _)| *moment);
        let hours = self.scopes().map(|scope| self.next_hour(scope));
        hours.fold(closing, Timestamp::min)
    }

    /// When the next hour of some products is due.
    fn next_hour(&self, scope: Scope) -> Timestamp {
        let hour = self.watermark_of(scope);
        let open_for = OpenFor { grace: self.rules.grace, review: self.review_of(scope) };
        let due = seals_at(hour, self.started, open_for, &self.rules.window);
        let is_hasty = is_sabotaged(Sabotage::SendBeforeSeal);
        if is_hasty { hour.next().start().plus(self.rules.grace) } else { due }
    }

    /// Does one step of sealing, if anything is due.
    ///
    /// # Panics
    ///
    /// Should a bucket be left out of its hour's seal: better to stop than to forget it.
    pub(crate) fn seal_step(
        &mut self,
        now: Timestamp,
        counting: &mut Counting,
        txn: &mut WriteTxn<'_>,
    ) -> Result<SealProgress, StoreError> {
        self.seal_due_by(now, now, counting, txn)
    }

    /// Does one step of the seal that has begun, if one has. Its hour takes no usage any more, whatever the time is.
    pub(crate) fn finish_seal_step(
        &mut self,
        counting: &mut Counting,
        txn: &mut WriteTxn<'_>,
    ) -> Result<SealProgress, StoreError> {
        self.seal_due_by(Timestamp::MIN, txn.now, counting, txn)
    }

    fn seal_due_by(
        &mut self,
        moment: Timestamp,
        now: Timestamp,
        counting: &mut Counting,
        txn: &mut WriteTxn<'_>,
    ) -> Result<SealProgress, StoreError> {
        let mut step = SealStep::new(now, counting, txn);
        while !step.is_full()
            && let Some(due) = self.find_due(moment)
        {
            match due {
                Due::Hour(scope) => self.begin_hour(scope, &mut step),
                Due::Customers => {
                    if self.seal_customers(&mut step)? {
                        self.end_hour(&mut step);
                    }
                }
                Due::ClosingCustomer(index) => self.seal_last_hours(index, &mut step)?,
            }
        }
        let mut progress = step.progress;
        self.journal.end_seal(now, txn.batch);
        if progress.hours > 0 || progress.records > 0 || self.sealing.is_some() {
            self.write_progress(txn.batch);
        }
        progress.more = self.find_due(moment).is_some();
        Ok(progress)
    }

    /// An hour whose seal has begun comes first: what a customer that closes meanwhile used in it is billed in it, and not
    /// held as used after the customer's last hour. Of several hours the oldest one comes first.
    fn find_due(&self, now: Timestamp) -> Option<Due> {
        if self.sealing.is_some() {
            return Some(Due::Customers);
        }
        if let Some((_, index)) = self.closing.first().filter(|(moment, _)| *moment <= now) {
            return Some(Due::ClosingCustomer(*index));
        }
        let due = self.scopes().filter(|scope| self.next_hour(*scope) <= now);
        due.min_by_key(|scope| self.watermark_of(*scope)).map(Due::Hour)
    }

    /// Moves the watermark: no event enters the hour any more.
    fn begin_hour(&mut self, scope: Scope, step: &mut SealStep<'_, '_>) {
        if scope == Scope::Common {
            self.part_and_join(step);
        }
        self.move_watermark(scope);
        self.sealing = Some(SealCursor::begun(scope));
    }

    /// Seals the hour of as many customers as the step takes; says whether those were the last.
    fn seal_customers(&mut self, step: &mut SealStep<'_, '_>) -> Result<bool, StoreError> {
        let Some(cursor) = self.sealing.clone() else { return Ok(true) };
        let (catalog, directory) = (self.rules.catalog.clone(), self.customers.clone());
        let customers = directory.read();
        let (scope, hour) = (cursor.scope, self.watermark_of(cursor.scope));
        let products = self.products_of(scope, &catalog);
        let mut looks = LOOKS;
        for (product, index, customer) in customers_after(&products, &customers, cursor.last_done.as_ref()) {
            // What was used is gone, and nothing is claimed: the other customers need not be looked at.
            if self.has_nothing_to_seal(&products, hour, step) {
                break;
            }
            if step.is_full() || looks == 0 {
                step.end();
                return Ok(false);
            }
            looks -= 1;
            let has_used = step.counting.has_used(index, hour);
            let claims_zero = self.claims_zero(product, &customer, (hour, has_used), step.now);
            if claims_zero || has_used {
                let customer_hour = CustomerHour {
                    index,
                    customer: &customer,
                    product,
                    hour,
                    claims_zero,
                    is_last: false,
                    part: None,
                };
                self.seal_buckets(&customer_hour, &customers, step)?;
                step.take(product.dimensions.len().max(1));
            }
            let last_done = Some((product.code.clone(), customer.key));
            self.sealing = Some(SealCursor { scope, last_done });
        }
        Ok(true)
    }

    fn has_nothing_to_seal(
        &self,
        products: &ProductsInOrder<'_>,
        hour: Hour,
        step: &SealStep<'_, '_>,
    ) -> bool {
        let is_too_late = step.now >= self.rules.window.deadline(hour);
        let is_empty = step.counting.is_empty(hour)
            || products.iter().all(|(index, _)| step.counting.is_empty_of(*index, hour));
        is_empty && (is_too_late || products.iter().all(|(_, product)| !product.zero_records))
    }

    /// Every customer of the hour is sealed.
    ///
    /// # Panics
    ///
    /// Should a bucket be left out of its hour's seal: better to stop than to forget it.
    fn end_hour(&mut self, step: &mut SealStep<'_, '_>) {
        let Some(SealCursor { scope, .. }) = self.sealing.take() else { return };
        let (catalog, hour) = (self.rules.catalog.clone(), self.watermark_of(scope));
        let products = self.products_of(scope, &catalog);
        let is_sealed = products.iter().all(|(index, _)| step.counting.is_empty_of(*index, hour));
        assert!(is_sealed, "a bucket was left out of its seal");
        self.hours.end(hour, step.txn.batch);
        self.forget_from = Some(0);
        self.forget_changes(step.txn);
        self.end_hours_of_all(step);
        step.progress.hours += 1;
        step.take(1);
    }

    /// Seals every hour of a closing customer up to now, the open one included.
    fn seal_last_hours(
        &mut self,
        index: CustomerIndex,
        step: &mut SealStep<'_, '_>,
    ) -> Result<(), StoreError> {
        self.closing.retain(|(_, closing)| *closing != index);
        step.take(1);
        let (catalog, directory) = (self.rules.catalog.clone(), self.customers.clone());
        let customers = directory.read();
        let Some(customer) = customers.get(index) else { return Ok(()) };
        let Some(product) = catalog.product(customer.product) else { return Ok(()) };
        let first = customer.state.watermark(self.watermarks.of(customer.product)).next();
        let last = Hour::containing(step.now).max(first);
        for hour in (first.index()..=last.index()).map(Hour::from_index) {
            let has_used = step.counting.has_used(index, hour);
            let claims_zero = self.claims_zero(product, &customer, (hour, has_used), step.now);
            let is_last = hour == last;
            let customer_hour =
                CustomerHour { index, customer: &customer, product, hour, claims_zero, is_last, part: None };
            self.seal_buckets(&customer_hour, &customers, step)?;
            step.take(product.dimensions.len());
        }
        drop(customers);
        self.change_customer(index, CustomerEvent::LastHourSealed { hour: last }, step.txn);
        Ok(())
    }
}

/// All customers of some products in the order of product code and key, those after `done`.
fn customers_after<'a>(
    products: &'a ProductsInOrder<'a>,
    customers: &'a CustomerTable,
    done: Option<&'a (Arc<str>, Arc<str>)>,
) -> impl Iterator<Item = (&'a Product, CustomerIndex, Customer)> {
    let done = done.map(|(product, key)| (&**product, &**key));
    let is_done = move |code: &str| done.is_some_and(|(product, _)| code < product);
    products.iter().filter(move |(_, product)| !is_done(&product.code)).flat_map(move |(index, product)| {
        let after = done.filter(|(code, _)| *product.code == **code).map(|(_, key)| key);
        customers
            .after(*index, after)
            .map(move |(customer_index, customer)| (*product, customer_index, customer))
    })
}
