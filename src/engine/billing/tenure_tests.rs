//! Scenes of customers whose time begins inside an hour, or whose license is replaced in it.

use std::{sync::Arc, time::Duration};

use super::{PutError, Registration, Settlement, registration::Registered};
use crate::{
    domain::{
        billing::record::{DecisionKind, Delivery, HoldReason, MissedPolicy, Outcome, Record},
        customer::transition::RegistrationRefused,
        time::{Hour, Timestamp},
        usage::{bucket::Usage, event::RejectReason},
    },
    engine::{
        counting::request::{CountRequest, Split, UsageEntry},
        state::EngineState,
    },
    testing::{harness::Harness, sample},
};

const KEY: &str = "000000000001";
const OLD: &str = KEY;
const NEW: &str = "000000000002";
const REQUESTS: u16 = 0;
const GB: u16 = 1;
const SEATS: u16 = 2;
const USERS: u16 = 3;

/// It is half past nine in the evening.
fn harness() -> Harness {
    let mut harness = Harness::new(MissedPolicy::RollForward);
    put(&mut harness, OLD, None).unwrap();
    harness
}

fn at(text: &str) -> Timestamp {
    format!("2026-11-29T{text}:00Z").parse().unwrap()
}

fn hour(text: &str) -> Hour {
    Hour::containing(at(text))
}

fn put(harness: &mut Harness, account: &str, since: Option<&str>) -> Result<Registered, PutError> {
    put_as(harness, KEY, account, since)
}

fn put_as(
    harness: &mut Harness,
    key: &str,
    account: &str,
    since: Option<&str>,
) -> Result<Registered, PutError> {
    harness.write(|EngineState { billing, counting }, txn| {
        let registration = sample::registration(key, account, Hour::containing(txn.now));
        let registration = Registration { since: since.map(at), ..registration };
        billing.put_customer(registration, counting, txn)
    })
}

fn used(harness: &Harness, dimension: u16, usage: Usage) -> UsageEntry {
    UsageEntry { usage, ..sample::entry(KEY, dimension, Hour::containing(harness.now), 0) }
}

fn uses(harness: &mut Harness, dimension: u16, amount: u128) {
    let entry = used(harness, dimension, Usage::Sum(amount));
    harness.count(entry);
}

fn seal_at(harness: &mut Harness, text: &str) {
    harness.now = at(text);
    harness.seal_all();
    harness.crash();
}

/// Pending and held records of a dimension: account, hour, timestamp, quantity, and why it is held.
fn records(harness: &Harness, dimension: &str) -> Vec<String> {
    let held = harness.held().into_iter().map(|settled| match settled.outcome {
        Outcome::Held { reason, .. } => (settled.record, reason.name()),
        other => panic!("{other:?}"),
    });
    let mut all: Vec<(Record, &str)> =
        harness.pending().into_iter().map(|record| (record, "")).chain(held).collect();
    all.retain(|(record, _)| *record.dimension == *dimension);
    all.sort_by_key(|(record, _)| record.id);
    all.into_iter().map(|(record, reason)| line(&record, reason)).collect()
}

fn line(record: &Record, reason: &str) -> String {
    let clock = |moment: Timestamp| moment.to_string()[11..16].to_owned();
    let account = record.identity.fields().account_id;
    let line = format!("{} {} {}", &account[11..], clock(record.timestamp), record.quantity);
    assert_eq!(Hour::containing(record.timestamp), record.hour);
    if reason.is_empty() { line } else { format!("{line} {reason}") }
}

