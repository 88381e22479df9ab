//! Reads every block of every table, each against its checksum, whatever its rows are for.
//!
//! What nobody looks for is read as well: rows that a newer one hides, that are deleted, or that a deleted range covers.
//! The logs and the manifest are read when a folder is opened (`wal_check`). RocksDB does without a filter whose block is
//! damaged, and says nothing: that makes look-ups slower, and no answer wrong.

use rocksdb::{ColumnFamily, DB, DEFAULT_COLUMN_FAMILY_NAME, ReadOptions};

use super::{RocksFolder, StoreError, TableId, damaged, engine, write_behind};

/// Read from disk at once.
const READ_AHEAD_BYTES: usize = 1 << 20;
/// Rows between two reports of progress.
const PROGRESS_ROWS: u64 = 10_000;

/// What was read, and found to be as it was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verified {
    pub rows: u64,
    pub files: u64,
    pub bytes: u64,
}

impl RocksFolder {
    /// Reads everything. Fails with all tables that are damaged, and the first damaged file of each. `go_on` is told now
    /// and then how many rows were read; `None` if it breaks off.
    pub(crate) fn verify(&self, go_on: &mut dyn FnMut(u64) -> bool) -> Result<Option<Verified>, StoreError> {
        let mut verified = Verified::default();
        let mut faults = Vec::new();
        for (name, family) in all_families(&self.db) {
            match read_through(&self.db, family, &mut verified.rows, go_on) {
                Ok(true) => {}
                Ok(false) => return Ok(None),
                Err(fault) => faults.push((name, fault)),
            }
        }
        if !faults.is_empty() {
            let fault = |(name, fault): &(&str, rocksdb::Error)| format!("table `{name}`: {fault}");
            return Err(damaged("read", faults.iter().map(fault).collect::<Vec<_>>().join("; ")));
        }
        let files = self.db.live_files().map_err(|error| engine("list the files of", &error))?;
        verified.files = files.len() as u64;
        verified.bytes = files.iter().map(|file| file.size as u64).sum();
        Ok(Some(verified))
    }
}

/// Those that are there, with their names on disk.
fn all_families(db: &DB) -> impl Iterator<Item = (&'static str, &ColumnFamily)> {
    let names = TableId::ALL.into_iter().map(TableId::name);
    let names = names.chain([write_behind::LOG, DEFAULT_COLUMN_FAMILY_NAME]);
    names.filter_map(|name| Some((name, db.cf_handle(name)?)))
}

/// Whether it came to the end.
fn read_through(
    db: &DB,
    family: &ColumnFamily,
    read: &mut u64,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<bool, rocksdb::Error> {
    let mut options = ReadOptions::default();
    options.set_verify_checksums(true);
    options.fill_cache(false);
    options.set_readahead_size(READ_AHEAD_BYTES);
    ignore_deleted_ranges(&mut options);
    let mut rows = db.raw_iterator_cf_opt(family, options);
    rows.seek_to_first();
    while rows.valid() {
        *read += 1;
        if read.is_multiple_of(PROGRESS_ROWS) && !go_on(*read) {
            return Ok(false);
        }
        rows.next();
    }
    rows.status().map(|()| true)
}

#[expect(
    deprecated,
    reason = "it is for those who read what a deleted range covers, which are no reads of rows"
)]
fn ignore_deleted_ranges(options: &mut ReadOptions) {
    options.set_ignore_range_deletions(true);
}
