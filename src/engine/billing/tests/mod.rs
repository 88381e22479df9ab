//! Scenes of billing. Random days are the simulation's.

mod adjust;
mod review;
mod suspicious;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use super::{PutError, Registration, Settlement, read_hours};
use crate::{
    domain::{
        billing::{
            hour_tally::HourTally,
            record::{DecisionKind, Delivery, HoldReason, MissedPolicy, Outcome, Record},
        },
        customer::{
            identity::{Identity, IdentityMode},
            state::{CustomerState, CustomerStatus},
            transition::RegistrationRefused,
        },
        product::{Catalog, FormerIdentity, Product, ProductIndex},
        time::Hour,
        usage::bucket::Usage,
    },
    engine::{
        counting::request::{Split, UsageEntry},
        customers::CustomerIndex,
        open_error::OpenError,
        rules::Rules,
        state::EngineState,
    },
    store::{Batch, Store, TableId, tables::customers::CustomerRows},
    testing::{harness::Harness, sample},
};

const ACCOUNTS: [&str; 4] = ["000000000001", "000000000002", "000000000003", "000000000004"];
const TO_THE_SEAL: Duration = Duration::from_mins(40);
const HOUR: Duration = Duration::from_hours(1);

fn harness() -> Harness {
    Harness::new(MissedPolicy::RollForward)
}

/// A request of the first account, in the hour that it is.
fn requests(harness: &Harness, amount: u128) -> UsageEntry {
    sample::entry(ACCOUNTS[0], 0, Hour::containing(harness.now), amount)
}

/// Seals seven requests of the first account; returns their record.
fn seal_seven(harness: &mut Harness) -> Arc<Record> {
    harness.count(requests(harness, 7));
    harness.pass(TO_THE_SEAL);
    harness.seal_all();
    Arc::new(harness.billing("requests").remove(0))
}

fn put(harness: &mut Harness, key: &str, account: &str, reopens: bool) -> Result<CustomerIndex, PutError> {
    harness.write(|EngineState { billing, counting }, txn| {
        let registration = sample::registration(key, account, Hour::containing(txn.now));
        let registered = billing.put_customer(Registration { reopens, ..registration }, counting, txn);
        registered.map(|registered| registered.index)
    })
}

fn close(harness: &mut Harness) {
    harness.write(|state, txn| {
        state.billing.close_customer(ProductIndex(0), ACCOUNTS[0], txn.now, txn).unwrap();
    });
}

#[test]
fn a_zero_record_is_claimed_for_every_active_customer_and_dimension() {
    let mut harness = harness();
    for account in ACCOUNTS {
        put(&mut harness, account, account, false).unwrap();
    }
    harness.pass(TO_THE_SEAL);
    harness.seal_all();
    let records = harness.pending();
    assert_eq!(records.len(), ACCOUNTS.len() * 4);
    assert!(records.iter().all(|record| record.quantity.is_zero()));
}

/// The dimensions of the records that a seal makes in the hour to come.
fn sealed_next(harness: &mut Harness) -> usize {
    harness.pass(HOUR);
    let before = harness.state.billing.last_record();
    harness.seal_all();
    usize::try_from(harness.state.billing.last_record().0 - before.0).unwrap()
}

#[test]
fn no_zero_is_claimed_for_a_customer_that_aws_does_not_know_until_aws_accepts_something_of_it() {
    let mut harness = harness();
    put(&mut harness, ACCOUNTS[0], ACCOUNTS[0], false).unwrap();
    harness.count(requests(&harness, 7));
    assert_eq!(sealed_next(&mut harness), 4);
    for record in harness.pending() {
        harness.hold(&record, HoldReason::UnknownCustomer);
    }
    assert_eq!(harness.held().len(), 1, "a zero for someone unknown leaves nothing to decide about");
    harness.crash();
    assert_eq!(sealed_next(&mut harness), 0, "it used nothing");
    harness.count(requests(&harness, 5));
    assert_eq!(sealed_next(&mut harness), 1, "what it uses is told, and no more");
    let record = harness.pending().remove(0);
    harness.accept(&record);
    harness.crash();
    assert_eq!(sealed_next(&mut harness), 4);
}

