//! What a bucket becomes when its hour is sealed: total, bill, allocations, carry, and a record or none.

use std::{sync::Arc, time::Duration};

use super::{
    allocation::{Allocated, allocate},
    record::{Amounts, Record, RecordId},
};
use crate::domain::{
    customer::identity::Identity,
    product::{Aggregate, Dimension},
    time::{Hour, Timestamp},
    usage::{
        bucket::{Bucket, Carried, Carry, Usage},
        quantity::Bill,
    },
};

/// A customer as the seal needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BilledCustomer {
    pub product: Arc<str>,
    pub key: Arc<str>,
    pub identity: Identity,
    /// When the subscription began, where known.
    pub since: Option<Timestamp>,
}

/// The hour of a seal, and how it ends for the customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealContext {
    pub hour: Hour,
    /// Whether an hour that bills nothing makes a record all the same (I8).
    pub claims_zero: bool,
    /// The customer's last one: what is left below a step has no later hour to go to.
    pub is_last: bool,
    /// How long after its time an event may still come (`events_late_by`).
    pub late_by: Duration,
}

/// How long after its time an event may still come: no older one is taken, and what was taken is counted within the
/// grace.
pub(crate) fn events_late_by(max_age: Duration, grace: Duration) -> Duration {
    max_age.saturating_add(grace)
}

/// What a bucket becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub record: Option<Record>,
    /// Moves into the next hour's bucket.
    pub carry: Carry,
    /// The hour reaches the largest quantity that AWS takes.
    pub is_capped: bool,
}

impl Sealed {
    /// Takes what a record that is held leaves: it stays with the record, so that one decision is about all of it, and
    /// nothing of it is billed meanwhile. A level that stands begins the next hour all the same.
    pub(crate) fn withhold(&mut self) -> Carry {
        let level = self.carry.level.take();
        std::mem::replace(&mut self.carry, Carry { level, ..Carry::default() })
    }
}

/// Seals one bucket. Without a claim to zero, an hour that bills nothing makes no record.
pub fn seal(
    id: RecordId,
    context: SealContext,
    customer: &BilledCustomer,
    dimension: &Dimension,
    bucket: &Bucket,
) -> Sealed {
    let total = total(context.hour, bucket);
    let bill = bill(total.amount, dimension, context.is_last);
    let Allocated { allocations, carried } = allocated(dimension, &bill, &total, bucket);
    let level = level_that_stands(context.hour, context.late_by, dimension.aggregate, bucket);
    let level = level.filter(|_| !context.is_last);
    let carry = Carry { origins: total.by_origin.newest(bill.rest), tagged: carried, level };
    if !context.claims_zero && leaves_all(&bill, &total) {
        return Sealed { record: None, carry, is_capped: false };
    }
    let record = Record {
        id,
        product: customer.product.clone(),
        customer: customer.key.clone(),
        dimension: dimension.name.clone(),
        identity: customer.identity.clone(),
        hour: context.hour,
        timestamp: timestamp(context.hour, customer.since),
        quantity: bill.quantity,
        decimal: dimension.unit.is_decimal(),
        allocations,
        amounts: amounts(bucket, &bill, &total),
    };
    let is_capped = record.quantity == dimension.unit.largest_quantity();
    Sealed { record: Some(record), carry, is_capped }
}

/// Leaves all of a bucket to the next hour.
pub(crate) fn postpone(hour: Hour, late_by: Duration, dimension: &Dimension, bucket: &Bucket) -> Carry {
    let level = level_that_stands(hour, late_by, dimension.aggregate, bucket);
    Carry { origins: total(hour, bucket).by_origin, tagged: bucket.tagged.clone(), level }
}

/// The amount that an hour has to bill, in base units.
struct Total {
    amount: u128,
    /// The amount by the hour in which it was acknowledged.
    by_origin: Carried,
}

/// The hour's own usage, and what earlier hours left.
fn total(hour: Hour, bucket: &Bucket) -> Total {
    let mut by_origin = bucket.carried.clone();
    by_origin.add(hour, bucket.usage.amount());
    Total { amount: bucket.total(), by_origin }
}

/// Bills whole steps and leaves the rest to the next hour. A customer's last hour has no next one, and the rest of a
/// level would be billed again in it: both are rounded.
fn bill(total: u128, dimension: &Dimension, is_last: bool) -> Bill {
    if is_last || !dimension.aggregate.adds_up() {
        dimension.unit.bill_rounded(total, dimension.rounding)
    } else {
        dimension.unit.bill(total)
    }
}

/// The bill by tags, if the dimension has any.
fn allocated(dimension: &Dimension, bill: &Bill, total: &Total, bucket: &Bucket) -> Allocated {
    if dimension.tags {
        allocate(&dimension.unit, bill, total.amount, &bucket.tagged)
    } else {
        Allocated::default()
    }
}

