//! The store on disk: RocksDB, one column family per table.

mod lock;
#[cfg(test)]
mod tests;
mod verify;
mod wal_check;
mod write_behind;

use std::{
    borrow::Cow,
    fs, io, mem,
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode,
    DEFAULT_COLUMN_FAMILY_NAME, Direction, ErrorKind, IteratorMode, MemtableFactory, Options, ReadOptions,
    Snapshot, WriteBatch, WriteOptions,
};

use lock::Lock;
use write_behind::{Overlay, WriteBehind};

pub(crate) use verify::Verified;

use super::{Batch, Change, OUT_OF_FILES, Pair, Rows, Store, StoreError, TableId, Visitor};
use crate::base::open_files::MAX_TABLE_FILES;

/// Memory for blocks read from disk, and for writes that are not in table files yet. Small, since a sidecar shares
/// its pod with the application: open buckets are in memory anyway, and the rest is read seldom.
const BLOCK_CACHE_BYTES: usize = 8 << 20;
const WRITE_BUFFER_BYTES: usize = 4 << 20;
/// Of the tables that a seal writes, a row or two for each bucket: larger files, fewer compactions beside it.
const SEAL_BUFFER_BYTES: usize = 16 << 20;
/// The write buffers of all tables together.
const WRITE_BUFFERS_BYTES: usize = 64 << 20;
/// Runs of dedup keys are written by the megabyte: larger files, and fewer of them.
const RUNS_WRITE_BUFFER_BYTES: usize = 16 << 20;
/// What is read again after a crash, in a fraction of a second.
const MAX_WAL_BYTES: u64 = 64 << 20;
/// Table files go to disk in pieces of this size: one sync of a whole file would hold up the syncs of commits.
const BYTES_PER_SYNC: u64 = 512 << 10;
/// Where half of so many rows in a row are deleted, the file is compacted soon: a start reads past them all.
const DELETED_ROWS: usize = 1024;
const BLOOM_BITS_PER_KEY: f64 = 10.0;

pub struct RocksStore {
    db: DB,
    /// Locked from a batch's first change until it is written: whoever reads finds a row here or there.
    write_behind: Mutex<WriteBehind>,
    /// Rows that were discarded by a write that is not synced yet.
    discarded: Mutex<Vec<Discarded>>,
    lock: Lock,
}

/// The rows of a table from a key to another, both included.
type Discarded = (TableId, Vec<u8>, Vec<u8>);

impl RocksStore {
    /// Opens or creates the store in `data_dir`. A second process is refused with the first one's pid.
    pub fn open(data_dir: &Path) -> Result<Self, StoreError> {
        Self::open_within(data_dir, MAX_TABLE_FILES)
    }

    /// The same, with a limit on the files of tables that are open at a time.
    pub(crate) fn open_within(data_dir: &Path, table_files: u64) -> Result<Self, StoreError> {
        create_folder(data_dir)?;
        let lock = Lock::take(data_dir.join("tallyman.lock"))?;
        let folder = data_dir.join("db");
        create_folder(&folder)?;
        // Also where an earlier version, or another umask, has left it open to others: all rows are below it.
        close_to_others(&folder)?;
        wal_check::check(&folder)?;
        Self::over(open(&folder, table_files)?, lock)
    }

    fn over(db: DB, lock: Lock) -> Result<Self, StoreError> {
        let overlay = write_behind::read(&db)?;
        if !overlay.is_empty() {
            let writes = write_behind::settle(&overlay, &db, log_of(&db), family(&db, TableId::CHANGES_MOST));
            write(&db, writes, true)?;
        }
        Ok(Self { db, write_behind: Mutex::default(), discarded: Mutex::default(), lock })
    }

