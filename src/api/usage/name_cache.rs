//! The names that a request's events say, each looked up once, however many events say them.

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::wire::{Malformed, RawNames};
use crate::domain::usage::event::Names;

/// Room for so many different names is kept from one request to the next, and no more.
pub(super) const MOST_KEPT: usize = 2048;

/// What names mean, in the order in which they came.
pub(super) struct NameCache<'r, T> {
    random: RandomState,
    /// The slots of names in `resolved`.
    slots: HashTable<u32>,
    resolved: Vec<(RawNames<'r>, T)>,
}

impl<T> Default for NameCache<'_, T> {
    fn default() -> Self {
        Self { random: RandomState::default(), slots: HashTable::new(), resolved: Vec::new() }
    }
}

impl<'r, T> NameCache<'r, T> {
    /// The slot of what names mean. Those that are not here yet are looked up.
    pub(super) fn slot(
        &mut self,
        names: RawNames<'r>,
        look_up: impl FnOnce(Names<'r>) -> T,
    ) -> Result<usize, Malformed> {
        let Self { random, slots, resolved } = self;
        let hash = random.hash_one(names);
        if let Some(slot) = slots.find(hash, |slot| resolved[*slot as usize].0 == names) {
            return Ok(*slot as usize);
        }
        let slot = resolved.len();
        resolved.push((names, look_up(names.texts()?)));
        let hash_again = |slot: &u32| random.hash_one(resolved[*slot as usize].0);
        slots.insert_unique(hash, u32::try_from(slot).unwrap_or(u32::MAX), hash_again);
        Ok(slot)
    }

    pub(super) fn get(&mut self, slot: usize) -> &mut T {
        &mut self.resolved[slot].1
    }

    pub(super) fn len(&self) -> usize {
        self.resolved.len()
    }

    /// Holds nothing of the request before, but has its room, unless that is large.
    pub(super) fn emptied<'s, U>(mut self) -> NameCache<'s, U> {
        if self.resolved.capacity() > MOST_KEPT {
            return NameCache::default();
        }
        self.slots.clear();
        self.resolved.clear();
        // The standard library collects into the same memory.
        let resolved = self.resolved.into_iter().map(|_| unreachable!("there is none")).collect();
        NameCache { random: RandomState::default(), slots: self.slots, resolved }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(customer: &[u8]) -> RawNames<'_> {
        RawNames { product: None, customer, dimension: b"requests" }
    }

    #[test]
    fn names_are_looked_up_once() {
        let mut cache = NameCache::default();
        let mut slot = |customer, found| cache.slot(names(customer), |_| found).unwrap();
        assert_eq!([slot(b"a", 1), slot(b"b", 2), slot(b"a", 3)], [0, 1, 0]);
        assert_eq!((*cache.get(0), *cache.get(1), cache.len()), (1, 2, 2));
    }

    #[test]
    fn the_room_for_names_stays_but_not_the_names() {
        let customers: Vec<String> = (0..3000).map(|number| number.to_string()).collect();
        let emptied = |count: usize| -> (usize, NameCache<'_, u8>) {
            let mut cache = NameCache::default();
            for customer in &customers[..count] {
                cache.slot(names(customer.as_bytes()), |_| 7_u8).unwrap();
            }
            (cache.resolved.capacity(), cache.emptied())
        };
        let (room, mut few) = emptied(1000);
        assert_eq!((few.len(), few.resolved.capacity()), (0, room));
        assert_eq!(few.slot(names(b"1"), |_| 8), Ok(0));
        assert_eq!(*few.get(0), 8);
        assert_eq!(emptied(3000).1.resolved.capacity(), 0, "a large one is given back");
    }
}
