//! Customers in the order of their keys. The keys stay in the table alone.

use super::CustomerIndex;

/// Few enough that one more is soon put among them.
const BLOCK: usize = if cfg!(test) { 8 } else { 512 };

#[derive(Debug, Default)]
pub(super) struct KeyOrder {
    /// Blocks in order, each in order itself. None is empty.
    blocks: Vec<Vec<CustomerIndex>>,
    len: usize,
}

impl KeyOrder {
    pub(super) const fn len(&self) -> usize {
        self.len
    }

    /// Adds a customer whose key is not here yet. `key_of` tells the keys of those that are.
    pub(super) fn insert<'a>(
        &mut self,
        customer: CustomerIndex,
        key: &str,
        key_of: impl Fn(CustomerIndex) -> &'a str,
    ) {
        self.len += 1;
        let (at, place) = self.place_after(key, key_of);
        match self.blocks.get_mut(at) {
            Some(block) if block.len() < BLOCK => block.insert(place, customer),
            // They often come in order: then blocks stay full.
            Some(block) if place < BLOCK => {
                let mut upper = block.split_off(BLOCK / 2);
                match place.checked_sub(block.len()) {
                    Some(place) => upper.insert(place, customer),
                    None => block.insert(place, customer),
                }
                self.blocks.insert(at + 1, upper);
            }
            Some(_) => self.blocks.insert(at + 1, vec![customer]),
            None => self.blocks.push(vec![customer]),
        }
    }

    /// Takes out the customer with a key. `key_of` tells the keys of all that are here.
    pub(super) fn remove<'a>(&mut self, key: &str, key_of: impl Fn(CustomerIndex) -> &'a str) {
        let (at, place) = self.place_after(key, &key_of);
        let Some(block) = self.blocks.get_mut(at) else { return };
        let Some(before) = place.checked_sub(1).filter(|before| key_of(block[*before]) == key) else {
            return;
        };
        block.remove(before);
        if block.is_empty() {
            self.blocks.remove(at);
        }
        self.len -= 1;
    }

    /// All of them, or those behind a key.
    pub(super) fn after<'a>(
        &self,
        key: Option<&str>,
        key_of: impl Fn(CustomerIndex) -> &'a str,
    ) -> impl Iterator<Item = CustomerIndex> {
        let (at, place) = key.map_or((0, 0), |key| self.place_after(key, key_of));
        let blocks = self.blocks.get(at..).unwrap_or_default();
        blocks.iter().flatten().copied().skip(place)
    }

    /// The block that a key belongs into, and how many of it come before, or have that key.
    fn place_after<'a>(&self, key: &str, key_of: impl Fn(CustomerIndex) -> &'a str) -> (usize, usize) {
        let is_before = |customer: &CustomerIndex| key_of(*customer) <= key;
        let at = self.blocks.partition_point(|block| block.first().is_some_and(is_before)).saturating_sub(1);
        (at, self.blocks.get(at).map_or(0, |block| block.partition_point(is_before)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn customers_are_in_the_order_of_a_map(keys in proptest::collection::vec("[ab]{0,7}", 0..200), comes_in_order: bool, leaves in 0..9_usize) {
            let (mut order, mut model) = (KeyOrder::default(), BTreeMap::new());
            let keys = if comes_in_order { keys.into_iter().collect::<std::collections::BTreeSet<_>>().into_iter().collect() } else { keys };
            let key_of = |customer: CustomerIndex| &*keys[customer.0 as usize];
            for (key, index) in keys.iter().zip(0..) {
                if !model.contains_key(key) {
                    order.insert(CustomerIndex(index), key, key_of);
                    model.insert(key.clone(), CustomerIndex(index));
                }
            }
            for key in keys.iter().filter(|key| key.len() == leaves) {
                order.remove(key, key_of);
                model.remove(key);
            }
            prop_assert_eq!(order.len(), model.len());
            prop_assert_eq!(order.after(None, key_of).collect::<Vec<_>>(), model.values().copied().collect::<Vec<_>>());
            for key in ["", "aba", "b", "bbbbbbb", "c"] {
                let after = order.after(Some(key), key_of);
                let expected = model.iter().filter(|(known, _)| ***known > *key).map(|(_, index)| *index);
                prop_assert_eq!(after.collect::<Vec<_>>(), expected.collect::<Vec<_>>());
            }
            prop_assert!(order.blocks.iter().all(|block| (1..=BLOCK).contains(&block.len())));
            let has_left = keys.iter().any(|key| key.len() == leaves);
            prop_assert!(!comes_in_order || has_left || order.blocks.len() == model.len().div_ceil(BLOCK));
        }
    }
}
