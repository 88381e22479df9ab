//! What has been added up for one (product, customer, dimension, hour).

use super::tags::Tagged;
use crate::domain::{product::Aggregate, time::UnixNanos};

pub use super::carried::Carried;

/// The most base units that events may add up to in one bucket. Carries may pass it, inside 128 bits.
pub(crate) const MAX_TOTAL: u128 = 0xffff_ffff_ffff_ffff;

/// What events come to, in base units, by their dimension's aggregate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    /// The sum of quantities, or the number of events.
    Sum(u128),
    Max(u64),
    Latest {
        at: UnixNanos,
        level: u64,
    },
    /// The number of distinct subjects. Which they are is known by their dedup keys.
    Unique(u64),
}

impl Usage {
    /// The usage of no event, which adds nothing to any other.
    pub const fn none(aggregate: Aggregate) -> Self {
        match aggregate {
            Aggregate::Sum | Aggregate::Count => Self::Sum(0),
            Aggregate::Max => Self::Max(0),
            Aggregate::Latest { .. } => Self::Latest { at: UnixNanos::MIN, level: 0 },
            Aggregate::Unique => Self::Unique(0),
        }
    }

    /// The usage of one event, at its time.
    pub fn of(aggregate: Aggregate, quantity: u64, at: impl Into<UnixNanos>) -> Self {
        match aggregate {
            Aggregate::Sum => Self::Sum(quantity.into()),
            Aggregate::Count => Self::Sum(1),
            Aggregate::Max => Self::Max(quantity),
            Aggregate::Latest { .. } => Self::Latest { at: at.into(), level: quantity },
            Aggregate::Unique => Self::Unique(1),
        }
    }

    pub fn amount(&self) -> u128 {
        match *self {
            Self::Sum(amount) => amount,
            Self::Max(level) | Self::Latest { level, .. } => level.into(),
            Self::Unique(subjects) => subjects.into(),
        }
    }

    /// How many distinct subjects this is.
    pub const fn subjects(&self) -> u64 {
        match self {
            Self::Unique(subjects) => *subjects,
            Self::Sum(_) | Self::Max(_) | Self::Latest { .. } => 0,
        }
    }

    /// Adds what came in after this. Of two levels of the same moment, the one that came later stands. Subjects that
    /// were there before are the caller's to leave out.
    #[inline]
    pub fn absorb(&mut self, later: Self) {
        match (&mut *self, later) {
            (Self::Sum(mine), Self::Sum(other)) => *mine = mine.saturating_add(other),
            (Self::Max(mine), Self::Max(other)) => *mine = other.max(*mine),
            (Self::Unique(mine), Self::Unique(other)) => *mine = mine.saturating_add(other),
            (Self::Latest { at, .. }, Self::Latest { at: other, .. }) if other < *at => {}
            (Self::Latest { .. }, Self::Latest { .. }) => *self = later,
            // A store's aggregates are checked at its opening: whatever the kinds, nothing is lost here.
            (mine, other) => *self = Self::Sum(mine.amount().saturating_add(other.amount())),
        }
    }

    /// Adds another agent's total of the same bucket: the same in whatever order. Subjects that both have seen are the
    /// caller's to leave out.
    pub fn merge(&mut self, other: Self) {
        match (*self, other) {
            (Self::Latest { at, level }, Self::Latest { at: other_at, level: other_level }) => {
                let (at, level) = (at, level).max((other_at, other_level));
                *self = Self::Latest { at, level };
            }
            _ => self.absorb(other),
        }
    }
}

/// An open hour's total, in base units. Cumulative: it only grows, or, for a level, only gets newer, until its hour is
/// sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Acknowledged in this hour.
    pub usage: Usage,
    /// How many events that was.
    pub events: u64,
    /// Moved in from earlier hours of the same customer and dimension.
    pub carried: Carried,
    /// The parts of the total that have tags.
    pub tagged: Tagged,
}

