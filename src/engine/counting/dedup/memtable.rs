//! The memtable: a set of hashes that is in order at any time, though it is changed by hashing alone.
//!
//! A hash's own first bits say where it belongs, and linear probing keeps each cluster in order: so the slots are the
//! hashes in order, with gaps. A look-up touches one cache line, growth is one pass from the front to the back of
//! two arrays, and a sorted run is written without sorting.
//!
//! Slots hold the complement of a hash, so that the zeros that the system hands out are free slots.

use std::mem;

#[derive(Debug)]
pub(super) struct Memtable {
    /// In descending order but for the free ones; the last one is always free.
    slots: Vec<u128>,
    /// The home slot of a hash is its first so many bits.
    bits: u32,
    len: usize,
}

const FREE: u128 = 0;
const FIRST_BITS: u32 = if cfg!(test) { 2 } else { 10 };
/// Room for the cluster at the end. Should it not do, there is more.
const TAIL: usize = 64;

/// A memtable that takes no more dedup keys, on its way to disk.
#[derive(Debug)]
pub(super) struct Immutable {
    pub(super) memtable: Memtable,
    /// The memtable's dedup keys are in the log's rows with lower numbers.
    pub(super) rows_end: u64,
}

impl Default for Memtable {
    fn default() -> Self {
        Self::with_bits(FIRST_BITS)
    }
}

impl Memtable {
    fn with_bits(bits: u32) -> Self {
        Self { slots: vec![FREE; (1 << bits) + TAIL], bits, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn contains(&self, hash: u128) -> bool {
        let kept = kept(hash);
        let mut at = self.home(hash);
        while self.slots[at] > kept {
            at += 1;
        }
        self.slots[at] == kept
    }

    /// Says whether the hash is new.
    pub(super) fn insert(&mut self, hash: u128) -> bool {
        if self.len >= self.room() {
            self.grow();
        }
        let mut carried = kept(hash);
        let mut at = self.home(hash);
        while self.slots[at] > carried {
            at += 1;
        }
        if self.slots[at] == carried {
            return false;
        }
        while carried != FREE {
            mem::swap(&mut self.slots[at], &mut carried);
            at += 1;
        }
        if at == self.slots.len() {
            self.slots.push(FREE);
        }
        self.len += 1;
        true
    }

    /// The hashes from a slot on, in order, each with the slot behind it.
    pub(super) fn in_order(&self, first: usize) -> impl Iterator<Item = (usize, u128)> {
        let taken = self.slots.iter().enumerate().skip(first).filter(|(_, slot)| **slot != FREE);
        taken.map(|(at, slot)| (at + 1, !slot))
    }

    /// Reads where the hash belongs, so that it is in the processor's cache when it is looked up.
    pub(super) fn prefetch(&self, hash: u128) -> bool {
        self.slots[self.home(hash)] == FREE
    }

    /// Three slots of four.
    fn room(&self) -> usize {
        (3 << self.bits) >> 2
    }

    fn grow(&mut self) {
        let mut grown = Self::with_bits(self.bits + 1);
        let mut next = 0;
        for slot in self.slots.iter().copied().filter(|slot| *slot != FREE) {
            let at = grown.home(!slot).max(next);
            next = at + 1;
            while grown.slots.len() <= next {
                grown.slots.push(FREE);
            }
            grown.slots[at] = slot;
        }
        grown.len = self.len;
        *self = grown;
    }

    fn home(&self, hash: u128) -> usize {
        (hash >> (u128::BITS - self.bits)) as usize
    }
}

/// The last hash of all has no slot of its own, and counts as the one before it: as rare as any two that are the same.
fn kept(hash: u128) -> u128 {
    (!hash).max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    /// Anywhere, crowded at either end, or in between.
    fn hash() -> impl Strategy<Value = u128> {
        prop_oneof![
            any::<u128>(),
            0..20_u128,
            (0..20_u128).prop_map(|low| u128::MAX - 1 - low),
            (0..20_u128).prop_map(|low| (5 << 120) + low),
        ]
    }

    proptest! {
        #[test]
        fn it_is_a_set_in_order(hashes in prop::collection::vec(hash(), 0..300), others in prop::collection::vec(hash(), 30)) {
            let (mut memtable, mut expected) = (Memtable::default(), BTreeSet::new());
            for hash in hashes {
                prop_assert_eq!(memtable.insert(hash), expected.insert(hash));
                prop_assert!(memtable.contains(hash));
            }
            prop_assert_eq!(memtable.len(), expected.len());
            for other in others {
                prop_assert_eq!(memtable.contains(other), expected.contains(&other));
            }
            let found: Vec<_> = memtable.in_order(0).collect();
            prop_assert!(found.iter().map(|(_, hash)| hash).eq(&expected));
            if let Some((next, _)) = found.first() {
                let rest: Vec<_> = memtable.in_order(*next).collect();
                prop_assert_eq!(&rest[..], &found[1..]);
            }
        }
    }

    #[test]
    fn the_last_hash_of_all_has_a_slot_too() {
        let mut memtable = Memtable::default();
        assert!(!memtable.contains(u128::MAX));
        assert!(memtable.insert(u128::MAX));
        assert!(memtable.contains(u128::MAX));
        assert_eq!(memtable.in_order(0).count(), 1);
    }
}
