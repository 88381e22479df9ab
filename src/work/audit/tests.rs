//! Whatever is altered or taken away is found, and where it was.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::*;
use crate::{
    domain::{
        bucket::{Bucket, Carried},
        journal::Line,
        record::{Decision, DecisionKind, HoldReason, MissedPolicy, Outcome, Record, RecordId, Settled},
        time::{Hour, Timestamp},
    },
    work::{
        books::{Books, Settlement},
        delta::Delta,
        sample,
    },
    worlds::store::{
        Batch, MemoryStore, Store, Table,
        values::{Decided, SignedAmount, Value, decode, encode},
    },
};

const ACCOUNTS: [&str; 5] = ["000000000001", "000000000002", "000000000003", "000000000004", "000000000005"];

/// A store with a bit of everything: a record under way, one accepted, one held, one carried by a person, one that was
/// held and resumed, and a remainder that is carried.
struct Ledger {
    store: MemoryStore,
    books: Books,
    now: Timestamp,
}

impl Ledger {
    fn new() -> Self {
        let now: Timestamp = "2026-11-29T21:30:00Z".parse().unwrap();
        let store = MemoryStore::default();
        let books = Books::open(&store, sample::rules(MissedPolicy::Hold), Arc::default(), now).unwrap();
        let mut ledger = Self { store, books, now };
        for account in ACCOUNTS {
            ledger.count(account, 0, 7);
        }
        ledger.count(ACCOUNTS[0], 1, 1500);
        ledger.now = ledger.now.plus(Duration::from_mins(40));
        ledger.seal();
        let records: Vec<Record> = ledger.records(Table::Records);
        let [_, accepted, held, carried, resumed, ..] = &billing(&records)[..] else { panic!("{records:?}") };
        ledger.settle(accepted, Outcome::Accepted { receipt: "receipt".into(), presumed: false });
        for record in [held, carried, resumed] {
            ledger.settle(record, Outcome::Held { reason: HoldReason::Conflict, detail: "".into() });
        }
        ledger.decide(carried, DecisionKind::Carry);
        ledger.decide(resumed, DecisionKind::Retry);
        ledger
    }

    fn write<T>(&mut self, work: impl FnOnce(&mut Books, &MemoryStore, Timestamp, &mut Batch) -> T) -> T {
        let mut batch = Batch::default();
        let answer = work(&mut self.books, &self.store, self.now, &mut batch);
        self.books.flush(&mut batch);
        self.store.commit(batch).unwrap();
        self.books.committed();
        answer
    }

    fn count(&mut self, account: &str, dimension: u16, amount: u128) {
        let entry = sample::entry(account, dimension, Hour::containing(self.now), amount);
        let delta = Delta { folded: vec![entry], events: 1, ..Delta::default() };
        self.write(|books, store, now, batch| books.record(&delta, store, now, batch).unwrap());
    }

    fn seal(&mut self) {
        while self.write(|books, _, now, batch| books.seal_step(now, batch)).more {}
    }

    fn settle(&mut self, record: &Record, outcome: Outcome) {
        let done = Settlement::Done(Arc::new(record.clone()), 1, outcome);
        let settled = self.write(|books, store, now, batch| books.settle(&done, store, now, batch).unwrap());
        assert!(settled.is_some());
    }

    fn decide(&mut self, record: &Record, kind: DecisionKind) {
        let decision = Decision { kind, reason: "asked".into(), by: "ann".into(), at: self.now };
        let ids = BTreeSet::from([record.id]);
        self.write(|books, store, _, batch| books.decide(&ids, &decision, store, batch).unwrap());
    }

    fn records(&self, table: Table) -> Vec<Record> {
        let rows = self.store.scan(table, &[], 100).unwrap();
        rows.iter().map(|(_, value)| decode(value).unwrap()).collect()
    }

    fn settled(&self, table: Table) -> Settled {
        decode(&self.store.scan(table, &[], 1).unwrap()[0].1).unwrap()
    }

    fn put<V: Value>(&self, table: Table, key: impl Into<Vec<u8>>, value: &V) {
        let mut batch = Batch::default();
        batch.put(table, key, encode(value));
        self.store.commit(batch).unwrap();
    }

    fn delete(&self, table: Table, key: impl Into<Vec<u8>>) {
        let mut batch = Batch::default();
        batch.delete(table, key);
        self.store.commit(batch).unwrap();
    }

    fn faults(&self) -> Vec<String> {
        let report = audit(&self.store, Known::default(), &mut |_| true).unwrap();
        assert_eq!(report.faults_found, report.faults.len() as u64);
        report.faults.iter().map(ToString::to_string).collect()
    }

    #[track_caller]
    fn finds(&self, expected: &[&str]) {
        let faults = self.faults();
        for part in expected {
            assert!(faults.iter().any(|fault| fault.contains(part)), "no `{part}` in {faults:#?}");
        }
        assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    }
}

