//! The tree against a plain map, through crashes, wrong clocks and damage.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::store::{
    MemoryStore, ReadTable, Store, Table, TableId,
    tables::dedup::{FirstRows, RunBlocks, RunManifest, RunManifests, run_of},
};

const WINDOW: Duration = Duration::from_hours(2);
const START: i64 = 10_000;

struct Harness {
    store: MemoryStore,
    dedup: Dedup,
}

impl Harness {
    fn new(store: MemoryStore, started: i64) -> Self {
        let dedup = Dedup::load(&store, WINDOW, Timestamp::from_seconds(started)).unwrap();
        Self { store, dedup }
    }

    /// Counts in one commit what was not counted; returns what was.
    fn count(&mut self, hashes: &[u128], now: i64) -> Vec<u128> {
        let mut duplicates = Vec::new();
        self.dedup.prefetch(hashes.iter().copied());
        for hash in hashes {
            if self.knows(*hash) {
                duplicates.push(*hash);
            } else {
                self.dedup.insert(*hash, Timestamp::from_seconds(now));
            }
        }
        self.commit(Batch::default());
        duplicates
    }

    fn count_one(&mut self, hash: u128, now: i64) {
        assert_eq!(self.count(&[hash], now), []);
    }

    fn expire(&mut self, now: i64) {
        let mut batch = Batch::default();
        self.dedup.drop_expired(Timestamp::from_seconds(now), &mut batch);
        self.commit(batch);
    }

    fn commit(&mut self, mut batch: Batch) {
        self.dedup.write(&self.store, &mut batch).unwrap();
        self.store.commit(batch).unwrap();
        self.dedup.written();
    }

    fn knows(&self, hash: u128) -> bool {
        self.dedup.contains(&self.store, hash).unwrap()
    }

    fn crash(&mut self, started: i64) {
        *self = Self::new(self.store.crash(), started);
    }

    fn runs(&self) -> impl Iterator<Item = &Run> {
        self.dedup.generations.iter().flat_map(|generation| generation.shards.iter().flatten())
    }

    fn rows(&self, table: TableId) -> Vec<(Vec<u8>, Vec<u8>)> {
        let rows = self.store.scan(table, &[], usize::MAX).unwrap().into_iter();
        rows.map(|(key, row)| (key.into(), row.into())).collect()
    }
}

/// Returns a number that is spread as evenly as a keyed hash.
fn hash(id: u64) -> u128 {
    fastrand::Rng::with_seed(id).u128(..)
}

/// An agent without usage seals hour after hour, and drops what has expired.
fn pass_hours(harness: &mut Harness, from: i64, hours: i64) {
    (0..hours).for_each(|hour| harness.expire(from + hour * 3600));
}

fn hashes(ids: impl IntoIterator<Item = u64>) -> Vec<u128> {
    ids.into_iter().map(hash).collect()
}

#[test]
fn an_id_is_known_for_at_least_the_window() {
    let mut harness = Harness::new(MemoryStore::default(), START);
    for step in 0..40 {
        let now = START + i64::try_from(step).unwrap() * 900;
        harness.expire(now);
        harness.count_one(hash(step), now);
        for young in step.saturating_sub(7)..=step {
            assert!(harness.knows(hash(young)), "id {young} was forgotten at {step}");
        }
    }
    assert!(!harness.knows(hash(20)), "ids are forgotten some time after the window");
    assert!(harness.dedup.generations.len() <= MOST_GENERATIONS);
}

/// Else an old event would be taken after a restart, and could count twice.
#[test]
fn since_when_all_ids_are_known_outlives_a_crash() {
    let mut harness = Harness::new(MemoryStore::default(), START);
    for hour in 0..9 {
        harness.expire(START + hour * 3600);
        harness.count_one(hash(hour.unsigned_abs()), START + hour * 3600);
    }
    let known_since = harness.dedup.known_since();
    assert!(known_since > Timestamp::from_seconds(START), "{known_since}");
    harness.crash(START + 9 * 3600);
    assert_eq!(harness.dedup.known_since(), known_since);
}

#[test]
fn a_clock_that_is_set_forward_makes_no_id_old() {
    const STEP: i64 = 300;
    let mut harness = Harness::new(MemoryStore::default(), START);
    for jump in [0, 5 * 3600, 3 * 24 * 3600] {
        let mut harness = Harness::new(harness.store.crash(), START);
        // Well past the first window, so that dropping is allowed.
        let (mut now, mut id) = (START + jump, u64::try_from(jump).unwrap());
        for step in 0..60 {
            let is_set_forward = step == 31;
            now += if is_set_forward { jump + STEP } else { STEP };
            harness.expire(now);
            harness.count_one(hash(id), now);
            for young in id.saturating_sub(7200 / 300 - 1).max(u64::try_from(jump).unwrap())..=id {
                assert!(harness.knows(hash(young)), "{jump}: id {young} was forgotten at {id}");
            }
            id += 1;
        }
    }
    harness.expire(START);
}

