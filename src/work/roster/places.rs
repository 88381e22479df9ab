//! Finds customers by a hash of what they are known by. What that is stays in the roster alone: with a million customers,
//! a map's own copy of their keys and identities would take more memory than their usage.

use super::CustomerIndex;

/// Many small tables, so that none takes long to grow.
const TABLES: usize = 256;
const SMALLEST: usize = 4;

#[derive(Debug)]
pub(super) struct Places {
    tables: Vec<Table>,
}

/// Open addressing with linear probing: a place is at the first slot from its hash on that was empty when it came.
#[derive(Debug, Default)]
struct Table {
    /// As many as a power of two, and never more than seven of eight in use.
    slots: Vec<Slot>,
    /// Those that are not [`Slot::EMPTY`].
    used: usize,
}

/// The part of the hash that chooses the slot, and the customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Slot(u32, u32);

impl Slot {
    const EMPTY: Self = Self(0, u32::MAX);
    /// What was here has gone, and others may lie behind it.
    const GONE: Self = Self(1, u32::MAX);

    fn is_taken(self) -> bool {
        self.1 != u32::MAX
    }
}

impl Default for Places {
    fn default() -> Self {
        Self { tables: (0..TABLES).map(|_| Table::default()).collect() }
    }
}

impl Places {
    /// The customer with this hash of which `is` says that it is the one.
    pub(super) fn find(&self, hash: u64, is: impl Fn(CustomerIndex) -> bool) -> Option<CustomerIndex> {
        let (table, hash) = split(hash);
        let table = &self.tables[table];
        let found = table.probe(hash, |customer| is(CustomerIndex(customer)))?;
        Some(CustomerIndex(table.slots[found].1))
    }

    /// Adds a customer that is not here under this hash.
    pub(super) fn insert(&mut self, hash: u64, customer: CustomerIndex) {
        let (table, hash) = split(hash);
        self.tables[table].insert(Slot(hash, customer.0));
    }

    pub(super) fn remove(&mut self, hash: u64, customer: CustomerIndex) {
        let (table, hash) = split(hash);
        let table = &mut self.tables[table];
        if let Some(found) = table.probe(hash, |other| other == customer.0) {
            table.slots[found] = Slot::GONE;
        }
    }
}

impl Table {
    fn probe(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<usize> {
        let last = self.slots.len().checked_sub(1)?;
        let mut at = hash as usize & last;
        while self.slots[at] != Slot::EMPTY {
            let slot = self.slots[at];
            if slot.is_taken() && slot.0 == hash && is(slot.1) {
                return Some(at);
            }
            at = (at + 1) & last;
        }
        None
    }

    fn insert(&mut self, slot: Slot) {
        if (self.used + 1) * 8 > self.slots.len() * 7 {
            self.grow();
        }
        self.put(slot);
    }

    fn put(&mut self, slot: Slot) {
        let last = self.slots.len() - 1;
        let mut at = slot.0 as usize & last;
        while self.slots[at] != Slot::EMPTY {
            at = (at + 1) & last;
        }
        self.slots[at] = slot;
        self.used += 1;
    }

    /// Makes room for as many again as there are, without those that have gone.
    fn grow(&mut self) {
        let taken: Vec<Slot> = self.slots.iter().copied().filter(|slot| slot.is_taken()).collect();
        let room = (taken.len() * 2).max(SMALLEST).next_power_of_two();
        (self.slots, self.used) = (vec![Slot::EMPTY; room], 0);
        for slot in taken {
            self.put(slot);
        }
    }
}

/// The table, by the hash's upper bits, and the hash in it, by the lower ones.
#[expect(clippy::cast_possible_truncation, reason = "the lower half")]
fn split(hash: u64) -> (usize, u32) {
    ((hash >> 56) as usize, hash as u32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        /// Few hashes, so that they meet in tables, in slots and as a whole.
        #[test]
        fn customers_are_found_as_in_a_map(changes in proptest::collection::vec((0..2_u64, 0..9_u64, 0..40_u32, any::<bool>()), 0..300)) {
            let (mut places, mut model) = (Places::default(), BTreeSet::new());
            for (table, slot, customer, goes) in changes {
                let hash = (table << 56) | slot;
                let is_known = model.contains(&(hash, customer));
                let found = places.find(hash, |index| index.0 == customer);
                prop_assert_eq!(found, is_known.then_some(CustomerIndex(customer)));
                if goes {
                    places.remove(hash, CustomerIndex(customer));
                    model.remove(&(hash, customer));
                } else if !is_known {
                    places.insert(hash, CustomerIndex(customer));
                    model.insert((hash, customer));
                }
            }
            for (hash, customer) in model {
                prop_assert!(places.find(hash, |index| index.0 == customer).is_some());
            }
        }
    }

    #[test]
    fn who_comes_and_goes_takes_no_more_and_more_room() {
        let mut places = Places::default();
        for round in 0..10_000 {
            places.insert(round, CustomerIndex(7));
            places.remove(round, CustomerIndex(7));
        }
        assert!(places.tables[0].slots.len() <= SMALLEST);
    }
}