#[test]
fn each_license_is_billed_for_its_part_of_the_hour() {
    let mut harness = harness();
    uses(&mut harness, REQUESTS, 7);
    harness.now = at("21:40");
    assert!(put(&mut harness, NEW, None).unwrap().has_sealed);
    assert_eq!(records(&harness, "requests"), ["1 21:00 7"], "at once");
    harness.crash();
    uses(&mut harness, REQUESTS, 5);
    seal_at(&mut harness, "22:10");
    assert_eq!(records(&harness, "requests"), ["1 21:00 7", "2 21:40 5"]);
    assert_eq!(records(&harness, "gb"), ["1 21:00 0", "2 21:40 0"], "each has used nothing of this");
    seal_at(&mut harness, "23:10");
    assert_eq!(records(&harness, "gb").last().unwrap(), "2 22:00 0");
    assert_eq!(records(&harness, "gb").len(), 3, "no zero of the old license in the new one's hours");
    assert!(harness.held().is_empty());
}

#[test]
fn an_hour_in_grace_stays_the_old_licenses() {
    let mut harness = harness();
    uses(&mut harness, REQUESTS, 7);
    harness.now = at("22:02");
    uses(&mut harness, REQUESTS, 3);
    put(&mut harness, NEW, None).unwrap();
    let late =
        UsageEntry { hour: hour("21:00"), earliest: at("21:59"), ..used(&harness, REQUESTS, Usage::Sum(1)) };
    harness.count(late);
    uses(&mut harness, REQUESTS, 5);
    seal_at(&mut harness, "23:10");
    assert_eq!(records(&harness, "requests"), ["1 22:00 3", "1 21:00 8", "2 22:02 5"]);
}

#[test]
fn what_may_be_either_licenses_is_held_and_nothing_else() {
    let mut harness = harness();
    uses(&mut harness, REQUESTS, 7);
    harness.now = at("21:40");
    put(&mut harness, NEW, Some("21:35")).unwrap();
    uses(&mut harness, REQUESTS, 5);
    seal_at(&mut harness, "22:10");
    assert_eq!(records(&harness, "requests"), ["1 21:00 7 replaced", "2 21:35 5"]);
    assert_eq!(records(&harness, "gb"), ["1 21:00 0", "2 21:35 0"]);
    let held = harness.held().remove(0).record;
    harness.decide(&held, DecisionKind::Carry).unwrap();
    seal_at(&mut harness, "23:10");
    assert_eq!(records(&harness, "requests"), ["2 21:35 5", "2 22:00 7"], "a person has said so");
}

#[test]
fn a_license_as_of_the_hours_start_takes_all_of_it() {
    let mut harness = harness();
    uses(&mut harness, REQUESTS, 7);
    assert!(!put(&mut harness, NEW, Some("21:00")).unwrap().has_sealed);
    seal_at(&mut harness, "22:10");
    assert_eq!(records(&harness, "requests"), ["2 21:00 7"]);
}

#[test]
fn a_license_that_was_mistyped_has_no_record_if_the_right_one_is_as_old() {
    let mut harness = harness();
    uses(&mut harness, REQUESTS, 7);
    put(&mut harness, "000000000009", None).unwrap();
    uses(&mut harness, REQUESTS, 5);
    harness.now = at("21:50");
    put(&mut harness, NEW, Some("21:30")).unwrap();
    seal_at(&mut harness, "22:10");
    assert_eq!(records(&harness, "requests"), ["1 21:00 7", "2 21:30 5"]);
}

#[test]
fn one_that_comes_back_in_the_same_hour_goes_on_in_the_next() {
    let mut harness = harness();
    uses(&mut harness, REQUESTS, 7);
    put(&mut harness, NEW, None).unwrap();
    uses(&mut harness, REQUESTS, 5);
    harness.now = at("21:50");
    put(&mut harness, OLD, None).unwrap();
    uses(&mut harness, REQUESTS, 3);
    seal_at(&mut harness, "23:10");
    assert_eq!(records(&harness, "requests"), ["1 21:00 7", "2 21:30 5", "1 22:00 3"]);
}

