//! Scenes with the books. Random days are the simulation's.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::*;
use crate::{
    domain::{
        bucket::Usage,
        customer::State,
        hours::HourTally,
        product::{Catalog, Product},
        record::{DecisionKind, Delivery, MissedPolicy, Outcome, Record},
    },
    work::{
        delta::{Apart, Entry},
        desk::Desk,
        sample,
    },
};

const ACCOUNTS: [&str; 4] = ["000000000001", "000000000002", "000000000003", "000000000004"];
const TO_THE_SEAL: Duration = Duration::from_mins(40);
const HOUR: Duration = Duration::from_hours(1);

fn desk() -> Desk {
    Desk::new(MissedPolicy::RollForward)
}

/// A request of the first account, in the hour that it is.
fn requests(desk: &Desk, amount: u128) -> Entry {
    sample::entry(ACCOUNTS[0], 0, Hour::containing(desk.now), amount)
}

/// Seals seven requests of the first account; returns their record.
fn seal_seven(desk: &mut Desk) -> Arc<Record> {
    desk.count(requests(desk, 7));
    desk.pass(TO_THE_SEAL);
    desk.seal_all();
    Arc::new(desk.billing("requests").remove(0))
}

fn put(desk: &mut Desk, key: &str, account: &str, reopens: bool) -> Result<CustomerIndex, PutError> {
    desk.write(|books, _, now, batch| {
        let registration = sample::registration(key, account, Hour::containing(now));
        books.put_customer(Registration { reopens, ..registration }, batch)
    })
}

fn close(desk: &mut Desk) {
    desk.write(|books, _, now, batch| {
        books.close_customer(ProductIndex(0), ACCOUNTS[0], now, batch).unwrap();
    });
}

#[test]
fn a_customer_whose_identity_changes_keeps_one_slot_an_hour() {
    let mut desk = desk();
    put(&mut desk, "acme", ACCOUNTS[0], false).unwrap();
    put(&mut desk, "acme", ACCOUNTS[1], false).unwrap();
    desk.pass(TO_THE_SEAL);
    desk.seal_all();
    let identities: BTreeSet<_> = desk.pending().into_iter().map(|record| record.identity).collect();
    assert_eq!(identities.len(), 1);
}

#[test]
fn a_zero_record_is_claimed_for_every_active_customer_and_dimension() {
    let mut desk = desk();
    for account in ACCOUNTS {
        put(&mut desk, account, account, false).unwrap();
    }
    desk.pass(TO_THE_SEAL);
    desk.seal_all();
    let records = desk.pending();
    assert_eq!(records.len(), ACCOUNTS.len() * 4);
    assert!(records.iter().all(|record| record.quantity.is_zero()));
}

fn seal_step(desk: &mut Desk) -> SealProgress {
    desk.write(|books, _, now, batch| books.seal_step(now, batch))
}

#[test]
fn a_seal_goes_on_after_a_crash_in_its_middle_and_whoever_came_meanwhile_waits_for_the_next_one() {
    let mut desk = desk();
    let hour = Hour::containing(desk.now);
    let account = |number: u32| format!("{number:012}");
    for number in [20, 40, 60, 80] {
        desk.count(sample::entry(&account(number), 0, hour, number.into()));
    }
    desk.pass(TO_THE_SEAL);
    assert!(seal_step(&mut desk).more && seal_step(&mut desk).more);
    let hour_of_now = Hour::containing(desk.now);
    for number in [10, 30, 50, 70, 90] {
        put(&mut desk, &account(number), &account(number), false).unwrap();
        desk.count(sample::entry(&account(number), 0, hour_of_now, 1));
    }
    desk.crash();
    while seal_step(&mut desk).more {
        desk.crash();
    }
    let of = |record: &Record| record.customer.trim_start_matches('0').parse().unwrap();
    let mut slots: Vec<(u32, Arc<str>)> =
        desk.pending().iter().map(|record| (of(record), record.dimension.clone())).collect();
    assert_eq!(slots.len(), 4 * 4, "one of each customer and dimension");
    assert!(slots.is_sorted_by_key(|(customer, _)| *customer), "in the order of keys");
    slots.dedup();
    assert_eq!(slots.len(), 4 * 4, "and none twice");
    assert_eq!(desk.quantities("requests"), ["20", "40", "60", "80"]);
    assert_eq!(desk.open_units(), 5, "what came meanwhile is open");
}

/// Without zero records, so that only those are sealed who used something.
fn desk_without_zeros() -> Desk {
    let mut desk = desk();
    let products = desk.rules.catalog.products();
    let products = products.map(|(_, product)| Product { zero_records: false, ..product.clone() });
    desk.rules.catalog = Arc::new(Catalog::new(products.collect()));
    desk.crash();
    desk
}

