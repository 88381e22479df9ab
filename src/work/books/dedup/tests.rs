//! Markers against a plain map, through crashes, wrong clocks and damage.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::worlds::store::{
    MemoryStore, Store, load, scan_all,
    values::{MarkRun, decode, encode},
};

const WINDOW: Duration = Duration::from_hours(2);
const START: i64 = 10_000;

struct Book {
    store: MemoryStore,
    dedup: Dedup,
}

impl Book {
    fn new(store: MemoryStore, started: i64) -> Self {
        let dedup = Dedup::load(&store, WINDOW, Timestamp::from_seconds(started)).unwrap();
        Self { store, dedup }
    }

    /// Marks in one commit what is not marked; returns what was.
    fn count(&mut self, hashes: &[u128], now: i64) -> Vec<u128> {
        let mut duplicates = Vec::new();
        self.dedup.expect(hashes.iter().copied());
        for hash in hashes {
            if self.knows(*hash) {
                duplicates.push(*hash);
            } else {
                self.dedup.mark(*hash, Timestamp::from_seconds(now));
            }
        }
        self.commit(Batch::default());
        duplicates
    }

    fn mark(&mut self, hash: u128, now: i64) {
        assert_eq!(self.count(&[hash], now), []);
    }

    fn expire(&mut self, now: i64) {
        let mut batch = Batch::default();
        self.dedup.drop_expired(Timestamp::from_seconds(now), &mut batch);
        self.commit(batch);
    }

    fn commit(&mut self, mut batch: Batch) {
        self.dedup.flush(&self.store, &mut batch).unwrap();
        self.store.commit(batch).unwrap();
        self.dedup.written();
    }

    fn knows(&self, hash: u128) -> bool {
        self.dedup.is_marked(&self.store, hash).unwrap()
    }

    fn crash(&mut self, started: i64) {
        *self = Self::new(self.store.crash(), started);
    }

    fn runs(&self) -> impl Iterator<Item = &Run> {
        self.dedup.generations.iter().flat_map(|generation| generation.shards.iter().flatten())
    }

    fn rows(&self, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        scan_all(&self.store, table, &[], |key, row| {
            rows.push((key.to_vec(), row.to_vec()));
            Ok(())
        })
        .unwrap();
        rows
    }
}

/// As uniform as a keyed hash.
fn hash(id: u64) -> u128 {
    fastrand::Rng::with_seed(id).u128(..)
}

/// An agent without usage seals hour after hour, and drops what has expired.
fn pass_hours(book: &mut Book, from: i64, hours: i64) {
    (0..hours).for_each(|hour| book.expire(from + hour * 3600));
}

fn hashes(ids: impl IntoIterator<Item = u64>) -> Vec<u128> {
    ids.into_iter().map(hash).collect()
}

#[test]
fn an_id_is_known_for_at_least_the_window() {
    let mut book = Book::new(MemoryStore::default(), START);
    for step in 0..40 {
        let now = START + i64::try_from(step).unwrap() * 900;
        book.expire(now);
        book.mark(hash(step), now);
        for young in step.saturating_sub(7)..=step {
            assert!(book.knows(hash(young)), "id {young} was forgotten at {step}");
        }
    }
    assert!(!book.knows(hash(20)), "ids are forgotten some time after the window");
    assert!(book.dedup.generations.len() <= MOST_GENERATIONS);
}

#[test]
fn a_clock_that_is_set_forward_makes_no_id_old() {
    const STEP: i64 = 300;
    let mut book = Book::new(MemoryStore::default(), START);
    for jump in [0, 5 * 3600, 3 * 24 * 3600] {
        let mut book = Book::new(book.store.crash(), START);
        // Well past the first window, so that dropping is allowed.
        let (mut now, mut id) = (START + jump, u64::try_from(jump).unwrap());
        for step in 0..60 {
            let is_set_forward = step == 31;
            now += if is_set_forward { jump + STEP } else { STEP };
            book.expire(now);
            book.mark(hash(id), now);
            for young in id.saturating_sub(7200 / 300 - 1).max(u64::try_from(jump).unwrap())..=id {
                assert!(book.knows(hash(young)), "{jump}: id {young} was forgotten at {id}");
            }
            id += 1;
        }
    }
    book.expire(START);
}

#[test]
fn a_down_time_does_not_use_up_the_window() {
    let mut book = Book::new(MemoryStore::default(), START);
    book.mark(1, START);
    book.crash(500_000);
    book.mark(2, 500_001);
    book.expire(500_002);
    assert!(book.knows(1), "the application could not resend before");
    pass_hours(&mut book, 500_001 + 7200, 12);
    assert!(!book.knows(1) && !book.knows(2));
}

#[test]
fn an_id_is_known_within_its_own_batch() {
    let mut book = Book::new(MemoryStore::default(), 0);
    assert_eq!(book.count(&hashes([9, 8, 9]), 1), [hash(9)]);
}