    /// Returns what it discards, to be freed once it is on disk.
    fn apply(&self, batch: Batch, syncs: bool) -> Result<Vec<Discarded>, StoreError> {
        let (mut writes, mut discarded) = (WriteBatch::default(), Vec::new());
        let mut families = [None; TableId::ALL.len()];
        let mut family =
            |table: TableId| *families[table as usize].get_or_insert_with(|| family(&self.db, table));
        let mut write_behind = self.write_behind();
        for change in batch.changes {
            match change {
                Change::Put(TableId::CHANGES_MOST, key, value) => write_behind.change(key, Some(value)),
                Change::Delete(TableId::CHANGES_MOST, key) => write_behind.change(key, None),
                Change::Put(table, key, value) => writes.put_cf(family(table), key, value),
                Change::Delete(table, key) => writes.delete_cf(family(table), key),
                Change::DeleteRange(table, from, to) => {
                    if table == TableId::CHANGES_MOST {
                        write_behind.remove_range(&from, &to);
                    }
                    writes.delete_range_cf(family(table), from, to);
                }
                Change::Discard(table, from, through) => discarded.push((table, from, through)),
            }
        }
        write_behind.write(log_of(&self.db), family(TableId::CHANGES_MOST), &mut writes);
        write(&self.db, writes, syncs)?;
        Ok(discarded)
    }

    /// Whole files only: a range that is marked as deleted would have its neighbours rewritten.
    fn free(&self, discarded: Vec<Discarded>) -> Result<(), StoreError> {
        for (table, from, through) in discarded {
            let freed = self.db.delete_file_in_range_cf(family(&self.db, table), from, through);
            freed.map_err(|error| engine("free files of", &error))?;
        }
        Ok(())
    }

    fn discarded(&self) -> MutexGuard<'_, Vec<Discarded>> {
        self.discarded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_behind(&self) -> MutexGuard<'_, WriteBehind> {
        self.write_behind.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn reader(&self) -> Reader<'_> {
        Reader { db: &self.db, snapshot: None, overlay: Cow::Owned(Overlay::new()) }
    }

    /// A reader that finds the deferred rows, if it is for them.
    fn reader_of(&self, table: TableId) -> Reader<'_> {
        let overlay =
            if table == TableId::CHANGES_MOST { self.write_behind().overlay() } else { Overlay::new() };
        Reader { overlay: Cow::Owned(overlay), ..self.reader() }
    }
}

/// A data folder that no agent uses, to be looked at: nothing in it is changed.
pub(crate) struct RocksFolder {
    db: DB,
    overlay: Overlay,
    /// `None` on a disk that takes no lock.
    _lock: Option<Lock>,
}

impl RocksFolder {
    /// Opens the store in `data_dir` for reading. A folder in use is refused with the pid of its agent.
    pub(crate) fn open(data_dir: &Path) -> Result<Self, StoreError> {
        let folder = data_dir.join("db");
        fs::metadata(&folder).map_err(|source| io_error("open", &folder, source))?;
        let lock_file = data_dir.join("tallyman.lock");
        let lock = match Lock::take(lock_file.clone()) {
            Err(StoreError::Io { source, .. }) if takes_no_writes(&source) => Lock::share(lock_file)?,
            locked => Some(locked?),
        };
        wal_check::check(&folder)?;
        let db = open_for_reading(&folder).map_err(|error| engine("open", &error))?;
        Ok(Self { overlay: write_behind::read(&db)?, db, _lock: lock })
    }
}

/// Customers and usage are nobody else's business, whatever the umask says.
const FOLDER_MODE: u32 = 0o700;

/// Creates a folder, and those above it that are not there.
fn create_folder(folder: &Path) -> Result<(), StoreError> {
    let created = fs::DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(folder);
    created.map_err(|source| io_error("create", folder, source))
}

fn close_to_others(folder: &Path) -> Result<(), StoreError> {
    let in_folder = |source| io_error("set the mode of", folder, source);
    let permissions = fs::metadata(folder).map_err(in_folder)?.permissions();
    let for_others = permissions.mode() & 0o077;
    if for_others == 0 {
        return Ok(());
    }
    match fs::set_permissions(folder, fs::Permissions::from_mode(FOLDER_MODE)) {
        // Another user's, such as a volume that a group shares: its owner decides.
        Err(fault) if fault.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        set => set.map_err(in_folder),
    }
}

