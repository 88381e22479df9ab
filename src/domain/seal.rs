//! When an hour is sealed, and what its buckets become.

use std::{sync::Arc, time::Duration};

use super::{
    bucket::{Bucket, Carry, Usage},
    deadline::Window,
    identity::Identity,
    product::{Aggregate, Dimension},
    quantity::{Bill, Unit},
    record::{Allocation, Amounts, Record, RecordId},
    tags::{TagSet, Tagged},
    time::{Hour, Timestamp},
};

/// The first watermark of an agent that starts for the first time: the hour that is in grace stays open.
pub fn first_watermark(started: Timestamp, grace: Duration) -> Hour {
    Hour::containing(started.minus(grace)).previous()
}

/// Left between a seal and the deadline, for sending.
const TIME_TO_SEND: Duration = Duration::from_mins(15);

/// When the hour after `watermark` is sealed: `grace` after its end, and not sooner than `grace` after the start of the
/// agent, so that applications can resend after a down-time; but in time for the hour's deadline.
pub fn seals_at(watermark: Hour, started: Timestamp, grace: Duration, window: &Window) -> Timestamp {
    let hour = watermark.next();
    let after_start = started.plus(grace).min(window.deadline(hour).minus(TIME_TO_SEND));
    hour.end().plus(grace).max(after_start)
}

/// The hour that takes an event for `hour`: its own while that is open, else the current one, counted as late.
pub fn open_hour(hour: Hour, watermark: Hour, now: Timestamp) -> Hour {
    if hour > watermark { hour } else { Hour::containing(now).max(watermark.next()) }
}

/// A customer as the seal needs to know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Billed {
    pub product: Arc<str>,
    pub customer: Arc<str>,
    pub identity: Identity,
    /// When the subscription began, where known.
    pub since: Option<Timestamp>,
}

/// The circumstances of a seal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Occasion {
    pub hour: Hour,
    /// Whether an hour that bills nothing makes a record all the same (I8).
    pub claims_zero: bool,
    /// The customer's last one: what is left below a step has no later hour to go to.
    pub is_last: bool,
}

/// What a bucket becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    pub record: Option<Record>,
    /// Moves into the next hour's bucket.
    pub carry: Carry,
}

/// Seals one bucket. Without a claim to zero, an hour that bills nothing makes no record.
pub fn seal(
    id: RecordId,
    occasion: Occasion,
    billed: &Billed,
    dimension: &Dimension,
    bucket: &Bucket,
) -> Sealed {
    let Occasion { hour, claims_zero, is_last } = occasion;
    let unit = &dimension.unit;
    let bill = if is_last || !dimension.aggregate.adds_up() {
        unit.bill_rounded(bucket.total(), dimension.rounding)
    } else {
        unit.bill(bucket.total())
    };
    let mut by_origin = bucket.carried.clone();
    by_origin.add(hour, bucket.usage.amount());
    let (allocations, tagged) =
        if dimension.tags { allocate(unit, &bill, bucket) } else { Default::default() };
    let level = held_level(dimension.aggregate, bucket).filter(|_| !is_last);
    let carry = Carry { origins: by_origin.newest(bill.rest), tagged, level };
    if bill.quantity.is_zero() && !claims_zero && carry.origins.total() == bucket.total() {
        return Sealed { record: None, carry };
    }
    let record = Record {
        id,
        product: billed.product.clone(),
        customer: billed.customer.clone(),
        dimension: dimension.name.clone(),
        identity: billed.identity.clone(),
        hour,
        timestamp: timestamp(hour, billed.since),
        quantity: bill.quantity,
        decimal: unit.is_decimal(),
        allocations,
        amounts: Amounts {
            usage: bucket.usage.amount(),
            events: bucket.events,
            carried_in: bucket.carried.clone(),
            billed: bill.billed,
            carried_out: bill.rest,
            rounded: difference(bill.billed.saturating_add(bill.rest), bucket.total()),
        },
    };
    Sealed { record: Some(record), carry }
}

/// Leaves all of a bucket to the next hour.
pub fn postpone(hour: Hour, dimension: &Dimension, bucket: &Bucket) -> Carry {
    let mut origins = bucket.carried.clone();
    origins.add(hour, bucket.usage.amount());
    Carry { origins, tagged: bucket.tagged.clone(), level: held_level(dimension.aggregate, bucket) }
}

/// The level that the next hour begins with.
fn held_level(aggregate: Aggregate, bucket: &Bucket) -> Option<Usage> {
    let holds = aggregate == Aggregate::Latest { hold: true } && bucket.usage.amount() > 0;
    holds.then_some(bucket.usage)
}

