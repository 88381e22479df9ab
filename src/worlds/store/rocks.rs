//! The store on disk: RocksDB, one column family per table.

use std::{
    fs::{self, File, TryLockError},
    io::{ErrorKind, Read, Seek, Write},
    path::{Path, PathBuf},
};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode,
    Direction, IteratorMode, Options, ReadOptions, Snapshot, WriteBatch, WriteOptions,
};

use super::{Batch, Change, Pair, Rows, Store, StoreError, Table};

/// Memory for blocks read from disk, and for writes that are not in table files yet. Small, since a sidecar shares
/// its pod with the application: open buckets are in memory anyway, and the rest is read seldom.
const BLOCK_CACHE_BYTES: usize = 8 << 20;
const WRITE_BUFFER_BYTES: usize = 4 << 20;
const MAX_WAL_BYTES: u64 = 64 << 20;
const BLOOM_BITS_PER_KEY: f64 = 10.0;

pub struct RocksStore {
    db: DB,
    /// Held while the store is open.
    _lock: File,
}

impl RocksStore {
    /// Opens or creates the store in `data_dir`. A second process is refused with the first one's pid.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        fs::create_dir_all(data_dir).map_err(|source| io_error("create", data_dir, source))?;
        let lock = lock(&data_dir.join("tallyman.lock"))?;
        let db = DB::open_cf_descriptors(&database_options(), data_dir.join("db"), families())
            .map_err(|error| engine("open", &error))?;
        Ok(Self { db, _lock: lock })
    }
}

/// A data folder that no agent uses, to be looked at: nothing in it is changed.
pub struct RocksFolder {
    db: DB,
    /// `None` on a disk that takes no lock, since nothing can be written to it.
    _lock: Option<File>,
}

impl RocksFolder {
    /// Opens the store in `data_dir` for reading. A folder in use is refused with the pid of its agent.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let path = data_dir.join("db");
        fs::metadata(&path).map_err(|source| io_error("open", &path, source))?;
        let lock = match lock(&data_dir.join("tallyman.lock")) {
            Err(StoreError::Io { source, .. })
                if matches!(source.kind(), ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied) =>
            {
                None
            }
            locked => Some(locked?),
        };
        let mut options = database_options();
        options.create_if_missing(false);
        options.create_missing_column_families(false);
        let db = DB::open_cf_descriptors_read_only(&options, path, families(), false)
            .map_err(|error| engine("open", &error))?;
        Ok(Self { db, _lock: lock })
    }
}

/// Reads a database, as it is or as it was.
struct Reader<'a> {
    db: &'a DB,
    snapshot: Option<Snapshot<'a>>,
}

impl Reader<'_> {
    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        if let Some(snapshot) = &self.snapshot {
            options.set_snapshot(snapshot);
        }
        options
    }
}

impl Rows for Reader<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let value = self.db.get_cf_opt(family(self.db, table), key, &self.options());
        value.map_err(|error| engine("read from", &error))
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        let start = IteratorMode::From(from, Direction::Forward);
        let pairs = self.db.iterator_cf_opt(family(self.db, table), self.options(), start);
        pairs.take(limit).collect::<Result<_, _>>().map_err(|error| engine("read from", &error))
    }
}

fn families() -> impl Iterator<Item = ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    let family = move |table: Table| ColumnFamilyDescriptor::new(table.name(), table_options(table, &cache));
    Table::ALL.into_iter().map(family)
}

fn family(db: &DB, table: Table) -> &ColumnFamily {
    db.cf_handle(table.name()).unwrap_or_else(|| unreachable!("every table was opened"))
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_total_wal_size(MAX_WAL_BYTES);
    options.set_max_background_jobs(2);
    options.set_max_open_files(256);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    // A torn end of the log was never acknowledged. A fault anywhere else is for a person to see: refuse to open.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    options
}

