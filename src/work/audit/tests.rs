//! Whatever is altered or taken away is found, and where it was.

use std::time::Duration;

use super::*;
use crate::{
    domain::{
        bucket::{Bucket, Carried},
        journal::Line,
        record::{DecisionKind, HoldReason, MissedPolicy, Outcome, Record, RecordId, Settled},
        time::Hour,
    },
    work::{desk::Desk, sample},
    worlds::store::{
        Batch, Rows, Store, Table,
        keys::BucketKey,
        values::{Decided, SignedAmount, Value, decode, encode},
    },
};

const ACCOUNTS: [&str; 5] = ["000000000001", "000000000002", "000000000003", "000000000004", "000000000005"];

/// A store with a bit of everything: a record under way, one accepted, one held, one carried by a person, one that was
/// held and resumed, and a remainder that is carried.
fn ledger() -> Desk {
    let mut desk = Desk::new(MissedPolicy::Hold);
    for account in ACCOUNTS {
        desk.count(sample::entry(account, 0, Hour::containing(desk.now), 7));
    }
    desk.count(sample::entry(ACCOUNTS[0], 1, Hour::containing(desk.now), 1500));
    desk.pass(Duration::from_mins(40));
    desk.seal_all();
    let records = desk.billing("requests");
    let [_, accepted, held, carried, resumed] = &records[..] else { panic!("{records:?}") };
    desk.accept(accepted);
    for record in [held, carried, resumed] {
        desk.hold(record, HoldReason::Conflict);
    }
    desk.decide(carried, DecisionKind::Carry).unwrap();
    desk.decide(resumed, DecisionKind::Retry).unwrap();
    desk
}

/// Somebody who can write the data folder.
fn change(desk: &Desk, change: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::default();
    change(&mut batch);
    desk.store.commit(batch).unwrap();
}

fn put<V: Value>(desk: &Desk, table: Table, key: impl Into<Vec<u8>>, value: &V) {
    change(desk, |batch| batch.put(table, key, encode(value)));
}

fn delete(desk: &Desk, table: Table, key: impl Into<Vec<u8>>) {
    change(desk, |batch| batch.delete(table, key));
}

/// The first row of a table.
fn first<V: Value>(desk: &Desk, table: Table) -> (Vec<u8>, V) {
    let (key, value) = desk.store.scan(table, &[], 1).unwrap().remove(0);
    (key.to_vec(), decode(&value).unwrap())
}

fn under_way(desk: &Desk) -> Record {
    desk.pending().into_iter().find(Record::bills_something).unwrap()
}

fn report(desk: &Desk, known: Known) -> Report {
    audit(&desk.store, known, &mut |_| true).unwrap()
}

#[track_caller]
fn finds(desk: &Desk, expected: &[&str]) {
    let faults = desk.faults();
    for part in expected {
        assert!(faults.iter().any(|fault| fault.contains(part)), "no `{part}` in {faults:#?}");
    }
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
}

#[test]
fn a_ledger_that_no_one_touched_has_no_fault() {
    let report = report(&ledger(), Known::default());
    assert_eq!(report.faults, []);
    assert_eq!((report.records, report.decisions), (ACCOUNTS.len() as u64 * 4, 2));
    assert!(report.open_buckets > 0 && report.lines > 0);
}

#[test]
fn a_record_that_was_altered_is_named() {
    let desk = ledger();
    let mut record = under_way(&desk);
    record.amounts.billed = 3;
    record.amounts.carried_out = 4;
    record.quantity = "3".parse().unwrap();
    put(&desk, Table::Records, keys::record(record.id), &record);
    let place = "product prod, customer 000000000001, dimension requests, hour 2026-11-29T21:00:00Z, record";
    finds(
        &desk,
        &[
            &format!("I2: a record is not what was sealed, {place}"),
            "I1: what is under way, held and carried is not what is outstanding, product prod, customer 000000000001, dimension requests, 4 base units",
        ],
    );
}

#[test]
fn a_record_that_was_taken_away_is_missed() {
    let desk = ledger();
    let record = under_way(&desk);
    delete(&desk, Table::Records, keys::record(record.id));
    finds(
        &desk,
        &["I5: a record is gone, record", "customer 000000000001, dimension requests, 7 base units"],
    );
}

#[test]
fn a_receipt_that_was_altered_or_taken_away_is_found() {
    let desk = ledger();
    let accepted = desk.settled(Table::Receipts).remove(0);
    let key = keys::record(accepted.record.id);
    let other = Outcome::Accepted { receipt: "another".into(), presumed: false };
    put(&desk, Table::Receipts, key, &Settled { outcome: other, ..accepted.clone() });
    finds(&desk, &["I2: a settled record is not what its line in the journal says, product prod"]);
    delete(&desk, Table::Receipts, key);
    finds(&desk, &["I5: a settled record has a line in the journal, and is gone", "I5: a record is gone"]);
    put(&desk, Table::Receipts, key, &accepted);
    finds(&desk, &[]);
}

#[test]
fn a_receipt_that_no_one_wrote_is_found() {
    let desk = ledger();
    let record = under_way(&desk);
    let key = keys::record(record.id);
    let outcome = Outcome::Accepted { receipt: "made up".into(), presumed: false };
    delete(&desk, Table::Records, key);
    put(&desk, Table::Receipts, key, &Settled { record, attempts: 1, outcome, at: desk.now });
    finds(&desk, &["I2: a settled record has no line in the journal", "7 base units"]);
}