impl Bucket {
    pub fn new(aggregate: Aggregate) -> Self {
        Self {
            usage: Usage::none(aggregate),
            events: 0,
            carried: Carried::default(),
            tagged: Tagged::default(),
        }
    }

    pub fn total(&self) -> u128 {
        self.usage.amount().saturating_add(self.carried.total())
    }

    /// Whether `usage` fits below [`MAX_TOTAL`].
    pub fn has_room(&self, usage: &Usage) -> bool {
        match usage {
            Usage::Sum(amount) => self.total().saturating_add(*amount) <= MAX_TOTAL,
            Usage::Max(_) | Usage::Latest { .. } | Usage::Unique(_) => true,
        }
    }

    /// Takes in what an earlier hour left.
    pub fn take_in(&mut self, carry: &Carry) {
        self.carried.merge(&carry.origins);
        for (tags, amount) in carry.tagged.iter() {
            self.tagged.add(tags, amount);
        }
        if let Some(level) = carry.level {
            // What this hour has heard itself is newer.
            self.usage.merge(level);
        }
    }

    /// Lowers it by what a person takes away, which is a part of it.
    pub(crate) fn lower(&mut self, lowered: &Lowered) {
        if let Usage::Sum(amount) = &mut self.usage {
            *amount = amount.saturating_sub(lowered.usage);
        }
        self.carried = self.carried.without(&lowered.carried);
        self.tagged = self.tagged.without(&lowered.tagged);
    }

    /// Adds another total of the same series, subjects apart.
    pub fn merge(&mut self, other: &Self) {
        self.usage.merge(other.usage);
        self.events = self.events.saturating_add(other.events);
        self.carried.merge(&other.carried);
        for (tags, amount) in other.tagged.iter() {
            self.tagged.add(tags, amount);
        }
    }
}

/// What a person takes from a bucket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Lowered {
    /// Of what was used in the bucket's own hour.
    pub usage: u128,
    /// Of what earlier hours left, by the hour in which it was used.
    pub carried: Carried,
    /// The parts of it that have tags.
    pub tagged: Tagged,
}

impl Lowered {
    pub(crate) fn total(&self) -> u128 {
        self.usage.saturating_add(self.carried.total())
    }
}

/// What leaves a bucket for a later hour of the same customer and dimension.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carry {
    pub origins: Carried,
    /// The parts of it that have tags.
    pub tagged: Tagged,
    /// A level that stands until it is changed.
    pub level: Option<Usage>,
}

impl Carry {
    pub fn is_empty(&self) -> bool {
        self.origins.is_empty() && self.level.is_none()
    }

    /// Adds what goes along with it. Tags that find no room leave their amount untagged.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.origins.merge(&other.origins);
        for (tags, amount) in other.tagged.iter() {
            self.tagged.add(tags, amount);
        }
        self.level = self.level.or(other.level);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::domain::{
        time::{Hour, Timestamp},
        usage::tags::tests::tag_set,
    };
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    pub(crate) fn usages() -> impl Strategy<Value = Usage> {
        let at = (0..50_u64, 0..3_000_000_u64)
            .prop_map(|(second, rest)| UnixNanos::new(second * 1_000_000_000 + rest));
        prop_oneof![
            (0..=u128::from(u64::MAX)).prop_map(Usage::Sum),
            any::<u64>().prop_map(Usage::Max),
            (at, any::<u64>()).prop_map(|(at, level)| Usage::Latest { at, level }),
            any::<u64>().prop_map(Usage::Unique),
        ]
    }

    fn carries() -> impl Strategy<Value = Carried> {
        let origins = proptest::collection::vec((0..100_u32, 0..u128::from(u64::MAX)), 0..40);
        origins.prop_map(|origins| {
            origins.into_iter().map(|(hour, amount)| (Hour::from_index(hour), amount)).collect()
        })
    }

