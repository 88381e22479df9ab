//! Sealing an hour, a few customers at a time, so that usage never waits long.
//!
//! First the watermark moves: from that commit on no event enters the hour. Then its customers are sealed in the
//! order of product code and key; each commit notes how far it came, so that a crash resumes there.
//!
//! A closing customer is sealed on its own, its open hour included, in one commit.

use std::sync::Arc;

use crate::{
    base::sabotage::{Sabotage, is_sabotaged},
    domain::{
        bucket::Bucket,
        customer::BilledAs,
        product::{Catalog, Dimension, Product},
        record::{HoldReason, Outcome, Record, RecordId, Settled},
        seal::{Billed, Occasion, postpone, seal, seals_at},
        time::{Hour, Timestamp},
    },
    work::roster::{Customer, CustomerIndex, Inner},
    worlds::store::{
        Batch, Table, keys,
        values::{Number, SealingState, encode},
    },
};

use super::{Books, BySeries, DimensionIndex, Series, Subjects};

/// How many buckets and zero claims one step looks at: some milliseconds of work, to which comes a sync. More would
/// hold up requests, and with fewer a million buckets would take too many syncs.
const STEP: usize = if cfg!(test) { 3 } else { 500 };
/// How many customers one step looks at, be there anything to seal of them or not.
const LOOKS: usize = if cfg!(test) { 5 } else { 20_000 };

/// Whose hour is being sealed.
struct Turn<'a> {
    index: CustomerIndex,
    customer: &'a Customer,
    product: &'a Product,
    hour: Hour,
    is_last: bool,
}

/// An hour on its way from open to sealed.
#[derive(Debug, Default)]
pub(super) struct Sealing {
    /// The product and the key of the last customer that was looked at.
    last_done: Option<(Arc<str>, Arc<str>)>,
    is_done: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealProgress {
    /// Hours that were sealed to the end in this step.
    pub hours: u32,
    pub records: u32,
    /// There is more to do at once.
    pub more: bool,
}

impl Books {
    /// When the next hour, or a closing customer, is due.
    pub fn next_seal(&self) -> Timestamp {
        let closing = self.closing.first().map_or(Timestamp::MAX, |(moment, _)| *moment);
        self.next_hour().min(closing)
    }

    fn next_hour(&self) -> Timestamp {
        let due = seals_at(self.watermark, self.started, self.rules.grace, &self.rules.window);
        let is_hasty = is_sabotaged(Sabotage::SendBeforeSeal);
        if is_hasty { self.watermark.next().start().plus(self.rules.grace) } else { due }
    }

    /// Does one step of sealing, if anything is due.
    ///
    /// # Panics
    ///
    /// Should a bucket be left out of its hour's seal: better to stop than to forget it.
    pub fn seal_step(&mut self, now: Timestamp, batch: &mut Batch) -> SealProgress {
        let mut progress = SealProgress::default();
        let mut left = STEP;
        while left > 0 {
            if self.sealing.is_none() {
                if let Some((_, index)) = self.closing.first().copied().filter(|(moment, _)| *moment <= now) {
                    left = left.saturating_sub(self.seal_last_hours(index, now, batch, &mut progress));
                    continue;
                }
                if self.next_hour() > now {
                    break;
                }
                // No event enters the hour any more.
                self.watermark = self.watermark.next();
                self.sealing = Some(Sealing::default());
            }
            left = self.seal_customers(left, now, batch, &mut progress);
            if self.sealing.as_ref().is_some_and(|sealing| sealing.is_done) {
                self.sealing = None;
                let forgotten = self.open.remove(&self.watermark);
                assert!(
                    forgotten.is_none_or(|buckets| buckets.is_empty()),
                    "a bucket was left out of its seal"
                );
                Subjects::drop_hour(self.watermark, batch);
                self.hour_sealed(self.watermark, batch);
                progress.hours += 1;
                left = left.saturating_sub(1);
            }
        }
        self.journal.end_seal(now, batch);
        if progress.hours > 0 || progress.records > 0 || self.sealing.is_some() {
            self.note_progress(batch);
        }
        progress.more = self.sealing.is_some() || self.next_seal() <= now;
        progress
    }

    /// Goes on where an earlier process stopped.
    pub(super) fn resume_sealing(&mut self, done: Option<(String, String)>) {
        let last_done = done.map(|(product, key)| (product.into(), key.into()));
        self.sealing = Some(Sealing { last_done, is_done: false });
    }

    /// Whether a customer that used nothing gets a zero record (I8). One that AWS would refuse for its age claims
    /// nothing.
    fn claims_zero(&self, product: &Product, customer: &Customer, hour: Hour, now: Timestamp) -> bool {
        let standing = &customer.standing;
        product.zero_records
            && standing.claims_zero(hour)
            && matches!(standing.billed_as(product, hour), BilledAs::Identity(_))
            && now < self.rules.window.deadline(hour)
    }