#[test]
fn ids_go_to_runs_that_are_merged_and_nothing_else_stays() {
    let mut book = Book::new(MemoryStore::default(), START);
    for first in (0..600).step_by(3) {
        assert_eq!(book.count(&hashes(first..first + 3), START), []);
    }
    (0..20).for_each(|_| book.commit(Batch::default()));
    let tiers: HashSet<_> = book.runs().map(|run| run.about.tier).collect();
    assert!(tiers.iter().any(|tier| *tier >= 2), "{tiers:?}");
    let most = book.dedup.generations[0].shards.iter().map(Vec::len).max();
    assert!(most <= Some(9), "{most:?} runs");
    assert!(book.rows(Table::Marks).len() < 40);
    let alive: HashSet<u64> = book.runs().map(|run| run.number).collect();
    let on_disk =
        book.rows(Table::MarkRuns).into_iter().map(|(key, _)| keys::decode_mark_run(&key).unwrap().0);
    let on_disk: HashSet<u64> = on_disk.collect();
    assert!(alive.is_subset(&on_disk));
    assert!(on_disk.len() <= 3 * alive.len() + 8, "dead runs stay on disk");
    assert_eq!(book.count(&hashes(0..600), START), hashes(0..600));

    // The next generation begins: what is left of this one becomes one run for each shard.
    let later = START + 7200 / 4;
    for id in 600..640 {
        book.mark(hash(id), later);
    }
    (0..500).for_each(|_| book.commit(Batch::default()));
    assert!(book.dedup.generations[0].shards.iter().all(|runs| runs.len() == 1));
    assert_eq!(book.count(&hashes(0..640), later), hashes(0..640));
    book.crash(later);
    assert_eq!(book.count(&hashes(0..640), later), hashes(0..640));

    // And in the end nothing is left.
    pass_hours(&mut book, later + 7200, 12);
    assert_eq!(book.runs().count(), 0);
    (0..20).for_each(|_| book.commit(Batch::default()));
    assert!(book.rows(Table::MarkRuns).len() < 12, "dead runs stay on disk");
    assert!(book.rows(Table::Marks).len() < 12);
}

#[test]
fn ids_of_an_old_store_are_taken_over_and_expire_as_they_would_have() {
    let store = MemoryStore::default();
    let mut batch = Batch::default();
    for id in 0..50 {
        let generation = if id < 25 { 10_000 } else { 17_200 };
        batch.put(Table::EventIds, keys::event_id(generation, hash(id)), vec![1]);
    }
    store.commit(batch).unwrap();
    for commits in 0..30 {
        let dying = store.crash();
        dying.fail_after(commits, commits % 2 == 0);
        drop(Dedup::load(&dying, WINDOW, Timestamp::from_seconds(20_000)));
        let mut book = Book::new(dying.crash(), 20_000);
        assert_eq!(book.rows(Table::EventIds), []);
        assert_eq!(book.count(&hashes(0..50), 20_000), hashes(0..50));
        book.mark(hash(50), 24_400);
        assert_eq!(book.count(&hashes(0..51), 27_200), hashes(0..51));
        pass_hours(&mut book, 27_200, 12);
        assert_eq!(book.count(&hashes(0..51), 27_200 + 12 * 3600), []);
    }
}

/// A store with runs, and with markers that are in none.
fn full_store() -> MemoryStore {
    let mut book = Book::new(MemoryStore::default(), START);
    for first in (0..100).step_by(3) {
        book.count(&hashes(first..first + 3), START);
    }
    assert!(book.runs().count() > 0 && book.dedup.generations[0].fresh.len() > 1);
    book.store
}

/// Everything that happens to an agent, until the first fault.
fn live(store: &MemoryStore) -> Result<(), StoreError> {
    let mut dedup = Dedup::load(store, WINDOW, Timestamp::from_seconds(START))?;
    for id in 0..200 {
        if !dedup.is_marked(store, hash(id))? {
            assert!(id >= 100, "id {id} was forgotten");
            dedup.mark(hash(id), Timestamp::from_seconds(START));
        }
        let mut batch = Batch::default();
        dedup.flush(store, &mut batch)?;
        store.commit(batch)?;
        dedup.written();
    }
    Ok(())
}

#[test]
fn a_damaged_row_is_told_and_never_passed_over() {
    let full = full_store();
    live(&full.crash()).unwrap();
    let book = Book::new(full.crash(), START);
    let rows = [Table::Marks, Table::MarkRuns].map(|table| (table, book.rows(table)));
    let alive: HashSet<u64> = book.runs().map(|run| run.number).collect();
    let generation = book.dedup.generations[0].start;
    let first_mark = load::first_mark(&book.store, generation).unwrap();
    let mut told = 0;
    for (table, rows) in rows {
        for (key, row) in rows {
            let is_needed = keys::decode_mark_run(&key).is_none_or(|(run, _, _)| alive.contains(&run));
            let is_needed =
                is_needed && keys::decode_mark(&key).is_none_or(|(_, number)| number >= first_mark);
            // Without a hash, no one may come to read it.
            if !is_needed || row.len() == 1 {
                continue;
            }
            let other_order = [&row[..1], &row[row.len().saturating_sub(16)..], &row[1..]].concat();
            let mut damaged = vec![Vec::new(), vec![9], [&row[..], &[0]].concat(), vec![row[0] + 1]];
            if table == Table::MarkRuns {
                damaged.push(other_order);
            }
            for bytes in damaged {
                let store = full.crash();
                let mut batch = Batch::default();
                batch.put(table, key.clone(), bytes);
                store.commit(batch).unwrap();
                let fault = live(&store).unwrap_err();
                assert!(matches!(fault, StoreError::Unreadable { .. }), "{fault}");
                told += 1;
            }
            if table == Table::MarkRuns {
                let store = full.crash();
                let mut batch = Batch::default();
                batch.delete(table, key);
                store.commit(batch).unwrap();
                let fault = live(&store).unwrap_err();
                assert!(matches!(fault, StoreError::Unreadable { .. }), "{fault}");
            }
        }
    }
    assert!(told > 50, "{told}");
}

