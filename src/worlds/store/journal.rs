//! The journal's chain: appends lines, and makes their hashes.

use sha2::{Digest as _, Sha256};

use super::{
    Batch, Rows, StoreError, Table, keys, load,
    values::{JournalHead, encode},
};
use crate::domain::{
    journal::{Digest, Entry, Line, ShortDigest},
    record::RecordId,
    time::Timestamp,
};

/// The end of the chain, where lines are appended.
#[derive(Debug)]
pub struct Journal {
    head: JournalHead,
    has_grown: bool,
    /// Records that are sealed in the batch in the making.
    seal: Option<Seal>,
}

#[derive(Debug)]
struct Seal {
    first: RecordId,
    rows: Vec<ShortDigest>,
}

impl Journal {
    /// `None` before the first start.
    pub fn load(rows: &dyn Rows) -> Result<Option<Self>, StoreError> {
        let head = load::journal_head(rows)?;
        Ok(head.map(|head| Self { head, has_grown: false, seal: None }))
    }

    /// Begins a journal; `next` is the number of the next record to be sealed.
    pub fn begin(next: RecordId, at: Timestamp, batch: &mut Batch) -> Self {
        let dropped_through = RecordId(next.0.saturating_sub(1));
        let head = JournalHead { first_line: 1, dropped_through, ..JournalHead::default() };
        let mut journal = Self { head, has_grown: false, seal: None };
        journal.append(Entry::Opened { next }, at, batch);
        journal
    }

    pub fn head(&self) -> &JournalHead {
        &self.head
    }

    pub fn append(&mut self, entry: Entry, at: Timestamp, batch: &mut Batch) {
        let line = Line { at, previous: self.head.last, entry };
        let (number, row) = (self.head.lines.saturating_add(1), encode(&line));
        self.head.lines = number;
        self.head.last = hash_of_line(number, &row);
        if let Entry::Dropped { through, first_line, .. } = line.entry {
            self.head.dropped_through = through;
            self.head.first_line = first_line;
        }
        self.has_grown = true;
        batch.put(Table::Journal, keys::line(number), row);
    }

    /// Notes a record that is sealed, by its row, in the order of their numbers. [`end_seal`](Self::end_seal) makes one
    /// line of all of them.
    pub fn note_sealed(&mut self, id: RecordId, row: &[u8]) {
        self.seal.get_or_insert_with(|| Seal { first: id, rows: Vec::new() }).rows.push(short_hash(row));
    }

    pub fn end_seal(&mut self, at: Timestamp, batch: &mut Batch) {
        if let Some(Seal { first, rows }) = self.seal.take() {
            self.append(Entry::Sealed { first, rows }, at, batch);
        }
    }

    /// Puts where the chain ends into the batch. To be called once, when the batch is otherwise complete.
    pub fn flush(&mut self, batch: &mut Batch) {
        if std::mem::take(&mut self.has_grown) {
            batch.put(Table::Meta, keys::JOURNAL, encode(&self.head));
        }
    }
}

/// The hash of a row's value as it is on disk.
pub fn hash_of_row(value: &[u8]) -> Digest {
    Digest(Sha256::digest(value).into())
}

/// Half of it.
pub fn short_hash(value: &[u8]) -> ShortDigest {
    let Digest(hash) = hash_of_row(value);
    *hash.first_chunk().unwrap_or_else(|| unreachable!("a half is shorter than the whole"))
}

/// The hash that the next line carries.
pub fn hash_of_line(number: u64, value: &[u8]) -> Digest {
    Digest(Sha256::new().chain_update(number.to_be_bytes()).chain_update(value).finalize().into())
}