#[test]
fn no_step_of_a_seal_looks_at_more_than_its_share() {
    let mut desk = desk_without_zeros();
    let account = |number: u32| format!("{number:012}");
    for number in 0..40 {
        put(&mut desk, &account(number), &account(number), false).unwrap();
    }
    let hour = Hour::containing(desk.now);
    for number in (0..12).chain([39]) {
        for dimension in 0..2 {
            desk.count(sample::entry(&account(number), dimension, hour, 1000));
        }
    }
    desk.pass(TO_THE_SEAL);
    let mut records_by_step = Vec::new();
    loop {
        let progress = seal_step(&mut desk);
        records_by_step.push(progress.records);
        if !progress.more {
            break;
        }
    }
    // A step holds one customer with its four dimensions, or five without anything.
    assert!(records_by_step.iter().all(|records| *records <= 2), "{records_by_step:?}");
    assert_eq!(records_by_step.iter().sum::<u32>(), 13 * 2);
    let without = records_by_step.iter().filter(|records| **records == 0).count();
    assert!(without >= (39 - 12) / 5, "{records_by_step:?}");
}

#[test]
fn an_hour_without_anything_takes_one_step_however_many_customers_there_are() {
    let mut desk = desk_without_zeros();
    for number in 0..40 {
        let account = format!("{number:012}");
        put(&mut desk, &account, &account, false).unwrap();
    }
    desk.pass(TO_THE_SEAL);
    let progress = seal_step(&mut desk);
    assert_eq!((progress.hours, progress.more), (1, false));
}

#[test]
fn a_record_of_a_product_that_is_not_configured_is_refused_at_the_start() {
    let mut desk = desk();
    seal_seven(&mut desk);
    let other =
        desk.rules.catalog.products().map(|(_, product)| Product { code: "other".into(), ..product.clone() });
    let rules = Rules { catalog: Arc::new(Catalog::new(other.collect())), ..desk.rules.clone() };
    let refused = Books::open(&desk.store, rules, Arc::default(), desk.now).unwrap_err();
    assert!(matches!(&refused, OpenError::NotConfigured { product, .. } if product == "prod"), "{refused}");
}

#[test]
fn what_is_outstanding_of_a_dimension_that_is_gone_is_settled_under_its_name() {
    let mut desk = desk();
    let record = seal_seven(&mut desk);
    desk.hold(&record, HoldReason::Refused);
    desk.seal_all();
    let gone = desk.rules.catalog.products().map(|(_, product)| {
        let dimensions = product.dimensions.iter().filter(|dimension| *dimension.name != *"requests");
        Product { dimensions: dimensions.cloned().collect(), ..product.clone() }
    });
    desk.rules.catalog = Arc::new(Catalog::new(gone.collect()));
    desk.crash();
    desk.decide(&record, DecisionKind::WriteOff).unwrap();
    assert_eq!(desk.rows(Table::Outstanding), 0);
}

#[test]
fn no_identity_changes_hands_in_the_middle_of_a_seal() {
    let mut desk = desk();
    for (key, account) in ["a", "b", "c", "d"].into_iter().zip(ACCOUNTS) {
        put(&mut desk, key, account, false).unwrap();
    }
    desk.pass(TO_THE_SEAL);
    let progress = desk.write(|books, _, now, batch| books.seal_step(now, batch));
    assert!(progress.more, "the seal takes several steps");
    assert_eq!(put(&mut desk, "a", "000000000009", false), Err(PutError::Sealing));
    desk.seal_all();
    assert!(put(&mut desk, "a", "000000000009", false).is_ok());
}

#[test]
fn a_distinct_subject_counts_once_an_hour_also_across_a_crash() {
    let mut desk = desk();
    let hour = Hour::containing(desk.now);
    let user = |subject| Entry {
        usage: Usage::Unique(1),
        apart: Apart::of(None, Some(subject)),
        ..sample::entry(ACCOUNTS[0], 3, hour, 0)
    };
    for subject in [1, 2, 1] {
        desk.count(user(subject));
    }
    desk.crash();
    for subject in [2, 3] {
        desk.count(user(subject));
    }
    desk.pass(TO_THE_SEAL);
    desk.seal_all();
    desk.count(Entry { hour: hour.next(), ..user(1) });
    desk.pass(HOUR);
    desk.seal_all();
    assert_eq!(desk.quantities("users"), ["3", "1"]);
    assert_eq!(desk.rows(Table::Subjects), 0, "they leave with their hour");
}

