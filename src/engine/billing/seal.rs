//! Sealing an hour, a few customers at a time, so that usage never waits long.
//!
//! First the watermark moves: from that commit on no event enters the hour. Then its customers are sealed in the
//! order of product code and key; each commit notes how far it came, so that a crash resumes there. After the last
//! customer the hour ends.
//!
//! A closing customer is sealed on its own, its open hour included, in one commit.

use std::sync::Arc;

use crate::{
    base::sabotage::{Sabotage, is_sabotaged},
    domain::{
        billing::schedule::seals_at,
        customer::transition::CustomerEvent,
        product::{Catalog, Product},
        time::{Hour, Timestamp},
    },
    engine::{
        counting::Counting,
        customers::{Customer, CustomerIndex, CustomerTable},
        watermark::Watermark,
        write_txn::WriteTxn,
    },
    store::{
        Batch,
        tables::sealing::{NextRecord, Sealing, SealingState},
    },
};

use super::{
    Billing,
    customer_hour::CustomerHour,
    seal_step::{SealProgress, SealStep},
};

/// How many customers one step looks at, be there anything to seal of them or not.
const LOOKS: usize = if cfg!(test) { 5 } else { 20_000 };

/// The next thing to seal.
enum Due {
    /// More customers of the hour whose seal has begun.
    Customers,
    /// All hours of a closing customer.
    ClosingCustomer(CustomerIndex),
    /// The next hour, whose seal begins.
    Hour,
}

/// How far the seal of an hour has come.
#[derive(Debug, Default)]
pub(super) struct SealCursor {
    /// The product and the key of the last customer that was looked at.
    last_done: Option<(Arc<str>, Arc<str>)>,
}

impl SealCursor {
    /// Goes on where an earlier process stopped.
    pub(super) fn resumed(done: Option<(String, String)>) -> Self {
        Self { last_done: done.map(|(product, key)| (product.into(), key.into())) }
    }
}

impl Billing {
    /// When the next hour, or a closing customer, is due.
    pub(crate) fn next_seal(&self) -> Timestamp {
        let closing = self.closing.first().map_or(Timestamp::MAX, |(moment, _)| *moment);
        self.next_hour().min(closing)
    }

    fn next_hour(&self) -> Timestamp {
        let hour = self.watermark.0;
        let due = seals_at(hour, self.started, self.rules.grace, &self.rules.window);
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
    ) -> SealProgress {
        self.seal_due_by(now, now, counting, txn)
    }

    /// Does one step of the seal that has begun, if one has. Its hour takes no usage any more, whatever the time is.
    pub(crate) fn finish_seal_step(
        &mut self,
        counting: &mut Counting,
        txn: &mut WriteTxn<'_>,
    ) -> SealProgress {
        self.seal_due_by(Timestamp::MIN, txn.now, counting, txn)
    }

    fn seal_due_by(
        &mut self,
        moment: Timestamp,
        now: Timestamp,
        counting: &mut Counting,
        txn: &mut WriteTxn<'_>,
    ) -> SealProgress {
        let mut step = SealStep::new(now, counting, txn);
        while !step.is_full()
            && let Some(due) = self.find_due(moment)
        {
            match due {
                Due::Hour => self.begin_hour(),
                Due::Customers => {
                    if self.seal_customers(&mut step) {
                        self.end_hour(&mut step);
                    }
                }
                Due::ClosingCustomer(index) => self.seal_last_hours(index, &mut step),
            }
        }
        let mut progress = step.progress;
        self.journal.end_seal(now, txn.batch);
        if progress.hours > 0 || progress.records > 0 || self.sealing.is_some() {
            self.write_progress(txn.batch);
        }
        progress.more = self.find_due(moment).is_some();
        progress
    }

    /// An hour whose seal has begun comes first: what a customer that closes meanwhile used in it is billed in it, and not
    /// held as used after the customer's last hour.
    fn find_due(&self, now: Timestamp) -> Option<Due> {
        if self.sealing.is_some() {
            return Some(Due::Customers);
        }
        if let Some((_, index)) = self.closing.first().filter(|(moment, _)| *moment <= now) {
            return Some(Due::ClosingCustomer(*index));
        }
        (self.next_hour() <= now).then_some(Due::Hour)
    }

    /// Moves the watermark: no event enters the hour any more.
    fn begin_hour(&mut self) {
        self.watermark = Watermark(self.watermark.0.next());
        self.sealing = Some(SealCursor::default());
    }