    /// Totals of a dimension that adds up, with some parts tagged.
    pub(crate) fn buckets() -> impl Strategy<Value = Bucket> {
        let tagged = proptest::collection::vec((0..9_u8, 0..=100_u128), 0..12);
        (0..=u128::from(u64::MAX), any::<u32>(), carries(), tagged).prop_map(
            |(usage, events, carried, tagged)| {
                let mut bucket = Bucket {
                    usage: Usage::Sum(usage),
                    events: events.into(),
                    carried,
                    tagged: Tagged::default(),
                };
                for (team, share) in tagged {
                    let part = bucket.total() / 1300 * share;
                    bucket.tagged.add(&tag_set(&[("team", &team.to_string())]), part);
                }
                bucket
            },
        )
    }

    fn merged(mut a: Bucket, b: &Bucket) -> Bucket {
        a.merge(b);
        a
    }

    /// Not a closure: rustc 1.95 changes the caller's copy when one changes its `mut` argument.
    fn both(mut a: Usage, b: Usage) -> Usage {
        a.merge(b);
        a
    }

    fn at(second: i64, level: u64) -> Usage {
        Usage::Latest { at: Timestamp::from_seconds(second).into(), level }
    }

    #[test]
    fn each_aggregate_makes_one_amount_of_an_hour() {
        let moment = Timestamp::from_seconds;
        let total = |aggregate, events: &[(i64, u64)]| {
            let mut usage = Usage::none(aggregate);
            for (second, quantity) in events {
                usage.absorb(Usage::of(aggregate, *quantity, moment(*second)));
            }
            usage.amount()
        };
        let events = [(10, 5), (30, 2), (20, 9), (30, 3)];
        assert_eq!(total(Aggregate::Sum, &events), 19);
        assert_eq!(total(Aggregate::Count, &events), 4);
        assert_eq!(total(Aggregate::Max, &events), 9);
        assert_eq!(total(Aggregate::Latest { hold: false }, &events), 3, "the later of two at one moment");
        assert_eq!(total(Aggregate::Unique, &events), 4, "the caller leaves out known subjects");
    }

    #[test]
    fn a_bucket_takes_64_bytes() {
        assert_eq!(size_of::<Bucket>(), 64);
    }

    #[test]
    fn of_two_levels_of_one_millisecond_the_later_stands_whichever_comes_first() {
        let moment = |rest| UnixNanos::from_parts(Timestamp::from_millis(1_793_620_800_123), rest);
        let [early, late] = [(1, 7), (2, 3)].map(|(rest, level)| Usage::Latest { at: moment(rest), level });
        for (first, second) in [(early, late), (late, early)] {
            let mut absorbed = first;
            absorbed.absorb(second);
            assert_eq!([absorbed, both(first, second)], [late; 2]);
        }
    }

    #[test]
    fn a_level_that_comes_in_late_changes_nothing() {
        let mut usage = at(30, 3);
        usage.absorb(at(29, 9));
        assert_eq!(usage, at(30, 3));
    }

    #[test]
    fn only_distinct_subjects_are_counted_as_subjects() {
        assert_eq!([Usage::Unique(5), Usage::Sum(5), Usage::Max(5)].map(|usage| usage.subjects()), [5, 0, 0]);
    }

    #[test]
    fn events_fit_into_a_bucket_up_to_its_largest_total() {
        let mut bucket = Bucket::new(Aggregate::Sum);
        bucket.take_in(&Carry { origins: Carried::from_origin(Hour::from_index(7), 1), ..Carry::default() });
        assert!(bucket.has_room(&Usage::Sum(MAX_TOTAL - 1)));
        assert!(!bucket.has_room(&Usage::Sum(MAX_TOTAL)));
        assert!(bucket.has_room(&Usage::Max(u64::MAX)), "levels do not add up");
    }

    #[test]
    fn a_carry_of_an_amount_or_a_level_is_not_empty() {
        let origins = Carried::from_origin(Hour::from_index(7), 1);
        assert!(Carry::default().is_empty());
        assert!(!Carry { origins, ..Carry::default() }.is_empty());
        assert!(!Carry { level: Some(at(10, 7)), ..Carry::default() }.is_empty());
    }