fn difference(a: u128, b: u128) -> i128 {
    let size = i128::try_from(a.abs_diff(b)).unwrap_or(i128::MAX);
    if a >= b { size } else { size.saturating_neg() }
}

/// A tag set's part of a bill on its way.
struct Part<'a> {
    tags: Option<&'a TagSet>,
    steps: u128,
    rest: u128,
}

/// Splits what is billed by tags, so that the parts add up to it exactly; the parts of the carry have their tags, too.
///
/// Each set is billed its whole steps. Steps that only the remainders of several sets make up together go to the sets
/// with the largest ones.
fn allocate(unit: &Unit, bill: &Bill, bucket: &Bucket) -> (Vec<Allocation>, Tagged) {
    let step = unit.step();
    let steps_in = |amount: u128| amount.checked_div(step).unwrap_or(0);
    let untagged = (None, bucket.total().saturating_sub(bucket.tagged.total()));
    let mut left = steps_in(bill.billed);
    let mut parts = Vec::with_capacity(bucket.tagged.len().saturating_add(1));
    for (tags, amount) in bucket.tagged.iter().map(|(tags, amount)| (Some(tags), amount)).chain([untagged]) {
        let steps = steps_in(amount).min(left);
        left = left.saturating_sub(steps);
        parts.push(Part { tags, steps, rest: amount.saturating_sub(steps.saturating_mul(step)) });
    }
    if left > 0 {
        share_out(&mut parts, left, step);
    }
    let allocations = parts.iter().filter(|part| part.steps > 0).map(|part| Allocation {
        tags: part.tags.cloned(),
        quantity: unit.quantity_of(part.steps),
        billed: part.steps.saturating_mul(step),
    });
    let mut allocations: Vec<Allocation> = allocations.collect();
    if allocations.iter().all(|part| part.tags.is_none()) {
        // AWS takes the absence of allocations for: all untagged.
        allocations.clear();
    }
    let rests = parts.iter().filter(|part| part.rest > 0 && bill.rest > 0);
    (allocations, rests.filter_map(|part| Some((part.tags?, part.rest))).collect())
}

