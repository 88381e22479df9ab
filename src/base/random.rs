//! Numbers that must be unique in the world.

use std::hash::{BuildHasher, RandomState};

/// 128 bits from the system's randomness. Not from fastrand, whose seed is a hash of the time since boot: two machines
/// may share that, and an id that two events share is usage lost.
pub fn unique() -> u128 {
    let word = || u128::from(RandomState::new().hash_one(0_u8));
    (word() << 64) | word()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn numbers_differ_and_use_all_their_bits() {
        let numbers: HashSet<u128> = (0..1000).map(|_| unique()).collect();
        assert_eq!(numbers.len(), 1000);
        assert_eq!(numbers.iter().fold(0, |bits, number| bits | number), u128::MAX);
    }
}