#[test]
fn for_a_customer_that_only_usage_has_named_zeros_begin_with_its_first_acceptance() {
    let mut harness = harness();
    harness.count(requests(&harness, 7));
    assert_eq!(sealed_next(&mut harness), 4, "its other dimensions go along");
    assert_eq!(sealed_next(&mut harness), 0);
    let record = harness.billing("requests").remove(0);
    harness.accept(&record);
    harness.crash();
    assert_eq!(sealed_next(&mut harness), 4);
}

#[test]
fn an_hour_that_makes_no_record_stays_sealed_after_a_crash() {
    let mut harness = harness();
    let hour = Hour::containing(harness.now);
    harness.pass(TO_THE_SEAL);
    harness.seal_all();
    assert_eq!((harness.pending().len(), harness.state.billing.watermarks().lowest()), (0, hour));
    harness.crash();
    assert_eq!(harness.state.billing.watermarks().lowest(), hour);
}

#[test]
fn a_seal_goes_on_after_a_crash_in_its_middle_and_whoever_came_meanwhile_waits_for_the_next_one() {
    let mut harness = harness();
    let hour = Hour::containing(harness.now);
    let account = |number: u32| format!("{number:012}");
    for number in [20, 40, 60, 80] {
        harness.count(sample::entry(&account(number), 0, hour, number.into()));
    }
    harness.pass(TO_THE_SEAL);
    assert!(harness.seal_step().more && harness.seal_step().more);
    let hour_of_now = Hour::containing(harness.now);
    for number in [10, 30, 50, 70, 90] {
        put(&mut harness, &account(number), &account(number), false).unwrap();
        harness.count(sample::entry(&account(number), 0, hour_of_now, 1));
    }
    harness.crash();
    while harness.seal_step().more {
        harness.crash();
    }
    let of = |record: &Record| record.customer.trim_start_matches('0').parse().unwrap();
    let mut slots: Vec<(u32, Arc<str>)> =
        harness.pending().iter().map(|record| (of(record), record.dimension.clone())).collect();
    assert_eq!(slots.len(), 4 * 4, "one of each customer and dimension");
    assert!(slots.is_sorted_by_key(|(customer, _)| *customer), "in the order of keys");
    slots.dedup();
    assert_eq!(slots.len(), 4 * 4, "and none twice");
    assert_eq!(harness.quantities("requests"), ["20", "40", "60", "80"]);
    assert_eq!(harness.open_units(), 5, "what came meanwhile is open");
}

/// Without zero records, so that only those are sealed who used something.
fn desk_without_zeros() -> Harness {
    let mut harness = harness();
    let products = harness.rules.catalog.products();
    let products = products.map(|(_, product)| Product { zero_records: false, ..product.clone() });
    harness.rules.catalog = Arc::new(Catalog::new(products.collect()));
    harness.crash();
    harness
}

