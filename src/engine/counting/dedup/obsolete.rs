//! Runs that no look-up needs any more, until their rows have left the disk.

use std::{collections::BTreeSet, mem};

use crate::store::{Batch, tables::dedup::discard_runs};

/// Obsolete runs are swept when there are so many more of them.
const SWEEP_AT: usize = if cfg!(test) { 4 } else { 64 };
/// Fewer in a row hardly make a file.
const LEAST_IN_A_ROW: u64 = if cfg!(test) { 1 } else { 16 };

#[derive(Debug, Default)]
pub(super) struct ObsoleteRuns {
    /// Obsolete runs of which there may be rows on disk.
    numbers: BTreeSet<u64>,
    left_by_sweep: usize,
    /// Stretches of numbers to be discarded: the first one and the last one.
    discards: Vec<(u64, u64)>,
}

impl ObsoleteRuns {
    pub(super) fn insert(&mut self, number: u64) {
        self.numbers.insert(number);
    }

    pub(super) fn extend(&mut self, numbers: impl IntoIterator<Item = u64>) {
        self.numbers.extend(numbers);
    }

    pub(super) fn remove(&mut self, number: u64) {
        self.numbers.remove(&number);
    }

    pub(super) fn are_many(&self) -> bool {
        self.numbers.len() >= self.left_by_sweep + SWEEP_AT
    }

    /// Finds stretches of obsolete runs, together with those that were discarded before: the files at the ends of a
    /// stretch can go only with what is next to it.
    pub(super) fn sweep(&mut self, in_use: &BTreeSet<u64>) {
        let mut kept = BTreeSet::new();
        let mut numbers = mem::take(&mut self.numbers).into_iter().peekable();
        while let Some(first) = numbers.next() {
            let before = in_use.range(..first).next_back().map_or(0, |used| used + 1);
            let after = in_use.range(first..).next().copied();
            let mut stretch = vec![first];
            while let Some(next) = numbers.next_if(|next| after.is_none_or(|after| *next < after)) {
                stretch.push(next);
            }
            let end = after.unwrap_or_else(|| stretch.last().map_or(first, |last| last + 1));
            let last = end - 1;
            if last - before + 1 >= LEAST_IN_A_ROW {
                self.discards.push((before, last));
            } else {
                kept.extend(stretch);
            }
        }
        self.numbers = kept;
        self.left_by_sweep = self.numbers.len();
    }

    /// Discards one stretch at a time: the store changes its list of files for each.
    pub(super) fn discard_some(&mut self, batch: &mut Batch) {
        if let Some((first, last)) = self.discards.pop() {
            discard_runs(batch, first, last);
        }
    }
}
