//! The books against random events, seals, answers and crashes.
//!
//! After every step what is on disk is added up and held against what was counted (I1), and every record against what
//! it was when it was first seen (I2) and against the other records of its slot (I6).

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use fastrand::Rng;
use proptest::prelude::*;

use super::*;
use crate::{
    domain::{
        bucket::Usage,
        customer::State,
        record::{Amounts, Decision, DecisionKind, Delivery, Outcome, Record},
        tags::tests::tag_set,
    },
    work::{
        audit::{Known, audit},
        delta::{Delta, Entry, Identified},
        sample,
    },
    worlds::store::{MemoryStore, Rows},
};

/// (customer, dimension)
type Sums = BTreeMap<(String, String), u128>;

const ACCOUNTS: [&str; 4] = ["000000000001", "000000000002", "000000000003", "000000000004"];

/// One event, as an application keeps it until it is acknowledged.
#[derive(Clone)]
struct Event {
    customer: &'static str,
    dimension: u16,
    hour: Hour,
    amount: u64,
    id: u128,
}

/// When the process dies, if it does.
#[derive(Clone, Copy, PartialEq)]
enum Crash {
    No,
    BeforeCommit,
    /// The changes are on disk, but no one was told.
    AfterCommit,
}

struct World {
    rng: Rng,
    rules: Rules,
    store: MemoryStore,
    books: Books,
    now: Timestamp,
    /// Sent and not acknowledged: to be sent again.
    unacknowledged: Vec<Event>,
    counted: BTreeSet<u128>,
    sums: Sums,
    first_seen: HashMap<RecordId, Record>,
    next_id: u128,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let rules = sample::rules(if rng.bool() { MissedPolicy::RollForward } else { MissedPolicy::Hold });
        let store = MemoryStore::default();
        let now = "2026-11-29T21:30:00Z".parse().unwrap();
        let books = Books::open(&store, rules.clone(), Arc::default(), now).unwrap();
        Self {
            rng,
            rules,
            store,
            books,
            now,
            unacknowledged: Vec::new(),
            counted: BTreeSet::new(),
            sums: Sums::new(),
            first_seen: HashMap::new(),
            next_id: 0,
        }
    }

    /// Does work on the books as the committer does, with a crash where chance wants one. `None` if no one was told.
    fn commit<T>(
        &mut self,
        work: impl FnOnce(&mut Books, &MemoryStore, Timestamp, &mut Batch) -> T,
    ) -> Option<T> {
        let crash = match self.rng.u8(0..10) {
            0 => Crash::BeforeCommit,
            1 => Crash::AfterCommit,
            _ => Crash::No,
        };
        let mut batch = Batch::default();
        let answer = work(&mut self.books, &self.store, self.now, &mut batch);
        self.books.flush(&mut batch);
        if crash != Crash::BeforeCommit {
            self.store.commit(batch).unwrap();
            self.books.committed();
        }
        if crash == Crash::No {
            return Some(answer);
        }
        self.store = self.store.crash();
        self.books = Books::open(&self.store, self.rules.clone(), Arc::default(), self.now).unwrap();
        None
    }

    fn step(&mut self) {
        match self.rng.u8(0..20) {
            0..8 => self.send(),
            8..14 => self.seal(),
            14 | 15 => self.now = self.now.plus(Duration::from_mins(self.rng.u64(1..200))),
            16 => self.close_or_reopen(),
            17 => self.decide(),
            _ => self.submit(),
        }
        self.check();
    }

    fn send(&mut self) {
        for _ in 0..self.rng.usize(0..6) {
            self.next_id += 1;
            let event = Event {
                customer: ACCOUNTS[self.rng.usize(0..4)],
                dimension: self.rng.u16(0..2),
                hour: Hour::containing(self.now.minus(Duration::from_mins(self.rng.u64(0..300)))),
                amount: self.rng.u64(0..5000),
                id: self.next_id,
            };
            self.unacknowledged.push(event);
        }
        let sent = self.unacknowledged.clone();
        let on_disk_before = self.markers();
        let delta = delta(&sent);
        let answer = self.commit(|books, store, now, batch| books.record(&delta, store, now, batch).unwrap());
        let landed = self.markers() > on_disk_before || answer.is_some();
        if landed {
            for event in sent.iter().filter(|event| self.counted.insert(event.id)).collect::<Vec<_>>() {
                *self.sums.entry(series(event)).or_default() += u128::from(event.amount);
            }
        }
        if let Some(recorded) = answer {
            let answered: u64 =
                recorded.counts.values().map(|counts| counts.accepted + counts.duplicates).sum();
            assert_eq!(answered, sent.len() as u64);
            self.unacknowledged.clear();
        }
    }

    fn markers(&self) -> usize {
        self.store.scan(Table::EventIds, &[], usize::MAX).unwrap().len()
    }

    fn seal(&mut self) {
        self.commit(|books, _, now, batch| books.seal_step(now, batch));
    }

    /// Answers some of the pending records, and gives up those past their deadlines.
    fn submit(&mut self) {
        let pending = load::pending_after(&self.store, RecordId(0), 20).unwrap();
        let settlements: Vec<Settlement> = pending
            .into_iter()
            .map(|(record, delivery)| {
                let is_late = self.rules.window.deadline(record.hour) <= self.now;
                let record = Arc::new(record);
                match self.rng.u8(0..4) {
                    _ if is_late => Settlement::Missed(record, delivery),
                    0 => Settlement::Pending(record.id, delivery.attempted()),
                    1 => {
                        let held = Outcome::Held { reason: HoldReason::Refused, detail: "".into() };
                        Settlement::Done(record, 1, held)
                    }
                    _ => Settlement::Done(
                        record,
                        1,
                        Outcome::Accepted { receipt: "r".into(), presumed: false },
                    ),
                }
            })
            .collect();
        self.commit(|books, store, now, batch| {
            for settlement in &settlements {
                books.settle(settlement, store, now, batch).unwrap();
            }
        });
    }

    fn close_or_reopen(&mut self) {
        let (account, reopens) = (ACCOUNTS[self.rng.usize(0..4)], self.rng.bool());
        self.commit(|books, _, now, batch| {
            if reopens {
                let registration = sample::registration(account, account, Hour::containing(now));
                drop(books.put_customer(Registration { reopens, ..registration }, batch));
            } else {
                books.close_customer(ProductIndex(0), account, now, batch);
            }
        });
    }

    /// A person decides about some of the held records, where that is possible.
    fn decide(&mut self) {
        let kind = DecisionKind::ALL[self.rng.usize(0..3)];
        let held = load::settled(&self.store, Table::Held, RecordId(0), self.rng.usize(1..4)).unwrap();
        let ids = held.iter().map(|settled| settled.record.id).collect();
        let decision = Decision { kind, reason: "a test".into(), by: "me".into(), at: self.now };
        self.commit(|books, store, _, batch| drop(books.decide(&ids, &decision, store, batch)));
    }

    fn check(&mut self) {
        let mut on_disk = Sums::new();
        let mut add = |customer: &str, dimension: &str, amount: u128| {
            if amount > 0 {
                *on_disk.entry((customer.to_owned(), dimension.to_owned())).or_default() += amount;
            }
        };
        load::buckets(&self.store, |key, bucket| {
            add(key.customer, key.dimension, bucket.total());
            Ok(())
        })
        .unwrap();
        let mut slots = BTreeSet::new();
        for (record, has_moved_on) in all_records(&self.store) {
            assert!(
                slots.insert((record.slot(), record.product.clone())),
                "two records for {:?}",
                record.slot()
            );
            let first = self.first_seen.entry(record.id).or_insert_with(|| record.clone());
            assert_eq!(*first, record, "a record has changed");
            let Amounts { billed, rounded, .. } = record.amounts;
            // What rounding added was never used; what it took away is gone.
            let amount =
                if has_moved_on { rounded.min(0).unsigned_abs() } else { unrounded(billed, rounded) };
            add(&record.customer, &record.dimension, amount);
            let parts: u128 = record.allocations.iter().map(|part| part.billed).sum();
            assert!(record.allocations.is_empty() || parts == billed, "{record:?}");
        }
        self.sums.retain(|_, sum| *sum > 0);
        assert_eq!(on_disk, self.sums, "counted and on disk differ");
        let report = audit(&self.store, Known::default(), &mut |_| true).unwrap();
        assert_eq!(report.faults, []);
        let held: u64 = self.books.tally().held_records.values().sum();
        let on_disk = load::settled(&self.store, Table::Held, RecordId(0), usize::MAX).unwrap().len();
        assert_eq!(held, on_disk as u64, "the tally of held records is off");
        let open: u128 = self.books.tally().open_units.values().sum();
        let mut buckets = 0;
        load::buckets(&self.store, |_, bucket| {
            buckets += bucket.total();
            Ok(())
        })
        .unwrap();
        assert_eq!(open, buckets, "the tally of open units is off");
        let pending: u64 = self.books.tally().pending_records.values().sum();
        let on_disk = load::pending_after(&self.store, RecordId(0), usize::MAX).unwrap().len();
        assert_eq!(pending, on_disk as u64, "the tally of pending records is off");
    }
}