fn billing(records: &[Record]) -> Vec<Record> {
    let requests =
        records.iter().filter(|record| record.bills_something() && *record.dimension == *"requests");
    requests.cloned().collect()
}

#[test]
fn a_ledger_that_no_one_touched_has_no_fault() {
    let ledger = Ledger::new();
    let report = audit(&ledger.store, Known::default(), &mut |_| true).unwrap();
    assert_eq!(report.faults, []);
    assert_eq!((report.records, report.decisions), (ACCOUNTS.len() as u64 * 4, 2));
    assert!(report.open_buckets > 0 && report.lines > 0);
}

#[test]
fn a_record_that_was_altered_is_named() {
    let ledger = Ledger::new();
    let mut record = billing(&ledger.records(Table::Records)).remove(0);
    record.amounts.billed = 3;
    record.amounts.carried_out = 4;
    record.quantity = "3".parse().unwrap();
    ledger.put(Table::Records, keys::record(record.id), &record);
    let place = "product prod, customer 000000000001, dimension requests, hour 2026-11-29T21:00:00Z, record";
    ledger.finds(&[
        &format!("I2: a record is not what was sealed, {place}"),
        "I1: what is under way, held and carried is not what is outstanding, product prod, customer 000000000001, dimension requests, 4 base units",
    ]);
}

#[test]
fn a_record_that_was_taken_away_is_missed() {
    let ledger = Ledger::new();
    let record = billing(&ledger.records(Table::Records)).remove(0);
    ledger.delete(Table::Records, keys::record(record.id));
    ledger
        .finds(&["I5: a record is gone, record", "customer 000000000001, dimension requests, 7 base units"]);
}

#[test]
fn a_receipt_that_was_altered_or_taken_away_is_found() {
    let ledger = Ledger::new();
    let accepted = ledger.settled(Table::Receipts);
    let key = keys::record(accepted.record.id);
    let other = Outcome::Accepted { receipt: "another".into(), presumed: false };
    ledger.put(Table::Receipts, key, &Settled { outcome: other, ..accepted.clone() });
    ledger.finds(&["I2: a settled record is not what its line in the journal says, product prod"]);
    ledger.delete(Table::Receipts, key);
    ledger.finds(&["I5: a settled record has a line in the journal, and is gone", "I5: a record is gone"]);
    ledger.put(Table::Receipts, key, &accepted);
    ledger.finds(&[]);
}

#[test]
fn a_receipt_that_no_one_wrote_is_found() {
    let ledger = Ledger::new();
    let record = billing(&ledger.records(Table::Records)).remove(0);
    let key = keys::record(record.id);
    let outcome = Outcome::Accepted { receipt: "made up".into(), presumed: false };
    ledger.delete(Table::Records, key);
    ledger.put(Table::Receipts, key, &Settled { record, attempts: 1, outcome, at: ledger.now });
    ledger.finds(&["I2: a settled record has no line in the journal", "7 base units"]);
}

#[test]
fn a_line_of_the_journal_that_was_altered_or_taken_away_breaks_the_chain() {
    let lines = Ledger::new().store.scan(Table::Journal, &[], 100).unwrap();
    for (number, (key, value)) in (1..).zip(&lines) {
        let ledger = Ledger::new();
        ledger.delete(Table::Journal, key.to_vec());
        let faults = ledger.faults();
        assert!(faults.iter().any(|fault| fault.contains("journal")), "line {number} taken: {faults:#?}");
        let mut line = decode::<Line>(value).unwrap();
        line.at = line.at.plus(Duration::from_secs(1));
        ledger.put(Table::Journal, key.to_vec(), &line);
        let faults = ledger.faults();
        assert!(
            faults
                .iter()
                .any(|fault| fault.contains(&format!("journal line {number}: "))
                    || fault.contains("last line")),
            "line {number} altered: {faults:#?}"
        );
    }
}

#[test]
fn a_line_that_was_noted_down_must_still_be_in_the_chain() {
    let mut ledger = Ledger::new();
    let audited = |ledger: &Ledger, noted| {
        let known = Known { noted: Some(noted), ..Known::default() };
        audit(&ledger.store, known, &mut |_| true).unwrap()
    };
    let before = audit(&ledger.store, Known::default(), &mut |_| true).unwrap();
    let noted = (before.lines, before.last_line);
    ledger.now = ledger.now.plus(Duration::from_hours(1));
    ledger.seal();
    let after = audited(&ledger, noted);
    assert_eq!(after.faults, []);
    assert!(after.lines > before.lines);
    for forged in [(before.lines, after.last_line), (after.lines + 1, before.last_line)] {
        let report = audited(&ledger, forged);
        assert!(report.faults[0].what.contains("noted down"), "{:?}", report.faults);
    }
}