#[test]
fn a_license_that_gave_way_is_free_once_its_hour_is_sealed() {
    let mut harness = harness();
    uses(&mut harness, REQUESTS, 7);
    put(&mut harness, NEW, None).unwrap();
    let taken = |put: Result<Registered, PutError>| matches!(put, Err(PutError::Taken(_)));
    assert!(taken(put_as(&mut harness, "globex", OLD, None)), "its slot is taken");
    harness.crash();
    assert!(taken(put_as(&mut harness, "globex", OLD, None)));
    seal_at(&mut harness, "22:10");
    assert!(put_as(&mut harness, "globex", OLD, None).is_ok());
    assert!(taken(put_as(&mut harness, "other", NEW, None)));
}

#[test]
fn what_is_below_a_step_is_not_the_next_licenses() {
    let mut harness = harness();
    uses(&mut harness, GB, 1600);
    put(&mut harness, NEW, None).unwrap();
    assert_eq!(harness.open_units(), 0);
    uses(&mut harness, GB, 1400);
    seal_at(&mut harness, "22:10");
    assert_eq!(records(&harness, "gb"), ["1 21:00 1", "2 21:30 1"]);
    assert_eq!(harness.open_units(), 400, "the new one's own");
}

#[test]
fn more_than_a_record_takes_must_be_billed_first() {
    let mut harness = harness();
    uses(&mut harness, REQUESTS, 2_147_483_648);
    let refused = put(&mut harness, NEW, None).unwrap_err();
    assert!(refused.to_string().contains("`requests`"), "{refused}");
    assert_eq!(harness.pending().len(), 0, "nothing has changed");
}

#[test]
fn a_level_counts_once_in_the_hour_and_stands_for_the_next_license() {
    let mut harness = harness();
    let seats =
        |harness: &Harness, level| used(harness, SEATS, Usage::Latest { at: harness.now.into(), level });
    let entry = seats(&harness, 7);
    harness.count(entry);
    harness.now = at("21:40");
    put(&mut harness, NEW, None).unwrap();
    seal_at(&mut harness, "22:10");
    assert_eq!(records(&harness, "seats"), ["1 21:00 7", "2 21:40 0"]);
    let entry = seats(&harness, 9);
    harness.count(entry);
    harness.now = at("22:20");
    put(&mut harness, "000000000003", None).unwrap();
    let entry = seats(&harness, 4);
    harness.count(entry);
    seal_at(&mut harness, "23:10");
    assert_eq!(records(&harness, "seats")[2..], ["2 22:00 9", "3 22:20 4"]);
}

#[test]
fn a_subject_counts_once_an_hour_whatever_the_license() {
    let mut harness = harness();
    let user = |harness: &Harness, subject| UsageEntry {
        split: Split::of(None, Some(subject)),
        ..used(harness, USERS, Usage::Unique(1))
    };
    for subject in [1, 2] {
        let entry = user(&harness, subject);
        harness.count(entry);
    }
    put(&mut harness, NEW, None).unwrap();
    for subject in [2, 3] {
        let entry = user(&harness, subject);
        harness.count(entry);
    }
    seal_at(&mut harness, "22:10");
    assert_eq!(records(&harness, "users"), ["1 21:00 2", "2 21:30 1"]);
}

#[test]
fn a_license_that_gave_way_neither_rolls_forward_nor_speaks_for_the_next() {
    let mut harness = harness();
    uses(&mut harness, REQUESTS, 7);
    put(&mut harness, NEW, None).unwrap();
    let record = Arc::new(harness.billing("requests").remove(0));
    let zero = harness.pending().into_iter().find(|record| !record.bills_something()).unwrap();
    harness.hold(&zero, HoldReason::NotSubscribed);
    seal_at(&mut harness, "22:10");
    assert_eq!(records(&harness, "gb").last().unwrap(), "2 21:30 0", "the next one is subscribed");
    harness.settle(&Settlement::Missed(record, Delivery::default())).unwrap();
    assert_eq!(records(&harness, "requests")[0], "1 21:00 7 missed");
    assert_eq!(harness.open_units(), 0);
}

