//! Digests of a producer's last messages, by which a repeat is told from other events under its number.
//!
//! They are kept in blocks. The one that fills is in memory, and in the producer's row, which each commit writes anyway.
//! A full one is a row of its own, in the place of the oldest: it is read only to look at a repeat.

use std::mem;

use crate::store::tables::message_digests::DigestBlock;

const IN_BLOCK: usize = if cfg!(test) { 4 } else { 32 };
const FULL_BLOCKS: u64 = if cfg!(test) { 16 } else { 128 };
/// The digests of so many messages are there at least. An application that acknowledges what it was answered has not
/// so many on their way: the agent reads no more than 64 of a stream ahead of its answers, but answers may be lost in
/// buffers between the two.
pub(super) const KEPT: u64 = FULL_BLOCKS * IN_BLOCK as u64;

#[derive(Clone, Debug, Default)]
pub(super) struct MessageDigests {
    /// The first message of which a digest was kept; 0 for none.
    first: u64,
    /// The digests of the last messages, in a block that is not full.
    filling: Vec<u64>,
}

/// Where the digest of a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    Here(u64),
    /// In the block at this place of the ring.
    InBlock(u32),
    /// Nowhere: the message counted before digests were kept.
    NeverKept,
    NoLonger,
}

impl MessageDigests {
    pub(super) fn new(first: u64, filling: Vec<u64>) -> Self {
        Self { first, filling }
    }

    pub(super) const fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn filling(&self) -> &[u64] {
        &self.filling
    }

    /// Adds the digest of the next message. Returns a block that is full now, with its place in the ring.
    pub(super) fn push(&mut self, sequence: u64, digest: u64) -> Option<(u32, DigestBlock)> {
        if self.first == 0 {
            self.first = sequence;
        }
        self.filling.push(digest);
        if !sequence.is_multiple_of(IN_BLOCK as u64) {
            return None;
        }
        let first = first_of(&self.filling, sequence);
        Some((place_of(sequence), DigestBlock { first, digests: mem::take(&mut self.filling) }))
    }

    /// Finds the digest of a message up to the last one.
    pub(super) fn find(&self, sequence: u64, last: u64) -> Found {
        let here = sequence.checked_sub(first_of(&self.filling, last)).and_then(|index| {
            let index = usize::try_from(index).ok()?;
            self.filling.get(index).copied()
        });
        match here {
            Some(digest) => Found::Here(digest),
            None if last - sequence >= KEPT => Found::NoLonger,
            None if self.first == 0 || sequence < self.first => Found::NeverKept,
            None => Found::InBlock(place_of(sequence)),
        }
    }
}

/// The sequence of the first of some digests, by that of the last.
fn first_of(digests: &[u64], last: u64) -> u64 {
    last.saturating_add(1).saturating_sub(digests.len() as u64)
}

/// The place in the ring of the block that a message is in.
fn place_of(sequence: u64) -> u32 {
    ((sequence - 1) / IN_BLOCK as u64 % FULL_BLOCKS) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// Digests with the ring under them.
    #[derive(Default)]
    struct Harness {
        digests: MessageDigests,
        ring: HashMap<u32, DigestBlock>,
        last: u64,
    }

    impl Harness {
        fn push(&mut self) {
            self.last += 1;
            if let Some((place, block)) = self.digests.push(self.last, self.last * 7) {
                self.ring.insert(place, block);
            }
        }

        /// The digest, or why there is none.
        fn look_up(&self, sequence: u64) -> Result<u64, Found> {
            match self.digests.find(sequence, self.last) {
                Found::Here(digest) => Ok(digest),
                Found::InBlock(place) => Ok(self.ring[&place].get(sequence).unwrap()),
                none => Err(none),
            }
        }
    }

    #[test]
    fn the_last_64_are_known_and_the_others_are_not() {
        let mut harness = Harness::default();
        for _ in 0..200 {
            harness.push();
            for sequence in 1..=harness.last {
                let is_kept = harness.last - sequence < 64;
                let expected = if is_kept { Ok(sequence * 7) } else { Err(Found::NoLonger) };
                let found = harness.look_up(sequence);
                assert!(found == expected, "{sequence} of {}: {found:?}", harness.last);
            }
            assert!(harness.ring.len() <= 16 && harness.digests.filling().len() < 4);
        }
    }

    #[test]
    fn what_counted_before_there_were_digests_is_told_from_what_is_no_longer_known() {
        let mut harness = Harness { last: 101, ..Harness::default() };
        assert_eq!(harness.look_up(101), Err(Found::NeverKept));
        harness.push();
        assert_eq!((harness.digests.first(), harness.look_up(102)), (102, Ok(714)));
        assert_eq!(harness.look_up(101), Err(Found::NeverKept));
        assert_eq!(harness.look_up(3), Err(Found::NoLonger));
    }

    proptest! {
        #[test]
        fn no_sequence_panics(first: u64, filling in prop::collection::vec(any::<u64>(), 0..4), sequence: u64, more in 0..u64::MAX) {
            let last = sequence.saturating_add(more);
            let digests = MessageDigests::new(first, filling);
            if sequence > 0 {
                let _ = digests.find(sequence, last);
            }
        }
    }
}