fn takes_no_writes(fault: &io::Error) -> bool {
    matches!(fault.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

/// Reads a database, as it is or as it was.
struct Reader<'a> {
    db: &'a DB,
    snapshot: Option<Snapshot<'a>>,
    /// Rows that are not in their table yet.
    overlay: Cow<'a, Overlay>,
}

impl Reader<'_> {
    fn rows(
        &self,
        table: TableId,
        from: &[u8],
    ) -> Option<impl Iterator<Item = Result<Pair, rocksdb::Error>>> {
        let start = IteratorMode::From(from, Direction::Forward);
        Some(self.db.iterator_cf_opt(table_of(self.db, table)?, self.options(), start))
    }

    fn is_deferred(&self, table: TableId) -> bool {
        table == TableId::CHANGES_MOST && !self.overlay.is_empty()
    }

    fn options(&self) -> ReadOptions {
        let mut options = ReadOptions::default();
        if let Some(snapshot) = &self.snapshot {
            options.set_snapshot(snapshot);
            // Whoever reads everything must not push out what the agent needs.
            options.fill_cache(false);
        }
        options
    }
}

impl Rows for Reader<'_> {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if let Some(deferred) = self.overlay.get(key).filter(|_| table == TableId::CHANGES_MOST) {
            return Ok(deferred.clone());
        }
        let Some(family) = table_of(self.db, table) else { return Ok(None) };
        let value = self.db.get_cf_opt(family, key, &self.options());
        value.map_err(|error| engine("read from", &error))
    }

    fn scan(&self, table: TableId, from: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        let Some(rows) = self.rows(table, from) else { return Ok(Vec::new()) };
        let pairs = if self.is_deferred(table) {
            write_behind::merged(rows, &self.overlay, from).take(limit).collect()
        } else {
            rows.take(limit).collect::<Result<_, _>>()
        };
        pairs.map_err(|error| engine("read from", &error))
    }

    fn visit(&self, table: TableId, from: &[u8], each: &mut Visitor<'_>) -> Result<(), StoreError> {
        if self.is_deferred(table) {
            let rows = self.rows(table, from).into_iter().flatten();
            return write_behind::merged(rows, &self.overlay, from).try_for_each(|row| {
                let (key, value) = row.map_err(|error| engine("read from", &error))?;
                each(&key, &value)
            });
        }
        let mut options = self.options();
        options.fill_cache(false);
        let Some(family) = table_of(self.db, table) else { return Ok(()) };
        let mut rows = self.db.raw_iterator_cf_opt(family, options);
        rows.seek(from);
        while let Some((key, value)) = rows.item() {
            each(key, value)?;
            rows.next();
        }
        rows.status().map_err(|error| engine("read from", &error))
    }
}

/// A table that only another version knows goes if nothing is in it, so that one which never used it can be left again.
fn open(folder: &Path, table_files: u64) -> Result<DB, StoreError> {
    let fault = |error| engine("open", &error);
    let unknown = unknown_tables(folder).map_err(fault)?;
    let unknown_families = unknown.iter().map(|name| ColumnFamilyDescriptor::new(name, Options::default()));
    let families = families().into_iter().chain(unknown_families);
    let mut options = database_options();
    options.set_max_open_files(i32::try_from(table_files).unwrap_or(i32::MAX));
    let mut db = DB::open_cf_descriptors(&options, folder, families).map_err(fault)?;
    for table in unknown {
        let family = db.cf_handle(&table).unwrap_or_else(|| unreachable!("it was opened"));
        if db.iterator_cf(family, IteratorMode::Start).next().transpose().map_err(fault)?.is_some() {
            return Err(StoreError::UnknownTable { table });
        }
        db.drop_cf(&table).map_err(fault)?;
    }
    Ok(db)
}

/// What the folder has besides this version's tables, if it has a database.
fn unknown_tables(folder: &Path) -> Result<Vec<String>, rocksdb::Error> {
    if !folder.join("CURRENT").exists() {
        return Ok(Vec::new());
    }
    let is_known = |name: &str| {
        name == DEFAULT_COLUMN_FAMILY_NAME
            || name == write_behind::LOG
            || TableId::ALL.iter().any(|table| table.name() == name)
    };
    let there = DB::list_cf(&database_options(), folder)?;
    Ok(there.into_iter().filter(|name| !is_known(name)).collect())
}