#[test]
fn a_level_stands_in_later_hours_until_it_is_changed() {
    let mut desk = desk();
    let seats = |desk: &Desk, level| Entry {
        usage: Usage::Latest { at: desk.now, level },
        ..sample::entry(ACCOUNTS[0], 2, Hour::containing(desk.now), 0)
    };
    desk.count(seats(&desk, 7));
    for level in [None, None, Some(2), None, Some(0), None, None] {
        desk.pass(HOUR);
        desk.seal_all();
        desk.crash();
        if let Some(level) = level {
            desk.count(seats(&desk, level));
        }
    }
    assert_eq!(desk.quantities("seats"), ["7", "7", "7", "2", "2"]);
}

#[test]
fn a_closing_customer_is_sealed_early_and_once_and_what_follows_is_held() {
    let mut desk = desk();
    desk.count(requests(&desk, 7));
    close(&mut desk);
    desk.crash();
    desk.pass(Duration::from_mins(5));
    assert!(desk.books.next_seal() <= desk.now, "the grace is over");
    desk.seal_all();
    let pending = desk.pending();
    assert_eq!(pending.len(), 4, "the open hour, with its zeros");
    assert_eq!(desk.quantities("requests"), ["7"]);
    let deadline = desk.books.deadline(&pending[0]);
    assert_eq!(deadline.to_string(), "2026-11-29T22:30:00Z", "an hour after the notice");
    desk.count(requests(&desk, 5));
    for _ in 0..4 {
        desk.pass(HOUR);
        desk.seal_all();
        desk.crash();
    }
    assert_eq!(desk.pending().len(), pending.len(), "no zeros after");
    let [held] = &desk.settled(Table::Held)[..] else { panic!("{:?}", desk.settled(Table::Held)) };
    assert!(matches!(held.outcome, Outcome::Held { reason: HoldReason::NotBillable, .. }));
    assert_eq!(held.record.amounts.billed, 5);
    let roster = desk.books.roster.read();
    let customer = roster.find(ProductIndex(0), ACCOUNTS[0]).and_then(|index| roster.get(index)).unwrap();
    assert_eq!(customer.standing.state(desk.now), State::Ended);
}

#[test]
fn a_decision_is_written_down_for_ever_and_the_sum_stays_whole() {
    let mut desk = desk();
    let hour = Hour::containing(desk.now);
    for account in &ACCOUNTS[..3] {
        desk.count(sample::entry(account, 0, hour, 7));
    }
    desk.pass(TO_THE_SEAL);
    desk.seal_all();
    let records = desk.billing("requests");
    for record in &records {
        desk.hold(record, HoldReason::OutcomeUnknown);
    }
    for (record, kind) in records.iter().zip(DecisionKind::ALL) {
        let resumed = desk.decide(record, kind).unwrap();
        assert_eq!(resumed.len(), usize::from(kind == DecisionKind::Retry));
        assert!(resumed.iter().all(|(again, delivery)| again == record && delivery.outcome_unknown));
        let again = desk.decide(record, kind).unwrap_err().to_string();
        assert_eq!(again, format!("record {} is not held", record.id));
    }
    desk.crash();
    for (record, kind) in records.iter().zip(DecisionKind::ALL) {
        let [decided] = &load::decisions(&desk.store, record.id).unwrap()[..] else { panic!("{kind:?}") };
        assert_eq!((decided.decision.kind, &*decided.decision.by, decided.amount), (kind, "ann", 7));
    }
    assert_eq!(desk.open_units(), 7, "what is carried is open again");
    assert_eq!(desk.books.tally().held_records.values().sum::<u64>(), 0);
}

#[test]
fn who_comes_back_or_takes_an_identity_over_fills_no_slot_again() {
    let mut desk = desk();
    let hour = Hour::containing(desk.now);
    desk.count(requests(&desk, 7));
    close(&mut desk);
    desk.pass(Duration::from_mins(5));
    desk.seal_all();
    assert_eq!(
        put(&mut desk, ACCOUNTS[0], "000000000009", true),
        Err(PutError::SealedEarly),
        "its slots are taken"
    );
    assert!(put(&mut desk, ACCOUNTS[0], ACCOUNTS[0], true).is_ok());
    desk.count(requests(&desk, 5));
    close(&mut desk);
    desk.pass(Duration::from_mins(5));
    desk.seal_all();
    let sealed =
        |desk: &Desk| -> Vec<Hour> { desk.billing("requests").iter().map(|record| record.hour).collect() };
    assert_eq!(sealed(&desk), [hour], "the next hour is not sealed before it has begun");
    desk.now = hour.next().start();
    desk.seal_all();
    assert_eq!(sealed(&desk), [hour, hour.next()]);
}