/// The level that the next hour begins with. A level of nothing bills nothing, and is kept only as long as an event of an
/// earlier time may still come: without it, that event's level would stand.
fn level_that_stands(hour: Hour, late_by: Duration, aggregate: Aggregate, bucket: &Bucket) -> Option<Usage> {
    let may_be_needed = match bucket.usage {
        Usage::Latest { at, level: 0 } => hour.end() < at.timestamp().plus(late_by),
        usage @ (Usage::Sum(_) | Usage::Max(_) | Usage::Latest { .. } | Usage::Unique(_)) => {
            usage.amount() > 0
        }
    };
    let holds = aggregate == Aggregate::Latest { hold: true } && may_be_needed;
    holds.then_some(bucket.usage)
}

/// Whether nothing is billed, and nothing was rounded away.
const fn leaves_all(bill: &Bill, total: &Total) -> bool {
    bill.rest == total.amount
}

/// Where the record's base units come from and go.
fn amounts(bucket: &Bucket, bill: &Bill, total: &Total) -> Amounts {
    Amounts {
        usage: bucket.usage.amount(),
        events: bucket.events,
        carried_in: bucket.carried.clone(),
        billed: bill.billed,
        carried_out: bill.rest,
        rounded: difference(bill.billed.saturating_add(bill.rest), total.amount),
    }
}

fn difference(a: u128, b: u128) -> i128 {
    let size = i128::try_from(a.abs_diff(b)).unwrap_or(i128::MAX);
    if a >= b { size } else { size.saturating_neg() }
}

