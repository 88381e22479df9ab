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
        identity::Identity,
        record::{Outcome, Record},
    },
    work::{
        delta::{Delta, Identified},
        sample,
    },
    worlds::store::MemoryStore,
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
        match self.rng.u8(0..10) {
            0..4 => self.send(),
            4..7 => self.seal(),
            7 => self.now = self.now.plus(Duration::from_mins(self.rng.u64(1..200))),
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
        self.commit(|books, _, now, batch| {
            for settlement in &settlements {
                books.settle(settlement, now, batch);
            }
        });
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
        for (record, rolled) in all_records(&self.store) {
            assert!(
                slots.insert((record.slot(), record.product.clone())),
                "two records for {:?}",
                record.slot()
            );
            let first = self.first_seen.entry(record.id).or_insert_with(|| record.clone());
            assert_eq!(*first, record, "a record has changed");
            if !rolled {
                add(&record.customer, &record.dimension, record.amounts.billed);
            }
        }
        self.sums.retain(|_, sum| *sum > 0);
        assert_eq!(on_disk, self.sums, "counted and on disk differ");
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
            let rolled = matches!(settled.outcome, Outcome::RolledForward { .. });
            records.push((settled.record, rolled));
        }
    }
    records
}

fn series(event: &Event) -> (String, String) {
    let dimension = if event.dimension == 0 { "requests" } else { "gb" };
    (event.customer.to_owned(), dimension.to_owned())
}

fn delta(events: &[Event]) -> Delta {
    let identified = |(event, index): (&Event, u32)| Identified {
        entry: sample::entry(event.customer, event.dimension, event.hour, event.amount.into()),
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
    let put = |account: &'static str| Customer {
        product: ProductIndex(0),
        key: "acme".into(),
        identity: Identity::Account { account_id: account.into() },
        since: None,
        first_hour: Hour::containing("2026-11-29T21:30:00Z".parse().unwrap()),
    };
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
        let customer = Customer {
            product: ProductIndex(0),
            key: account.into(),
            identity: Identity::Account { account_id: account.into() },
            since: None,
            first_hour: Hour::containing(world.now),
        };
        world.books.put_customer(customer, &mut batch).unwrap();
    }
    world.now = world.now.plus(Duration::from_mins(40));
    while world.books.seal_step(world.now, &mut batch).more {}
    world.store.commit(batch).unwrap();
    let records = all_records(&world.store);
    assert_eq!(records.len(), ACCOUNTS.len() * 2);
    assert!(records.iter().all(|(record, _)| record.quantity.is_zero()));
}

#[test]
fn no_identity_changes_hands_in_the_middle_of_a_seal() {
    let mut world = World::new(1);
    let customer = |key: &str, account: &'static str| Customer {
        product: ProductIndex(0),
        key: key.into(),
        identity: Identity::Account { account_id: account.into() },
        since: None,
        first_hour: Hour::FIRST,
    };
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
