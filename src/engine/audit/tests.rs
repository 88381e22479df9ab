//! Whatever is altered or taken away is found, and where it was.

use std::time::Duration;

use super::*;
use crate::{
    domain::{
        billing::record::{DecisionKind, HoldReason, MissedPolicy, Outcome, Record, Settled},
        time::Hour,
        usage::bucket::{Bucket, Carried, Carry},
    },
    store::{
        Batch, Rows, Store, TableId,
        key::{BucketKey, SeriesKey},
        tables::{
            buckets::Buckets,
            decisions::Decisions,
            journal::JournalLines,
            records::Records,
            settled::{Held, Receipts},
        },
    },
    testing::{harness::Harness, sample},
};

const ACCOUNTS: [&str; 5] = ["000000000001", "000000000002", "000000000003", "000000000004", "000000000005"];

/// A store with a bit of everything: a record under way, one accepted, one held, one carried by a person, one that was
/// held and resumed, and a remainder that is carried.
fn ledger() -> Harness {
    let mut harness = Harness::new(MissedPolicy::Hold);
    for account in ACCOUNTS {
        harness.count(sample::entry(account, 0, Hour::containing(harness.now), 7));
    }
    harness.count(sample::entry(ACCOUNTS[0], 1, Hour::containing(harness.now), 1500));
    harness.pass(Duration::from_mins(40));
    harness.seal_all();
    let records = harness.billing("requests");
    let [_, accepted, held, carried, resumed] = &records[..] else { panic!("{records:?}") };
    harness.accept(accepted);
    for record in [held, carried, resumed] {
        harness.hold(record, HoldReason::Refused);
    }
    harness.decide(carried, DecisionKind::Carry).unwrap();
    harness.decide(resumed, DecisionKind::Retry).unwrap();
    harness
}

/// Somebody who can write the data folder.
fn change(harness: &Harness, change: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::default();
    change(&mut batch);
    harness.store.commit(batch).unwrap();
}

fn put<T: Table>(harness: &Harness, table: T, key: T::Key<'_>, value: &T::Value) {
    change(harness, |batch| batch.put(table, key, value));
}

fn delete<T: Table>(harness: &Harness, table: T, key: T::Key<'_>) {
    change(harness, |batch| batch.delete(table, key));
}

/// The first row of a table.
fn first<T: Table>(harness: &Harness, _: T) -> (Vec<u8>, T::Value) {
    let (key, value) = harness.store.scan(T::ID, &[], 1).unwrap().remove(0);
    (key.to_vec(), T::decode(&value).unwrap())
}

fn under_way(harness: &Harness) -> Record {
    harness.pending().into_iter().find(Record::bills_something).unwrap()
}

fn report(harness: &Harness, known: Known) -> Report {
    audit(&harness.store, known, &mut |_| true).unwrap()
}

#[track_caller]
fn finds(harness: &Harness, expected: &[&str]) {
    let faults = harness.faults();
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
    let harness = ledger();
    let mut record = under_way(&harness);
    record.amounts.billed = 3;
    record.amounts.carried_out = 4;
    record.quantity = "3".parse().unwrap();
    put(&harness, Records, record.id, &record);
    let place = "product prod, customer 000000000001, dimension requests, hour 2026-11-29T21:00:00Z, record";
    finds(
        &harness,
        &[
            &format!("I2: a record is not what was sealed, {place}"),
            "I1: what is under way, held and carried is not what is outstanding, product prod, customer 000000000001, dimension requests, 4 base units",
        ],
    );
}

#[test]
fn a_record_that_was_taken_away_is_missed() {
    let harness = ledger();
    let record = under_way(&harness);
    delete(&harness, Records, record.id);
    finds(
        &harness,
        &["I5: a record is gone, record", "customer 000000000001, dimension requests, 7 base units"],
    );
}

#[test]
fn a_receipt_that_was_altered_or_taken_away_is_found() {
    let harness = ledger();
    let accepted = harness.settled().remove(0);
    let key = accepted.record.id;
    let other = Outcome::Accepted { receipt: "another".into(), presumed: false };
    put(&harness, Receipts, key, &Settled { outcome: other, ..accepted.clone() });
    finds(&harness, &["I2: a settled record is not what its line in the journal says, product prod"]);
    delete(&harness, Receipts, key);
    finds(&harness, &["I5: a settled record has a line in the journal, and is gone", "I5: a record is gone"]);
    put(&harness, Receipts, key, &accepted);
    finds(&harness, &[]);
}

#[test]
fn a_receipt_that_no_one_wrote_is_found() {
    let harness = ledger();
    let record = under_way(&harness);
    let key = record.id;
    let outcome = Outcome::Accepted { receipt: "made up".into(), presumed: false };
    delete(&harness, Records, key);
    put(
        &harness,
        Receipts,
        key,
        &Settled { record, attempts: 1, outcome, at: harness.now, withheld: Carry::default() },
    );
    finds(&harness, &["I2: a settled record has no line in the journal", "7 base units"]);
}

