//! Ids are in a row of a log that they share with those of their commit, and in a set in memory. A full set becomes one
//! sorted file, made in the background, which RocksDB takes in and compacts with others.
//!
//! So an id is never in a memtable, and goes through the log once. What a start reads is the log's rows of the last set.

use std::{
    collections::HashSet,
    hash::{BuildHasherDefault, Hasher},
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Instant,
};

use rocksdb::{
    ColumnFamilyDescriptor, DB, Direction, IngestExternalFileOptions, IteratorMode, Options, SstFileWriter,
    WriteBatch, WriteOptions,
};

use crate::{
    contender::{Contender, Lap},
    lookup::{self, Layout, family},
    tuning::Tuning,
};

const META: &str = "meta";
const LOG: &str = "log";

/// How many bits the slots of a full set have.
const SLOT_BITS: u32 = 20;

type Set = HashSet<u128, BuildHasherDefault<Uniform>>;

/// Hashes are hashed already. Their first bits come last, where a table looks for its slot: hashes that come in order go
/// from the front of the table to its back.
#[derive(Default)]
struct Uniform(u64);

impl Hasher for Uniform {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("only ids are hashed");
    }

    fn write_u128(&mut self, id: u128) {
        self.0 = u64::try_from(id >> 64).unwrap().rotate_left(SLOT_BITS);
    }
}

pub(crate) struct Ingested {
    db: Arc<DB>,
    folder: PathBuf,
    tuning: Tuning,
    /// Oldest first.
    generations: Vec<u32>,
    /// Those that are in no file.
    memtable: Set,
    immutable: Option<Immutable>,
    next_row: u64,
    count: u64,
}

/// A set that is on its way to a file.
struct Immutable {
    set: Arc<Set>,
    /// Its ids are in the rows before this one.
    rows_end: u64,
    work: JoinHandle<()>,
}

impl Ingested {
    pub(crate) fn open(folder: &Path, tuning: Tuning) -> Self {
        assert!(tuning.layout != Layout::Family, "a column family cannot be added while a file is made");
        let options = tuning.database();
        let mut rows = Options::default();
        rows.set_write_buffer_size(4 << 20);
        let families = [(META, rows.clone()), (LOG, rows), (lookup::TABLE, tuning.table())];
        let families = families.map(|(name, options)| ColumnFamilyDescriptor::new(name, options));
        let db = DB::open_cf_descriptors(&options, folder, families).unwrap();
        let mut opened = Self {
            db: Arc::new(db),
            folder: folder.to_owned(),
            tuning,
            generations: Vec::new(),
            memtable: empty_set(),
            immutable: None,
            next_row: 0,
            count: 0,
        };
        opened.load();
        opened
    }

    fn load(&mut self) {
        let meta = |key: &[u8]| self.db.get_cf(family(&self.db, META), key).unwrap();
        let generations = meta(b"generations").unwrap_or_default();
        self.generations = generations.as_chunks().0.iter().map(|bytes| u32::from_be_bytes(*bytes)).collect();
        let first = meta(b"first_row").unwrap_or_else(|| vec![0; 8]);
        // Also if there are no rows from there on: a lower number would not count.
        self.next_row = u64::from_be_bytes(first[..].try_into().unwrap());
        let from = IteratorMode::From(&first, Direction::Forward);
        for row in self.db.iterator_cf(family(&self.db, LOG), from) {
            let (key, row) = row.unwrap();
            self.next_row = u64::from_be_bytes(key[..].try_into().unwrap()) + 1;
            self.memtable.extend(row.as_chunks().0.iter().map(|bytes| u128::from_be_bytes(*bytes)));
        }
    }

    /// A set has the ids of one generation.
    fn enter(&mut self, generation: u32) {
        if self.generations.last() == Some(&generation) {
            return;
        }
        if !self.memtable.is_empty() {
            self.rotate();
        }
        self.generations.push(generation);
        let generations: Vec<u8> = self.generations.iter().flat_map(|start| start.to_be_bytes()).collect();
        self.db.put_cf(family(&self.db, META), b"generations", generations).unwrap();
    }

    fn is_in_memory(&self, id: u128) -> bool {
        self.memtable.contains(&id)
            || self.immutable.as_ref().is_some_and(|immutable| immutable.set.contains(&id))
    }