    /// Seals the hour of as many customers as the step takes; says whether those were the last.
    fn seal_customers(&mut self, step: &mut SealStep<'_, '_>) -> bool {
        let (catalog, directory) = (self.rules.catalog.clone(), self.customers.clone());
        let customers = directory.read();
        let hour = self.watermark.0;
        let last_done = self.sealing.as_ref().and_then(|cursor| cursor.last_done.clone());
        let mut looks = LOOKS;
        for (product, index, customer) in customers_after(&catalog, &customers, last_done.as_ref()) {
            // What was used is gone, and nothing is claimed: the other customers need not be looked at.
            if self.has_nothing_to_seal(&catalog, hour, step) {
                break;
            }
            if step.is_full() || looks == 0 {
                step.end();
                return false;
            }
            looks -= 1;
            let has_used = step.counting.has_used(index, hour);
            let claims_zero = self.claims_zero(product, &customer, (hour, has_used), step.now);
            if claims_zero || has_used {
                let customer_hour =
                    CustomerHour { index, customer: &customer, product, hour, claims_zero, is_last: false };
                self.seal_buckets(&customer_hour, &customers, step);
                step.take(product.dimensions.len().max(1));
            }
            self.sealing = Some(SealCursor { last_done: Some((product.code.clone(), customer.key)) });
        }
        true
    }

    fn has_nothing_to_seal(&self, catalog: &Catalog, hour: Hour, step: &SealStep<'_, '_>) -> bool {
        let is_too_late = step.now >= self.rules.window.deadline(hour);
        step.counting.is_empty(hour)
            && (is_too_late || catalog.products().all(|(_, product)| !product.zero_records))
    }

    /// Every customer of the hour is sealed.
    fn end_hour(&mut self, step: &mut SealStep<'_, '_>) {
        self.sealing = None;
        self.forget_from = Some(0);
        step.counting.end_hour(self.watermark.0, step.txn);
        self.hours.end(self.watermark.0, step.txn.batch);
        step.progress.hours += 1;
        step.take(1);
    }

    /// Seals every hour of a closing customer up to now, the open one included.
    fn seal_last_hours(&mut self, index: CustomerIndex, step: &mut SealStep<'_, '_>) {
        self.closing.retain(|(_, closing)| *closing != index);
        step.take(1);
        let (catalog, directory) = (self.rules.catalog.clone(), self.customers.clone());
        let customers = directory.read();
        let Some(customer) = customers.get(index) else { return };
        let Some(product) = catalog.product(customer.product) else { return };
        let first = customer.state.watermark(self.watermark.0).next();
        let last = Hour::containing(step.now).max(first);
        for hour in (first.index()..=last.index()).map(Hour::from_index) {
            let has_used = step.counting.has_used(index, hour);
            let claims_zero = self.claims_zero(product, &customer, (hour, has_used), step.now);
            let is_last = hour == last;
            let customer_hour =
                CustomerHour { index, customer: &customer, product, hour, claims_zero, is_last };
            self.seal_buckets(&customer_hour, &customers, step);
            step.take(product.dimensions.len());
        }
        drop(customers);
        self.change_customer(index, CustomerEvent::LastHourSealed { hour: last }, step.txn);
    }

    fn write_progress(&self, batch: &mut Batch) {
        let texts = |(product, key): &(Arc<str>, Arc<str>)| (product.to_string(), key.to_string());
        let unfinished = self.sealing.as_ref().map(|cursor| cursor.last_done.as_ref().map(texts));
        let state = SealingState { watermark: self.watermark.0, unfinished };
        batch.put(Sealing, (), &state);
        batch.put(NextRecord, (), &self.next_record);
    }
}

/// All customers in the order of product code and key, those after `done`.
fn customers_after<'a>(
    catalog: &'a Catalog,
    customers: &'a CustomerTable,
    done: Option<&'a (Arc<str>, Arc<str>)>,
) -> impl Iterator<Item = (&'a Product, CustomerIndex, Customer)> {
    let done = done.map(|(product, key)| (&**product, &**key));
    let mut products: Vec<_> = catalog.products().collect();
    products.sort_unstable_by_key(|(_, product)| &*product.code);
    let is_done = move |code: &str| done.is_some_and(|(product, _)| code < product);
    products.into_iter().filter(move |(_, product)| !is_done(&product.code)).flat_map(
        move |(index, product)| {
            let after = done.filter(|(code, _)| *product.code == **code).map(|(_, key)| key);
            customers
                .after(index, after)
                .map(move |(customer_index, customer)| (product, customer_index, customer))
        },
    )
}