#[test]
fn a_line_of_the_journal_that_was_altered_or_taken_away_breaks_the_chain() {
    let lines = ledger().store.scan(TableId::Journal, &[], 100).unwrap();
    for (number, (key, value)) in (1..).zip(&lines) {
        let harness = ledger();
        let key = JournalLines::decode_key(key).unwrap();
        delete(&harness, JournalLines, key);
        let faults = harness.faults();
        assert!(faults.iter().any(|fault| fault.contains("journal")), "line {number} taken: {faults:#?}");
        let mut line = JournalLines::decode(value).unwrap();
        line.at = line.at.plus(Duration::from_secs(1));
        put(&harness, JournalLines, key, &line);
        let faults = harness.faults();
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
    let mut harness = ledger();
    let before = report(&harness, Known::default());
    harness.pass(Duration::from_hours(1));
    harness.seal_all();
    let audited = |noted| report(&harness, Known { noted: Some(noted), ..Known::default() });
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
    let harness = ledger();
    let buckets = harness.store.scan(TableId::Buckets, &[], 100).unwrap();
    let mut buckets = buckets.into_iter().map(|(key, value)| (key, Buckets::decode(&value).unwrap()));
    let (key, bucket) = buckets.find(|(_, bucket)| bucket.carried.total() == 500).unwrap();
    let key = Buckets::decode_key(&key).unwrap();
    put(&harness, Buckets, key, &Bucket { carried: Carried::default(), ..bucket });
    finds(
        &harness,
        &[
            "I1: what is under way, held and carried is not what is outstanding, product prod, customer 000000000001, dimension gb, 500 base units",
        ],
    );
}

#[test]
fn usage_that_is_left_in_a_sealed_hour_is_found() {
    let harness = ledger();
    let (key, bucket) = first(&harness, Buckets);
    let open = Buckets::decode_key(&key).unwrap();
    delete(&harness, Buckets, open);
    let hour = Hour::containing(harness.now).previous();
    put(&harness, Buckets, BucketKey { hour, ..open }, &bucket);
    finds(&harness, &["I8: usage is left in an hour that is sealed"]);
}

#[test]
fn a_decision_that_was_altered_or_taken_away_is_found() {
    let harness = ledger();
    let (key, mut decided) = first(&harness, Decisions);
    let key = Decisions::decode_key(&key).unwrap();
    decided.decision.by = "someone else".into();
    put(&harness, Decisions, key, &decided);
    finds(&harness, &["I2: a decision is not what its line in the journal says"]);
    delete(&harness, Decisions, key);
    finds(&harness, &["I2: a decision is gone"]);
}

#[test]
fn a_row_that_cannot_be_read_is_a_fault_and_ends_nothing() {
    let harness = ledger();
    let (key, _) = first(&harness, Held);
    change(&harness, |batch| batch.put_bytes(TableId::Held, key, vec![99, 1, 2]));
    finds(&harness, &["its version is 99", "not what its line in the journal says", "7 base units"]);
}

#[test]
fn what_is_outstanding_cannot_be_changed_alone() {
    let harness = ledger();
    let key = SeriesKey { product: "prod", customer: ACCOUNTS[0], dimension: "requests" };
    put(&harness, OutstandingRows, key, &2);
    finds(&harness, &["customer 000000000001, dimension requests, -5 base units"]);
}

#[test]
fn more_than_a_limit_is_a_fault() {
    let mut harness = ledger();
    harness.count(sample::entry(ACCOUNTS[1], 0, Hour::containing(harness.now), 7));
    let limits = Limits { customers: Some(2), open_buckets: Some(0), ..Limits::default() };
    let faults = report(&harness, Known { limits, noted: None }).faults;
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
    let mut harness = ledger();
    harness.pass(Duration::from_hours(24 * 399));
    for _ in 0..40 {
        harness.pass(Duration::from_hours(1));
        while harness.write(|state, txn| state.drop_expired(txn.now, txn)) {}
    }
    assert_eq!(harness.rows(TableId::Receipts), 0);
    let (first_line, _) = first(&harness, JournalLines);
    assert!(JournalLines::decode_key(&first_line).unwrap() > 3, "old lines are dropped");
    assert!(report(&harness, Known::default()).records > 0, "what is held or under way is kept");
    let faults = report(&harness, Known { noted: Some((1, Digest([7; 32]))), ..Known::default() }).faults;
    assert!(faults.len() == 1 && faults[0].what.contains("dropped for its age"), "{faults:?}");
}

#[test]
fn a_held_record_outlives_its_line_in_the_journal() {
    let mut harness = Harness::new(MissedPolicy::Hold);
    harness.count(sample::entry(ACCOUNTS[0], 0, Hour::containing(harness.now), 7));
    harness.pass(Duration::from_mins(40));
    harness.seal_all();
    let record = under_way(&harness);
    harness.hold(&record, HoldReason::Conflict);
    let settled = report(&harness, Known::default()).lines;
    harness.pass(Duration::from_hours(24 * 401));
    while harness.write(|state, txn| state.drop_expired(txn.now, txn)) {}
    let (first_line, _) = first(&harness, JournalLines);
    assert!(JournalLines::decode_key(&first_line).unwrap() > settled, "its line is dropped");
    assert_eq!(harness.held().len(), 1);
    assert_eq!(report(&harness, Known::default()).faults, []);
}
