//! The names that a request's events say, each looked up once, however many events say them.

use std::hash::BuildHasher as _;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use super::wire::{Malformed, RawNames};
use crate::domain::usage::Names;

/// Room for so many different names is kept from one request to the next, and no more.
pub(super) const MOST_KEPT: usize = 2048;

/// What names mean, in the order in which they came.
pub(super) struct Index<'r, T> {
    random: RandomState,
    /// The places of names in `meanings`.
    places: HashTable<u32>,
    meanings: Vec<(RawNames<'r>, T)>,
}

impl<T> Default for Index<'_, T> {
    fn default() -> Self {
        Self { random: RandomState::default(), places: HashTable::new(), meanings: Vec::new() }
    }
}

impl<'r, T> Index<'r, T> {
    /// The place of what names mean. Those that are not here yet are looked up.
    pub(super) fn place(
        &mut self,
        names: RawNames<'r>,
        look_up: impl FnOnce(Names<'r>) -> T,
    ) -> Result<usize, Malformed> {
        let Self { random, places, meanings } = self;
        let hash = random.hash_one(names);
        if let Some(place) = places.find(hash, |place| meanings[*place as usize].0 == names) {
            return Ok(*place as usize);
        }
        let place = meanings.len();
        meanings.push((names, look_up(names.texts()?)));
        let hash_again = |place: &u32| random.hash_one(meanings[*place as usize].0);
        places.insert_unique(hash, u32::try_from(place).unwrap_or(u32::MAX), hash_again);
        Ok(place)
    }

    pub(super) fn get(&mut self, place: usize) -> &mut T {
        &mut self.meanings[place].1
    }

    pub(super) fn len(&self) -> usize {
        self.meanings.len()
    }

    /// Holds nothing of the request before, but has its room, unless that is large.
    pub(super) fn emptied<'s, U>(mut self) -> Index<'s, U> {
        if self.meanings.capacity() > MOST_KEPT {
            return Index::default();
        }
        self.places.clear();
        self.meanings.clear();
        // The standard library collects into the same memory.
        let meanings = self.meanings.into_iter().map(|_| unreachable!("there is none")).collect();
        Index { random: RandomState::default(), places: self.places, meanings }
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
        let mut index = Index::default();
        let mut place = |customer, meaning| index.place(names(customer), |_| meaning).unwrap();
        assert_eq!([place(b"a", 1), place(b"b", 2), place(b"a", 3)], [0, 1, 0]);
        assert_eq!((*index.get(0), *index.get(1), index.len()), (1, 2, 2));
    }

    #[test]
    fn the_room_for_names_stays_but_not_the_names() {
        let customers: Vec<String> = (0..3000).map(|number| number.to_string()).collect();
        let emptied = |count: usize| -> (usize, Index<'_, u8>) {
            let mut index = Index::default();
            for customer in &customers[..count] {
                index.place(names(customer.as_bytes()), |_| 7_u8).unwrap();
            }
            (index.meanings.capacity(), index.emptied())
        };
        let (room, mut few) = emptied(1000);
        assert_eq!((few.len(), few.meanings.capacity()), (0, room));
        assert_eq!(few.place(names(b"1"), |_| 8), Ok(0));
        assert_eq!(*few.get(0), 8);
        assert_eq!(emptied(3000).1.meanings.capacity(), 0, "a large one is given back");
    }
}
