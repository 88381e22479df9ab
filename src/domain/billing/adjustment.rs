//! A person lowers usage that is not sealed yet: what is taken, and from where.
//!
//! Nothing is ever added: more usage is an event's to report.

use std::{cmp::Reverse, sync::Arc};

use crate::domain::{
    product::Aggregate,
    time::{Hour, Timestamp},
    usage::{
        bucket::{Bucket, Lowered},
        tags::{TagSet, Tagged},
    },
};

/// What is to be taken from a customer's open hours of a dimension.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wanted {
    /// In base units.
    pub minus: u128,
    /// Only what was used in this hour, wherever it is now.
    pub hour: Option<Hour>,
    /// Only what has exactly these tags.
    pub tags: Option<TagSet>,
}

/// What is taken from one open hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    pub hour: Hour,
    pub lowered: Lowered,
}

/// An adjustment as it is written down, for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Adjustment {
    /// Numbers them in the order in which they were made, from 1.
    pub number: u64,
    /// What the caller has named it: under one name it counts once.
    pub id: Arc<str>,
    pub product: String,
    pub customer: String,
    pub dimension: String,
    pub wanted: Wanted,
    pub taken: Vec<Taken>,
    /// Why, in the person's words.
    pub reason: Arc<str>,
    /// The name that was given.
    pub by: Arc<str>,
    /// The client that proved itself; empty where none had to.
    pub client: Arc<str>,
    pub at: Timestamp,
}

/// So much is there, and no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMuch {
    pub available: u128,
}

/// Usage of one hour in one open bucket.
struct Part {
    bucket: usize,
    used_in: Hour,
    is_own: bool,
    amount: u128,
}

/// Finds where to take it from, or takes nothing.
///
/// What a slip has added stands out, so the largest part comes first: of usage by the hour in which it was used and the
/// open hour that it is in; and then, within an open hour, of its sets of tags. Of a level only what earlier hours have
/// left is an amount, and can be lowered.
pub(crate) fn plan(
    aggregate: Aggregate,
    buckets: &[(Hour, &Bucket)],
    wanted: &Wanted,
) -> Result<Vec<Taken>, TooMuch> {
    let mut room: Vec<u128> =
        buckets.iter().map(|(_, bucket)| room_in(bucket, wanted.tags.as_ref())).collect();
    let mut lowered = vec![Lowered::default(); buckets.len()];
    let mut left = wanted.minus;
    for Part { bucket, used_in, is_own, amount } in parts(aggregate, buckets, wanted.hour) {
        let (Some(room), Some(lowered)) = (room.get_mut(bucket), lowered.get_mut(bucket)) else { continue };
        let taken = left.min(amount).min(*room);
        left = left.saturating_sub(taken);
        *room = room.saturating_sub(taken);
        if is_own {
            lowered.usage = lowered.usage.saturating_add(taken);
        } else {
            lowered.carried.add(used_in, taken);
        }
    }
    if left > 0 {
        return Err(TooMuch { available: wanted.minus.saturating_sub(left) });
    }
    let mut all = Vec::new();
    for ((hour, bucket), mut lowered) in buckets.iter().zip(lowered) {
        if lowered.total() > 0 {
            lowered.tagged = tagged(bucket, lowered.total(), wanted.tags.as_ref());
            all.push(Taken { hour: *hour, lowered });
        }
    }
    Ok(all)
}

/// The most that may be taken from a bucket.
fn room_in(bucket: &Bucket, tags: Option<&TagSet>) -> u128 {
    tags.map_or(u128::MAX, |tags| bucket.tagged.get(tags).unwrap_or_default())
}

/// The parts that may be lowered, in the order in which they are.
fn parts(aggregate: Aggregate, buckets: &[(Hour, &Bucket)], only: Option<Hour>) -> Vec<Part> {
    let mut parts = Vec::new();
    for ((hour, bucket), index) in buckets.iter().zip(0..) {
        let part = |(used_in, amount), is_own| Part { bucket: index, used_in, is_own, amount };
        if aggregate.adds_up() {
            parts.push(part((*hour, bucket.usage.amount()), true));
        }
        parts.extend(bucket.carried.origins().map(|origin| part(origin, false)));
    }
    parts.retain(|part| part.amount > 0 && only.is_none_or(|hour| hour == part.used_in));
    parts.sort_by_key(|part| Reverse((part.amount, part.used_in, part.bucket)));
    parts
}