    /// Seals the next customers of the hour; returns what is left of the step.
    fn seal_customers(
        &mut self,
        mut left: usize,
        now: Timestamp,
        batch: &mut Batch,
        progress: &mut SealProgress,
    ) -> usize {
        let (catalog, roster, hour) = (self.rules.catalog.clone(), self.roster.clone(), self.watermark);
        let roster = roster.read();
        let Some(mut sealing) = self.sealing.take() else { return left };
        let done = sealing.last_done.clone();
        let mut looks = LOOKS;
        sealing.is_done = true;
        for (product, index, customer) in customers_after(&catalog, &roster, done.as_ref()) {
            // What was used is gone, and nothing is claimed: the other customers need not be looked at.
            if self.has_nothing_to_seal(&catalog, hour, now) {
                break;
            }
            if left == 0 || looks == 0 {
                (sealing.is_done, left) = (false, 0);
                break;
            }
            looks -= 1;
            if self.claims_zero(product, &customer, hour, now) || self.has_used(index, hour) {
                let turn = Turn { index, customer: &customer, product, hour, is_last: false };
                self.seal_dimensions(&roster, &turn, now, batch, progress);
                left = left.saturating_sub(product.dimensions.len().max(1));
            }
            sealing.last_done = Some((product.code.clone(), customer.key));
        }
        self.sealing = Some(sealing);
        left
    }

    fn has_used(&self, customer: CustomerIndex, hour: Hour) -> bool {
        self.open.get(&hour).is_some_and(|buckets| buckets.has_had(customer))
    }

    fn has_nothing_to_seal(&self, catalog: &Catalog, hour: Hour, now: Timestamp) -> bool {
        let is_too_late = now >= self.rules.window.deadline(hour);
        self.open.get(&hour).is_none_or(BySeries::is_empty)
            && (is_too_late || catalog.products().all(|(_, product)| !product.zero_records))
    }

    /// Seals every hour of a closing customer up to now, the open one included; returns how many buckets it looked at.
    fn seal_last_hours(
        &mut self,
        index: CustomerIndex,
        now: Timestamp,
        batch: &mut Batch,
        progress: &mut SealProgress,
    ) -> usize {
        self.closing.retain(|(_, closing)| *closing != index);
        let (catalog, roster) = (self.rules.catalog.clone(), self.roster.clone());
        let mut roster = roster.write();
        let Some(customer) = roster.get(index) else { return 1 };
        let Some(product) = catalog.product(customer.product) else { return 1 };
        let first = customer.standing.watermark(self.watermark).next();
        let last = Hour::containing(now).max(first);
        let mut looked_at = 1;
        for hour in (first.index()..=last.index()).map(Hour::from_index) {
            let turn = Turn { index, customer: &customer, product, hour, is_last: hour == last };
            self.seal_dimensions(&roster, &turn, now, batch, progress);
            looked_at += product.dimensions.len();
        }
        roster.update(index, |standing| {
            standing.sealed_through = Some(last);
            if let Some(closing) = &mut standing.closing {
                closing.is_sealed = true;
            }
        });
        self.put_roster_row(&roster, index, batch);
        looked_at
    }

    fn seal_dimensions(
        &mut self,
        roster: &Inner,
        turn: &Turn<'_>,
        now: Timestamp,
        batch: &mut Batch,
        progress: &mut SealProgress,
    ) {
        let claims_zero = self.claims_zero(turn.product, turn.customer, turn.hour, now);
        for (dimension, place) in turn.product.dimensions.iter().zip(0..) {
            let series = Series { customer: turn.index, dimension: DimensionIndex(place) };
            let bucket = self.take_bucket(roster, turn.hour, series, batch);
            if bucket.is_none() && !claims_zero {
                continue;
            }
            let bucket = bucket.unwrap_or_else(|| Bucket::new(dimension.aggregate));
            self.note_open(turn.customer.product, series.dimension, bucket.total(), 0);
            self.seal_bucket(turn, dimension, series, &bucket, claims_zero, now, batch, progress);
        }
    }