#[test]
fn a_down_time_does_not_use_up_the_window() {
    let mut harness = Harness::new(MemoryStore::default(), START);
    harness.count_one(1, START);
    harness.crash(500_000);
    harness.count_one(2, 500_001);
    harness.expire(500_002);
    assert!(harness.knows(1), "the application could not resend before");
    pass_hours(&mut harness, 500_001 + 7200, 12);
    assert!(!harness.knows(1) && !harness.knows(2));
}

/// An agent that counts all the time begins a generation every twenty minutes, and would drop one for each.
#[test]
fn what_was_known_before_a_down_time_is_known_for_two_hours_after_it() {
    const MINUTE: i64 = 60;
    let mut harness = Harness::new(MemoryStore::default(), START);
    for id in 0..8 {
        harness.count_one(hash(id), START + i64::try_from(id).unwrap() * 20 * MINUTE);
    }
    let started = START + 3 * 24 * 60 * MINUTE;
    harness.crash(started);
    for minute in 0..120 {
        let now = started + minute * MINUTE;
        harness.expire(now);
        for id in 0..8 {
            assert!(harness.knows(hash(id)), "id {id} was forgotten {minute} min after the start");
        }
        harness.count_one(hash(100 + u64::try_from(minute).unwrap()), now);
    }
    for hour in 2..5 {
        harness.expire(started + hour * 60 * MINUTE);
    }
    assert!((0..8).all(|id| !harness.knows(hash(id))), "the window has passed since the start");
}

#[test]
fn an_id_is_known_within_its_own_batch() {
    let mut harness = Harness::new(MemoryStore::default(), 0);
    assert_eq!(harness.count(&hashes([9, 8, 9]), 1), [hash(9)]);
}

#[test]
fn ids_go_to_runs_that_are_compacted_and_nothing_else_stays() {
    let mut harness = Harness::new(MemoryStore::default(), START);
    for first in (0..600).step_by(3) {
        assert_eq!(harness.count(&hashes(first..first + 3), START), []);
    }
    (0..20).for_each(|_| harness.commit(Batch::default()));
    let tiers: HashSet<_> = harness.runs().map(|run| run.manifest.tier).collect();
    assert!(tiers.iter().any(|tier| *tier >= 2), "{tiers:?}");
    let most = harness.dedup.generations[0].shards.iter().map(Vec::len).max();
    assert!(most <= Some(9), "{most:?} runs");
    assert!(harness.rows(TableId::DedupKeys).len() < 40);
    let alive: HashSet<u64> = harness.runs().map(|run| run.number).collect();
    let on_disk: HashSet<u64> =
        harness.rows(TableId::DedupRuns).iter().map(|(key, _)| run_of(key).unwrap()).collect();
    assert!(alive.is_subset(&on_disk));
    assert!(on_disk.len() <= 3 * alive.len() + 8, "obsolete runs stay on disk");
    assert_eq!(harness.count(&hashes(0..600), START), hashes(0..600));

    // The next generation begins: what is left of this one becomes one run for each shard.
    let later = START + 7200 / 4;
    for id in 600..640 {
        harness.count_one(hash(id), later);
    }
    (0..500).for_each(|_| harness.commit(Batch::default()));
    assert!(harness.dedup.generations[0].shards.iter().all(|runs| runs.len() == 1));
    assert_eq!(harness.count(&hashes(0..640), later), hashes(0..640));
    harness.crash(later);
    assert_eq!(harness.count(&hashes(0..640), later), hashes(0..640));

    // And in the end nothing is left.
    pass_hours(&mut harness, later + 7200, 12);
    assert_eq!(harness.runs().count(), 0);
    (0..20).for_each(|_| harness.commit(Batch::default()));
    assert!(harness.rows(TableId::DedupRuns).len() < 12, "obsolete runs stay on disk");
    assert!(harness.rows(TableId::DedupKeys).len() < 12);
}

/// A store with runs, and with dedup keys that are in none.
fn full_store() -> MemoryStore {
    let mut harness = Harness::new(MemoryStore::default(), START);
    for first in (0..100).step_by(3) {
        harness.count(&hashes(first..first + 3), START);
    }
    assert!(harness.runs().count() > 0 && harness.dedup.generations[0].memtable.len() > 1);
    harness.store
}

