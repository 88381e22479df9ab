//! Rows that change with nearly every commit, and go to their table late.
//!
//! Open buckets do. To put each changed row into its place in the table at once costs much more than to count. So a
//! commit writes the rows that it changes as one row of a log, and a row goes to its place when the commit that changed
//! it last leaves the log: what changes again and again is seldom written.
//!
//! Rows in the log are whole, not differences, so that to read them twice does no harm.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    iter::Peekable,
    ops::Bound,
    sync::Arc,
};

use foldhash::fast::RandomState;
use prost::{
    bytes::Buf,
    encoding::{decode_varint, encode_varint},
};
use rocksdb::WriteBatch;

use super::{ColumnFamily, DB, IteratorMode, damaged, engine};
use crate::store::{Pair, StoreError};

/// The column family of the log.
pub(super) const LOG: &str = "buckets_log";
/// A longer log leaves, from its beginning, for the table: what a start reads again, and what memory is for.
const LOG_BYTES: usize = if cfg!(test) { 200 } else { 2 << 20 };
/// For each row that a commit adds to a log that is long enough, so many leave it.
const PACE: usize = 2;

/// The rows of the log by their keys; `None` is a row that is gone.
pub(super) type Overlay = BTreeMap<Arc<[u8]>, Option<Vec<u8>>>;

/// What the log holds.
#[derive(Debug, Default)]
pub(super) struct WriteBehind {
    rows: HashMap<Arc<[u8]>, Row, RandomState>,
    /// Oldest first.
    log: VecDeque<Logged>,
    /// The size of the whole log.
    bytes: usize,
    /// The commit that is being made.
    number: u64,
    packed: Vec<u8>,
    keys: Vec<Arc<[u8]>>,
}

#[derive(Debug)]
struct Row {
    value: Option<Vec<u8>>,
    changed_in: u64,
}

/// A commit's row of the log. Its keys leave from the last to the first, and it is deleted when all have left.
#[derive(Debug)]
struct Logged {
    number: u64,
    bytes: usize,
    keys: Vec<Arc<[u8]>>,
    left: Vec<Arc<[u8]>>,
}

impl WriteBehind {
    pub(super) fn change(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        pack(&mut self.packed, &key, value.as_deref());
        let key = match self.rows.get_key_value(&*key) {
            Some((known, _)) => known.clone(),
            None => key.into(),
        };
        self.rows.insert(key.clone(), Row { value, changed_in: self.number });
        self.keys.push(key);
    }

    /// As [`change`](Self::change) for each row of the range that is in the log. Those in the table are the caller's.
    ///
    /// A row that has left is still there for whoever reads the log, until all of its commit have left.
    pub(super) fn remove_range(&mut self, from: &[u8], to: &[u8]) {
        let left = self.log.front().into_iter().flat_map(|oldest| &oldest.left);
        let in_range = self.rows.keys().chain(left).filter(|key| (from..to).contains(&&***key));
        for key in in_range.map(|key| key.to_vec()).collect::<Vec<_>>() {
            self.change(key, None);
        }
    }

    /// Ends a commit: what it changed goes into the log, and some of what is old into the table.
    pub(super) fn write(&mut self, log: &ColumnFamily, table: &ColumnFamily, writes: &mut WriteBatch) {
        if self.keys.is_empty() {
            return;
        }
        let (number, added) = (self.number, self.keys.len());
        writes.put_cf(log, number.to_be_bytes(), &self.packed);
        self.bytes += self.packed.len();
        let keys = std::mem::take(&mut self.keys);
        self.log.push_back(Logged { number, bytes: self.packed.len(), keys, left: Vec::new() });
        self.packed.clear();
        self.number += 1;
        self.work_off(PACE * added, log, table, writes);
    }

    fn work_off(
        &mut self,
        mut left: usize,
        log: &ColumnFamily,
        table: &ColumnFamily,
        writes: &mut WriteBatch,
    ) {
        while self.bytes > LOG_BYTES && left > 0 {
            let Some(oldest) = self.log.front_mut() else { return };
            let Some(key) = oldest.keys.pop() else {
                writes.delete_cf(log, oldest.number.to_be_bytes());
                self.bytes -= oldest.bytes;
                self.log.pop_front();
                continue;
            };
            left -= 1;
            let is_last_change = |row: &Row| row.changed_in == oldest.number;
            if self.rows.get(&key).is_some_and(is_last_change) {
                let value = self.rows.remove(&key).and_then(|row| row.value);
                put(writes, table, &key, value.as_deref());
            }
            oldest.left.push(key);
        }
    }

    /// A row that is in the log, if also as one that is gone; else the table may have it.
    pub(super) fn get(&self, key: &[u8]) -> Option<&Option<Vec<u8>>> {
        self.rows.get(key).map(|row| &row.value)
    }