    /// Those of the ids that are new, which are in the memtable from now on.
    fn new_ones(&mut self, ids: &[u128]) -> Vec<u128> {
        let batch = if self.tuning.batch == 0 { ids.len() } else { self.tuning.batch };
        let mut new = Vec::with_capacity(ids.len());
        for part in ids.chunks(batch) {
            let mut part = part.to_vec();
            part.sort_unstable();
            part.dedup();
            part.retain(|id| !self.is_in_memory(*id));
            let known = self.tuning.layout.known(&self.db, &self.generations, &part);
            let before = new.len();
            new.extend(part.into_iter().zip(known).filter(|(_, known)| !known).map(|(id, _)| id));
            self.memtable.extend(&new[before..]);
        }
        new
    }

    /// Makes the set immutable. Waits, if the one before is no file yet.
    fn rotate(&mut self) {
        let mut batch = WriteBatch::default();
        self.install(true, &mut batch);
        self.db.write(batch).unwrap();
        let set = Arc::new(std::mem::replace(&mut self.memtable, empty_set()));
        let generation = *self.generations.last().unwrap();
        let file = self.folder.join(format!("set-{}", self.next_row));
        let (db, ids, tuning) = (self.db.clone(), set.clone(), self.tuning.clone());
        let work = thread::spawn(move || ingest(&db, &ids, generation, &tuning, &file));
        self.immutable = Some(Immutable { set, rows_end: self.next_row, work });
    }

    /// Once a set is a file, it and its rows go.
    fn install(&mut self, waits: bool, batch: &mut WriteBatch) {
        let Some(immutable) = self.immutable.take_if(|immutable| waits || immutable.work.is_finished())
        else {
            return;
        };
        immutable.work.join().unwrap();
        batch.put_cf(family(&self.db, META), b"first_row", immutable.rows_end.to_be_bytes());
        let last = (immutable.rows_end - 1).to_be_bytes();
        self.db.delete_file_in_range_cf(family(&self.db, LOG), [0; 8], last).unwrap();
    }
}

/// With room for a full set, so that it never moves.
fn empty_set() -> Set {
    Set::with_capacity_and_hasher((1 << SLOT_BITS) * 3 / 4, BuildHasherDefault::default())
}

fn ingest(db: &DB, set: &Set, generation: u32, tuning: &Tuning, file: &Path) {
    let mut ids: Vec<u128> = set.iter().copied().collect();
    ids.sort_unstable();
    let options = tuning.table();
    let mut writer = SstFileWriter::create(&options);
    writer.open(file).unwrap();
    let (layout, value) = (tuning.layout, tuning.layout.value(generation));
    for id in ids {
        writer.put(layout.key(generation, id), &value).unwrap();
    }
    writer.finish().unwrap();
    let mut options = IngestExternalFileOptions::default();
    options.set_move_files(true);
    db.ingest_external_file_cf_opts(family(db, lookup::TABLE), &options, vec![file]).unwrap();
}

impl Contender for Ingested {
    fn commit(&mut self, ids: &[u128], now: u32, lap: &mut Lap) -> u64 {
        let start = Instant::now();
        self.enter(now);
        let new = self.new_ones(ids);
        let looked = start.elapsed();
        let mut batch = WriteBatch::default();
        let row: Vec<u8> = new.iter().flat_map(|id| id.to_be_bytes()).collect();
        batch.put_cf(family(&self.db, LOG), self.next_row.to_be_bytes(), row);
        self.next_row += 1;
        self.count += new.len() as u64;
        batch.put_cf(family(&self.db, META), b"count", self.count.to_be_bytes());
        self.install(false, &mut batch);
        let made = start.elapsed();
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.db.write_opt(batch, &options).unwrap();
        if self.memtable.len() >= self.tuning.set {
            self.rotate();
        }
        lap.look += looked;
        lap.make += made - looked;
        lap.write += start.elapsed() - made;
        new.len() as u64
    }

    fn known(&mut self, ids: &[u128]) -> usize {
        let mut others: Vec<u128> = ids.iter().copied().filter(|id| !self.is_in_memory(*id)).collect();
        others.sort_unstable();
        let known = self.tuning.layout.known(&self.db, &self.generations, &others);
        ids.len() - others.len() + known.into_iter().filter(|known| *known).count()
    }

    fn shape(&self) -> String {
        lookup::shape(&self.db, &[lookup::TABLE.to_owned()])
    }
}

impl Drop for Ingested {
    fn drop(&mut self) {
        if let Some(immutable) = self.immutable.take() {
            immutable.work.join().unwrap();
        }
    }
}