#[test]
fn no_step_of_a_seal_looks_at_more_than_its_share() {
    let mut harness = desk_without_zeros();
    let account = |number: u32| format!("{number:012}");
    for number in 0..40 {
        put(&mut harness, &account(number), &account(number), false).unwrap();
    }
    let hour = Hour::containing(harness.now);
    for number in (0..12).chain([39]) {
        for dimension in 0..2 {
            harness.count(sample::entry(&account(number), dimension, hour, 1000));
        }
    }
    harness.pass(TO_THE_SEAL);
    let mut records_by_step = Vec::new();
    loop {
        let progress = harness.seal_step();
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
    let mut harness = desk_without_zeros();
    for number in 0..40 {
        let account = format!("{number:012}");
        put(&mut harness, &account, &account, false).unwrap();
    }
    harness.pass(TO_THE_SEAL);
    let progress = harness.seal_step();
    assert_eq!((progress.hours, progress.more), (1, false));
}

#[test]
fn a_record_of_a_product_that_is_not_configured_is_refused_at_the_start() {
    let mut harness = harness();
    seal_seven(&mut harness);
    let other = harness
        .rules
        .catalog
        .products()
        .map(|(_, product)| Product { code: "other".into(), ..product.clone() });
    let rules = Rules { catalog: Arc::new(Catalog::new(other.collect())), ..harness.rules.clone() };
    let refused = EngineState::open(&harness.store, rules, Arc::default(), harness.now).unwrap_err();
    assert!(matches!(&refused, OpenError::NotConfigured { product, .. } if product == "prod"), "{refused}");
}

#[test]
fn what_is_outstanding_of_a_dimension_that_is_gone_is_settled_under_its_name() {
    let mut harness = harness();
    let record = seal_seven(&mut harness);
    harness.hold(&record, HoldReason::Refused);
    harness.seal_all();
    let gone = harness.rules.catalog.products().map(|(_, product)| {
        let dimensions = product.dimensions.iter().filter(|dimension| *dimension.name != *"requests");
        Product { dimensions: dimensions.cloned().collect(), ..product.clone() }
    });
    harness.rules.catalog = Arc::new(Catalog::new(gone.collect()));
    harness.crash();
    harness.decide(&record, DecisionKind::WriteOff).unwrap();
    assert_eq!(harness.rows(TableId::Outstanding), 0);
}

/// A folder may have such a key from before: its customer goes on.
#[test]
fn a_key_with_characters_that_are_not_seen_is_refused_for_a_new_customer_alone() {
    let mut harness = harness();
    for key in ["ac\u{200b}me", "\u{202e}emca", "\u{ad}"] {
        let refused = put(&mut harness, key, ACCOUNTS[0], false);
        assert!(matches!(refused, Err(PutError::UnseenKey)), "{key:?}: {refused:?}");
    }
    let old = CustomerState::new(
        Identity::Account { account_id: ACCOUNTS[1].into() },
        None,
        Hour::containing(harness.now),
    );
    let mut batch = Batch::default();
    batch.put(CustomerRows, (&harness.rules.catalog.products().next().unwrap().1.code, "\u{ad}"), &old);
    harness.store.commit(batch).unwrap();
    harness.crash();
    assert!(put(&mut harness, "\u{ad}", ACCOUNTS[2], false).is_ok());
}

#[test]
fn no_identity_changes_hands_in_the_middle_of_a_seal() {
    let mut harness = harness();
    for (key, account) in ["a", "b", "c", "d"].into_iter().zip(ACCOUNTS) {
        put(&mut harness, key, account, false).unwrap();
    }
    harness.pass(TO_THE_SEAL);
    let progress = harness.seal_step();
    assert!(progress.more, "the seal takes several steps");
    let refused = put(&mut harness, "a", "000000000009", false);
    assert!(matches!(refused, Err(PutError::Refused(RegistrationRefused::Sealing))), "{refused:?}");
    harness.seal_all();
    assert!(put(&mut harness, "a", "000000000009", false).is_ok());
}

#[test]
fn a_distinct_subject_counts_once_an_hour_also_across_a_crash() {
    let mut harness = harness();
    let hour = Hour::containing(harness.now);
    let user = |subject| UsageEntry {
        usage: Usage::Unique(1),
        split: Split::of(None, Some(subject)),
        ..sample::entry(ACCOUNTS[0], 3, hour, 0)
    };
    for subject in [1, 2, 1] {
        harness.count(user(subject));
    }
    harness.crash();
    for subject in [2, 3] {
        harness.count(user(subject));
    }
    harness.pass(TO_THE_SEAL);
    harness.seal_all();
    harness.count(UsageEntry { hour: hour.next(), ..user(1) });
    harness.pass(HOUR);
    harness.seal_all();
    assert_eq!(harness.quantities("users"), ["3", "1"]);
    assert_eq!(harness.rows(TableId::Subjects), 0, "they leave with their hour");
}

#[test]
fn a_level_stands_in_later_hours_until_it_is_changed() {
    let mut harness = harness();
    let seats = |harness: &Harness, level| UsageEntry {
        usage: Usage::Latest { at: harness.now.into(), level },
        ..sample::entry(ACCOUNTS[0], 2, Hour::containing(harness.now), 0)
    };
    harness.count(seats(&harness, 7));
    for level in [None, None, Some(2), None, Some(0), None, None] {
        harness.pass(HOUR);
        harness.seal_all();
        harness.crash();
        if let Some(level) = level {
            harness.count(seats(&harness, level));
        }
    }
    assert_eq!(harness.quantities("seats"), ["7", "7", "7", "2", "2"]);
}

#[test]
fn a_closing_customer_is_sealed_early_and_once_and_what_follows_is_held() {
    let mut harness = harness();
    harness.count(requests(&harness, 7));
    close(&mut harness);
    harness.crash();
    harness.pass(Duration::from_mins(5));
    assert!(harness.state.billing.next_seal() <= harness.now, "the grace is over");
    harness.seal_all();
    let pending = harness.pending();
    assert_eq!(pending.len(), 4, "the open hour, with its zeros");
    assert_eq!(harness.quantities("requests"), ["7"]);
    let deadline = harness.state.billing.deadline(&pending[0]);
    assert_eq!(deadline.to_string(), "2026-11-29T22:30:00Z", "an hour after the notice");
    harness.count(requests(&harness, 5));
    for _ in 0..4 {
        harness.pass(HOUR);
        harness.seal_all();
        harness.crash();
    }
    assert_eq!(harness.pending().len(), pending.len(), "no zeros after");
    let [held] = &harness.held()[..] else { panic!("{:?}", harness.held()) };
    assert!(matches!(held.outcome, Outcome::Held { reason: HoldReason::NotBillable, .. }));
    assert_eq!(held.record.amounts.billed, 5);
    let customers = harness.state.billing.customers.read();
    let customer =
        customers.find(ProductIndex(0), ACCOUNTS[0]).and_then(|index| customers.get(index)).unwrap();
    assert_eq!(customer.state.status(harness.now), CustomerStatus::Ended);
}

#[test]
fn a_customer_that_closes_while_an_hour_is_sealed_is_billed_for_that_hour() {
    let mut harness = harness();
    let hour = Hour::containing(harness.now);
    for (account, amount) in ACCOUNTS.into_iter().zip(1..) {
        harness.count(sample::entry(account, 0, hour, amount));
    }
    harness.pass(TO_THE_SEAL);
    assert!(harness.seal_step().more);
    harness.write(|state, txn| {
        state.billing.close_customer(ProductIndex(0), ACCOUNTS[3], txn.now, txn).unwrap();
    });
    harness.pass(Duration::from_mins(5));
    harness.seal_all();
    assert!(harness.held().is_empty(), "{:?}", harness.held());
    assert_eq!(harness.quantities("requests"), ["1", "2", "3", "4"]);
}

#[test]
fn a_decision_is_written_down_for_ever_and_the_sum_stays_whole() {
    let mut harness = harness();
    let hour = Hour::containing(harness.now);
    for account in &ACCOUNTS[..3] {
        harness.count(sample::entry(account, 0, hour, 7));
    }
    harness.pass(TO_THE_SEAL);
    harness.seal_all();
    let records = harness.billing("requests");
    for record in &records {
        harness.hold(record, HoldReason::OutcomeUnknown);
    }
    for (record, kind) in records.iter().zip(DecisionKind::ALL) {
        let resumed = harness.decide(record, kind).unwrap();
        assert_eq!(resumed.len(), usize::from(kind == DecisionKind::Retry));
        assert!(resumed.iter().all(|(again, delivery)| again == record && delivery.outcome_unknown));
        let again = harness.decide(record, kind).unwrap_err().to_string();
        assert_eq!(again, format!("record {} is not held", record.id));
    }
    harness.crash();
    for (record, kind) in records.iter().zip(DecisionKind::ALL) {
        let [decided] = &harness.records().decisions(record.id).unwrap()[..] else { panic!("{kind:?}") };
        assert_eq!((decided.decision.kind, &*decided.decision.by, decided.amount), (kind, "ann", 7));
        assert_eq!(&*decided.decision.client, "ops");
    }
    assert_eq!(harness.open_units(), 7, "what is carried is open again");
    assert_eq!(harness.state.billing.tally().held_records.values().sum::<u64>(), 0);
}

#[test]
fn who_comes_back_or_takes_an_identity_over_fills_no_slot_again() {
    let mut harness = harness();
    let hour = Hour::containing(harness.now);
    harness.count(requests(&harness, 7));
    close(&mut harness);
    harness.pass(Duration::from_mins(5));
    harness.seal_all();
    assert!(put(&mut harness, ACCOUNTS[0], ACCOUNTS[0], true).is_ok());
    harness.count(requests(&harness, 5));
    close(&mut harness);
    harness.pass(Duration::from_mins(5));
    harness.seal_all();
    let sealed = |harness: &Harness| -> Vec<Hour> {
        harness.billing("requests").iter().map(|record| record.hour).collect()
    };
    assert_eq!(sealed(&harness), [hour], "the next hour is not sealed before it has begun");
    harness.now = hour.next().start();
    harness.seal_all();
    assert_eq!(sealed(&harness), [hour, hour.next()]);
}

#[test]
fn two_decisions_in_one_batch_are_one() {
    let mut harness = harness();
    let record = seal_seven(&mut harness);
    harness.hold(&record, HoldReason::NotSubscribed);
    harness.pass(Duration::from_hours(5));
    let (decision, ids) = (harness.decision(DecisionKind::Carry), BTreeSet::from([record.id]));
    harness.write(|EngineState { billing, counting }, txn| {
        billing.decide(&ids, &decision, counting, txn).unwrap();
        assert!(billing.decide(&ids, &decision, counting, txn).is_err());
        assert!(billing.retry_slowly(txn).unwrap().is_empty());
    });
    harness.crash();
    assert!(harness.pending().iter().all(|record| !record.bills_something()));
    assert_eq!(harness.open_units(), 7);
}

#[test]
fn a_customer_without_a_subscription_claims_no_zeros_and_is_tried_again_slowly() {
    let mut harness = harness();
    let record = seal_seven(&mut harness);
    harness.hold(&record, HoldReason::NotSubscribed);
    harness.crash();
    let sealed_before = harness.state.billing.last_record();
    harness.pass(HOUR);
    harness.seal_all();
    assert_eq!(harness.state.billing.last_record(), sealed_before, "no zeros meanwhile");
    assert!(harness.state.billing.next_slow_retry() <= harness.now);
    let resumed = harness.write(|state, txn| state.billing.retry_slowly(txn).unwrap());
    assert_eq!(resumed.len(), 1);
    harness.accept(&record);
    harness.pass(HOUR);
    harness.seal_all();
    assert_eq!(harness.state.billing.last_record().0, sealed_before.0 + 4, "zeros again");
}

#[test]
fn a_record_is_settled_once_whatever_news_comes_of_it() {
    let mut harness = harness();
    let record = seal_seven(&mut harness);
    let accepted = Outcome::Accepted { receipt: "r".into(), presumed: false };
    let news = [
        Settlement::Missed(record.clone(), Delivery::default()),
        Settlement::Missed(record.clone(), Delivery::default()),
        Settlement::Done(record.clone(), 1, accepted),
        Settlement::Pending(record.id, Delivery::default().attempted()),
    ];
    let settled = harness.write(|EngineState { billing, counting }, txn| {
        news.each_ref().map(|news| billing.settle(news, counting, txn).unwrap().is_some())
    });
    assert_eq!(settled, [true, false, false, false]);
    for news in &news {
        assert_eq!(harness.settle(news), None);
    }
    harness.crash();
    assert_eq!(harness.open_units(), 7, "carried once");
}

#[test]
fn a_record_in_conflict_is_not_sent_again() {
    let mut harness = harness();
    let record = seal_seven(&mut harness);
    harness.hold(&record, HoldReason::Conflict);
    let refused = harness.decide(&record, DecisionKind::Retry).unwrap_err().to_string();
    assert!(refused.ends_with("carry it or write it off"), "{refused}");
    harness.crash();
    let refused = harness.decide(&record, DecisionKind::Retry).unwrap_err().to_string();
    assert!(refused.contains("another reporter"), "{refused}");
    harness.decide(&record, DecisionKind::Carry).unwrap();
}

fn hours(harness: &Harness) -> Vec<(Hour, HourTally)> {
    assert_eq!(sample::hour_faults(&harness.store), Vec::<String>::new());
    read_hours(&harness.store, 1000).unwrap().into_iter().collect()
}

#[test]
fn the_tally_of_an_hour_follows_its_records_over_crashes() {
    let mut harness = harness();
    let record = seal_seven(&mut harness);
    let tally =
        |harness: &Harness| hours(harness).into_iter().find(|(hour, _)| *hour == record.hour).unwrap().1;
    let sealed = tally(&harness);
    assert_eq!((sealed.pending, sealed.held), (sealed.records(), 0));
    harness.hold(&record, HoldReason::Refused);
    harness.crash();
    assert_eq!((tally(&harness).pending, tally(&harness).held), (sealed.pending - 1, 1));
    harness.decide(&record, DecisionKind::Retry).unwrap();
    assert_eq!(tally(&harness), sealed);
    harness.crash();
    harness.hold(&record, HoldReason::Refused);
    harness.decide(&record, DecisionKind::Carry).unwrap();
    assert_eq!((tally(&harness).held, tally(&harness).carried), (0, 1));
    for other in harness.pending() {
        harness.accept(&other);
    }
    harness.crash();
    assert_eq!((tally(&harness).pending, tally(&harness).accepted), (0, sealed.pending - 1));
}

#[test]
fn the_tallies_of_three_days_are_kept_and_what_becomes_of_older_records_is_nobodys_news() {
    let mut harness = harness();
    let record = seal_seven(&mut harness);
    for _ in 0..80 {
        harness.pass(HOUR);
        harness.seal_all();
    }
    let kept = hours(&harness);
    assert_eq!(kept.len(), 73, "an hour without records has a tally, too");
    assert_eq!(kept[72].0, harness.state.billing.watermarks().lowest());
    harness.accept(&record);
    harness.crash();
    assert_eq!(hours(&harness), kept);
}

#[test]
fn a_closing_customer_that_is_not_known_under_the_identity_of_its_last_hour_is_held() {
    let mut harness = harness();
    let until = Hour::containing(harness.now);
    let changed = harness.rules.catalog.products().map(|(_, product)| Product {
        identity: IdentityMode::License,
        former: Some(FormerIdentity { mode: IdentityMode::Account, until }),
        ..product.clone()
    });
    harness.rules.catalog = Arc::new(Catalog::new(changed.collect()));
    harness.crash();
    harness.write(|EngineState { billing, counting }, txn| {
        let license_arn = "arn:aws:license-manager::123456789012:license:l-1".into();
        let identity = Identity::License { account_id: ACCOUNTS[0].into(), license_arn };
        let registration = sample::registration(ACCOUNTS[0], ACCOUNTS[0], until);
        billing.put_customer(Registration { identity, ..registration }, counting, txn).unwrap();
    });
    harness.count(requests(&harness, 7));
    close(&mut harness);
    harness.pass(Duration::from_mins(5));
    harness.seal_all();
    let [held] = &harness.held()[..] else { panic!("{:?}", harness.held()) };
    assert!(matches!(held.outcome, Outcome::Held { reason: HoldReason::NoIdentity, .. }));
    assert_eq!(held.record.amounts.billed, 7);
}
