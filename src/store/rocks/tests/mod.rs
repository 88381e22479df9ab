//! The store on a real disk: restarts, faults, damage.

mod table;
mod wal_check;
mod write_behind;

use std::{
    collections::BTreeMap,
    fs,
    ops::Range,
    path::{Path, PathBuf},
};

use fastrand::Rng;
use rocksdb::statistics::Ticker;
use tempfile::TempDir;

use super::*;

/// Everything in a store.
type Contents = BTreeMap<(TableId, Vec<u8>), Vec<u8>>;

/// Changes in several tables. One batch in ten is larger than a block of the log.
fn some_batch(number: u32, rng: &mut Rng) -> Batch {
    let mut batch = Batch::default();
    let key = number.to_be_bytes();
    batch.put_bytes(TableId::Meta, b"last", key.to_vec());
    for table in [TableId::Buckets, TableId::Records, TableId::Subjects] {
        let is_large = number % 10 == 5 && table == TableId::Records;
        let size = if is_large { rng.usize(33_000..40_000) } else { rng.usize(10..60) };
        batch.put_bytes(table, key, std::iter::repeat_with(|| rng.u8(..)).take(size).collect());
    }
    if number % 5 == 4 {
        batch.delete_bytes(TableId::Records, (number - 1).to_be_bytes());
        batch.delete_range_bytes(TableId::Buckets, (number - 3).to_be_bytes(), (number - 1).to_be_bytes());
    }
    batch
}

fn contents(store: &dyn Store) -> Result<Contents, StoreError> {
    let mut contents = Contents::new();
    for table in TableId::ALL {
        store.visit(table, &[], &mut |key, value| {
            contents.insert((table, key.to_vec()), value.to_vec());
            Ok(())
        })?;
    }
    Ok(contents)
}

fn apply(contents: &mut Contents, batch: &Batch) {
    for change in &batch.changes {
        match change.clone() {
            Change::Put(table, key, value) => drop(contents.insert((table, key), value)),
            Change::Delete(table, key) => drop(contents.remove(&(table, key))),
            Change::DeleteRange(table, from, to) => {
                contents.retain(|(of, key), _| *of != table || *key < from || *key >= to);
            }
            Change::Discard(..) => {}
        }
    }
}

/// The files of a data folder's database that `wanted` is true for, by name.
fn files(data_dir: &Path, wanted: impl Fn(&str) -> bool) -> Vec<PathBuf> {
    let entries = fs::read_dir(data_dir.join("db")).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> =
        entries.filter(|path| wanted(path.file_name().unwrap().to_str().unwrap())).collect();
    files.sort();
    files
}

fn is_log(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "log")
}

fn is_table(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == "sst")
}

/// A copy of a data folder in which `file` of its database reads `bytes`.
fn copy_with(data_dir: &Path, file: &Path, bytes: &[u8]) -> TempDir {
    let copy = unsynced_folder();
    fs::create_dir(copy.path().join("db")).unwrap();
    for path in files(data_dir, |_| true) {
        let to = copy.path().join("db").join(path.file_name().unwrap());
        if path == file {
            fs::write(to, bytes).unwrap();
        } else {
            fs::copy(path, to).unwrap();
        }
    }
    copy
}

/// In memory, where there is such a place: hundreds of stores are opened, and each syncs many times.
fn unsynced_folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// `bytes` with one bit flipped.
fn flipped(bytes: &[u8], offset: usize, bit: u32) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[offset] ^= 1 << bit;
    bytes
}

fn some_offsets(rng: &mut Rng, range: Range<usize>, count: usize) -> Vec<usize> {
    (0..count).map(|_| rng.usize(range.clone())).collect()
}

#[test]
fn batches_are_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = RocksStore::open(folder.path()).unwrap();
    let mut batch = Batch::default();
    for key in [1_u8, 2, 3, 4] {
        batch.put_bytes(TableId::Held, [key], vec![key]);
    }
    batch.delete_bytes(TableId::Held, [2]);
    batch.delete_range_bytes(TableId::Held, [3], [4]);
    store.commit(batch).unwrap();
    drop(store);
    let store = RocksStore::open(folder.path()).unwrap();
    let keys: Vec<u8> = store.scan(TableId::Held, &[], 10).unwrap().iter().map(|(key, _)| key[0]).collect();
    assert_eq!(keys, [1, 4]);
    assert_eq!(store.get(TableId::Held, &[4]).unwrap(), Some(vec![4]));
    assert_eq!(store.get(TableId::Customers, &[4]).unwrap(), None);
}

