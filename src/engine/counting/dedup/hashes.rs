//! The shard, and the part of it, that a hash belongs to. Hashes are uniform, so their bits are used as they are.

/// The first bits of a hash choose its shard: so each flush and compaction is small, and little exists twice meanwhile.
const SHARD_BITS: u32 = if cfg!(test) { 1 } else { 6 };
pub(super) const SHARDS: usize = 1 << SHARD_BITS;

pub(super) fn shard_of(hash: u128) -> usize {
    (hash >> (u128::BITS - SHARD_BITS)) as usize
}

/// Which of `parts` equal parts of its shard a hash is in, in the order of the hashes.
#[expect(clippy::cast_possible_truncation, reason = "it is below `parts`")]
pub(super) fn scaled(hash: u128, parts: usize) -> usize {
    let in_shard = (hash << SHARD_BITS) >> 64;
    ((in_shard * parts as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn parts_follow_the_order_of_the_hashes(a: u128, b: u128, parts in 1..1_000_000_usize) {
            let part = |hash| (shard_of(hash), scaled(hash, parts));
            prop_assert!(part(a).0 < SHARDS && part(a).1 < parts);
            prop_assert_eq!(part(a.min(b)), part(a).min(part(b)));
        }
    }
}
