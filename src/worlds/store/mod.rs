//! What is on disk.
//!
//! A store is a set of ordered tables of bytes with atomic, synced batches. Everything typed lives in [`keys`] and
//! [`values`]; what a run finds at its start is read by [`load`].

#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub mod journal;
pub mod keys;
pub mod load;
mod memory;
mod rocks;
pub mod values;

use thiserror::Error;

pub use memory::MemoryStore;
pub use rocks::{RocksFolder, RocksStore};

/// One kind of thing on disk. RocksDB keeps each in a column family of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Single values: format, watermark, next record number, hash key.
    Meta,
    /// Open buckets.
    Buckets,
    /// The parts of open buckets that have tags.
    Tagged,
    /// Markers of the subjects that open buckets have counted, by hour.
    Subjects,
    /// Markers of events, as they were kept before there were `Marks`. Read once, and emptied.
    EventIds,
    /// Markers of events that were counted: those of each commit in one row.
    Marks,
    /// The same markers, sorted, in runs that are searched.
    MarkRuns,
    /// The last sequence of each stream's producer.
    Producers,
    /// Records that AWS has not accepted yet. Written once, at the seal.
    Records,
    /// What has been tried for the pending records.
    Deliveries,
    /// The ledger: records that are neither pending nor held.
    Receipts,
    /// Records that wait for a person.
    Held,
    /// What persons decided about held records. Never dropped.
    Decisions,
    /// What happened to records, line by line, each with the hash of the line before.
    Journal,
    /// What is sealed and neither accepted nor written off, by customer and dimension: the counterpart that the
    /// rest is held against.
    Outstanding,
    /// The known customers.
    Roster,
}

impl Table {
    pub const ALL: [Self; 16] = [
        Self::Meta,
        Self::Buckets,
        Self::Tagged,
        Self::Subjects,
        Self::EventIds,
        Self::Marks,
        Self::MarkRuns,
        Self::Producers,
        Self::Records,
        Self::Deliveries,
        Self::Receipts,
        Self::Held,
        Self::Decisions,
        Self::Journal,
        Self::Outstanding,
        Self::Roster,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Buckets => "buckets",
            Self::Tagged => "tagged",
            Self::Subjects => "subjects",
            Self::EventIds => "event_ids",
            Self::Marks => "marks",
            Self::MarkRuns => "mark_runs",
            Self::Producers => "producers",
            Self::Records => "records",
            Self::Deliveries => "deliveries",
            Self::Receipts => "receipts",
            Self::Held => "held",
            Self::Decisions => "decisions",
            Self::Journal => "journal",
            Self::Outstanding => "outstanding",
            Self::Roster => "roster",
        }
    }
}

/// Changes that take effect together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Put(Table, Vec<u8>, Vec<u8>),
    Delete(Table, Vec<u8>),
    /// Everything from the first key up to but not including the second.
    DeleteRange(Table, Vec<u8>, Vec<u8>),
    /// Everything from the first key to the second, both included, as far as it is no trouble.
    Discard(Table, Vec<u8>, Vec<u8>),
}

impl Batch {
    pub fn put(&mut self, table: Table, key: impl Into<Vec<u8>>, value: Vec<u8>) {
        self.changes.push(Change::Put(table, key.into(), value));
    }

    pub fn delete(&mut self, table: Table, key: impl Into<Vec<u8>>) {
        self.changes.push(Change::Delete(table, key.into()));
    }

    pub fn delete_range(&mut self, table: Table, from: impl Into<Vec<u8>>, to: impl Into<Vec<u8>>) {
        self.changes.push(Change::DeleteRange(table, from.into(), to.into()));
    }

