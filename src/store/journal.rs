//! The journal's chain: appends lines, and makes their hashes.

use sha2::{Digest as _, Sha256};

use super::{
    Batch, Encoded, ReadTable, Rows, StoreError,
    tables::{
        journal::{JournalEnd, JournalHead, JournalLines},
        records::Records,
    },
};
use crate::domain::{
    billing::{
        journal::{Digest, JournalEvent, JournalLine, ShortDigest},
        record::RecordId,
    },
    time::Timestamp,
};

/// The end of the chain, where lines are appended.
#[derive(Debug)]
pub(crate) struct Journal {
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
    pub(crate) fn load(rows: &dyn Rows) -> Result<Option<Self>, StoreError> {
        let head = rows.find(JournalEnd, ())?;
        Ok(head.map(|head| Self { head, has_grown: false, seal: None }))
    }

    /// Begins the journal of a new store.
    pub(crate) fn begin(at: Timestamp, batch: &mut Batch) -> Self {
        let head = JournalHead { first_line: 1, ..JournalHead::default() };
        let mut journal = Self { head, has_grown: false, seal: None };
        journal.append(JournalEvent::Opened { next: RecordId(1) }, at, batch);
        journal
    }

    pub(crate) fn head(&self) -> &JournalHead {
        &self.head
    }

    pub(crate) fn append(&mut self, entry: JournalEvent, at: Timestamp, batch: &mut Batch) {
        let line = JournalLine { at, previous: self.head.last, entry };
        let number = self.head.lines.saturating_add(1);
        let row = Encoded::of(&line);
        self.head.lines = number;
        self.head.last = hash_of_line(number, row.bytes());
        if let JournalEvent::Dropped { through, first_line, .. } = line.entry {
            self.head.dropped_through = through;
            self.head.first_line = first_line;
        }
        self.has_grown = true;
        batch.put_encoded(JournalLines, number, row);
    }

    /// Notes a record that is sealed, by its row, in the order of their numbers. [`end_seal`](Self::end_seal) makes one
    /// line of all of them.
    pub(crate) fn note_sealed(&mut self, id: RecordId, row: &Encoded<Records>) {
        let seal = self.seal.get_or_insert_with(|| Seal { first: id, rows: Vec::new() });
        seal.rows.push(short_hash(row.bytes()));
    }

    pub(crate) fn end_seal(&mut self, at: Timestamp, batch: &mut Batch) {
        if let Some(Seal { first, rows }) = self.seal.take() {
            self.append(JournalEvent::Sealed { first, rows }, at, batch);
        }
    }

    /// Puts where the chain ends into the batch. To be called once, when the batch is otherwise complete.
    pub(crate) fn flush(&mut self, batch: &mut Batch) {
        if std::mem::take(&mut self.has_grown) {
            batch.put(JournalEnd, (), &self.head);
        }
    }
}

/// The hash of a row's value as it is on disk.
pub(crate) fn hash_of_row(value: &[u8]) -> Digest {
    Digest(Sha256::digest(value).into())
}

/// Half of it.
pub(crate) fn short_hash(value: &[u8]) -> ShortDigest {
    let Digest(hash) = hash_of_row(value);
    *hash.first_chunk().unwrap_or_else(|| unreachable!("a half is shorter than the whole"))
}

/// The hash that the next line carries.
pub(crate) fn hash_of_line(number: u64, value: &[u8]) -> Digest {
    Digest(Sha256::new().chain_update(number.to_be_bytes()).chain_update(value).finalize().into())
}
