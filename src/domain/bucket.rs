//! What has been added up for one (product, customer, dimension, hour).

use std::collections::BTreeMap;

use super::time::Hour;

/// Carries from more origins than this are shown under the oldest of them: a bound for long outages (I9).
const MAX_ORIGINS: usize = 32;

/// The most base units that events may add up to in one bucket. Carries may pass it, inside 128 bits.
pub const MAX_TOTAL: u128 = 0xffff_ffff_ffff_ffff;

/// An open hour's total, in base units. Cumulative: it only grows, until its hour is sealed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bucket {
    /// Acknowledged in this hour.
    pub usage: u128,
    /// How many events that was.
    pub events: u64,
    /// Moved in from earlier hours of the same customer and dimension.
    pub carried: Carried,
}

impl Bucket {
    pub fn total(&self) -> u128 {
        self.usage.saturating_add(self.carried.total())
    }

    /// Whether `usage` more base units fit below [`MAX_TOTAL`].
    pub fn has_room(&self, usage: u128) -> bool {
        self.total().saturating_add(usage) <= MAX_TOTAL
    }

    pub fn add(&mut self, usage: u128, events: u64) {
        self.usage = self.usage.saturating_add(usage);
        self.events = self.events.saturating_add(events);
    }

    pub fn merge(&mut self, other: &Self) {
        self.add(other.usage, other.events);
        self.carried.merge(&other.carried);
    }
}

/// Amounts in base units by the hour in which they were acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried(BTreeMap<Hour, u128>);

impl Carried {
    pub fn from_origin(origin: Hour, amount: u128) -> Self {
        let mut carried = Self::default();
        carried.add(origin, amount);
        carried
    }

    pub fn add(&mut self, origin: Hour, amount: u128) {
        if amount == 0 {
            return;
        }
        let sum = self.0.entry(origin).or_default();
        *sum = sum.saturating_add(amount);
        while self.0.len() > MAX_ORIGINS {
            self.join_the_two_oldest();
        }
    }

    pub fn merge(&mut self, other: &Self) {
        for (origin, amount) in other.origins() {
            self.add(origin, amount);
        }
    }

    pub fn total(&self) -> u128 {
        self.0.values().fold(0, |sum, amount| sum.saturating_add(*amount))
    }

    /// Oldest first.
    pub fn origins(&self) -> impl Iterator<Item = (Hour, u128)> + '_ {
        self.0.iter().map(|(origin, amount)| (*origin, *amount))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The newest `amount` of what is here: bills pay the oldest usage first, so this is what stays unpaid.
    #[must_use]
    pub fn newest(&self, amount: u128) -> Self {
        let mut left = amount;
        let mut newest = Self::default();
        for (origin, carried) in self.0.iter().rev() {
            let taken = left.min(*carried);
            newest.add(*origin, taken);
            left = left.saturating_sub(taken);
        }
        newest
    }

    /// What is left when `other`, a part of this, is taken out.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let taken = |origin| other.0.get(&origin).copied().unwrap_or(0);
        self.origins().map(|(origin, amount)| (origin, amount.saturating_sub(taken(origin)))).collect()
    }

    fn join_the_two_oldest(&mut self) {
        if let (Some((oldest, first)), Some((_, second))) = (self.0.pop_first(), self.0.pop_first()) {
            self.0.insert(oldest, first.saturating_add(second));
        }
    }
}

impl FromIterator<(Hour, u128)> for Carried {
    fn from_iter<I: IntoIterator<Item = (Hour, u128)>>(origins: I) -> Self {
        let mut carried = Self::default();
        for (origin, amount) in origins {
            carried.add(origin, amount);
        }
        carried
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn buckets() -> impl Strategy<Value = Bucket> {
        let carried = proptest::collection::vec((0..100_u32, 0..u128::from(u64::MAX)), 0..40);
        (0..=u128::from(u64::MAX), any::<u32>(), carried).prop_map(|(usage, events, carried)| Bucket {
            usage,
            events: u64::from(events),
            carried: carried.into_iter().map(|(hour, amount)| (Hour::from_index(hour), amount)).collect(),
        })
    }

    fn merged(mut a: Bucket, b: &Bucket) -> Bucket {
        a.merge(b);
        a
    }

    proptest! {
        #[test]
        fn merging_commutes_and_conserves(a in buckets(), b in buckets()) {
            let ab = merged(a.clone(), &b);
            let ba = merged(b.clone(), &a);
            prop_assert_eq!((ab.usage, ab.events, ab.total()), (ba.usage, ba.events, ba.total()));
            prop_assert_eq!(ab.total(), a.total() + b.total());
            prop_assert!(ab.carried.origins().count() <= MAX_ORIGINS);
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