    pub(super) fn overlay(&self) -> Overlay {
        self.rows.iter().map(|(key, row)| (key.clone(), row.value.clone())).collect()
    }
}

/// What the log of a database says, its last commit included.
pub(super) fn read(db: &DB) -> Result<Overlay, StoreError> {
    let mut overlay = Overlay::new();
    // A folder that no agent of this version has opened yet has no log.
    let Some(log) = db.cf_handle(LOG) else { return Ok(overlay) };
    for row in db.iterator_cf(log, IteratorMode::Start) {
        let (_, packed) = row.map_err(|error| engine("read from", &error))?;
        unpack(&packed, |key, value| drop(overlay.insert(key.into(), value.map(<[u8]>::to_vec))))?;
    }
    Ok(overlay)
}

/// The batch that takes all of a log to the table.
pub(super) fn settle(overlay: &Overlay, db: &DB, log: &ColumnFamily, table: &ColumnFamily) -> WriteBatch {
    let mut writes = WriteBatch::default();
    for (key, value) in overlay {
        put(&mut writes, table, key, value.as_deref());
    }
    for row in db.iterator_cf(log, IteratorMode::Start).flatten() {
        writes.delete_cf(log, row.0);
    }
    writes
}

fn put(writes: &mut WriteBatch, table: &ColumnFamily, key: &[u8], value: Option<&[u8]>) {
    match value {
        Some(value) => writes.put_cf(table, key, value),
        None => writes.delete_cf(table, key),
    }
}

/// The length of the key and the key; then 0 for a row that is gone, or the length of the value plus 1 and the value.
fn pack(packed: &mut Vec<u8>, key: &[u8], value: Option<&[u8]>) {
    encode_varint(key.len() as u64, packed);
    packed.extend(key);
    encode_varint(value.map_or(0, |value| value.len() as u64 + 1), packed);
    packed.extend(value.unwrap_or_default());
}

fn unpack(mut packed: &[u8], mut each: impl FnMut(&[u8], Option<&[u8]>)) -> Result<(), StoreError> {
    while packed.has_remaining() {
        let key = length(&mut packed).and_then(|length| part(&mut packed, length));
        let value = length(&mut packed).and_then(|length| match length.checked_sub(1) {
            None => Some(None),
            Some(length) => part(&mut packed, length).map(Some),
        });
        let (Some(key), Some(value)) = (key, value) else {
            return Err(damaged("read from", "a row of the log of buckets ends too early".to_owned()));
        };
        each(key, value);
    }
    Ok(())
}

fn length(packed: &mut &[u8]) -> Option<usize> {
    usize::try_from(decode_varint(packed).ok()?).ok()
}

fn part<'a>(packed: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (part, rest) = packed.split_at_checked(length)?;
    *packed = rest;
    Some(part)
}

/// The rows of a table from `from` on with those of the log in their places.
pub(super) fn merged<I>(
    rows: I,
    overlay: &Overlay,
    from: &[u8],
) -> impl Iterator<Item = Result<Pair, rocksdb::Error>>
where
    I: Iterator<Item = Result<Pair, rocksdb::Error>>,
{
    let mut rows = rows.peekable();
    let mut logged = overlay.range::<[u8], _>((Bound::Included(from), Bound::Unbounded)).peekable();
    std::iter::from_fn(move || {
        loop {
            let Some((key, value)) = logged.next_if(|(key, _)| is_next(key, &mut rows)) else {
                return rows.next();
            };
            // The log knows better.
            drop(rows.next_if(|row| row.as_ref().is_ok_and(|row| *row.0 == **key)));
            if let Some(value) = value {
                return Some(Ok((key.to_vec().into(), value.clone().into())));
            }
        }
    })
}

/// Whether a row of the log comes before what the table has next, or in its stead. A fault comes first of all.
fn is_next<I>(key: &[u8], rows: &mut Peekable<I>) -> bool
where
    I: Iterator<Item = Result<Pair, rocksdb::Error>>,
{
    match rows.peek() {
        Some(Ok(row)) => key <= &*row.0,
        Some(Err(_)) => false,
        None => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn packed_rows_are_unpacked(rows in proptest::collection::vec((any::<Vec<u8>>(), any::<Option<Vec<u8>>>()), 0..20)) {
            let (mut packed, mut unpacked) = (Vec::new(), Vec::new());
            for (key, value) in &rows {
                pack(&mut packed, key, value.as_deref());
            }
            unpack(&packed, |key, value| unpacked.push((key.to_vec(), value.map(<[u8]>::to_vec)))).unwrap();
            prop_assert_eq!(unpacked, rows);
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let mut rows = 0;
            let whole = unpack(&bytes, |_, _| rows += 1).is_ok();
            prop_assert!(rows > 0 || !whole || bytes.is_empty());
        }
    }
}
