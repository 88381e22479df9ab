//! What earlier hours left, by the hour in which it was acknowledged.

use crate::domain::time::Hour;

/// Carries from more origins than this are shown under the oldest of them: a bound for long outages (I9).
const MAX_ORIGINS: usize = 32;

/// Amounts in base units by the hour in which they were acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried(Origins);

/// A million buckets have one each. Most have no origin, or one with what was left below a step, and these take no
/// memory of their own. Each content has one form, so that equal ones are equal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Origins {
    #[default]
    None,
    One(Hour, u64),
    Many(Box<Many>),
}

/// Oldest first, each hour once, no amount zero. One alone is larger than 64 bits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Many {
    origins: Vec<(Hour, u128)>,
}

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
        match (&mut self.0, u64::try_from(amount)) {
            (Origins::None, Ok(small)) => self.0 = Origins::One(origin, small),
            (Origins::Many(many), _) => many.add(origin, amount),
            (Origins::None | Origins::One(..), _) => {
                let mut many = Many { origins: self.origins().collect() };
                many.add(origin, amount);
                self.0 = many.into_origins();
            }
        }
    }

    pub fn merge(&mut self, other: &Self) {
        for (origin, amount) in other.origins() {
            self.add(origin, amount);
        }
    }

    pub fn total(&self) -> u128 {
        self.origins().fold(0, |sum, (_, amount)| sum.saturating_add(amount))
    }

    /// Oldest first.
    pub fn origins(&self) -> impl DoubleEndedIterator<Item = (Hour, u128)> + '_ {
        let (one, many) = match &self.0 {
            Origins::None => (None, [].as_slice()),
            Origins::One(origin, amount) => (Some((*origin, u128::from(*amount))), [].as_slice()),
            Origins::Many(many) => (None, many.origins.as_slice()),
        };
        one.into_iter().chain(many.iter().copied())
    }

    pub fn is_empty(&self) -> bool {
        self.0 == Origins::None
    }

    /// The newest `amount` of what is here: bills pay the oldest usage first, so this is what stays unpaid.
    #[must_use]
    pub fn newest(&self, amount: u128) -> Self {
        let mut left = amount;
        let mut newest = Self::default();
        for (origin, carried) in self.origins().rev() {
            let taken = left.min(carried);
            newest.add(origin, taken);
            left = left.saturating_sub(taken);
        }
        newest
    }

    /// What is left when `other`, a part of this, is taken out.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        let taken =
            |origin| other.origins().find(|(hour, _)| *hour == origin).map_or(0, |(_, amount)| amount);
        self.origins().map(|(origin, amount)| (origin, amount.saturating_sub(taken(origin)))).collect()
    }
}

impl Many {
    fn add(&mut self, origin: Hour, amount: u128) {
        match self.origins.binary_search_by_key(&origin, |(hour, _)| *hour) {
            Ok(place) => {
                if let Some((_, sum)) = self.origins.get_mut(place) {
                    *sum = sum.saturating_add(amount);
                }
            }
            Err(place) => self.origins.insert(place, (origin, amount)),
        }
        while self.origins.len() > MAX_ORIGINS {
            self.join_the_two_oldest();
        }
    }

    fn join_the_two_oldest(&mut self) {
        if let [(_, first), (_, second), ..] = &mut *self.origins {
            *first = first.saturating_add(*second);
            self.origins.remove(1);
        }
    }

    fn into_origins(self) -> Origins {
        if let [(origin, amount)] = *self.origins
            && let Ok(small) = u64::try_from(amount)
        {
            return Origins::One(origin, small);
        }
        if self.origins.is_empty() { Origins::None } else { Origins::Many(Box::new(self)) }
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
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Model = BTreeMap<u32, u128>;

    fn add(model: &mut Model, origin: u32, amount: u128) {
        if amount > 0 {
            let sum = model.entry(origin).or_default();
            *sum = sum.saturating_add(amount);
        }
        while model.len() > MAX_ORIGINS {
            let ((oldest, first), (_, second)) = (model.pop_first().unwrap(), model.pop_first().unwrap());
            model.insert(oldest, first.saturating_add(second));
        }
    }

    fn shown(carried: &Carried) -> Vec<(u32, u128)> {
        carried.origins().map(|(hour, amount)| (hour.index(), amount)).collect()
    }

    /// Few hours, so that they meet; amounts on both sides of 64 bits, and some that add up beyond 128.
    fn parts() -> impl Strategy<Value = Vec<(u32, u128)>> {
        let amounts = prop_oneof![Just(0), 1..5_u128, Just(u64::MAX.into()), Just(u128::MAX / 2)];
        let hours = prop_oneof![0..3_u32, 0..60_u32];
        prop_oneof![
            proptest::collection::vec((hours.clone(), amounts.clone()), 0..4),
            proptest::collection::vec((hours, amounts), 0..80),
        ]
    }

    proptest! {
        #[test]
        fn amounts_are_kept_as_a_map_would_keep_them(parts in parts(), others in parts()) {
            let (mut carried, mut model) = (Carried::default(), Model::new());
            for (origin, amount) in parts {
                carried.add(Hour::from_index(origin), amount);
                add(&mut model, origin, amount);
                prop_assert_eq!(shown(&carried), model.clone().into_iter().collect::<Vec<_>>());
            }
            prop_assert_eq!(carried.total(), model.values().fold(0, |sum: u128, part| sum.saturating_add(*part)));
            prop_assert_eq!(carried.is_empty(), model.is_empty());
            let again: Carried = carried.origins().collect();
            prop_assert_eq!(&again, &carried, "one form for each content");
            let other: Carried = others.into_iter().map(|(hour, amount)| (Hour::from_index(hour), amount)).collect();
            carried.merge(&other);
            for (origin, amount) in other.origins() {
                add(&mut model, origin.index(), amount);
            }
            prop_assert_eq!(shown(&carried), model.into_iter().collect::<Vec<_>>());
        }

        #[test]
        fn the_newest_part_and_the_rest_are_the_whole(parts in parts(), share in 0..=100_u128) {
            let carried: Carried = parts.into_iter().map(|(hour, amount)| (Hour::from_index(hour), amount)).collect();
            let newest = carried.newest(carried.total() / 100 * share);
            let mut rest = carried.without(&newest);
            prop_assert!(rest.origins().zip(newest.origins()).all(|((rest, _), (newest, _))| rest <= newest));
            rest.merge(&newest);
            prop_assert_eq!(rest, carried);
        }
    }

    #[test]
    fn the_oldest_origins_are_joined_when_there_are_too_many() {
        let carried = |hours: u32| (1..=hours).map(|hour| (Hour::from_index(hour), 1)).collect::<Carried>();
        assert_eq!(carried(32).origins().count(), MAX_ORIGINS);
        let joined = carried(33);
        assert_eq!(joined.origins().count(), MAX_ORIGINS);
        assert_eq!(joined.origins().next(), Some((Hour::from_index(1), 2)));
    }

    #[test]
    fn a_small_carry_takes_no_memory_of_its_own() {
        assert_eq!(size_of::<Carried>(), 16);
        assert!(matches!(Carried::from_origin(Hour::from_index(7), u64::MAX.into()).0, Origins::One(..)));
    }
}