#[test]
fn a_description_that_makes_no_sense_is_told() {
    let full = full_store();
    let book = Book::new(full.crash(), START);
    let run = book.runs().last().unwrap();
    let (key, about) = (keys::complete_run(run.number), run.about);
    for damaged in [
        MarkRun { shards: 512, ..about },
        MarkRun { shard: about.shards, ..about },
        MarkRun { blocks: 0, ..about },
        MarkRun { lines: u32::MAX, ..about },
        MarkRun { lines: about.lines + 1, ..about },
        MarkRun { hashes: u64::MAX, ..about },
        MarkRun { blocks: about.blocks + 1, ..about },
    ] {
        let store = full.crash();
        let mut batch = Batch::default();
        batch.put(Table::Meta, key.clone(), encode(&damaged));
        store.commit(batch).unwrap();
        let fault = live(&store).unwrap_err();
        assert!(matches!(fault, StoreError::Unreadable { .. }), "{fault}");
    }
    let row = book.store.get(Table::Meta, &key).unwrap().unwrap();
    assert_eq!(decode::<MarkRun>(&row).unwrap(), about);
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

/// What must be known, by the moment at which it was marked.
#[derive(Default)]
struct Model {
    marked: HashMap<u64, i64>,
    now: i64,
    started: i64,
    /// The latest moment at which anything was dropped; nothing that was younger then may have gone.
    dropped_at: i64,
}

impl Model {
    fn must_know(&self, id: u64) -> bool {
        let oldest = self.dropped_at - i64::try_from(WINDOW.as_secs()).unwrap();
        self.marked.get(&id).is_some_and(|at| *at >= oldest)
    }
}

/// Ends the process at a commit of these ids.
fn crash(book: &mut Book, ids: &[u64], lands: bool, model: &mut Model) {
    book.store.fail_after(0, lands);
    let mut batch = Batch::default();
    for id in ids {
        if !book.knows(hash(*id)) {
            book.dedup.mark(hash(*id), Timestamp::from_seconds(model.now));
            if lands {
                model.marked.insert(*id, model.now);
            }
        }
    }
    book.dedup.flush(&book.store, &mut batch).unwrap();
    book.store.commit(batch).unwrap_err();
    model.started = model.now;
    book.crash(model.now);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn what_is_marked_is_known_within_the_window_and_nothing_else(acts in prop::collection::vec(act(), 1..150)) {
        let mut model = Model { now: 1_000_000, started: 1_000_000, ..Model::default() };
        let mut book = Book::new(MemoryStore::default(), model.now);
        let mut last = Vec::new();
        for act in acts {
            match act {
                Act::Count(ids) => {
                    for id in &ids {
                        let knows = book.knows(hash(*id));
                        prop_assert!(knows || !model.must_know(*id), "{} was forgotten", id);
                        prop_assert!(!knows || model.marked.contains_key(id), "{} was never there", id);
                        if !knows {
                            model.marked.remove(id);
                        }
                    }
                    let duplicates: HashSet<_> = book.count(&hashes(ids.clone()), model.now).into_iter().collect();
                    for id in &ids {
                        let is_repeat = ids.iter().filter(|other| *other == id).count() > 1;
                        let was_known = model.marked.contains_key(id);
                        prop_assert_eq!(duplicates.contains(&hash(*id)), was_known || is_repeat);
                    }
                    for id in &ids {
                        model.marked.entry(*id).or_insert(model.now);
                    }
                    last = ids;
                }
                Act::Crash { lands } => crash(&mut book, &last, lands, &mut model),
                Act::Expire => {
                    book.expire(model.now);
                    model.dropped_at = model.dropped_at.max(model.now);
                }
                Act::Pass(seconds) => model.now += seconds,
                Act::Idle => book.commit(Batch::default()),
            }
        }
        let known: Vec<u64> = model.marked.keys().copied().filter(|id| model.must_know(*id)).collect();
        for again in 0..2 {
            for id in &known {
                prop_assert!(book.knows(hash(*id)), "{} was forgotten, after {} restarts", id, again);
            }
            book.crash(model.now);
        }
    }
}
