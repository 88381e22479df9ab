//! What is on disk.
//!
//! A store is a set of ordered tables of bytes with atomic, synced batches. What the bytes mean is said in [`tables`], a
//! file for each kind of row; rows are written by their types alone.

pub(crate) mod claim;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
pub(crate) mod journal;
pub(crate) mod key;
#[cfg(test)]
mod memory;
mod rocks;
mod table;
mod table_id;
pub(crate) mod tables;
pub(crate) mod value;

use rustix::io::Errno;
use thiserror::Error;

#[cfg(test)]
pub(crate) use memory::MemoryStore;
pub use rocks::RocksStore;
pub(crate) use rocks::{RocksFolder, Verified};
pub(crate) use table::Encoded;
pub use table::{ReadTable, Table};
pub(crate) use table_id::TableId;

/// Changes that take effect together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Put(TableId, Vec<u8>, Vec<u8>),
    Delete(TableId, Vec<u8>),
    /// Everything from the first key up to but not including the second.
    DeleteRange(TableId, Vec<u8>, Vec<u8>),
    /// Everything from the first key to the second, both included, as far as it is no trouble.
    Discard(TableId, Vec<u8>, Vec<u8>),
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// Puts bytes as they are, whatever they mean.
    #[cfg(test)]
    pub(crate) fn put_bytes(&mut self, table: TableId, key: impl Into<Vec<u8>>, value: Vec<u8>) {
        self.changes.push(Change::Put(table, key.into(), value));
    }

    #[cfg(test)]
    pub(crate) fn delete_bytes(&mut self, table: TableId, key: impl Into<Vec<u8>>) {
        self.changes.push(Change::Delete(table, key.into()));
    }

    #[cfg(test)]
    pub(crate) fn delete_range_bytes(
        &mut self,
        table: TableId,
        from: impl Into<Vec<u8>>,
        to: impl Into<Vec<u8>>,
    ) {
        self.changes.push(Change::DeleteRange(table, from.into(), to.into()));
    }

    #[cfg(test)]
    pub(crate) fn discard_bytes(
        &mut self,
        table: TableId,
        from: impl Into<Vec<u8>>,
        through: impl Into<Vec<u8>>,
    ) {
        self.changes.push(Change::Discard(table, from.into(), through.into()));
    }

    /// Each row that is put, with its value, or deleted; but not those that go in ranges.
    #[cfg(test)]
    pub(crate) fn rows(&self) -> impl Iterator<Item = (TableId, &[u8], Option<&[u8]>)> {
        self.changes.iter().filter_map(|change| match change {
            Change::Put(table, key, value) => Some((*table, &**key, Some(&**value))),
            Change::Delete(table, key) => Some((*table, &**key, None)),
            Change::DeleteRange(..) | Change::Discard(..) => None,
        })
    }
}

pub(crate) type Pair = (Box<[u8]>, Box<[u8]>);

/// What can be read.
pub trait Rows {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// At most `limit` pairs in key order, from `from` on, `from` included.
    fn scan(&self, table: TableId, from: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError>;

    /// All pairs in key order, from `from` on, `from` included.
    fn visit(&self, table: TableId, from: &[u8], each: &mut Visitor<'_>) -> Result<(), StoreError> {
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
pub(crate) type Visitor<'a> = dyn FnMut(&[u8], &[u8]) -> Result<(), StoreError> + 'a;

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
        "{action} the store: {message}; the process may open no more files: raise its limit (ulimit -n), or lower \
         limits.max_connections"
    )]
    OutOfFiles { action: &'static str, message: String },
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
    #[error("the store has a table `{table}` that this version does not know: use the version that wrote it")]
    UnknownTable { table: String },
    #[error(
        "the data folder belongs to {owner}: give {other} another data_dir, or its usage would be billed there"
    )]
    OtherMarketplace { owner: &'static str, other: &'static str },
    #[error("the store holds a {what} that this version cannot read: {why}")]
    Unreadable { what: &'static str, why: String },
}

impl StoreError {
    /// Whether the next start of the agent finds nothing wrong, without a person.
    pub(crate) fn is_mended_by_restart(&self) -> bool {
        match self {
            Self::OutOfFiles { .. } => true,
            Self::Io { source, .. } => is_out_of_files(source),
            Self::InUse { .. }
            | Self::Engine { .. }
            | Self::Damaged { .. }
            | Self::Gone { .. }
            | Self::UnknownFormat { .. }
            | Self::UnknownTable { .. }
            | Self::OtherMarketplace { .. }
            | Self::Unreadable { .. } => false,
        }
    }
}

/// Whether the process, or the system, may open no more files.
fn is_out_of_files(fault: &std::io::Error) -> bool {
    OUT_OF_FILES.iter().any(|number| fault.raw_os_error() == Some(number.raw_os_error()))
}

const OUT_OF_FILES: [Errno; 2] = [Errno::MFILE, Errno::NFILE];