    /// Makes of a bucket a record that is sent, or one that is held, or leaves it to the next hour.
    #[expect(clippy::too_many_arguments, reason = "where it comes from, and where it goes")]
    fn seal_bucket(
        &mut self,
        turn: &Turn<'_>,
        dimension: &Dimension,
        series: Series,
        bucket: &Bucket,
        claims_zero: bool,
        now: Timestamp,
        batch: &mut Batch,
        progress: &mut SealProgress,
    ) {
        let Turn { customer, product, hour, is_last, .. } = *turn;
        self.outstanding_used(series, bucket.usage.amount());
        let standing = &customer.standing;
        let billed_as = standing.billed_as(product, hour);
        if billed_as == BilledAs::Later && !is_last && !standing.is_closed() {
            let carry = postpone(hour, dimension, bucket);
            return self.carry_into(hour.next(), customer.product, series, &carry);
        }
        let (identity, held_for) = match billed_as {
            _ if standing.is_closed() => (&standing.identity, Some(HoldReason::NotBillable)),
            BilledAs::Identity(identity) => (identity, None),
            BilledAs::Later | BilledAs::Unknown => (&standing.identity, Some(HoldReason::NoIdentity)),
        };
        let billed = Billed {
            product: product.code.clone(),
            customer: customer.key.clone(),
            identity: identity.clone(),
            since: standing.since,
        };
        // What is used after the last hour is kept to the unit, for whoever decides about it; but no level stands on.
        let is_last = is_last || (standing.is_closed() && !dimension.aggregate.adds_up());
        let occasion = Occasion { hour, claims_zero, is_last };
        let sealed = seal(self.next_record, occasion, &billed, dimension, bucket);
        if let Some(record) = sealed.record {
            self.hour_has_records(hour);
            self.next_record = RecordId(self.next_record.0 + 1);
            progress.records += 1;
            self.outstanding_rounded(series, &record);
            let row = encode(&record);
            self.journal.note_sealed(record.id, &row);
            match held_for {
                None => {
                    batch.put(Table::Records, keys::record(record.id), row);
                    self.tally.note_pending(&record.product);
                    self.hour_pending(record.hour);
                }
                Some(reason) => self.hold_at_seal(record, reason, now, batch),
            }
        }
        if is_sabotaged(Sabotage::DropCarry) {
            return;
        }
        self.carry_into(hour.next(), customer.product, series, &sealed.carry);
    }

    /// Keeps in plain sight what may not be sent.
    fn hold_at_seal(&mut self, record: Record, reason: HoldReason, now: Timestamp, batch: &mut Batch) {
        let detail = match reason {
            HoldReason::NotBillable => "used after the customer's last hour was sealed",
            _ => {
                "the product's identity has changed: register the customer under the new one, then carry this"
            }
        };
        let outcome = Outcome::Held { reason, detail: detail.into() };
        let settled = Settled { record, attempts: 0, outcome, at: now };
        self.write_settled(&settled, batch);
        self.tally.note_settled(&settled);
    }

    fn take_bucket(
        &mut self,
        roster: &Inner,
        hour: Hour,
        series: Series,
        batch: &mut Batch,
    ) -> Option<Bucket> {
        let bucket = self.open.get_mut(&hour)?.remove(series)?;
        self.open_buckets -= 1;
        self.open_subjects = self.open_subjects.saturating_sub(bucket.usage.subjects());
        self.open_tag_sets -= bucket.tagged.len();
        if let Some(key) = self.bucket_key(roster, hour, series) {
            batch.delete(Table::Buckets, key.encode());
            if !bucket.tagged.is_empty() {
                let parts = keys::tagged_of(key);
                batch.delete_range(Table::Tagged, parts.clone(), keys::after(parts));
            }
        }
        Some(bucket)
    }

    fn note_progress(&self, batch: &mut Batch) {
        let texts = |(product, key): &(Arc<str>, Arc<str>)| (product.to_string(), key.to_string());
        let unfinished = self.sealing.as_ref().map(|sealing| sealing.last_done.as_ref().map(texts));
        let state = SealingState { watermark: self.watermark, unfinished };
        batch.put(Table::Meta, keys::SEALING, encode(&state));
        batch.put(Table::Meta, keys::NEXT_RECORD, encode(&Number(self.next_record.0.into())));
    }
}

/// All customers in the order of product code and key, those after `done`.
fn customers_after<'a>(
    catalog: &'a Catalog,
    roster: &'a Inner,
    done: Option<&'a (Arc<str>, Arc<str>)>,
) -> impl Iterator<Item = (&'a Product, CustomerIndex, Customer)> {
    let done = done.map(|(product, key)| (&**product, &**key));
    let mut products: Vec<_> = catalog.products().collect();
    products.sort_unstable_by_key(|(_, product)| &*product.code);
    let is_done = move |code: &str| done.is_some_and(|(product, _)| code < product);
    products.into_iter().filter(move |(_, product)| !is_done(&product.code)).flat_map(
        move |(place, product)| {
            let after = done.filter(|(code, _)| *product.code == **code).map(|(_, key)| key);
            roster.after(place, after).map(move |(index, customer)| (product, index, customer))
        },
    )
}