    /// Gives up rows that no one reads any more, from the first key to the second, both included. Once the batch is on
    /// disk, the store frees what it can without writing; the others stay as they are, and come up in scans.
    pub fn discard(&mut self, table: Table, from: impl Into<Vec<u8>>, through: impl Into<Vec<u8>>) {
        self.changes.push(Change::Discard(table, from.into(), through.into()));
    }

    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Each row that is put, with its value, or deleted; but not those that go in ranges.
    #[cfg(test)]
    pub(crate) fn rows(&self) -> impl Iterator<Item = (Table, &[u8], Option<&[u8]>)> {
        self.changes.iter().filter_map(|change| match change {
            Change::Put(table, key, value) => Some((*table, &**key, Some(&**value))),
            Change::Delete(table, key) => Some((*table, &**key, None)),
            Change::DeleteRange(..) | Change::Discard(..) => None,
        })
    }
}

pub type Pair = (Box<[u8]>, Box<[u8]>);

/// What can be read.
pub trait Rows {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// At most `limit` pairs in key order, from `from` on, `from` included.
    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError>;

    /// All pairs in key order, from `from` on, `from` included.
    fn visit(&self, table: Table, from: &[u8], each: &mut Visitor<'_>) -> Result<(), StoreError> {
        const PAGE: usize = 1000;
        let mut from = from.to_vec();
        loop {
            let page = self.scan(table, &from, PAGE)?;
            for (key, value) in &page {
                each(key, value)?;
            }
            match page.last() {
                Some((last, _)) if page.len() == PAGE => from = [last, &[0][..]].concat(),
                _ => return Ok(()),
            }
        }
    }
}

/// Takes a key and its value.
pub type Visitor<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError> + 'a;

/// After an error of any write or sync nothing may be written any more: what is on disk is not known until the next
/// start.
pub trait Store: Rows + Send + Sync + 'static {
    /// Applies the batch and syncs it to disk. No one reads it sooner.
    fn commit(&self, batch: Batch) -> Result<(), StoreError>;

    /// Applies the batch: from now on it is read, and after [`sync`](Self::sync) it is on disk. Until then nothing else
    /// may be written: where a log ends in one file and goes on in the next, a power cut could take the end of the one
    /// and leave the other.
    fn write(&self, batch: Batch) -> Result<(), StoreError>;

    /// Syncs what was written to disk.
    fn sync(&self) -> Result<(), StoreError>;

    /// All rows as they are now, whatever is committed meanwhile.
    fn snapshot(&self) -> Box<dyn Rows + '_>;

    /// Bytes on disk.
    fn size(&self) -> u64;
}

#[derive(Debug, Error)]
pub enum StoreError {
    #[error(
        "{path} is in use by another tallyman{}: stop it, or give this one a data_dir of its own",
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    InUse { path: String, pid: Option<u32> },
    #[error("{action} {path}: {source}")]
    Io { action: &'static str, path: String, source: std::io::Error },
    #[error("{action} the store: {message}")]
    Engine { action: &'static str, message: String },
    #[error(
        "{action} the store: {message}; what is on disk is damaged: keep a copy of the data folder, restore a backup \
         of it, and look through that with `tallyman audit --data-dir` before the agent runs on it"
    )]
    Damaged { action: &'static str, message: String },
    #[error(
        "the data folder {path} was deleted or moved: nothing that is written is found again by the next start"
    )]
    Gone { path: String },
    #[error(
        "the store's format is {found}, and this version reads format {known}: use the version that wrote it"
    )]
    UnknownFormat { found: u32, known: u32 },
    #[error(
        "the data folder belongs to {owner}: give {other} another data_dir, or its usage would be billed there"
    )]
    OtherMarketplace { owner: &'static str, other: &'static str },
    #[error("the store holds a {what} that this version cannot read: {why}")]
    Unreadable { what: &'static str, why: String },
}

/// All pairs of a table from `from` on.
pub fn scan_all(
    store: &dyn Rows,
    table: Table,
    from: &[u8],
    mut each: impl FnMut(&[u8], &[u8]) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    store.visit(table, from, &mut each)
}