fn table_options(table: Table, cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    if matches!(table, Table::EventIds | Table::Subjects) {
        // Most are new, and the filter says so without reading a block.
        blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(WRITE_BUFFER_BYTES);
    options.set_compression_type(DBCompressionType::Lz4);
    options
}

/// Takes the lock, and leaves this process's pid in it for whoever is refused.
fn lock(path: &PathBuf) -> Result<File, StoreError> {
    let in_lock = |source| io_error("lock", path, source);
    let mut file =
        File::options().create(true).read(true).write(true).truncate(false).open(path).map_err(in_lock)?;
    match file.try_lock() {
        Ok(()) => {
            file.set_len(0).and_then(|()| file.rewind()).map_err(in_lock)?;
            write!(file, "{}", std::process::id()).map_err(in_lock)?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut text = String::new();
            let pid = file.read_to_string(&mut text).ok().and_then(|_| text.trim().parse().ok());
            let path = path.parent().unwrap_or(path).display().to_string();
            Err(StoreError::InUse { path, pid })
        }
        Err(TryLockError::Error(source)) => Err(in_lock(source)),
    }
}

fn io_error(action: &'static str, path: &Path, source: std::io::Error) -> StoreError {
    StoreError::Io { action, path: path.display().to_string(), source }
}

fn engine(action: &'static str, error: &rocksdb::Error) -> StoreError {
    StoreError::Engine { action, message: error.to_string() }
}

impl Rows for RocksStore {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Reader { db: &self.db, snapshot: None }.get(table, key)
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        Reader { db: &self.db, snapshot: None }.scan(table, from, limit)
    }
}

impl Rows for RocksFolder {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Reader { db: &self.db, snapshot: None }.get(table, key)
    }

    fn scan(&self, table: Table, from: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        Reader { db: &self.db, snapshot: None }.scan(table, from, limit)
    }
}

impl Store for RocksStore {
    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        let mut writes = WriteBatch::default();
        for change in batch.changes {
            match change {
                Change::Put(table, key, value) => writes.put_cf(family(&self.db, table), key, value),
                Change::Delete(table, key) => writes.delete_cf(family(&self.db, table), key),
                Change::DeleteRange(table, from, to) => {
                    writes.delete_range_cf(family(&self.db, table), from, to);
                }
            }
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.db.write_opt(writes, &options).map_err(|error| engine("write to", &error))
    }

    fn snapshot(&self) -> Box<dyn Rows + '_> {
        Box::new(Reader { db: &self.db, snapshot: Some(self.db.snapshot()) })
    }

    fn size(&self) -> u64 {
        let files = |table: Table| {
            let size = self.db.property_int_value_cf(family(&self.db, table), "rocksdb.total-sst-files-size");
            size.ok().flatten().unwrap_or_default()
        };
        Table::ALL.into_iter().map(files).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_there_after_a_restart() {
        let folder = tempfile::tempdir().unwrap();
        let store = RocksStore::open(folder.path()).unwrap();
        let mut batch = Batch::default();
        for key in [1_u8, 2, 3, 4] {
            batch.put(Table::Held, [key], vec![key]);
        }
        batch.delete(Table::Held, [2]);
        batch.delete_range(Table::Held, [3], [4]);
        store.commit(batch).unwrap();
        drop(store);
        let store = RocksStore::open(folder.path()).unwrap();
        let keys: Vec<u8> = store.scan(Table::Held, &[], 10).unwrap().iter().map(|(key, _)| key[0]).collect();
        assert_eq!(keys, [1, 4]);
        assert_eq!(store.get(Table::Held, &[4]).unwrap(), Some(vec![4]));
        assert_eq!(store.get(Table::Roster, &[4]).unwrap(), None);
    }

    #[test]
    fn a_second_opener_is_refused_with_the_pid_of_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let _first = RocksStore::open(folder.path()).unwrap();
        let Err(StoreError::InUse { pid, .. }) = RocksStore::open(folder.path()) else {
            panic!("opened twice")
        };
        assert_eq!(pid, Some(std::process::id()));
    }
}