/// The tagged parts of what is taken. What is in no set of tags is one part among them.
fn tagged(bucket: &Bucket, amount: u128, only: Option<&TagSet>) -> Tagged {
    let mut taken = Tagged::default();
    if let Some(tags) = only {
        taken.add(tags, amount);
        return taken;
    }
    let untagged = bucket.total().saturating_sub(bucket.tagged.total());
    let mut parts: Vec<(Option<&TagSet>, u128)> = vec![(None, untagged)];
    parts.extend(bucket.tagged.iter().map(|(tags, amount)| (Some(tags), amount)));
    parts.sort_by_key(|(tags, amount)| (Reverse(*amount), *tags));
    let mut left = amount;
    for (tags, part) in parts {
        let from_part = left.min(part);
        left = left.saturating_sub(from_part);
        if let Some(tags) = tags.filter(|_| from_part > 0) {
            taken.add(tags, from_part);
        }
    }
    taken
}

impl Adjustment {
    /// Whether it is what someone asks for again.
    pub(crate) fn is_for(&self, product: &str, customer: &str, dimension: &str, wanted: &Wanted) -> bool {
        (&*self.product, &*self.customer, &*self.dimension) == (product, customer, dimension)
            && self.wanted == *wanted
    }

    /// What it has taken in all.
    pub(crate) fn total(&self) -> u128 {
        self.taken.iter().fold(0, |sum, taken| sum.saturating_add(taken.lowered.total()))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::domain::usage::{
        bucket::{Carried, Usage, tests::buckets},
        tags::tests::tag_set,
    };
    use proptest::prelude::*;

    const NINE: Hour = Hour::from_index(9);
    const TEN: Hour = Hour::from_index(10);
    const ELEVEN: Hour = Hour::from_index(11);

    /// Takes five of an hour's own usage, and two that were carried.
    pub(crate) fn sample(number: u64) -> Adjustment {
        let hour = Hour::from_index(498_000);
        let carried = Carried::from_origin(hour.previous(), 2);
        Adjustment {
            number,
            id: format!("id-{number}").into(),
            product: "prod".to_owned(),
            customer: "acme".to_owned(),
            dimension: "requests".to_owned(),
            wanted: minus(7),
            taken: vec![Taken { hour, lowered: Lowered { usage: 5, carried, tagged: Tagged::default() } }],
            reason: "a test".into(),
            by: "ann".into(),
            client: "ops".into(),
            at: hour.end(),
        }
    }

    fn bucket(usage: u128, carried: &[(Hour, u128)]) -> Bucket {
        let carried: Carried = carried.iter().copied().collect();
        Bucket { usage: Usage::Sum(usage), carried, ..Bucket::new(Aggregate::Sum) }
    }

    fn minus(minus: u128) -> Wanted {
        Wanted { minus, hour: None, tags: None }
    }

    /// By open hour and hour of use.
    fn shown(taken: &[Taken]) -> Vec<(Hour, Hour, u128)> {
        let parts = taken.iter().flat_map(|Taken { hour, lowered }| {
            let own = (lowered.usage > 0).then_some((*hour, *hour, lowered.usage));
            own.into_iter().chain(lowered.carried.origins().map(|(origin, amount)| (*hour, origin, amount)))
        });
        parts.collect()
    }

    #[test]
    fn the_largest_part_is_lowered_first_wherever_it_is() {
        let (ten, eleven) = (bucket(7, &[(NINE, 5)]), bucket(1000, &[]));
        let plan =
            |wanted| plan(Aggregate::Sum, &[(TEN, &ten), (ELEVEN, &eleven)], &wanted).map(|all| shown(&all));
        assert_eq!(plan(minus(990)).unwrap(), [(ELEVEN, ELEVEN, 990)]);
        assert_eq!(
            plan(minus(1008)).unwrap(),
            [(TEN, TEN, 7), (TEN, NINE, 1), (ELEVEN, ELEVEN, 1000)],
            "then the next largest"
        );
        assert_eq!(plan(minus(1012)).unwrap().len(), 3, "to the last unit");
        assert_eq!(plan(minus(1013)), Err(TooMuch { available: 1012 }));
        assert_eq!(plan(Wanted { hour: Some(NINE), ..minus(3) }).unwrap(), [(TEN, NINE, 3)]);
        assert_eq!(plan(Wanted { hour: Some(TEN), ..minus(8) }), Err(TooMuch { available: 7 }));
    }

    #[test]
    fn of_a_level_only_what_was_carried_is_an_amount() {
        let level = Bucket {
            usage: Usage::Max(5000),
            carried: Carried::from_origin(NINE, 300),
            ..Bucket::new(Aggregate::Max)
        };
        let plan = |wanted| plan(Aggregate::Max, &[(TEN, &level)], &wanted).map(|all| shown(&all));
        assert_eq!(plan(minus(300)).unwrap(), [(TEN, NINE, 300)]);
        assert_eq!(plan(minus(301)), Err(TooMuch { available: 300 }));
    }

    #[test]
    fn tags_are_lowered_the_largest_first_or_those_that_are_named() {
        let (red, blue) = (tag_set(&[("team", "red")]), tag_set(&[("team", "blue")]));
        let mut split = bucket(1000, &[(NINE, 100)]);
        split.tagged.add(&red, 700);
        split.tagged.add(&blue, 50);
        let tags = |wanted: Wanted| {
            let taken = plan(Aggregate::Sum, &[(TEN, &split)], &wanted)?.remove(0).lowered;
            Ok::<_, TooMuch>(
                taken.tagged.iter().map(|(tags, amount)| (tags.clone(), amount)).collect::<Vec<_>>(),
            )
        };
        assert_eq!(tags(minus(600)).unwrap(), [(red.clone(), 600)]);
        assert_eq!(
            tags(minus(900)).unwrap(),
            [(red.clone(), 700)],
            "350 are untagged, the next largest part"
        );
        assert_eq!(tags(minus(1080)).unwrap(), [(blue.clone(), 30), (red, 700)]);
        assert_eq!(tags(Wanted { tags: Some(blue.clone()), ..minus(50) }).unwrap(), [(blue.clone(), 50)]);
        assert_eq!(tags(Wanted { tags: Some(blue), ..minus(51) }), Err(TooMuch { available: 50 }));
    }

    proptest! {
        #[test]
        fn exactly_what_is_wanted_is_taken_and_nothing_falls_below_zero(
            buckets in proptest::collection::vec(buckets(), 0..4), share in 0..=101_u128, of_tags: bool,
        ) {
            let hours = || (0_u32..).map(|index| Hour::from_index(1000 + index));
            let open: Vec<(Hour, &Bucket)> = hours().zip(&buckets).collect();
            let all: u128 = buckets.iter().map(Bucket::total).sum();
            let tags = of_tags.then(|| tag_set(&[("team", "1")]));
            let available = match &tags {
                Some(tags) => buckets.iter().map(|bucket| bucket.tagged.get(tags).unwrap_or_default()).sum(),
                None => all,
            };
            let wanted = Wanted { tags, ..minus(available / 100 * share) };
            let Ok(taken) = plan(Aggregate::Sum, &open, &wanted) else {
                prop_assert!(wanted.minus > available);
                return Ok(());
            };
            prop_assert!(wanted.minus <= available);
            let mut after = buckets.clone();
            for Taken { hour, lowered } in &taken {
                let bucket = &mut after[(hour.index() - 1000) as usize];
                let before = bucket.clone();
                bucket.lower(lowered);
                prop_assert_eq!(bucket.total() + lowered.total(), before.total());
                prop_assert_eq!(bucket.tagged.total() + lowered.tagged.total(), before.tagged.total());
                prop_assert!(bucket.tagged.total() <= bucket.total());
                prop_assert!(bucket.tagged.iter().all(|(_, amount)| amount > 0));
            }
            prop_assert_eq!(all - after.iter().map(Bucket::total).sum::<u128>(), wanted.minus);
        }
    }
}