/// Gives the last steps to the parts with the largest remainders, and takes what these steps are made of from the
/// remainders, largest first.
fn share_out(parts: &mut [Part<'_>], steps: u128, step: u128) {
    parts.sort_by(|a, b| b.rest.cmp(&a.rest).then_with(|| a.tags.cmp(&b.tags)));
    let mut owed = steps.saturating_mul(step);
    for (part, place) in parts.iter_mut().zip(0_u128..) {
        let paid = part.rest.min(owed);
        part.rest = part.rest.saturating_sub(paid);
        owed = owed.saturating_sub(paid);
        if place < steps {
            part.steps = part.steps.saturating_add(1);
        }
    }
}

/// AWS refuses usage from before a subscription began, and takes any moment inside the hour for the hour.
fn timestamp(hour: Hour, since: Option<Timestamp>) -> Timestamp {
    match since {
        Some(since) if since > hour.start() && since < hour.end() => since,
        _ => hour.start(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        bucket::{Carried, tests::buckets},
        quantity::{Quantity, Rounding},
        tags::tests::tag_set,
    };
    use proptest::prelude::*;
    use std::num::NonZeroU64;

    const GRACE: Duration = Duration::from_mins(5);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn hour(text: &str) -> Hour {
        Hour::containing(at(text))
    }

    fn acme(since: Option<&str>) -> Billed {
        Billed {
            product: "prod".into(),
            customer: "acme".into(),
            identity: Identity::Account { account_id: "123456789012".into() },
            since: since.map(at),
        }
    }

    fn dimension(unit: u64, decimals: u8) -> Dimension {
        let unit = Unit::new(NonZeroU64::new(unit).unwrap(), decimals).unwrap();
        let rounding = Rounding::Down;
        Dimension { name: "gb_out".into(), aggregate: Aggregate::Sum, unit, rounding, tags: true }
    }

    fn occasion(claims_zero: bool, is_last: bool) -> Occasion {
        Occasion { hour: hour("2026-11-22T10:00:00Z"), claims_zero, is_last }
    }

    fn sealed(dimension: &Dimension, bucket: &Bucket, is_last: bool) -> Sealed {
        seal(RecordId(1), occasion(false, is_last), &acme(None), dimension, bucket)
    }

    fn used(amount: u128) -> Bucket {
        Bucket { usage: Usage::Sum(amount), events: 1, ..Bucket::new(Aggregate::Sum) }
    }

    #[test]
    fn a_new_agent_leaves_the_hour_in_grace_open() {
        assert_eq!(first_watermark(at("2026-11-22T10:02:00Z"), GRACE).next(), hour("2026-11-22T09:00:00Z"));
        assert_eq!(first_watermark(at("2026-11-22T10:05:00Z"), GRACE).next(), hour("2026-11-22T10:00:00Z"));
    }

    #[test]
    fn an_hour_is_sealed_a_grace_after_its_end_or_after_the_start() {
        let watermark = hour("2026-11-22T09:00:00Z");
        let sealed_at = |started| seals_at(watermark, at(started), GRACE, &Window::AWS).to_string();
        assert_eq!(sealed_at("2026-11-22T10:30:00Z"), "2026-11-22T11:05:00Z");
        assert_eq!(sealed_at("2026-11-22T18:20:00Z"), "2026-11-22T18:25:00Z");
    }

    #[test]
    fn after_a_down_time_the_seal_still_comes_before_the_deadline() {
        let watermark = hour("2026-11-30T21:00:00Z");
        let sealed_at = |started| seals_at(watermark, at(started), GRACE, &Window::AWS).to_string();
        assert_eq!(sealed_at("2026-12-01T05:43:00Z"), "2026-12-01T05:45:00Z");
        assert!(sealed_at("2026-12-01T05:57:00Z").as_str() <= "2026-12-01T05:57:00Z", "at once");
    }

    #[test]
    fn late_events_go_to_the_current_hour_and_never_behind_the_watermark() {
        let watermark = hour("2026-11-22T09:00:00Z");
        let now = at("2026-11-22T11:30:00Z");
        assert_eq!(open_hour(hour("2026-11-22T10:00:00Z"), watermark, now), hour("2026-11-22T10:00:00Z"));
        assert_eq!(open_hour(hour("2026-11-22T09:00:00Z"), watermark, now), hour("2026-11-22T11:00:00Z"));
        let stepped_back = at("2026-11-22T07:00:00Z");
        assert_eq!(open_hour(hour("2026-11-22T07:00:00Z"), watermark, stepped_back), watermark.next());
    }

    #[test]
    fn the_timestamp_is_the_subscriptions_start_only_inside_the_hour() {
        let stamp = |since| timestamp(hour("2026-11-22T10:00:00Z"), Some(at(since))).to_string();
        assert_eq!(stamp("2026-11-22T10:20:00Z"), "2026-11-22T10:20:00Z");
        assert_eq!(stamp("2026-11-22T09:59:59Z"), "2026-11-22T10:00:00Z");
        assert_eq!(stamp("2026-11-22T11:00:00Z"), "2026-11-22T10:00:00Z");
    }

    #[test]
    fn nothing_to_bill_makes_a_record_only_as_a_claim_to_zero() {
        let sealed =
            |zero| seal(RecordId(1), occasion(zero, false), &acme(None), &dimension(1000, 0), &used(999));
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
    fn a_postponed_hour_leaves_all_it_has() {
        let mut bucket = teams(&[("a", 3)], 4);
        bucket.take_in(&Carry { origins: Carried::from_origin(Hour::FIRST, 5), ..Carry::default() });
        let ten = hour("2026-11-22T10:00:00Z");
        let carry = postpone(ten, &dimension(1, 0), &bucket);
        assert_eq!(carry.origins.origins().collect::<Vec<_>>(), [(Hour::FIRST, 5), (ten, 7)]);
        assert_eq!((carry.tagged, carry.level), (bucket.tagged, None));
    }

    #[test]
    fn a_level_of_nothing_needs_not_be_held() {
        let seats = Dimension { aggregate: Aggregate::Latest { hold: true }, ..dimension(1, 0) };
        let at_level = |level| {
            let usage = Usage::Latest { at: Timestamp::default(), level };
            sealed(&seats, &Bucket { usage, ..Bucket::new(seats.aggregate) }, false).carry.level
        };
        assert_eq!(at_level(0), None);
        assert_eq!(at_level(1).map(|level| level.amount()), Some(1));
    }

    #[test]
    fn what_rounding_takes_leaves_no_tags_behind() {
        let last = sealed(&dimension(1000, 0), &teams(&[("a", 300)], 300), true);
        assert!(last.carry.is_empty() && last.carry.tagged.is_empty());
    }

    #[test]
    fn what_is_above_the_largest_quantity_is_never_rounded_away() {
        let sealed = sealed(&dimension(1, 0), &used(2_147_483_650), true);
        assert_eq!((sealed.record.unwrap().quantity, sealed.carry.origins.total()), (Quantity::MAX, 3));
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

    fn teams(parts: &[(&str, u128)], untagged: u128) -> Bucket {
        let mut bucket = used(untagged + parts.iter().map(|(_, amount)| amount).sum::<u128>());
        for (team, amount) in parts {
            bucket.tagged.add(&tag_set(&[("team", team)]), *amount);
        }
        bucket
    }

    fn allocated(record: &Record) -> Vec<(String, String)> {
        let name = |tags: &Option<TagSet>| {
            tags.as_ref().map_or(String::new(), |tags| tags.tags().map(|(_, team)| team).collect())
        };
        let parts = record.allocations.iter();
        parts.map(|part| (name(&part.tags), part.quantity.to_string())).collect()
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<(String, String)> {
        expected.iter().map(|(team, quantity)| ((*team).to_owned(), (*quantity).to_owned())).collect()
    }

    #[test]
    fn a_quantity_is_split_by_tags_and_so_is_the_carry() {
        let sealed = sealed(&dimension(1000, 3), &teams(&[("a", 1500), ("b", 250)], 5), false);
        let record = sealed.record.unwrap();
        assert_eq!(allocated(&record), pairs(&[("a", "1.5"), ("b", "0.25"), ("", "0.005")]));
        let sealed = self::sealed(&dimension(1000, 0), &teams(&[("a", 1400), ("b", 1300)], 0), false);
        assert_eq!(allocated(&sealed.record.unwrap()), pairs(&[("a", "1"), ("b", "1")]));
        let carried: Vec<u128> = sealed.carry.tagged.iter().map(|(_, amount)| amount).collect();
        assert_eq!(carried, [400, 300], "each set keeps its remainder");
    }

    #[test]
    fn a_step_of_many_remainders_goes_to_the_largest() {
        let sealed = sealed(&dimension(1000, 0), &teams(&[("a", 300), ("b", 500), ("c", 400)], 0), false);
        assert_eq!(allocated(&sealed.record.unwrap()), pairs(&[("b", "1")]));
        let carried: Vec<u128> = sealed.carry.tagged.iter().map(|(_, amount)| amount).collect();
        assert_eq!((carried, sealed.carry.origins.total()), (vec![200], 200), "paid by b, then c, then a");
    }

    #[test]
    fn usage_without_tags_has_no_allocations() {
        let sealed = sealed(&dimension(1, 0), &teams(&[], 7), false);
        assert_eq!(sealed.record.unwrap().allocations, []);
    }

    proptest! {
        #[test]
        fn sealing_conserves(
            bucket in buckets(), unit in 1..10_000_000_u64, decimals in 0..=6_u8, claims_zero: bool, is_last: bool,
            rounding in proptest::sample::select(vec![Rounding::Up, Rounding::Down, Rounding::Nearest]),
        ) {
            let dimension = Dimension { rounding, ..dimension(unit, decimals) };
            let sealed = seal(RecordId(1), occasion(claims_zero, is_last), &acme(None), &dimension, &bucket);
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
        fn allocations_add_up_exactly(
            bucket in buckets(), unit in 1..10_000_000_u64, decimals in 0..=6_u8, is_last: bool,
            rounding in proptest::sample::select(vec![Rounding::Up, Rounding::Down, Rounding::Nearest]),
        ) {
            let dimension = Dimension { rounding, ..dimension(unit, decimals) };
            let sealed = sealed(&dimension, &bucket, is_last);
            prop_assert!(sealed.carry.tagged.total() <= sealed.carry.origins.total());
            let Some(record) = sealed.record else { return Ok(()) };
            if record.allocations.is_empty() {
                return Ok(());
            }
            let micros: u64 = record.allocations.iter().map(|part| part.quantity.micros()).sum();
            let billed: u128 = record.allocations.iter().map(|part| part.billed).sum();
            prop_assert_eq!((micros, billed), (record.quantity.micros(), record.amounts.billed));
            prop_assert!(record.allocations.iter().all(|part| !part.quantity.is_zero()));
            let rolled = crate::domain::record::rolled(&record);
            prop_assert!(rolled.tagged.total() <= rolled.origins.total());
            prop_assert_eq!(rolled.origins.total(), record.amounts.billed.min(bucket.total()));
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