#[test]
fn no_license_is_replaced_in_the_middle_of_a_seal() {
    let mut harness = harness();
    for account in ["000000000003", "000000000004", "000000000005"] {
        put_as(&mut harness, account, account, None).unwrap();
    }
    harness.now = at("22:10");
    assert!(harness.seal_step().more);
    let refused = put(&mut harness, NEW, None);
    assert!(matches!(refused, Err(PutError::Refused(RegistrationRefused::Sealing))), "{refused:?}");
}

fn refusal(harness: &mut Harness, hour_of: &str, told: &str) -> Option<RejectReason> {
    let entry =
        UsageEntry { hour: hour(hour_of), earliest: at(told), ..used(harness, REQUESTS, Usage::Sum(1)) };
    let request = CountRequest { entries: vec![entry], events: 1, ..CountRequest::default() };
    let counted = harness.write(|state, txn| state.count(&request, txn).unwrap());
    counted.refused_entries.into_iter().next().map(|refused| refused.why)
}

#[test]
fn usage_from_before_the_subscription_is_rejected() {
    let mut harness = harness();
    put(&mut harness, OLD, Some("21:20")).unwrap();
    let since = at("21:20");
    assert_eq!(
        refusal(&mut harness, "21:00", "21:19"),
        Some(RejectReason::BeforeSince { time: at("21:19"), since })
    );
    assert!(refusal(&mut harness, "20:00", "20:59").is_some());
    assert_eq!(refusal(&mut harness, "21:00", "21:20"), None);
    uses(&mut harness, REQUESTS, 1);
    assert_eq!(harness.open_units(), 2, "what tells no time is of now");
}

#[test]
fn in_the_hour_of_a_change_arrival_decides_and_what_is_older_is_rejected() {
    let mut harness = harness();
    put(&mut harness, NEW, None).unwrap();
    assert_eq!(refusal(&mut harness, "21:00", "21:29"), None);
    harness.now = at("22:02");
    assert_eq!(refusal(&mut harness, "21:00", "21:29"), None, "the hour is in grace");
    seal_at(&mut harness, "22:10");
    assert!(refusal(&mut harness, "21:00", "21:29").is_some(), "it would be the new one's");
    assert_eq!(refusal(&mut harness, "21:00", "21:31"), None, "late, and the new one's");
}

#[test]
fn what_was_counted_before_the_start_was_known_is_held() {
    let mut harness = harness();
    uses(&mut harness, REQUESTS, 7);
    harness.now = at("21:40");
    put(&mut harness, OLD, Some("21:35")).unwrap();
    harness.crash();
    uses(&mut harness, REQUESTS, 5);
    seal_at(&mut harness, "22:10");
    assert_eq!(records(&harness, "requests"), ["1 21:35 12 before_since"]);
    assert_eq!(records(&harness, "gb"), ["1 21:35 0"]);
    uses(&mut harness, REQUESTS, 3);
    seal_at(&mut harness, "23:10");
    assert_eq!(records(&harness, "requests")[1], "1 22:00 3");
}

#[test]
fn an_hour_from_before_the_start_is_held_and_claims_no_zeros() {
    let mut harness = harness();
    uses(&mut harness, REQUESTS, 7);
    harness.now = at("22:02");
    put(&mut harness, OLD, Some("22:00")).unwrap();
    seal_at(&mut harness, "23:10");
    assert_eq!(records(&harness, "requests"), ["1 21:00 7 before_since", "1 22:00 0"]);
    assert_eq!(records(&harness, "gb"), ["1 22:00 0"]);
}

#[test]
fn a_start_that_is_known_before_anything_is_counted_holds_nothing() {
    let mut harness = harness();
    put(&mut harness, OLD, Some("21:20")).unwrap();
    uses(&mut harness, REQUESTS, 7);
    harness.pass(Duration::from_mins(1));
    put(&mut harness, OLD, Some("21:20")).unwrap();
    seal_at(&mut harness, "22:10");
    assert_eq!(records(&harness, "requests"), ["1 21:20 7"]);
}