    #[test]
    fn a_level_from_an_earlier_hour_gives_way_to_a_newer_one() {
        let carry = Carry { level: Some(at(10, 7)), ..Carry::default() };
        let mut silent = Bucket::new(Aggregate::Latest { hold: true });
        silent.take_in(&carry);
        assert_eq!(silent.total(), 7);
        let mut changed = Bucket::new(Aggregate::Latest { hold: true });
        changed.usage.absorb(at(20, 0));
        changed.take_in(&carry);
        assert_eq!(changed.total(), 0);
    }

    /// What a fleet would do: of each agent the newest of its cumulative totals, then all of them merged.
    fn fleet(seen: &[(u8, Bucket)]) -> Option<(Usage, u64)> {
        let mut newest: BTreeMap<u8, &Bucket> = BTreeMap::new();
        for (agent, total) in seen {
            let known = newest.entry(*agent).or_insert(total);
            if total.events > known.events {
                *known = total;
            }
        }
        newest.into_values().cloned().reduce(|a, b| merged(a, &b)).map(|sum| (sum.usage, sum.events))
    }

    fn aggregates() -> impl Strategy<Value = Aggregate> {
        let kinds = [Aggregate::Sum, Aggregate::Count, Aggregate::Max, Aggregate::Latest { hold: true }];
        proptest::sample::select(kinds.to_vec())
    }

    proptest! {
        #[test]
        fn a_fleet_adds_up_the_same_in_any_order_and_however_often_a_total_is_seen(
            aggregate in aggregates(),
            events in proptest::collection::vec((0..3_u8, 0..20_u64, 0..1000_u64), 1..40),
            shuffle in proptest::collection::vec(any::<proptest::sample::Index>(), 0..80),
        ) {
            let mut agents: BTreeMap<u8, Bucket> = BTreeMap::new();
            let mut published = Vec::new();
            for (agent, nanos, quantity) in events {
                let total = agents.entry(agent).or_insert_with(|| Bucket::new(aggregate));
                total.usage.absorb(Usage::of(aggregate, quantity, UnixNanos::new(nanos)));
                total.events += 1;
                published.push((agent, total.clone()));
            }
            let expected = fleet(&published);
            let mut seen: Vec<_> = shuffle.iter().map(|index| index.get(&published).clone()).collect();
            seen.extend(agents);
            prop_assert_eq!(fleet(&seen), expected);
            seen.reverse();
            prop_assert_eq!(fleet(&seen), expected);
        }

        #[test]
        fn merging_usage_commutes_and_associates(aggregate in aggregates(), events in proptest::array::uniform3((0..3_u64, 0..3_u64))) {
            let [a, b, c] = events.map(|(second, level)| Usage::of(aggregate, level, UnixNanos::new(second)));
            prop_assert_eq!(both(a, b), both(b, a));
            prop_assert_eq!(both(both(a, b), c), both(a, both(b, c)));
        }

        #[test]
        fn merging_commutes_and_conserves(a in buckets(), b in buckets()) {
            let ab = merged(a.clone(), &b);
            let ba = merged(b.clone(), &a);
            prop_assert_eq!((ab.usage, ab.events, ab.total()), (ba.usage, ba.events, ba.total()));
            prop_assert_eq!(ab.total(), a.total() + b.total());
            prop_assert_eq!(ab.tagged.total(), a.tagged.total() + b.tagged.total());
        }

        #[test]
        fn merging_is_associative(a in buckets(), b in buckets(), c in buckets()) {
            let left = merged(merged(a.clone(), &b), &c);
            let right = merged(a, &merged(b, &c));
            prop_assert_eq!((left.usage, left.events, left.total()), (right.usage, right.events, right.total()));
        }

        #[test]
        fn the_newest_part_is_the_amount_asked_for(bucket in buckets(), share in 0..=100_u128) {
            let amount = bucket.carried.total() / 100 * share;
            prop_assert_eq!(bucket.carried.newest(amount).total(), amount);
        }
    }
}