#[test]
fn two_decisions_in_one_batch_are_one() {
    let mut desk = desk();
    let record = seal_seven(&mut desk);
    desk.hold(&record, HoldReason::NotSubscribed);
    desk.pass(Duration::from_hours(5));
    let (decision, ids) = (desk.decision(DecisionKind::Carry), BTreeSet::from([record.id]));
    desk.write(|books, store, now, batch| {
        books.decide(&ids, &decision, store, batch).unwrap();
        assert!(books.decide(&ids, &decision, store, batch).is_err());
        assert!(books.retry_slowly(store, now, batch).unwrap().is_empty());
    });
    desk.crash();
    assert!(desk.pending().iter().all(|record| !record.bills_something()));
    assert_eq!(desk.open_units(), 7);
}

#[test]
fn a_customer_without_a_subscription_claims_no_zeros_and_is_tried_again_slowly() {
    let mut desk = desk();
    let record = seal_seven(&mut desk);
    desk.hold(&record, HoldReason::NotSubscribed);
    desk.crash();
    let sealed_before = desk.books.last_record();
    desk.pass(HOUR);
    desk.seal_all();
    assert_eq!(desk.books.last_record(), sealed_before, "no zeros meanwhile");
    assert!(desk.books.next_slow_retry() <= desk.now);
    let resumed = desk.write(|books, store, now, batch| books.retry_slowly(store, now, batch).unwrap());
    assert_eq!(resumed.len(), 1);
    desk.accept(&record);
    desk.pass(HOUR);
    desk.seal_all();
    assert_eq!(desk.books.last_record().0, sealed_before.0 + 4, "zeros again");
}

#[test]
fn a_record_is_settled_once_whatever_news_comes_of_it() {
    let mut desk = desk();
    let record = seal_seven(&mut desk);
    let accepted = Outcome::Accepted { receipt: "r".into(), presumed: false };
    let news = [
        Settlement::Missed(record.clone(), Delivery::default()),
        Settlement::Missed(record.clone(), Delivery::default()),
        Settlement::Done(record.clone(), 1, accepted),
        Settlement::Pending(record.id, Delivery::default().attempted()),
    ];
    let settled = desk.write(|books, store, now, batch| {
        news.each_ref().map(|news| books.settle(news, store, now, batch).unwrap().is_some())
    });
    assert_eq!(settled, [true, false, false, false]);
    for news in &news {
        assert_eq!(desk.settle(news), None);
    }
    desk.crash();
    assert_eq!(desk.open_units(), 7, "carried once");
}

fn hours(desk: &Desk) -> Vec<(Hour, HourTally)> {
    assert_eq!(sample::hour_faults(&desk.store), Vec::<String>::new());
    load::hours(&desk.store, 1000).unwrap().into_iter().collect()
}

#[test]
fn the_tally_of_an_hour_follows_its_records_over_crashes() {
    let mut desk = desk();
    let record = seal_seven(&mut desk);
    let tally = |desk: &Desk| hours(desk).into_iter().find(|(hour, _)| *hour == record.hour).unwrap().1;
    let sealed = tally(&desk);
    assert_eq!((sealed.pending, sealed.held), (sealed.records(), 0));
    desk.hold(&record, HoldReason::Conflict);
    desk.crash();
    assert_eq!((tally(&desk).pending, tally(&desk).held), (sealed.pending - 1, 1));
    desk.decide(&record, DecisionKind::Retry).unwrap();
    assert_eq!(tally(&desk), sealed);
    desk.crash();
    desk.hold(&record, HoldReason::Refused);
    desk.decide(&record, DecisionKind::Carry).unwrap();
    assert_eq!((tally(&desk).held, tally(&desk).carried), (0, 1));
    for other in desk.pending() {
        desk.accept(&other);
    }
    desk.crash();
    assert_eq!((tally(&desk).pending, tally(&desk).accepted), (0, sealed.pending - 1));
}

#[test]
fn the_tallies_of_three_days_are_kept_and_what_becomes_of_older_records_is_nobodys_news() {
    let mut desk = desk();
    let record = seal_seven(&mut desk);
    for _ in 0..80 {
        desk.pass(HOUR);
        desk.seal_all();
    }
    let kept = hours(&desk);
    assert_eq!(kept.len(), 73, "an hour without records has a tally, too");
    assert_eq!(kept[72].0, desk.books.watermark());
    desk.accept(&record);
    desk.crash();
    assert_eq!(hours(&desk), kept);
}