#[test]
fn a_line_of_the_journal_that_was_altered_or_taken_away_breaks_the_chain() {
    let lines = ledger().store.scan(Table::Journal, &[], 100).unwrap();
    for (number, (key, value)) in (1..).zip(&lines) {
        let desk = ledger();
        delete(&desk, Table::Journal, key.to_vec());
        let faults = desk.faults();
        assert!(faults.iter().any(|fault| fault.contains("journal")), "line {number} taken: {faults:#?}");
        let mut line = decode::<Line>(value).unwrap();
        line.at = line.at.plus(Duration::from_secs(1));
        put(&desk, Table::Journal, key.to_vec(), &line);
        let faults = desk.faults();
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
    let mut desk = ledger();
    let before = report(&desk, Known::default());
    desk.pass(Duration::from_hours(1));
    desk.seal_all();
    let audited = |noted| report(&desk, Known { noted: Some(noted), ..Known::default() });
    let after = audited((before.lines, before.last_line));
    assert_eq!(after.faults, []);
    assert!(after.lines > before.lines);
    for forged in [(before.lines, after.last_line), (after.lines + 1, before.last_line)] {
        let faults = audited(forged).faults;
        assert!(faults[0].what.contains("noted down"), "{faults:?}");
    }
}

#[test]
fn usage_that_no_carry_takes_on_is_missed() {
    let desk = ledger();
    let buckets = desk.store.scan(Table::Buckets, &[], 100).unwrap();
    let mut buckets = buckets.into_iter().map(|(key, value)| (key, decode::<Bucket>(&value).unwrap()));
    let (key, bucket) = buckets.find(|(_, bucket)| bucket.carried.total() == 500).unwrap();
    put(&desk, Table::Buckets, key, &Bucket { carried: Carried::default(), ..bucket });
    finds(
        &desk,
        &[
            "I1: what is under way, held and carried is not what is outstanding, product prod, customer 000000000001, dimension gb, 500 base units",
        ],
    );
}

#[test]
fn usage_that_is_left_in_a_sealed_hour_is_found() {
    let desk = ledger();
    let (key, bucket) = first::<Bucket>(&desk, Table::Buckets);
    delete(&desk, Table::Buckets, key.clone());
    let BucketKey { product, customer, dimension, .. } = BucketKey::decode(&key).unwrap();
    let hour = Hour::containing(desk.now).previous();
    let sealed = BucketKey { hour, product, customer, dimension };
    put(&desk, Table::Buckets, sealed.encode(), &bucket);
    finds(&desk, &["I8: usage is left in an hour that is sealed"]);
}

#[test]
fn a_decision_that_was_altered_or_taken_away_is_found() {
    let desk = ledger();
    let (key, mut decided) = first::<Decided>(&desk, Table::Decisions);
    decided.decision.by = "someone else".into();
    put(&desk, Table::Decisions, key.clone(), &decided);
    finds(&desk, &["I2: a decision is not what its line in the journal says"]);
    delete(&desk, Table::Decisions, key);
    finds(&desk, &["I2: a decision is gone"]);
}

#[test]
fn a_row_that_cannot_be_read_is_a_fault_and_ends_nothing() {
    let desk = ledger();
    let (key, _) = first::<Settled>(&desk, Table::Held);
    change(&desk, |batch| batch.put(Table::Held, key, vec![99, 1, 2]));
    finds(&desk, &["its version is 99", "not what its line in the journal says", "7 base units"]);
}

#[test]
fn what_is_outstanding_cannot_be_changed_alone() {
    let desk = ledger();
    let key = keys::series("prod", ACCOUNTS[0], "requests");
    put(&desk, Table::Outstanding, key, &SignedAmount(2));
    finds(&desk, &["customer 000000000001, dimension requests, -5 base units"]);
}

#[test]
fn more_than_a_limit_is_a_fault() {
    let mut desk = ledger();
    desk.count(sample::entry(ACCOUNTS[1], 0, Hour::containing(desk.now), 7));
    let limits = Limits { customers: Some(2), open_buckets: Some(0), ..Limits::default() };
    let faults = report(&desk, Known { limits, noted: None }).faults;
    let found: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        found,
        [
            "I9: limits.max_open_buckets is 0, and there are 1",
            "I9: limits.max_customers is 2, and there are 5",
        ]
    );
}

#[test]
fn what_is_dropped_for_its_age_is_not_missed() {
    let mut desk = ledger();
    desk.pass(Duration::from_hours(24 * 399));
    for _ in 0..40 {
        desk.pass(Duration::from_hours(1));
        while desk.write(|books, store, now, batch| books.drop_expired(store, now, batch).unwrap()) {}
    }
    assert_eq!(desk.rows(Table::Receipts), 0);
    let (first_line, _) = first::<Line>(&desk, Table::Journal);
    assert!(keys::decode_line(&first_line).unwrap() > 3, "old lines are dropped");
    assert!(report(&desk, Known::default()).records > 0, "what is held or under way is kept");
    let faults = report(&desk, Known { noted: Some((1, Digest([7; 32]))), ..Known::default() }).faults;
    assert!(faults.len() == 1 && faults[0].what.contains("dropped for its age"), "{faults:?}");
}

#[test]
fn a_store_from_before_there_was_a_journal_begins_one() {
    let mut desk = ledger();
    desk.pass(Duration::from_mins(1));
    change(&desk, |batch| {
        batch.delete(Table::Meta, keys::JOURNAL);
        for table in [Table::Journal, Table::Outstanding] {
            batch.delete_range(table, [], [255; 100]);
        }
    });
    desk.crash();
    finds(&desk, &[]);
    desk.pass(Duration::from_hours(1));
    desk.seal_all();
    let gone = desk.pending().pop().unwrap();
    delete(&desk, Table::Records, keys::record(gone.id));
    finds(&desk, &["I5: a record is gone"]);
    assert!(gone.id > RecordId(20), "sealed since");
}
