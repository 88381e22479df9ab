//! How a bill is split by tags.

use super::record::Allocation;
use crate::domain::usage::{
    quantity::{Bill, Unit},
    tags::{TagSet, Tagged},
};

/// A bill and its rest, by their tags.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Allocated {
    /// The parts of the bill, which add up to it exactly; none if all of it is untagged.
    pub(super) allocations: Vec<Allocation>,
    /// The tagged parts of what is carried.
    pub(super) carried: Tagged,
}

/// A tag set's part of a total, while the bill is split.
struct Part<'a> {
    tags: Option<&'a TagSet>,
    /// Billed so far.
    steps: u128,
    /// The base units that are not billed so far.
    rest: u128,
}

/// Splits the bill of `total`, of which `tagged` has tags.
///
/// Each set is billed its whole steps. Steps that only the remainders of several sets make up together go to the sets
/// with the largest ones. What is carried keeps its tags.
pub(super) fn allocate(unit: &Unit, bill: &Bill, total: u128, tagged: &Tagged) -> Allocated {
    let step = unit.step();
    let mut parts = parts(total, tagged);
    let left = bill_whole_steps(&mut parts, bill.billed.checked_div(step).unwrap_or(0), step);
    if left > 0 {
        share_out(&mut parts, left, step);
    }
    Allocated { allocations: allocations(unit, &parts), carried: carried(bill, &parts) }
}

/// The tag sets of a total, and last what is untagged.
fn parts(total: u128, tagged: &Tagged) -> Vec<Part<'_>> {
    let mut parts = Vec::with_capacity(tagged.len().saturating_add(1));
    parts.extend(tagged.iter().map(|(tags, amount)| Part { tags: Some(tags), steps: 0, rest: amount }));
    parts.push(Part { tags: None, steps: 0, rest: total.saturating_sub(tagged.total()) });
    parts
}

/// Bills each part its whole steps, as far as the bill goes; returns how many steps of the bill are left.
fn bill_whole_steps(parts: &mut [Part<'_>], steps: u128, step: u128) -> u128 {
    let mut left = steps;
    for part in parts {
        part.steps = part.rest.checked_div(step).unwrap_or(0).min(left);
        part.rest = part.rest.saturating_sub(part.steps.saturating_mul(step));
        left = left.saturating_sub(part.steps);
    }
    left
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

fn allocations(unit: &Unit, parts: &[Part<'_>]) -> Vec<Allocation> {
    let billed = || parts.iter().filter(|part| part.steps > 0);
    if billed().all(|part| part.tags.is_none()) {
        // AWS takes the absence of allocations for: all untagged.
        return Vec::new();
    }
    let allocation = |part: &Part<'_>| Allocation {
        tags: part.tags.cloned(),
        quantity: unit.quantity_of(part.steps),
        billed: part.steps.saturating_mul(unit.step()),
    };
    billed().map(allocation).collect()
}

/// The tags of a rest that was rounded away are not carried.
fn carried(bill: &Bill, parts: &[Part<'_>]) -> Tagged {
    let rests = parts.iter().filter(|part| part.rest > 0 && bill.rest > 0);
    rests.filter_map(|part| Some((part.tags?, part.rest))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        billing::{
            record::{Record, rolled},
            seal::tests::{dimension, sealed, teams},
        },
        product::Dimension,
        usage::{bucket::tests::buckets, quantity::Rounding},
    };
    use proptest::prelude::*;

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
    fn a_bill_below_the_whole_steps_of_its_sets_is_spent_in_their_order() {
        let (unit, bucket) = (dimension(1000, 0).unit, teams(&[("a", 2000), ("b", 3000)], 4000));
        let bill = Bill { quantity: unit.quantity_of(3), billed: 3000, rest: 6000 };
        let Allocated { allocations, carried } = allocate(&unit, &bill, bucket.total(), &bucket.tagged);
        assert_eq!(allocations.iter().map(|part| part.billed).collect::<Vec<_>>(), [2000, 1000]);
        assert_eq!(carried.iter().map(|(_, amount)| amount).collect::<Vec<_>>(), [2000], "of b");
    }

    #[test]
    fn a_dimension_without_tags_has_no_allocations() {
        let dimension = Dimension { tags: false, ..dimension(1, 0) };
        let sealed = sealed(&dimension, &teams(&[("a", 3)], 4), false);
        assert_eq!(sealed.record.unwrap().allocations, []);
    }

    #[test]
    fn usage_without_tags_has_no_allocations() {
        let sealed = sealed(&dimension(1, 0), &teams(&[], 7), false);
        assert_eq!(sealed.record.unwrap().allocations, []);
    }

    #[test]
    fn what_rounding_takes_leaves_no_tags_behind() {
        let last = sealed(&dimension(1000, 0), &teams(&[("a", 300)], 300), true);
        assert!(last.carry.is_empty() && last.carry.tagged.is_empty());
    }

    proptest! {
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
            let rolled = rolled(&record);
            prop_assert!(rolled.tagged.total() <= rolled.origins.total());
            prop_assert_eq!(rolled.origins.total(), record.amounts.billed.min(bucket.total()));
        }
    }
}
