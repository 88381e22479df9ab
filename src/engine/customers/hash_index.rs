//! Finds customers by the hash of what they are known by. The table holds their positions and half of the hash:
//! with a million customers, a map's own copy of their keys and identities would take more memory than their usage.

use hashbrown::{HashTable, hash_table::OccupiedEntry};

use super::CustomerIndex;

/// Many small tables, so that none takes long to grow.
const TABLES: usize = if cfg!(test) { 2 } else { 256 };

#[derive(Debug, Default)]
pub(super) struct HashIndex {
    /// Empty before the first customer.
    tables: Vec<HashTable<Slot>>,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    customer: u32,
    hash: ShortHash,
}

/// As much of a hash as a table looks at, so that a table that grows need not hash a million identities anew: the first
/// 7 bits, and the last 25.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ShortHash(u32);

const FIRST: u64 = 0xfe << 56;
const LAST: u64 = (1 << 25) - 1;

impl ShortHash {
    const fn of(hash: u64) -> Self {
        Self(((hash & FIRST) >> 32) as u32 | (hash & LAST) as u32)
    }

    const fn hash(self) -> u64 {
        ((self.0 as u64) << 32) & FIRST | (self.0 as u64) & LAST
    }
}

impl HashIndex {
    /// The customer with this hash that `is_it` says yes to.
    pub(super) fn find(&self, hash: u64, is_it: impl Fn(CustomerIndex) -> bool) -> Option<CustomerIndex> {
        let (table, hash) = (self.tables.get(table_of(hash))?, ShortHash::of(hash));
        let found = table.find(hash.hash(), |slot| slot.hash == hash && is_it(CustomerIndex(slot.customer)));
        found.map(|slot| CustomerIndex(slot.customer))
    }

    /// Adds a customer that is not here under this hash.
    pub(super) fn insert(&mut self, hash: u64, customer: CustomerIndex) {
        if self.tables.is_empty() {
            self.tables.resize_with(TABLES, HashTable::new);
        }
        let (table, hash) = (&mut self.tables[table_of(hash)], ShortHash::of(hash));
        table.insert_unique(hash.hash(), Slot { customer: customer.0, hash }, |slot| slot.hash.hash());
    }

    pub(super) fn remove(&mut self, hash: u64, customer: CustomerIndex) {
        let Some(table) = self.tables.get_mut(table_of(hash)) else { return };
        let hash = ShortHash::of(hash);
        let is_it = |slot: &Slot| slot.hash == hash && slot.customer == customer.0;
        _ = table.find_entry(hash.hash(), is_it).map(OccupiedEntry::remove);
    }
}

/// The table of a hash, by bits that no table looks at.
const fn table_of(hash: u64) -> usize {
    (hash >> 32) as usize % TABLES
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        /// Few hashes, so that they meet in tables, in places and as a whole.
        #[test]
        fn customers_are_found_as_in_a_map(changes in proptest::collection::vec((0..2_u64, 0..9_u64, 0..400_u32, any::<bool>()), 0..2000)) {
            let (mut index, mut model) = (HashIndex::default(), BTreeMap::new());
            for (table, place, customer, goes) in changes {
                let hash = *model.get(&customer).unwrap_or(&((table << 32) | place));
                let found = index.find(hash, |other| other.0 == customer);
                prop_assert_eq!(found, model.contains_key(&customer).then_some(CustomerIndex(customer)));
                if goes {
                    index.remove(hash, CustomerIndex(customer));
                    model.remove(&customer);
                } else if found.is_none() {
                    index.insert(hash, CustomerIndex(customer));
                    model.insert(customer, hash);
                }
            }
            for (customer, hash) in model {
                prop_assert!(index.find(hash, |other| other.0 == customer).is_some());
            }
        }
    }

    #[test]
    fn a_table_looks_at_the_same_bits_of_a_hash_and_of_what_is_kept_of_it() {
        for hash in [0, u64::MAX, 0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210] {
            let kept = ShortHash::of(hash).hash();
            // hashbrown takes the first 7 bits, and as many of the last ones as the table has room for.
            assert_eq!((kept >> 57, kept & LAST), (hash >> 57, hash & LAST), "{hash:x}");
        }
    }

    #[test]
    fn who_comes_and_goes_takes_no_more_and_more_room() {
        let mut index = HashIndex::default();
        for round in 0..10_000 {
            index.insert(round, CustomerIndex(7));
            index.remove(round, CustomerIndex(7));
        }
        assert!(index.tables[0].capacity() <= 4);
    }
}