/// Every record on disk, and whether its usage went elsewhere.
fn all_records(store: &MemoryStore) -> Vec<(Record, bool)> {
    let mut records: Vec<_> = load::pending_after(store, RecordId(0), usize::MAX)
        .unwrap()
        .into_iter()
        .map(|(record, _)| (record, false))
        .collect();
    for table in [Table::Receipts, Table::Held] {
        for settled in load::settled(store, table, RecordId(0), usize::MAX).unwrap() {
            records.push((settled.record, settled.outcome.moved_on()));
        }
    }
    records
}

fn unrounded(billed: u128, rounded: i128) -> u128 {
    u128::try_from(i128::try_from(billed).unwrap() - rounded).unwrap()
}

fn series(event: &Event) -> (String, String) {
    let dimension = if event.dimension == 0 { "requests" } else { "gb" };
    (event.customer.to_owned(), dimension.to_owned())
}

fn delta(events: &[Event]) -> Delta {
    let identified = |(event, index): (&Event, u32)| Identified {
        entry: Entry {
            tags: (event.dimension == 1 && event.id % 3 > 0)
                .then(|| tag_set(&[("team", ["red", "blue"][usize::from(event.id % 3 == 1)])])),
            ..sample::entry(event.customer, event.dimension, event.hour, event.amount.into())
        },
        hash: event.id,
        index,
    };
    Delta {
        identified: events.iter().zip(0..).map(identified).collect(),
        events: events.len(),
        ..Delta::default()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn nothing_is_lost_doubled_or_changed_whenever_the_process_dies(seed: u64) {
        let mut world = World::new(seed);
        for _ in 0..120 {
            world.step();
        }
    }
}

#[test]
fn a_customer_whose_identity_changes_keeps_one_slot_an_hour() {
    let mut world = World::new(1);
    let hour = Hour::containing("2026-11-29T21:30:00Z".parse().unwrap());
    let put = |account| sample::registration("acme", account, hour);
    let mut batch = Batch::default();
    world.books.put_customer(put(ACCOUNTS[0]), &mut batch).unwrap();
    world.books.put_customer(put(ACCOUNTS[1]), &mut batch).unwrap();
    world.now = "2026-11-29T22:05:00Z".parse().unwrap();
    while world.books.seal_step(world.now, &mut batch).more {}
    world.books.flush(&mut batch);
    world.store.commit(batch).unwrap();
    let identities: BTreeSet<_> =
        all_records(&world.store).into_iter().map(|(record, _)| record.identity).collect();
    assert_eq!(identities.len(), 1);
}

#[test]
fn a_zero_record_is_claimed_for_every_active_customer_and_dimension() {
    let mut world = World::new(1);
    world.rng = Rng::with_seed(7);
    let mut batch = Batch::default();
    for account in ACCOUNTS {
        let customer = sample::registration(account, account, Hour::containing(world.now));
        world.books.put_customer(customer, &mut batch).unwrap();
    }
    world.now = world.now.plus(Duration::from_mins(40));
    while world.books.seal_step(world.now, &mut batch).more {}
    world.store.commit(batch).unwrap();
    let records = all_records(&world.store);
    assert_eq!(records.len(), ACCOUNTS.len() * 4);
    assert!(records.iter().all(|(record, _)| record.quantity.is_zero()));
}

#[test]
fn no_identity_changes_hands_in_the_middle_of_a_seal() {
    let mut world = World::new(1);
    let customer = |key: &str, account| sample::registration(key, account, Hour::FIRST);
    let mut batch = Batch::default();
    for (key, account) in ["a", "b", "c", "d"].into_iter().zip(ACCOUNTS) {
        world.books.put_customer(customer(key, account), &mut batch).unwrap();
    }
    world.now = world.now.plus(Duration::from_mins(40));
    assert!(world.books.seal_step(world.now, &mut batch).more, "the seal takes several steps");
    let moved = world.books.put_customer(customer("a", "000000000009"), &mut batch);
    assert_eq!(moved, Err(PutError::Sealing));
    while world.books.seal_step(world.now, &mut batch).more {}
    assert!(world.books.put_customer(customer("a", "000000000009"), &mut batch).is_ok());
}

/// Runs work and writes what it changed, as the committer does.
fn write<T>(world: &mut World, work: impl FnOnce(&mut Books, &MemoryStore, Timestamp, &mut Batch) -> T) -> T {
    let mut batch = Batch::default();
    let answer = work(&mut world.books, &world.store, world.now, &mut batch);
    world.books.flush(&mut batch);
    world.store.commit(batch).unwrap();
    world.books.committed();
    answer
}

fn count(world: &mut World, entry: Entry) {
    let delta = Delta { folded: vec![entry], events: 1, ..Delta::default() };
    let recorded = write(world, |books, store, now, batch| books.record(&delta, store, now, batch).unwrap());
    assert!(recorded.refused_folds.is_empty(), "{recorded:?}");
}

fn seal_all(world: &mut World) {
    while write(world, |books, _, now, batch| books.seal_step(now, batch)).more {}
}

fn crash(world: &mut World) {
    world.store = world.store.crash();
    world.books = Books::open(&world.store, world.rules.clone(), Arc::default(), world.now).unwrap();
}

fn of_dimension(world: &World, dimension: &str) -> Vec<Record> {
    let mut records: Vec<Record> = all_records(&world.store).into_iter().map(|(record, _)| record).collect();
    records.retain(|record| *record.dimension == *dimension && record.bills_something());
    records.sort_by_key(|record| record.id);
    records
}

#[test]
fn a_distinct_subject_counts_once_an_hour_also_across_a_crash() {
    let mut world = World::new(1);
    let hour = Hour::containing(world.now);
    let user = |subject| Entry {
        usage: Usage::Unique(1),
        subject: Some(subject),
        ..sample::entry(ACCOUNTS[0], 3, hour, 0)
    };
    for subject in [1, 2, 1] {
        count(&mut world, user(subject));
    }
    crash(&mut world);
    for subject in [2, 3] {
        count(&mut world, user(subject));
    }
    world.now = world.now.plus(Duration::from_mins(40));
    seal_all(&mut world);
    count(&mut world, Entry { hour: hour.next(), ..user(1) });
    world.now = world.now.plus(Duration::from_hours(1));
    seal_all(&mut world);
    let users: Vec<_> =
        of_dimension(&world, "users").iter().map(|record| record.quantity.to_string()).collect();
    assert_eq!(users, ["3", "1"]);
    assert_eq!(world.store.scan(Table::Subjects, &[], 10).unwrap().len(), 0, "they leave with their hour");
}

#[test]
fn a_level_stands_in_later_hours_until_it_is_changed() {
    let mut world = World::new(1);
    let seats = |world: &World, level| Entry {
        usage: Usage::Latest { at: world.now, level },
        ..sample::entry(ACCOUNTS[0], 2, Hour::containing(world.now), 0)
    };
    let first = seats(&world, 7);
    count(&mut world, first);
    for level in [None, None, Some(2), None, Some(0), None] {
        world.now = world.now.plus(Duration::from_hours(1));
        seal_all(&mut world);
        crash(&mut world);
        if let Some(level) = level {
            let entry = seats(&world, level);
            count(&mut world, entry);
        }
    }
    world.now = world.now.plus(Duration::from_hours(1));
    seal_all(&mut world);
    let seats: Vec<_> =
        of_dimension(&world, "seats").iter().map(|record| record.quantity.to_string()).collect();
    assert_eq!(seats, ["7", "7", "7", "2", "2"]);
}

#[test]
fn a_closing_customer_is_sealed_early_and_once_and_what_follows_is_held() {
    let mut world = World::new(1);
    let entry = |world: &World, amount| sample::entry(ACCOUNTS[0], 0, Hour::containing(world.now), amount);
    let used = entry(&world, 7);
    count(&mut world, used);
    write(&mut world, |books, _, now, batch| {
        books.close_customer(ProductIndex(0), ACCOUNTS[0], now, batch).unwrap();
    });
    crash(&mut world);
    world.now = world.now.plus(Duration::from_mins(5));
    assert!(world.books.next_seal() <= world.now, "the grace is over");
    seal_all(&mut world);
    let pending = load::pending_after(&world.store, RecordId(0), 99).unwrap();
    assert_eq!(pending.len(), 4, "the open hour, with its zeros");
    assert_eq!(of_dimension(&world, "requests")[0].amounts.billed, 7);
    let deadline = world.books.deadline(&pending[0].0);
    assert_eq!(deadline.to_string(), "2026-11-29T22:30:00Z", "an hour after the notice");
    let late = entry(&world, 5);
    count(&mut world, late);
    for _ in 0..4 {
        world.now = world.now.plus(Duration::from_hours(1));
        seal_all(&mut world);
        crash(&mut world);
    }
    let after = load::pending_after(&world.store, RecordId(0), 99).unwrap();
    assert_eq!(after.len(), pending.len(), "no zeros after");
    let held = load::settled(&world.store, Table::Held, RecordId(0), 9).unwrap();
    assert_eq!(held.len(), 1);
    assert!(matches!(held[0].outcome, Outcome::Held { reason: HoldReason::NotBillable, .. }));
    assert_eq!(held[0].record.amounts.billed, 5);
    let roster = world.books.roster.read();
    let customer = roster.find(ProductIndex(0), ACCOUNTS[0]).and_then(|index| roster.get(index)).unwrap();
    assert_eq!(customer.standing.state(world.now), State::Ended);
}

#[test]
fn a_decision_is_written_down_for_ever_and_the_sum_stays_whole() {
    let mut world = World::new(1);
    let hour = Hour::containing(world.now);
    for account in &ACCOUNTS[..3] {
        count(&mut world, sample::entry(account, 0, hour, 7));
    }
    world.now = world.now.plus(Duration::from_mins(40));
    seal_all(&mut world);
    let pending: Vec<_> = load::pending_after(&world.store, RecordId(0), 99).unwrap();
    let pending: Vec<_> = pending.into_iter().filter(|(record, _)| record.bills_something()).collect();
    write(&mut world, |books, store, now, batch| {
        for (record, _) in &pending {
            let held = Outcome::Held { reason: HoldReason::OutcomeUnknown, detail: "".into() };
            books.settle(&Settlement::Done(Arc::new(record.clone()), 1, held), store, now, batch).unwrap();
        }
    });
    for ((record, _), kind) in pending.iter().zip(DecisionKind::ALL) {
        let decision = Decision { kind, reason: "asked AWS".into(), by: "ann".into(), at: world.now };
        let ids = BTreeSet::from([record.id]);
        let resumed =
            write(&mut world, |books, store, _, batch| books.decide(&ids, &decision, store, batch).unwrap());
        assert_eq!(resumed.len(), usize::from(kind == DecisionKind::Retry));
        assert!(resumed.iter().all(|(again, delivery)| again == record && delivery.outcome_unknown));
        let again = write(&mut world, |books, store, _, batch| {
            books.decide(&ids, &decision, store, batch).unwrap_err().to_string()
        });
        assert_eq!(again, format!("record {} is not held", record.id));
    }
    crash(&mut world);
    let decided = |id| load::decisions(&world.store, id).unwrap();
    for ((record, _), kind) in pending.iter().zip(DecisionKind::ALL) {
        let [decided] = &decided(record.id)[..] else { panic!("{:?}", decided(record.id)) };
        assert_eq!((decided.decision.kind, &*decided.decision.by, decided.amount), (kind, "ann", 7));
    }
    let open: u128 = world.books.tally().open_units.values().sum();
    assert_eq!(open, 7, "what is carried is open again");
    assert_eq!(world.books.tally().held_records.values().sum::<u64>(), 0);
}

#[test]
fn who_comes_back_or_takes_an_identity_over_fills_no_slot_again() {
    let mut world = World::new(1);
    let hour = Hour::containing(world.now);
    count(&mut world, sample::entry(ACCOUNTS[0], 0, hour, 7));
    let close = |world: &mut World| {
        write(world, |books, _, now, batch| {
            books.close_customer(ProductIndex(0), ACCOUNTS[0], now, batch).unwrap();
        });
        world.now = world.now.plus(Duration::from_mins(5));
        seal_all(world);
    };
    let put = |world: &mut World, account| {
        write(world, |books, _, now, batch| {
            let registration = sample::registration(ACCOUNTS[0], account, Hour::containing(now));
            books.put_customer(Registration { reopens: true, ..registration }, batch)
        })
    };
    close(&mut world);
    assert_eq!(put(&mut world, "000000000009"), Err(PutError::SealedEarly), "its slots are taken");
    assert!(put(&mut world, ACCOUNTS[0]).is_ok());
    count(&mut world, sample::entry(ACCOUNTS[0], 0, hour, 5));
    close(&mut world);
    let sealed: Vec<Hour> = of_dimension(&world, "requests").iter().map(|record| record.hour).collect();
    assert_eq!(sealed, [hour], "the next hour is not sealed before it has begun");
    world.now = hour.next().start();
    seal_all(&mut world);
    let sealed: Vec<Hour> = of_dimension(&world, "requests").iter().map(|record| record.hour).collect();
    assert_eq!(sealed, [hour, hour.next()]);
}

#[test]
fn two_decisions_in_one_batch_are_one() {
    let mut world = World::new(1);
    let hour = Hour::containing(world.now);
    count(&mut world, sample::entry(ACCOUNTS[0], 0, hour, 7));
    world.now = world.now.plus(Duration::from_mins(40));
    seal_all(&mut world);
    let record = Arc::new(of_dimension(&world, "requests").remove(0));
    let held = Outcome::Held { reason: HoldReason::NotSubscribed, detail: "".into() };
    write(&mut world, |books, store, now, batch| {
        books.settle(&Settlement::Done(record.clone(), 1, held), store, now, batch).unwrap()
    });
    world.now = world.now.plus(Duration::from_hours(5));
    let decision =
        Decision { kind: DecisionKind::Carry, reason: "twice".into(), by: "ann".into(), at: world.now };
    let ids = BTreeSet::from([record.id]);
    write(&mut world, |books, store, now, batch| {
        books.decide(&ids, &decision, store, batch).unwrap();
        assert!(books.decide(&ids, &decision, store, batch).is_err());
        assert!(books.retry_slowly(store, now, batch).unwrap().is_empty());
    });
    crash(&mut world);
    let pending = load::pending_after(&world.store, RecordId(0), 99).unwrap();
    assert!(pending.iter().all(|(record, _)| !record.bills_something()));
    assert_eq!(world.books.tally().open_units.values().sum::<u128>(), 7);
}

#[test]
fn a_customer_without_a_subscription_claims_no_zeros_and_is_tried_again_slowly() {
    let mut world = World::new(1);
    let hour = Hour::containing(world.now);
    count(&mut world, sample::entry(ACCOUNTS[0], 0, hour, 7));
    world.now = world.now.plus(Duration::from_mins(40));
    seal_all(&mut world);
    let (record, _) = load::pending_after(&world.store, RecordId(0), 99).unwrap().remove(0);
    let record = Arc::new(record);
    let refused = Settlement::Done(
        record.clone(),
        1,
        Outcome::Held { reason: HoldReason::NotSubscribed, detail: "".into() },
    );
    write(&mut world, |books, store, now, batch| books.settle(&refused, store, now, batch).unwrap());
    crash(&mut world);
    let sealed_before = world.books.last_record();
    world.now = world.now.plus(Duration::from_hours(1));
    seal_all(&mut world);
    assert_eq!(world.books.last_record(), sealed_before, "no zeros meanwhile");
    assert!(world.books.next_slow_retry() <= world.now);
    let resumed =
        write(&mut world, |books, store, now, batch| books.retry_slowly(store, now, batch).unwrap());
    assert_eq!(resumed.len(), 1);
    let accepted = Outcome::Accepted { receipt: "r".into(), presumed: false };
    write(&mut world, |books, store, now, batch| {
        books.settle(&Settlement::Done(record, 2, accepted), store, now, batch).unwrap();
    });
    world.now = world.now.plus(Duration::from_hours(1));
    seal_all(&mut world);
    assert_eq!(world.books.last_record().0, sealed_before.0 + 4, "zeros again");
}

#[test]
fn a_record_is_settled_once_whatever_news_comes_of_it() {
    let mut world = World::new(1);
    world.rules.missed = MissedPolicy::RollForward;
    crash(&mut world);
    let hour = Hour::containing(world.now);
    count(&mut world, sample::entry(ACCOUNTS[0], 0, hour, 7));
    world.now = world.now.plus(Duration::from_mins(40));
    seal_all(&mut world);
    let record = Arc::new(of_dimension(&world, "requests").remove(0));
    let missed = Settlement::Missed(record.clone(), Delivery::default());
    let accepted = Outcome::Accepted { receipt: "r".into(), presumed: false };
    let accepted = Settlement::Done(record.clone(), 1, accepted);
    let begun = Settlement::Pending(record.id, Delivery::default().attempted());
    write(&mut world, |books, store, now, batch| {
        let mut settle = |settlement| books.settle(settlement, store, now, batch).unwrap().is_some();
        assert_eq!([&missed, &missed, &accepted, &begun].map(&mut settle), [true, false, false, false]);
    });
    write(&mut world, |books, store, now, batch| {
        for settlement in [&missed, &accepted, &begun] {
            assert_eq!(books.settle(settlement, store, now, batch).unwrap(), None);
        }
    });
    crash(&mut world);
    assert_eq!(world.books.tally().open_units.values().sum::<u128>(), 7, "carried once");
    assert_eq!(audit(&world.store, Known::default(), &mut |_| true).unwrap().faults, []);
}