fn open_for_reading(folder: &Path) -> Result<DB, rocksdb::Error> {
    let mut options = database_options();
    options.create_if_missing(false);
    options.create_missing_column_families(false);
    // A folder that no agent of this version has opened yet lacks the tables that are new in it.
    let there = DB::list_cf(&options, folder)?;
    let families = families_for_reading();
    let families = families.into_iter().filter(|family| there.iter().any(|name| name == family.name()));
    DB::open_cf_descriptors_read_only(&options, folder, families, false)
}

fn families() -> Vec<ColumnFamilyDescriptor> {
    families_with(&|_| {})
}

/// Whoever reads everything passes over no row, however many of its key are hidden by a newer one.
fn families_for_reading() -> Vec<ColumnFamilyDescriptor> {
    families_with(&|options| options.set_max_sequential_skip_in_iterations(u64::MAX))
}

fn families_with(change: &dyn Fn(&mut Options)) -> Vec<ColumnFamilyDescriptor> {
    let cache = Cache::new_lru_cache(BLOCK_CACHE_BYTES);
    let family = |(table, name): (TableId, &str)| {
        let mut options = table_options(table, &cache);
        change(&mut options);
        ColumnFamilyDescriptor::new(name, options)
    };
    let tables = TableId::ALL.into_iter().map(|table| (table, table.name()));
    tables.chain([(TableId::CHANGES_MOST, write_behind::LOG)]).map(family).collect()
}

fn write(db: &DB, writes: WriteBatch, syncs: bool) -> Result<(), StoreError> {
    let mut options = WriteOptions::default();
    options.set_sync(syncs);
    db.write_opt(writes, &options).map_err(|error| engine("write to", &error))
}

fn log_of(db: &DB) -> &ColumnFamily {
    db.cf_handle(write_behind::LOG).unwrap_or_else(|| unreachable!("the log was opened"))
}

fn family(db: &DB, table: TableId) -> &ColumnFamily {
    table_of(db, table).unwrap_or_else(|| unreachable!("every table was opened"))
}

/// `None` for one that is newer than a folder that is only read.
fn table_of(db: &DB, table: TableId) -> Option<&ColumnFamily> {
    db.cf_handle(table.name())
}

fn database_options() -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_total_wal_size(MAX_WAL_BYTES);
    options.set_db_write_buffer_size(WRITE_BUFFERS_BYTES);
    options.set_bytes_per_sync(BYTES_PER_SYNC);
    options.set_max_background_jobs(2);
    options.set_max_open_files(i32::try_from(MAX_TABLE_FILES).unwrap_or(i32::MAX));
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(1 << 20);
    // A torn end of the log was never acknowledged. A fault anywhere else is for a person to see: refuse to open.
    // RocksDB alone takes more for a torn end than is one; see `log`.
    options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
    // Also refuse a log that is missing or too short, if another one follows it.
    options.set_track_and_verify_wals_in_manifest(true);
    // There is one writer, and not every kind of write buffer takes more.
    options.set_allow_concurrent_memtable_write(false);
    options
}

