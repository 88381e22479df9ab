//! The tree alone. Inserts random hashes on a real store, in commits of a size; then looks up duplicates, and starts
//! again.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use fastrand::Rng;
use tallyman::internals::{Batch, Dedup, RocksStore, Store, Timestamp};

use crate::{
    MILLION,
    machine::{bytes_written, cpu_time, disk, resident},
};

const WINDOW: Duration = Duration::from_hours(2);

/// What was measured since the last line.
#[derive(Default)]
struct Lap {
    new: u64,
    /// Looked up, and inserted in memory.
    insert: Duration,
    /// Put into the batch, with the steps of flushing and compaction that are due.
    write: Duration,
    commit: Duration,
    longest_write: Duration,
    longest_commit: Duration,
}

pub(crate) fn run(ids: u64, per_commit: u64) {
    let folder = tempfile::tempdir().unwrap();
    let store = RocksStore::open(folder.path()).unwrap();
    let now = Timestamp::from_seconds(1_793_620_800);
    let mut dedup = Dedup::load(&store, WINDOW, now).unwrap();
    let (cpu, written) = (cpu_time(), bytes_written());
    let mut rng = Rng::with_seed(1);
    let (mut lap, mut lap_cpu) = (Lap::default(), cpu);
    println!(
        "million | ns/new: insert write commit | all threads' cpu ns | longest write, commit | resident | disk"
    );
    let mut inserted = 0;
    while inserted < ids {
        let hashes: Vec<u128> = (0..per_commit).map(|_| rng.u128(..)).collect();
        commit(&mut dedup, &store, &hashes, now, &mut lap);
        inserted += per_commit;
        if inserted % (10 * MILLION) < per_commit || [MILLION, 5 * MILLION].contains(&inserted) {
            tell(inserted, &lap, cpu_time() - lap_cpu, folder.path());
            (lap, lap_cpu) = (Lap::default(), cpu_time());
        }
    }
    let per_key = |bytes: u64| bytes as f64 / inserted as f64;
    println!("cpu {:.0} ns a key in all", (cpu_time() - cpu).as_nanos() as f64 / inserted as f64);
    println!("written {:.0} bytes a key", per_key(bytes_written() - written));
    duplicates(&dedup, &store, inserted);
    drop((dedup, store));

    let start = Instant::now();
    let store = RocksStore::open(folder.path()).unwrap();
    let opened = start.elapsed();
    let dedup = Dedup::load(&store, WINDOW, now).unwrap();
    println!(
        "start: store {opened:.2?}, dedup keys {:.2?}; resident {} MiB",
        start.elapsed() - opened,
        resident() / 1024
    );
    duplicates(&dedup, &store, inserted);
}

fn commit(dedup: &mut Dedup, store: &RocksStore, hashes: &[u128], now: Timestamp, lap: &mut Lap) {
    let start = Instant::now();
    for part in hashes.chunks(64) {
        dedup.prefetch(part.iter().copied());
        for hash in part {
            assert!(!dedup.contains(store, *hash).unwrap(), "a false duplicate");
            dedup.insert(*hash, now);
        }
    }
    let inserted = start.elapsed();
    let mut batch = Batch::default();
    dedup.write(store, &mut batch).unwrap();
    let written = start.elapsed();
    store.commit(batch).unwrap();
    dedup.written();
    let committed = start.elapsed();
    lap.new += hashes.len() as u64;
    lap.insert += inserted;
    lap.write += written - inserted;
    lap.commit += committed - written;
    lap.longest_write = lap.longest_write.max(written - inserted);
    lap.longest_commit = lap.longest_commit.max(committed - written);
}

fn duplicates(dedup: &Dedup, store: &RocksStore, inserted: u64) {
    const LOOKED: u64 = 200_000;
    let mut rng = Rng::with_seed(1);
    let mut oldest = Vec::new();
    let mut latest = Vec::new();
    for number in 0..inserted {
        let hash = rng.u128(..);
        if number < LOOKED {
            oldest.push(hash);
        } else if number >= inserted - LOOKED {
            latest.push(hash);
        }
    }
    for (which, hashes) in [("oldest", oldest), ("latest", latest)] {
        let start = Instant::now();
        let found = hashes.iter().filter(|hash| dedup.contains(store, **hash).unwrap()).count();
        assert_eq!(found, hashes.len(), "a dedup key is lost");
        println!(
            "a duplicate of the {which} ones: {:.0} ns",
            start.elapsed().as_nanos() as f64 / found as f64
        );
    }
}

fn tell(inserted: u64, lap: &Lap, cpu: Duration, folder: &Path) {
    let each = |time: Duration| time.as_nanos() as f64 / lap.new as f64;
    println!(
        "{:7} | {:14.0} {:5.0} {:6.0} | {:19.0} | {:9.2?} {:9.2?} | {:4} MiB | {} MB",
        inserted / MILLION,
        each(lap.insert),
        each(lap.write),
        each(lap.commit),
        each(cpu),
        lap.longest_write,
        lap.longest_commit,
        resident() / 1024,
        disk(&folder.join("db")) / MILLION,
    );
}