/// Everything that happens to an agent, until the first fault.
fn live(store: &MemoryStore) -> Result<(), StoreError> {
    let mut dedup = Dedup::load(store, WINDOW, Timestamp::from_seconds(START))?;
    for id in 0..200 {
        if !dedup.contains(store, hash(id))? {
            assert!(id >= 100, "id {id} was forgotten");
            dedup.insert(hash(id), Timestamp::from_seconds(START));
        }
        let mut batch = Batch::default();
        dedup.write(store, &mut batch)?;
        store.commit(batch)?;
        dedup.written();
    }
    Ok(())
}

#[test]
fn a_damaged_row_is_told_and_never_passed_over() {
    let full = full_store();
    live(&full.crash()).unwrap();
    let harness = Harness::new(full.crash(), START);
    let rows = [TableId::DedupKeys, TableId::DedupRuns].map(|table| (table, harness.rows(table)));
    let alive: HashSet<u64> = harness.runs().map(|run| run.number).collect();
    let generation = harness.dedup.generations[0].start;
    let first_row = harness.store.find(FirstRows, generation).unwrap().unwrap_or_default();
    let mut told = 0;
    for (table, rows) in rows {
        for (key, row) in rows {
            let is_needed = match table {
                TableId::DedupRuns => alive.contains(&run_of(&key).unwrap()),
                _ => DedupKeys::decode_key(&key).unwrap().1 >= first_row,
            };
            // Without a hash, no one may come to read it.
            if !is_needed || row.len() == 1 {
                continue;
            }
            let other_order = [&row[..1], &row[row.len().saturating_sub(16)..], &row[1..]].concat();
            let mut damaged = vec![Vec::new(), vec![9], [&row[..], &[0]].concat(), vec![row[0] + 1]];
            if table == TableId::DedupRuns {
                damaged.push(other_order);
            }
            for bytes in damaged {
                let store = full.crash();
                let mut batch = Batch::default();
                batch.put_bytes(table, key.clone(), bytes);
                store.commit(batch).unwrap();
                let fault = live(&store).unwrap_err();
                assert!(matches!(fault, StoreError::Unreadable { .. }), "{fault}");
                told += 1;
            }
            if table == TableId::DedupRuns {
                let store = full.crash();
                let mut batch = Batch::default();
                batch.delete_bytes(table, key);
                store.commit(batch).unwrap();
                let fault = live(&store).unwrap_err();
                assert!(matches!(fault, StoreError::Unreadable { .. }), "{fault}");
            }
        }
    }
    assert!(told > 50, "{told}");
}

/// Also what no one would come to read for hours: a hash that is gone from its block, or from the filter.
#[test]
fn an_audit_of_a_folder_finds_what_its_manifest_or_filter_does_not_agree_with() {
    let full = full_store();
    let harness = Harness::new(full.crash(), START);
    let in_runs: u64 = harness.runs().map(|run| run.manifest.hashes).sum();
    assert!(in_runs > 0 && verify(&full).unwrap() >= in_runs);
    let alive: HashSet<u64> = harness.runs().map(|run| run.number).collect();
    let mut told = 0;
    for (key, row) in harness.rows(TableId::DedupRuns) {
        if !alive.contains(&run_of(&key).unwrap()) || row.len() == 1 {
            continue;
        }
        // The last hash of a block, or the last line of a filter.
        let cut = if RunBlocks::decode_key(&key).is_ok() { 16 } else { 64 };
        let emptied = [&row[..row.len() - cut], &vec![0; cut]].concat();
        let damaged = [Some(row[..row.len() - cut].to_vec()), Some(emptied), None];
        // A line of a filter may have nothing in it.
        for bytes in damaged.into_iter().filter(|bytes| *bytes != Some(row.clone())) {
            let store = full.crash();
            let mut batch = Batch::default();
            match bytes {
                Some(bytes) => batch.put_bytes(TableId::DedupRuns, key.clone(), bytes),
                None => batch.delete_bytes(TableId::DedupRuns, key.clone()),
            }
            store.commit(batch).unwrap();
            let fault = verify(&store).unwrap_err();
            assert!(matches!(fault, StoreError::Unreadable { .. }), "{fault}");
            told += 1;
        }
    }
    assert!(told > 20, "{told}");
    let run = harness.runs().last().unwrap();
    let mut batch = Batch::default();
    batch.put(RunManifests, run.number, &RunManifest { hashes: run.manifest.hashes - 1, ..run.manifest });
    let store = full.crash();
    store.commit(batch).unwrap();
    let fault = verify(&store).unwrap_err().to_string();
    assert!(fault.contains("was to have"), "{fault}");
}