/// AWS refuses usage from before a subscription began, and takes any moment inside the hour for the hour.
fn timestamp(hour: Hour, since: Option<Timestamp>) -> Timestamp {
    match since {
        Some(since) if since > hour.start() && since < hour.end() => since,
        _ => hour.start(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::domain::{
        product::QuantityLimits,
        usage::{
            bucket::tests::buckets,
            quantity::{Quantity, Rounding, Unit},
            tags::tests::tag_set,
        },
    };
    use proptest::prelude::*;
    use std::num::NonZeroU64;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn hour(text: &str) -> Hour {
        Hour::containing(at(text))
    }

    fn acme(since: Option<&str>) -> BilledCustomer {
        BilledCustomer {
            product: "prod".into(),
            key: "acme".into(),
            identity: Identity::Account { account_id: "123456789012".into() },
            since: since.map(at),
        }
    }

    pub(crate) fn dimension(unit: u64, decimals: u8) -> Dimension {
        let unit = Unit::new(NonZeroU64::new(unit).unwrap(), decimals).unwrap();
        let rounding = Rounding::Down;
        let limits = QuantityLimits::default();
        Dimension { name: "gb_out".into(), aggregate: Aggregate::Sum, unit, rounding, tags: true, limits }
    }

    fn context(claims_zero: bool, is_last: bool) -> SealContext {
        let late_by = events_late_by(Duration::from_hours(24), Duration::from_mins(5));
        SealContext { hour: hour("2026-11-22T10:00:00Z"), claims_zero, is_last, late_by }
    }

    pub(crate) fn sealed(dimension: &Dimension, bucket: &Bucket, is_last: bool) -> Sealed {
        seal(RecordId(1), context(false, is_last), &acme(None), dimension, bucket)
    }

    fn used(amount: u128) -> Bucket {
        Bucket { usage: Usage::Sum(amount), events: 1, ..Bucket::new(Aggregate::Sum) }
    }

    #[test]
    fn the_timestamp_is_the_subscriptions_start_only_inside_the_hour() {
        let stamp = |since| timestamp(hour("2026-11-22T10:00:00Z"), Some(at(since))).to_string();
        assert_eq!(stamp("2026-11-22T10:20:00Z"), "2026-11-22T10:20:00Z");
        assert_eq!(stamp("2026-11-22T09:59:59Z"), "2026-11-22T10:00:00Z");
        assert_eq!(stamp("2026-11-22T11:00:00Z"), "2026-11-22T10:00:00Z");
    }

    #[test]
    fn a_record_tells_all_of_its_bucket() {
        let nine = hour("2026-11-22T09:00:00Z");
        let carried = Carried::from_origin(nine, 700);
        let bucket = Bucket { events: 3, carried: carried.clone(), ..used(1600) };
        let sealed = seal(
            RecordId(7),
            context(false, false),
            &acme(Some("2026-11-22T10:20:00Z")),
            &dimension(1000, 1),
            &bucket,
        );
        let record = sealed.record.unwrap();
        let amounts =
            Amounts { usage: 1600, events: 3, carried_in: carried, billed: 2300, carried_out: 0, rounded: 0 };
        assert_eq!(
            (record.id, &record.amounts, record.quantity.to_string()),
            (RecordId(7), &amounts, "2.3".to_owned())
        );
        assert_eq!((&*record.product, &*record.customer, &*record.dimension), ("prod", "acme", "gb_out"));
        assert_eq!(record.identity, acme(None).identity);
        assert!(record.decimal);
        assert_eq!((record.hour, record.timestamp), (nine.next(), at("2026-11-22T10:20:00Z")));
        assert_eq!(sealed.carry, Carry::default());
    }

    #[test]
    fn the_oldest_usage_is_billed_first_and_the_rest_keeps_its_origins() {
        let [eight, ten] = ["2026-11-22T08:00:00Z", "2026-11-22T10:00:00Z"].map(hour);
        let carry = |used_now| {
            let bucket = Bucket { carried: Carried::from_origin(eight, 900), ..used(used_now) };
            sealed(&dimension(1000, 0), &bucket, false).carry.origins.origins().collect::<Vec<_>>()
        };
        assert_eq!(carry(600), [(ten, 500)]);
        assert_eq!(carry(50), [(eight, 900), (ten, 50)]);
    }

    #[test]
    fn nothing_to_bill_makes_a_record_only_as_a_claim_to_zero() {
        let sealed =
            |zero| seal(RecordId(1), context(zero, false), &acme(None), &dimension(1000, 0), &used(999));
        assert_eq!(sealed(false).record, None);
        assert_eq!(sealed(true).record.unwrap().quantity.to_string(), "0");
        assert_eq!(sealed(false).carry.origins.total(), 999);
    }

    #[test]
    fn a_last_remainder_is_rounded_and_the_rounding_is_told() {
        let last = |rounding| {
            let dimension = Dimension { rounding, ..dimension(1000, 0) };
            let sealed = sealed(&dimension, &used(1600), true);
            assert!(sealed.carry.is_empty());
            let record = sealed.record.unwrap();
            (record.quantity.to_string(), record.amounts.billed, record.amounts.rounded)
        };
        assert_eq!(last(Rounding::Down), ("1".to_owned(), 1000, -600));
        assert_eq!(last(Rounding::Up), ("2".to_owned(), 2000, 400));
        assert_eq!(last(Rounding::Nearest), ("2".to_owned(), 2000, 400));
    }

    #[test]
    fn a_last_hour_below_a_step_makes_a_record_of_what_was_rounded_away() {
        let sealed = sealed(&dimension(1000, 0), &used(300), true);
        assert!(sealed.carry.is_empty());
        let record = sealed.record.unwrap();
        assert_eq!((record.quantity, record.amounts.rounded), (Quantity::ZERO, -300));
    }

    #[test]
    fn a_postponed_hour_leaves_all_it_has() {
        let mut bucket = teams(&[("a", 3)], 4);
        bucket.take_in(&Carry { origins: Carried::from_origin(Hour::FIRST, 5), ..Carry::default() });
        let ten = hour("2026-11-22T10:00:00Z");
        let carry = postpone(ten, Duration::ZERO, &dimension(1, 0), &bucket);
        assert_eq!(carry.origins.origins().collect::<Vec<_>>(), [(Hour::FIRST, 5), (ten, 7)]);
        assert_eq!((carry.tagged, carry.level), (bucket.tagged, None));
    }

    #[test]
    fn what_a_held_record_leaves_stays_with_it_and_a_level_stands_all_the_same() {
        let largest = 2_147_483_647;
        let mut sum = sealed(&dimension(1, 0), &teams(&[("a", largest + 5)], 7), false);
        let withheld = sum.withhold();
        assert_eq!((withheld.origins.total(), withheld.tagged.total()), (12, 5));
        assert_eq!((sum.carry, sum.record.unwrap().amounts.billed), (Carry::default(), largest));
        let seats = Dimension { aggregate: Aggregate::Latest { hold: true }, ..dimension(1, 0) };
        let usage = Usage::of(seats.aggregate, 7, at("2026-11-22T10:20:00Z"));
        let mut level = sealed(&seats, &Bucket { usage, ..Bucket::new(seats.aggregate) }, false);
        assert!(level.withhold().is_empty());
        assert_eq!(level.carry.level, Some(usage));
    }

    #[test]
    fn a_level_of_nothing_is_held_as_long_as_an_earlier_one_may_still_come() {
        let seats = Dimension { aggregate: Aggregate::Latest { hold: true }, ..dimension(1, 0) };
        // The hour ends at 11:00 on the 22nd; events come a day and five minutes late.
        let stands = |level, told: &str| {
            let usage = Usage::of(seats.aggregate, level, at(&format!("2026-11-{told}Z")));
            let bucket = Bucket { usage, ..Bucket::new(seats.aggregate) };
            let [sealed, postponed] = [
                sealed(&seats, &bucket, false).carry.level,
                postpone(context(false, false).hour, context(false, false).late_by, &seats, &bucket).level,
            ];
            assert_eq!(sealed, postponed);
            assert!(sealed.is_none_or(|level| level == usage));
            sealed.is_some()
        };
        assert!(stands(0, "22T10:20:00") && stands(0, "21T10:55:00.001"));
        assert!(!stands(0, "21T10:55:00") && stands(1, "21T10:55:00"));
        let silent = Bucket::new(seats.aggregate);
        assert_eq!(sealed(&seats, &silent, false).carry.level, None, "no one has said anything");
        let told = Dimension { aggregate: Aggregate::Latest { hold: false }, ..seats.clone() };
        let usage = Usage::of(told.aggregate, 0, at("2026-11-22T10:20:00Z"));
        assert_eq!(sealed(&told, &Bucket { usage, ..silent }, false).carry.level, None);
    }

    #[test]
    fn no_level_stands_after_a_customers_last_hour_and_a_postponed_one_stands() {
        let seats = Dimension { aggregate: Aggregate::Latest { hold: true }, ..dimension(1, 0) };
        let level = Usage::of(seats.aggregate, 7, at("2026-11-22T10:20:00Z"));
        let bucket = Bucket { usage: level, events: 1, ..Bucket::new(seats.aggregate) };
        assert_eq!(sealed(&seats, &bucket, true).carry.level, None);
        assert_eq!(
            postpone(hour("2026-11-22T10:00:00Z"), Duration::ZERO, &seats, &bucket).level,
            Some(level)
        );
    }

    #[test]
    fn what_is_above_the_largest_quantity_is_never_rounded_away() {
        let largest = |amount| sealed(&dimension(1, 0), &used(amount), true);
        let sealed = largest(2_147_483_650);
        assert_eq!((sealed.record.unwrap().quantity, sealed.carry.origins.total()), (Quantity::MAX, 3));
        assert_eq!(
            [2_147_483_646, 2_147_483_647, 2_147_483_650].map(|amount| largest(amount).is_capped),
            [false, true, true]
        );
    }

    #[test]
    fn a_level_is_told_anew_each_hour_and_carries_no_remainder() {
        let level = |aggregate| {
            let usage = Usage::of(aggregate, 1600, at("2026-11-22T10:20:00Z"));
            let bucket = Bucket { usage, events: 1, ..Bucket::new(aggregate) };
            sealed(&Dimension { aggregate, ..dimension(1000, 0) }, &bucket, false)
        };
        for aggregate in [Aggregate::Max, Aggregate::Latest { hold: false }] {
            let sealed = level(aggregate);
            assert!(sealed.carry.is_empty(), "{aggregate}");
            assert_eq!(sealed.record.unwrap().amounts.rounded, -600);
        }
        let held = level(Aggregate::Latest { hold: true });
        assert_eq!(held.carry.level.map(|level| level.amount()), Some(1600), "stands in the next hour");
        assert!(held.carry.origins.is_empty());
    }

    pub(crate) fn teams(parts: &[(&str, u128)], untagged: u128) -> Bucket {
        let mut bucket = used(untagged + parts.iter().map(|(_, amount)| amount).sum::<u128>());
        for (team, amount) in parts {
            bucket.tagged.add(&tag_set(&[("team", team)]), *amount);
        }
        bucket
    }

    proptest! {
        #[test]
        fn sealing_conserves(
            bucket in buckets(), unit in 1..10_000_000_u64, decimals in 0..=6_u8, claims_zero: bool, is_last: bool,
            rounding in proptest::sample::select(vec![Rounding::Up, Rounding::Down, Rounding::Nearest]),
        ) {
            let dimension = Dimension { rounding, ..dimension(unit, decimals) };
            let sealed = seal(RecordId(1), context(claims_zero, is_last), &acme(None), &dimension, &bucket);
            let Some(record) = sealed.record else {
                prop_assert_eq!(sealed.carry.origins.total(), bucket.total());
                return Ok(());
            };
            let Amounts { usage, carried_in, billed, carried_out, rounded, .. } = &record.amounts;
            let signed = |amount: u128| i128::try_from(amount).unwrap();
            prop_assert_eq!(signed(*usage + carried_in.total()) + rounded, signed(billed + carried_out));
            prop_assert_eq!(*carried_out, sealed.carry.origins.total());
            prop_assert!(rounded.unsigned_abs() < dimension.unit.step());
            prop_assert!(is_last || *rounded == 0);
        }

        #[test]
        fn no_carry_loses_its_origin(origin in 1..100_u32, carried in 0..5000_u128) {
            let mut bucket = used(0);
            bucket.carried = Carried::from_origin(Hour::from_index(origin), carried);
            let sealed = sealed(&dimension(1000, 0), &bucket, false);
            prop_assert!(sealed.carry.origins.origins().all(|(hour, _)| hour == Hour::from_index(origin)));
        }
    }
}