fn table_options(table: TableId, cache: &Cache) -> Options {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    if table == TableId::Subjects {
        // Most are new, and the filter says so without reading a block.
        blocks.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    let is_sealed_into = matches!(
        table,
        TableId::Buckets | TableId::Records | TableId::Outstanding | TableId::Journal | TableId::Receipts
    );
    options.set_write_buffer_size(if is_sealed_into { SEAL_BUFFER_BYTES } else { WRITE_BUFFER_BYTES });
    if table == TableId::Buckets {
        // A row is written again and again, and read when an agent starts: to be in order is for the flush to see to.
        options.set_memtable_factory(MemtableFactory::Vector);
    }
    if matches!(table, TableId::Buckets | TableId::Records | TableId::Deliveries) {
        // Their rows come and go with each hour.
        options.add_compact_on_deletion_collector_factory(DELETED_ROWS, DELETED_ROWS / 2, 0.5);
    }
    options.set_compression_type(DBCompressionType::Lz4);
    match table {
        TableId::DedupKeys => in_sequence(&mut options),
        TableId::DedupRuns => {
            in_sequence(&mut options);
            // Whoever looks for a hash reads one block and never comes back: the cache is for other tables.
            blocks.disable_cache();
            // One entry for each block of 4 KiB stays in memory: without what it shares with the one before.
            blocks.set_index_block_restart_interval(16);
            options.set_block_based_table_factory(&blocks);
            options.set_write_buffer_size(RUNS_WRITE_BUFFER_BYTES);
        }
        TableId::Meta
        | TableId::Buckets
        | TableId::Tagged
        | TableId::Subjects
        | TableId::Producers
        | TableId::Records
        | TableId::Deliveries
        | TableId::Receipts
        | TableId::Held
        | TableId::Decisions
        | TableId::Journal
        | TableId::Outstanding
        | TableId::Customers
        | TableId::MessageDigests
        | TableId::UsualHours => {}
    }
    options
}

/// For rows of hashes that are written once, in the order of their keys: files do not overlap, and compactions move them
/// down as they are.
fn in_sequence(options: &mut Options) {
    // Hashes are random.
    options.set_compression_type(DBCompressionType::None);
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> StoreError {
    StoreError::Io { action, path: path.display().to_string(), source }
}

fn engine(action: &'static str, error: &rocksdb::Error) -> StoreError {
    let message = error.to_string();
    if error.kind() == ErrorKind::Corruption {
        damaged(action, message)
    } else if is_out_of_files(&message) {
        StoreError::OutOfFiles { action, message }
    } else {
        StoreError::Engine { action, message }
    }
}

/// RocksDB hands on the words of EMFILE and ENFILE, and not their numbers.
fn is_out_of_files(message: &str) -> bool {
    OUT_OF_FILES.into_iter().any(|number| {
        let words = io::Error::from(number).to_string();
        words.split(" (os error").next().is_some_and(|words| message.contains(words))
    })
}

fn damaged(action: &'static str, message: String) -> StoreError {
    StoreError::Damaged { action, message }
}

impl Rows for RocksStore {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        if table == TableId::CHANGES_MOST
            && let Some(deferred) = self.write_behind().get(key)
        {
            return Ok(deferred.clone());
        }
        self.reader().get(table, key)
    }

    fn scan(&self, table: TableId, from: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        self.reader_of(table).scan(table, from, limit)
    }

    fn visit(&self, table: TableId, from: &[u8], each: &mut Visitor<'_>) -> Result<(), StoreError> {
        self.reader_of(table).visit(table, from, each)
    }
}

impl RocksFolder {
    fn reader(&self) -> Reader<'_> {
        Reader { db: &self.db, snapshot: None, overlay: Cow::Borrowed(&self.overlay) }
    }
}

impl Rows for RocksFolder {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.reader().get(table, key)
    }

    fn scan(&self, table: TableId, from: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        self.reader().scan(table, from, limit)
    }

    fn visit(&self, table: TableId, from: &[u8], each: &mut Visitor<'_>) -> Result<(), StoreError> {
        self.reader().visit(table, from, each)
    }
}

impl Store for RocksStore {
    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        let discarded = self.apply(batch, true)?;
        self.free(discarded)?;
        self.lock.check()
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        let discarded = self.apply(batch, false)?;
        self.discarded().extend(discarded);
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        // What a later write discards is not on disk with this sync.
        let discarded = mem::take(&mut *self.discarded());
        self.db.flush_wal(true).map_err(|error| engine("write to", &error))?;
        self.free(discarded)?;
        self.lock.check()
    }

    fn snapshot(&self) -> Box<dyn Rows + '_> {
        // No commit in between: each row is in the one or in the other.
        let write_behind = self.write_behind();
        let overlay = Cow::Owned(write_behind.overlay());
        Box::new(Reader { db: &self.db, snapshot: Some(self.db.snapshot()), overlay })
    }

    fn size(&self) -> u64 {
        let files = |table: TableId| {
            let size = self.db.property_int_value_cf(family(&self.db, table), "rocksdb.total-sst-files-size");
            size.ok().flatten().unwrap_or_default()
        };
        TableId::ALL.into_iter().map(files).sum()
    }
}