#[test]
fn usage_that_no_carry_takes_on_is_missed() {
    let ledger = Ledger::new();
    let (key, value) = ledger
        .store
        .scan(Table::Buckets, &[], 100)
        .unwrap()
        .into_iter()
        .find(|(_, value)| decode::<Bucket>(value).unwrap().carried.total() == 500)
        .unwrap();
    let bucket: Bucket = decode(&value).unwrap();
    let forgetful = Bucket { carried: Carried::default(), ..bucket };
    ledger.put(Table::Buckets, key.to_vec(), &forgetful);
    ledger.finds(&["I1: what is under way, held and carried is not what is outstanding, product prod, customer 000000000001, dimension gb, 500 base units"]);
}

#[test]
fn usage_that_is_left_in_a_sealed_hour_is_found() {
    let ledger = Ledger::new();
    let (key, value) = ledger.store.scan(Table::Buckets, &[], 1).unwrap().remove(0);
    let mut old = key.to_vec();
    old[..4].copy_from_slice(&Hour::containing(ledger.now).previous().index().to_be_bytes());
    let mut batch = Batch::default();
    batch.delete(Table::Buckets, key.to_vec());
    batch.put(Table::Buckets, old, value.to_vec());
    ledger.store.commit(batch).unwrap();
    ledger.finds(&["I8: usage is left in an hour that is sealed"]);
}

#[test]
fn a_decision_that_was_altered_or_taken_away_is_found() {
    let ledger = Ledger::new();
    let (key, value) = ledger.store.scan(Table::Decisions, &[], 1).unwrap().remove(0);
    let mut decided: Decided = decode(&value).unwrap();
    decided.decision.by = "someone else".into();
    ledger.put(Table::Decisions, key.to_vec(), &decided);
    ledger.finds(&["I2: a decision is not what its line in the journal says"]);
    ledger.delete(Table::Decisions, key.to_vec());
    ledger.finds(&["I2: a decision is gone"]);
}

#[test]
fn a_row_that_cannot_be_read_is_a_fault_and_ends_nothing() {
    let ledger = Ledger::new();
    let (key, _) = ledger.store.scan(Table::Held, &[], 1).unwrap().remove(0);
    let mut batch = Batch::default();
    batch.put(Table::Held, key.to_vec(), vec![99, 1, 2]);
    ledger.store.commit(batch).unwrap();
    ledger.finds(&["its version is 99", "not what its line in the journal says", "7 base units"]);
}

#[test]
fn what_is_outstanding_cannot_be_changed_alone() {
    let ledger = Ledger::new();
    let key = keys::series("prod", ACCOUNTS[0], "requests");
    ledger.put(Table::Outstanding, key, &SignedAmount(2));
    ledger.finds(&["customer 000000000001, dimension requests, -5 base units"]);
}

#[test]
fn more_than_a_limit_is_a_fault() {
    let ledger = Ledger::new();
    let limits = Limits { customers: Some(2), open_buckets: Some(1), ..Limits::default() };
    let report = audit(&ledger.store, Known { limits, noted: None }, &mut |_| true).unwrap();
    let found: Vec<String> = report.faults.iter().map(ToString::to_string).collect();
    assert!(found.iter().all(|fault| fault.starts_with("I9: limits.max_")) && found.len() == 2, "{found:?}");
}

#[test]
fn what_is_dropped_for_its_age_is_not_missed() {
    let mut ledger = Ledger::new();
    ledger.now = ledger.now.plus(Duration::from_hours(24 * 399));
    for _ in 0..40 {
        ledger.now = ledger.now.plus(Duration::from_hours(1));
        while ledger.write(|books, store, now, batch| books.drop_expired(store, now, batch).unwrap()) {}
        ledger.finds(&[]);
    }
    let rows = ledger.store.scan(Table::Receipts, &[], 100).unwrap().len();
    let first_line = ledger.store.scan(Table::Journal, &[], 1).unwrap().remove(0).0;
    assert_eq!(rows, 0);
    assert!(keys::decode_line(&first_line).unwrap() > 3, "old lines are dropped");
    let report = audit(&ledger.store, Known::default(), &mut |_| true).unwrap();
    assert!(report.records > 0, "what is held or under way is kept");
}

#[test]
fn a_store_from_before_there_was_a_journal_begins_one() {
    let mut ledger = Ledger::new();
    ledger.now = ledger.now.plus(Duration::from_mins(1));
    let mut batch = Batch::default();
    batch.delete(Table::Meta, keys::JOURNAL);
    for table in [Table::Journal, Table::Outstanding] {
        batch.delete_range(table, [], [255; 100]);
    }
    ledger.store.commit(batch).unwrap();
    let reopened = Books::open(&ledger.store, sample::rules(MissedPolicy::Hold), Arc::default(), ledger.now);
    let mut ledger = Ledger { books: reopened.unwrap(), ..ledger };
    ledger.finds(&[]);
    ledger.now = ledger.now.plus(Duration::from_hours(1));
    ledger.seal();
    ledger.finds(&[]);
    let gone = ledger.records(Table::Records).pop().unwrap();
    ledger.delete(Table::Records, keys::record(gone.id));
    ledger.finds(&["I5: a record is gone"]);
    assert!(gone.id > RecordId(20));
}