#[test]
fn a_manifest_that_makes_no_sense_is_told() {
    let full = full_store();
    let harness = Harness::new(full.crash(), START);
    let run = harness.runs().last().unwrap();
    let (number, manifest) = (run.number, run.manifest);
    for damaged in [
        RunManifest { shards: 512, ..manifest },
        RunManifest { shard: manifest.shards, ..manifest },
        RunManifest { blocks: 0, ..manifest },
        RunManifest { lines: u32::MAX, ..manifest },
        RunManifest { lines: manifest.lines + 1, ..manifest },
        RunManifest { hashes: u64::MAX, ..manifest },
        RunManifest { blocks: manifest.blocks + 1, ..manifest },
    ] {
        let store = full.crash();
        let mut batch = Batch::default();
        batch.put(RunManifests, number, &damaged);
        store.commit(batch).unwrap();
        let fault = live(&store).unwrap_err();
        assert!(matches!(fault, StoreError::Unreadable { .. }), "{fault}");
    }
    assert_eq!(harness.store.find(RunManifests, number).unwrap(), Some(manifest));
}

#[derive(Clone, Debug)]
enum Act {
    /// One commit with these ids.
    Count(Vec<u64>),
    /// The process ends while this many more commits are made, the last of which may land or not.
    Crash {
        lands: bool,
    },
    Expire,
    /// Seconds, forwards or backwards.
    Pass(i64),
    Idle,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        12 => prop::collection::vec(0..400_u64, 1..12).prop_map(Act::Count),
        2 => any::<bool>().prop_map(|lands| Act::Crash { lands }),
        2 => Just(Act::Expire),
        2 => (1..900_i64).prop_map(Act::Pass),
        1 => (-3000..5000_i64).prop_map(Act::Pass),
        1 => Just(Act::Idle),
    ]
}

/// The hashes that must be known, by the moment at which they were counted.
#[derive(Default)]
struct Model {
    counted: HashMap<u64, i64>,
    now: i64,
    started: i64,
    /// The latest moment at which anything was dropped; nothing that was younger then may have gone.
    dropped_at: i64,
}

impl Model {
    fn must_know(&self, id: u64) -> bool {
        let oldest = self.dropped_at - i64::try_from(WINDOW.as_secs()).unwrap();
        self.counted.get(&id).is_some_and(|at| *at >= oldest)
    }
}

/// Ends the process at a commit of these ids.
fn crash(harness: &mut Harness, ids: &[u64], lands: bool, model: &mut Model) {
    harness.store.fail_after(0, lands);
    let mut batch = Batch::default();
    for id in ids {
        if !harness.knows(hash(*id)) {
            harness.dedup.insert(hash(*id), Timestamp::from_seconds(model.now));
            if lands {
                model.counted.insert(*id, model.now);
            }
        }
    }
    harness.dedup.write(&harness.store, &mut batch).unwrap();
    harness.store.commit(batch).unwrap_err();
    model.started = model.now;
    harness.crash(model.now);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn what_is_counted_is_known_within_the_window_and_nothing_else(acts in prop::collection::vec(act(), 1..150)) {
        let mut model = Model { now: 1_000_000, started: 1_000_000, ..Model::default() };
        let mut harness = Harness::new(MemoryStore::default(), model.now);
        let mut last = Vec::new();
        for act in acts {
            match act {
                Act::Count(ids) => {
                    for id in &ids {
                        let knows = harness.knows(hash(*id));
                        prop_assert!(knows || !model.must_know(*id), "{} was forgotten", id);
                        prop_assert!(!knows || model.counted.contains_key(id), "{} was never there", id);
                        if !knows {
                            model.counted.remove(id);
                        }
                    }
                    let duplicates: HashSet<_> = harness.count(&hashes(ids.clone()), model.now).into_iter().collect();
                    for id in &ids {
                        let is_repeat = ids.iter().filter(|other| *other == id).count() > 1;
                        let was_known = model.counted.contains_key(id);
                        prop_assert_eq!(duplicates.contains(&hash(*id)), was_known || is_repeat);
                    }
                    for id in &ids {
                        model.counted.entry(*id).or_insert(model.now);
                    }
                    last = ids;
                }
                Act::Crash { lands } => crash(&mut harness, &last, lands, &mut model),
                Act::Expire => {
                    harness.expire(model.now);
                    model.dropped_at = model.dropped_at.max(model.now);
                }
                Act::Pass(seconds) => model.now += seconds,
                Act::Idle => harness.commit(Batch::default()),
            }
        }
        let known: Vec<u64> = model.counted.keys().copied().filter(|id| model.must_know(*id)).collect();
        for again in 0..2 {
            for id in &known {
                prop_assert!(harness.knows(hash(*id)), "{} was forgotten, after {} restarts", id, again);
            }
            harness.crash(model.now);
        }
    }
}