#[test]
fn a_new_license_of_a_closed_customer_goes_on_after_its_last_hour() {
    let mut harness = harness();
    uses(&mut harness, REQUESTS, 7);
    harness.write(|state, txn| {
        state.billing.close_customer(sample::registration(KEY, OLD, Hour::FIRST).product, KEY, txn.now, txn);
    });
    seal_at(&mut harness, "21:36");
    harness.write(|EngineState { billing, counting }, txn| {
        let registration = sample::registration(KEY, NEW, Hour::containing(txn.now));
        billing.put_customer(Registration { reopens: true, ..registration }, counting, txn).unwrap();
    });
    assert!(
        matches!(put_as(&mut harness, "globex", OLD, None), Err(PutError::Taken(_))),
        "its slots are taken"
    );
    uses(&mut harness, REQUESTS, 5);
    seal_at(&mut harness, "23:10");
    assert_eq!(records(&harness, "requests"), ["1 21:00 7", "2 22:00 5"]);
}

#[test]
fn what_was_used_after_a_reopening_is_not_the_next_licenses() {
    let mut harness = harness();
    harness.write(|state, txn| {
        state.billing.close_customer(sample::registration(KEY, OLD, Hour::FIRST).product, KEY, txn.now, txn);
    });
    seal_at(&mut harness, "21:36");
    harness.write(|EngineState { billing, counting }, txn| {
        let registration = sample::registration(KEY, OLD, Hour::containing(txn.now));
        billing.put_customer(Registration { reopens: true, ..registration }, counting, txn).unwrap();
    });
    uses(&mut harness, REQUESTS, 5);
    harness.now = at("21:50");
    let refused = put(&mut harness, NEW, None).unwrap_err();
    assert!(refused.to_string().contains("`requests`"), "it counts in the next hour: {refused}");
    harness.now = at("22:01");
    put(&mut harness, NEW, None).unwrap();
    uses(&mut harness, REQUESTS, 7);
    seal_at(&mut harness, "23:10");
    assert_eq!(records(&harness, "requests")[1..], ["1 22:00 5", "2 22:01 7"]);
}

#[test]
fn a_clock_in_doubt_does_not_know_when_a_license_gives_way() {
    let mut harness = harness();
    uses(&mut harness, REQUESTS, 7);
    harness.is_clock_doubted = true;
    let refused = put(&mut harness, NEW, None);
    assert!(matches!(refused, Err(PutError::Refused(RegistrationRefused::ClockInDoubt))), "{refused:?}");
    assert_eq!((records(&harness, "requests").len(), harness.open_units()), (0, 7), "nothing has changed");
    assert!(put(&mut harness, OLD, None).is_ok(), "nothing gives way");
    assert!(put(&mut harness, NEW, Some("21:00")).is_ok(), "it is said since when");
}

#[test]
fn what_earlier_hours_have_left_is_not_the_next_licenses() {
    let mut harness = harness();
    uses(&mut harness, REQUESTS, 7);
    seal_at(&mut harness, "22:10");
    let record = harness.billing("requests").remove(0);
    harness.hold(&record, HoldReason::Refused);
    harness.decide(&record, DecisionKind::Carry).unwrap();
    for since in ["22:00", "21:30"] {
        let refused = put(&mut harness, NEW, Some(since)).unwrap_err();
        assert!(refused.to_string().contains("`requests`"), "{refused}");
    }
    put(&mut harness, NEW, None).unwrap();
    uses(&mut harness, REQUESTS, 5);
    seal_at(&mut harness, "23:10");
    assert_eq!(records(&harness, "requests"), ["1 22:00 7", "2 22:10 5"]);
}

#[test]
fn less_than_a_step_of_earlier_hours_keeps_no_one_from_a_change() {
    let mut harness = harness();
    uses(&mut harness, GB, 1600);
    seal_at(&mut harness, "22:10");
    put(&mut harness, NEW, Some("22:00")).unwrap();
    uses(&mut harness, GB, 400);
    seal_at(&mut harness, "23:10");
    assert_eq!(records(&harness, "gb"), ["1 21:00 1", "2 22:00 1"]);
}