#[test]
fn a_commit_is_synced_when_it_returns_and_a_write_once_sync_returns() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = database_options();
    options.enable_statistics();
    let db = DB::open_cf_descriptors(&options, folder.path(), families()).unwrap();
    let lock = Lock::take(folder.path().join("tallyman.lock")).unwrap();
    let store = RocksStore::over(db, lock).unwrap();
    let syncs = || options.get_ticker_count(Ticker::WalFileSynced);
    let mut rng = Rng::with_seed(1);
    let before = syncs();
    for (number, synced) in [(0, 1), (1, 2), (2, 3)] {
        store.commit(some_batch(number, &mut rng)).unwrap();
        assert_eq!(syncs() - before, synced, "each commit by itself");
    }
    store.write(some_batch(3, &mut rng)).unwrap();
    assert_eq!(syncs() - before, 3, "a write waits for its sync");
    store.sync().unwrap();
    assert_eq!(syncs() - before, 4);
}

#[test]
fn a_second_opener_is_refused_with_the_pid_of_the_first() {
    let folder = tempfile::tempdir().unwrap();
    let _first = RocksStore::open(folder.path()).unwrap();
    let Err(StoreError::InUse { pid, .. }) = RocksStore::open(folder.path()) else { panic!("opened twice") };
    assert_eq!(pid, Some(std::process::id()));
}

#[test]
fn nothing_is_acknowledged_in_a_folder_that_was_deleted_or_moved() {
    let parent = tempfile::tempdir().unwrap();
    let [deleted, moved] = ["deleted", "moved"].map(|name| parent.path().join(name));
    let stores = [&deleted, &moved].map(|folder| RocksStore::open(folder).unwrap());
    fs::remove_dir_all(&deleted).unwrap();
    fs::rename(&moved, parent.path().join("elsewhere")).unwrap();
    for store in stores {
        let fault = store.commit(some_batch(0, &mut Rng::with_seed(1))).unwrap_err();
        assert!(matches!(fault, StoreError::Gone { .. }), "{fault}");
    }
}

#[test]
fn a_folder_that_lacks_the_newest_tables_can_be_read_and_opened() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = RocksStore::open(folder.path()).unwrap();
    store.commit(some_batch(0, &mut Rng::with_seed(1))).unwrap();
    for table in [TableId::DedupKeys, TableId::DedupRuns] {
        store.db.drop_cf(table.name()).unwrap();
    }
    drop(store);
    let older = RocksFolder::open(folder.path()).unwrap();
    assert_eq!(older.get(TableId::DedupKeys, &[1]).unwrap(), None);
    assert_eq!(older.scan(TableId::DedupRuns, &[], 10).unwrap(), []);
    assert_eq!(older.scan(TableId::Subjects, &[], 10).unwrap().len(), 1);
    drop(older);
    let store = RocksStore::open(folder.path()).unwrap();
    assert_eq!(store.get(TableId::DedupKeys, &[1]).unwrap(), None);
}

#[test]
fn a_table_of_another_version_goes_if_it_is_empty_and_is_refused_otherwise() {
    let folder = tempfile::tempdir().unwrap();
    let mut store = RocksStore::open(folder.path()).unwrap();
    store.db.create_cf("event_ids", &Options::default()).unwrap();
    drop(store);
    let mut store = RocksStore::open(folder.path()).unwrap();
    store.db.create_cf("later", &Options::default()).unwrap();
    store.db.put_cf(store.db.cf_handle("later").unwrap(), [1], [2]).unwrap();
    drop(store);
    for _ in 0..2 {
        let fault = RocksStore::open(folder.path()).err().expect("the table was passed over").to_string();
        assert!(fault.contains("`later`") && fault.contains("use the version that wrote it"), "{fault}");
    }
    let there = DB::list_cf(&Options::default(), folder.path().join("db")).unwrap();
    assert!(there.contains(&"later".to_owned()) && !there.contains(&"event_ids".to_owned()), "{there:?}");
}

#[test]
fn rows_that_are_discarded_may_go_and_their_neighbours_stay() {
    let folder = tempfile::tempdir().unwrap();
    let store = RocksStore::open(folder.path()).unwrap();
    let runs = family(&store.db, TableId::DedupRuns);
    for key in 0..6_u8 {
        let mut batch = Batch::default();
        batch.put_bytes(TableId::DedupRuns, [key], vec![key; 100]);
        store.commit(batch).unwrap();
        store.db.flush_cf(runs).unwrap();
    }
    store.db.compact_range_cf(runs, None::<&[u8]>, None::<&[u8]>);
    let mut batch = Batch::default();
    batch.discard_bytes(TableId::DedupRuns, [1], [4]);
    store.commit(batch).unwrap();
    for kept in [0, 5] {
        assert_eq!(store.get(TableId::DedupRuns, &[kept]).unwrap(), Some(vec![kept; 100]));
    }
}

#[test]
fn a_disk_that_takes_no_writes_is_told_from_other_faults() {
    for (kind, takes_none) in [
        (io::ErrorKind::ReadOnlyFilesystem, true),
        (io::ErrorKind::PermissionDenied, true),
        (io::ErrorKind::StorageFull, false),
        (io::ErrorKind::NotFound, false),
    ] {
        assert_eq!(takes_no_writes(&kind.into()), takes_none, "{kind}");
    }
}
