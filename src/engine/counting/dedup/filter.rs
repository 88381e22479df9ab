//! A Bloom filter for each run, which says of most hashes that the run does not have them.
//!
//! It is a blocked one: a hash has one line of 64 bytes, which a processor fetches at once, and one bit in each of
//! its eight words. Lines follow the order of the hashes, so that a filter is made from front to back.

use super::hashes::scaled;
use crate::store::StoreError;

#[derive(Debug)]
pub(super) struct Filter {
    lines: Vec<Line>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(align(64))]
struct Line([u64; WORDS]);

const WORDS: usize = 8;
const LINE_BYTES: usize = 64;
/// How many lines go into one row.
const ROW_LINES: usize = if cfg!(test) { 2 } else { 1024 };

impl Filter {
    pub(super) fn new(lines: u32) -> Self {
        Self { lines: vec![Line::default(); lines.max(1) as usize] }
    }

    /// How many lines a filter for so many hashes has.
    pub(super) fn lines_for(hashes: u64, bits_per_hash: u64) -> u32 {
        let bits = hashes.saturating_mul(bits_per_hash);
        u32::try_from(bits.div_ceil(8 * LINE_BYTES as u64)).unwrap_or(u32::MAX).max(1)
    }

    pub(super) fn insert(&mut self, hash: u128) {
        let at = scaled(hash, self.lines.len());
        let mut bits = choice(hash);
        for word in &mut self.lines[at].0 {
            *word |= 1 << (bits & 63);
            bits >>= 6;
        }
    }

    /// No is certain.
    pub(super) fn may_contain(&self, hash: u128) -> bool {
        let mut bits = choice(hash);
        let mut found = 1;
        // Without a branch, so that the look-ups of several filters overlap.
        for word in self.lines[scaled(hash, self.lines.len())].0 {
            found &= word >> (bits & 63);
            bits >>= 6;
        }
        found == 1
    }

    /// Reads the hash's line, so that it is in the processor's cache when it is looked at.
    pub(super) fn prefetch(&self, hash: u128) -> bool {
        self.lines[scaled(hash, self.lines.len())].0[0] == 0
    }

    /// The filter as rows.
    pub(super) fn rows(&self) -> impl Iterator<Item = Vec<u8>> {
        self.lines.chunks(ROW_LINES).map(|lines| {
            let words = lines.iter().flat_map(|line| line.0);
            let mut row = Vec::with_capacity(lines.len() * LINE_BYTES);
            words.for_each(|word| row.extend(word.to_be_bytes()));
            row
        })
    }

    /// How many rows a filter of so many lines has.
    pub(super) fn row_count(lines: u32) -> u32 {
        (lines as usize).div_ceil(ROW_LINES).try_into().unwrap_or(u32::MAX)
    }

    /// Reads a filter from all of its rows.
    pub(super) fn from_rows<'a>(
        lines: u32,
        rows: impl Iterator<Item = &'a [u8]>,
    ) -> Result<Self, StoreError> {
        let mut filter = Self { lines: Vec::new() };
        for row in rows {
            let (words, rest) = row.as_chunks();
            let (chunks, odd) = words.as_chunks::<WORDS>();
            if !rest.is_empty() || !odd.is_empty() {
                return Err(unreadable("a row of it has an odd length"));
            }
            filter.lines.reserve_exact(chunks.len());
            filter.lines.extend(chunks.iter().map(|words| Line(words.map(u64::from_be_bytes))));
        }
        if filter.lines.len() == lines as usize {
            Ok(filter)
        } else {
            Err(unreadable(&format!("it has {} lines instead of {lines}", filter.lines.len())))
        }
    }
}

/// The bits of a hash that choose bits of its line: the last ones, since the first ones choose the line.
#[expect(clippy::cast_possible_truncation, reason = "the last bits are what is wanted")]
fn choice(hash: u128) -> u64 {
    hash as u64
}

fn unreadable(why: &str) -> StoreError {
    StoreError::Unreadable { what: "filter of event ids", why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_it_is_never_denied_and_little_else_is_affirmed() {
        let mut rng = fastrand::Rng::with_seed(1);
        for (bits, most) in [(12, 70), (16, 20)] {
            let hashes: Vec<u128> = std::iter::repeat_with(|| rng.u128(..)).take(50_000).collect();
            let lines = Filter::lines_for(50_000, bits);
            let mut filter = Filter::new(lines);
            for hash in &hashes {
                filter.insert(*hash);
            }
            let rows: Vec<_> = filter.rows().collect();
            assert_eq!(rows.len(), Filter::row_count(lines) as usize);
            let again = Filter::from_rows(lines, rows.iter().map(Vec::as_slice)).unwrap();
            assert!(again.lines == filter.lines);
            assert!(hashes.iter().all(|hash| again.may_contain(*hash)));
            let affirmed = (0..10_000).filter(|_| again.may_contain(rng.u128(..))).count();
            assert!(affirmed < most, "{affirmed} of 10 000 with {bits} bits");
        }
    }

    #[test]
    fn rows_that_do_not_fit_are_refused() {
        let mut rows: Vec<_> = Filter::new(5).rows().collect();
        let read = |rows: &[Vec<u8>]| Filter::from_rows(5, rows.iter().map(Vec::as_slice)).map(drop);
        read(&rows).unwrap();
        read(&rows[1..]).unwrap_err();
        rows[0].push(0);
        read(&rows).unwrap_err();
        rows[0] = vec![9];
        read(&rows).unwrap_err();
        rows[0].clear();
        read(&rows).unwrap_err();
    }
}
