//! What a marker costs: `cargo bench --bench dedup -- [millions of markers, 10] [markers of a commit, 10000]`.
//!
//! Marks random hashes on a real store, in commits of a size; then looks up duplicates, and starts again.
#![allow(missing_docs, clippy::unwrap_used, reason = "benchmarks")]
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark measures time and tells it")]
#![allow(clippy::cast_precision_loss, clippy::unchecked_time_subtraction, reason = "figures for people")]

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use fastrand::Rng;
use tallyman::{
    domain::time::Timestamp,
    work::books::dedup::Dedup,
    worlds::store::{Batch, RocksStore, Store},
};

const MILLION: u64 = 1_000_000;
const WINDOW: Duration = Duration::from_hours(2);

/// What was measured since the last line.
#[derive(Default)]
struct Lap {
    new: u64,
    /// Looked up, and marked.
    mark: Duration,
    flush: Duration,
    commit: Duration,
    longest_flush: Duration,
    longest_commit: Duration,
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let (millions, per_commit) = (numbers.next().unwrap_or(10), numbers.next().unwrap_or(10_000));
    let folder = tempfile::tempdir().unwrap();
    let store = RocksStore::open(folder.path()).unwrap();
    let now = Timestamp::from_seconds(1_793_620_800);
    let mut dedup = Dedup::load(&store, WINDOW, now).unwrap();
    let (cpu, written) = (cpu_time(), bytes_written());
    let mut rng = Rng::with_seed(1);
    let (mut lap, mut lap_cpu) = (Lap::default(), cpu);
    println!(
        "million | ns/new: mark  flush commit | all threads' cpu ns | longest flush, commit | resident | disk"
    );
    let mut marked = 0;
    while marked < millions * MILLION {
        let hashes: Vec<u128> = (0..per_commit).map(|_| rng.u128(..)).collect();
        commit(&mut dedup, &store, &hashes, now, &mut lap);
        marked += per_commit;
        if marked % (10 * MILLION) < per_commit || [MILLION, 5 * MILLION].contains(&marked) {
            tell(marked, &lap, cpu_time() - lap_cpu, folder.path());
            (lap, lap_cpu) = (Lap::default(), cpu_time());
        }
    }
    let per_marker = |bytes: u64| bytes as f64 / marked as f64;
    println!("cpu {:.0} ns a marker in all", (cpu_time() - cpu).as_nanos() as f64 / marked as f64);
    println!("written {:.0} bytes a marker", per_marker(bytes_written() - written));
    duplicates(&dedup, &store, marked);
    drop((dedup, store));

    let start = Instant::now();
    let store = RocksStore::open(folder.path()).unwrap();
    let opened = start.elapsed();
    let dedup = Dedup::load(&store, WINDOW, now).unwrap();
    println!(
        "start: store {opened:.2?}, markers {:.2?}; resident {} MiB",
        start.elapsed() - opened,
        resident()
    );
    duplicates(&dedup, &store, marked);
}

fn commit(dedup: &mut Dedup, store: &RocksStore, hashes: &[u128], now: Timestamp, lap: &mut Lap) {
    let start = Instant::now();
    for part in hashes.chunks(64) {
        dedup.expect(part.iter().copied());
        for hash in part {
            assert!(!dedup.is_marked(store, *hash).unwrap(), "a false duplicate");
            dedup.mark(*hash, now);
        }
    }
    let marked = start.elapsed();
    let mut batch = Batch::default();
    dedup.flush(store, &mut batch).unwrap();
    let flushed = start.elapsed();
    store.commit(batch).unwrap();
    dedup.written();
    let committed = start.elapsed();
    lap.new += hashes.len() as u64;
    lap.mark += marked;
    lap.flush += flushed - marked;
    lap.commit += committed - flushed;
    lap.longest_flush = lap.longest_flush.max(flushed - marked);
    lap.longest_commit = lap.longest_commit.max(committed - flushed);
}

fn duplicates(dedup: &Dedup, store: &RocksStore, marked: u64) {
    const LOOKED: u64 = 200_000;
    let mut rng = Rng::with_seed(1);
    let mut oldest = Vec::new();
    let mut latest = Vec::new();
    for number in 0..marked {
        let hash = rng.u128(..);
        if number < LOOKED {
            oldest.push(hash);
        } else if number >= marked - LOOKED {
            latest.push(hash);
        }
    }
    for (which, hashes) in [("oldest", oldest), ("latest", latest)] {
        let start = Instant::now();
        let found = hashes.iter().filter(|hash| dedup.is_marked(store, **hash).unwrap()).count();
        assert_eq!(found, hashes.len(), "a marker is lost");
        println!(
            "a duplicate of the {which} ones: {:.0} ns",
            start.elapsed().as_nanos() as f64 / found as f64
        );
    }
}

fn tell(marked: u64, lap: &Lap, cpu: Duration, folder: &Path) {
    let each = |time: Duration| time.as_nanos() as f64 / lap.new as f64;
    println!(
        "{:7} | {:12.0} {:6.0} {:6.0} | {:19.0} | {:9.2?} {:9.2?} | {:4} MiB | {} MB",
        marked / MILLION,
        each(lap.mark),
        each(lap.flush),
        each(lap.commit),
        each(cpu),
        lap.longest_flush,
        lap.longest_commit,
        resident(),
        files(&folder.join("db")) / MILLION,
    );
}

/// Of all threads, in user and kernel mode.
fn cpu_time() -> Duration {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

fn resident() -> u64 {
    field("/proc/self/status", "VmRSS:") / 1024
}

fn bytes_written() -> u64 {
    field("/proc/self/io", "write_bytes:")
}

fn field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn files(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap();
    entries.filter_map(|entry| entry.ok()?.metadata().ok()).map(|data| data.len()).sum()
}
