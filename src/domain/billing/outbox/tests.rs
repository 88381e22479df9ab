//! What is sent next, from a queue of records under way.

use super::*;
use crate::domain::{
    billing::{answer::Answers, deadline::Window, record::tests::sample},
    customer::identity::Identity,
};
use proptest::prelude::*;
use std::{collections::VecDeque, time::Duration};

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(seconds)
}

fn record(id: u64, hour: u32) -> Arc<Record> {
    let hour = Hour::from_index(hour);
    let identity = Identity::Account { account_id: format!("{id:012}").into() };
    Arc::new(Record { identity, hour, ..sample(id) })
}

fn outbox(records: impl IntoIterator<Item = (u64, i64)>) -> Outbox {
    let mut outbox = Outbox::default();
    for (id, deadline) in records {
        outbox.insert(record(id, 1), Delivery::default(), at(deadline), Standing::Verified);
    }
    outbox
}

fn ids(batch: Option<InFlightBatch>) -> Vec<u64> {
    batch.into_iter().flat_map(|batch| batch.entries).map(|entry| entry.record.id.0).collect()
}

fn deliveries(entries: &[QueuedRecord]) -> Vec<(RecordId, Delivery)> {
    entries.iter().map(|entry| (entry.record.id, entry.delivery.clone())).collect()
}

fn reply(is_good: bool) -> Reply {
    if is_good { Reply::Answered(Answers::default()) } else { Reply::BadRecord("bad".into()) }
}

#[test]
fn the_nearest_deadline_goes_first_and_25_at_a_time() {
    let mut outbox = outbox((1..=30).map(|id| (id, 1000 - i64::try_from(id).unwrap())));
    assert_eq!(ids(outbox.take_batch(at(1))), (6..=30).rev().collect::<Vec<u64>>());
    assert_eq!(ids(outbox.take_batch(at(1))), [5, 4, 3, 2, 1]);
    assert!(outbox.take_batch(at(1)).is_none());
}

#[test]
fn what_backs_off_comes_back_and_not_before() {
    let mut outbox = outbox([(1, 1000)]);
    let _in_flight = outbox.take_batch(at(1));
    outbox.put_back(RecordId(1), Delivery { next_attempt: at(50), ..Delivery::default() });
    assert_eq!(outbox.next_event(at(1)), Some(at(50)));
    assert!(outbox.take_batch(at(49)).is_none());
    assert_eq!(ids(outbox.take_batch(at(50))), [1]);
}

#[test]
fn a_paused_product_lets_others_pass_and_comes_back() {
    let mut outbox = outbox([(1, 100)]);
    let other = Record { product: "other".into(), ..(*record(2, 1)).clone() };
    outbox.insert(Arc::new(other), Delivery::default(), at(900), Standing::Verified);
    outbox.pause("prod", at(50));
    assert_eq!(ids(outbox.take_batch(at(1))), [2]);
    assert!(!outbox.has_due(at(49)) && outbox.take_batch(at(49)).is_none());
    assert_eq!(outbox.next_event(at(1)), Some(at(50)));
    assert_eq!(ids(outbox.take_batch(at(50))), [1]);
}

#[test]
fn a_clock_that_was_set_back_holds_nothing_up() {
    let mut outbox = outbox([(1, 100_000)]);
    let _in_flight = outbox.take_batch(at(50_000));
    outbox.put_back(RecordId(1), Delivery { next_attempt: at(50_060), ..Delivery::default() });
    outbox.pause("prod", at(50_060));
    assert!(!outbox.has_due(at(20)));
    outbox.hurry(at(20));
    assert_eq!(ids(outbox.take_batch(at(20))), [1]);
    outbox.remove(RecordId(1));
    assert!(outbox.backing_off.is_empty());
}

#[test]
fn nothing_is_sent_past_its_deadline() {
    let mut outbox = outbox([(1, 100), (2, 200)]);
    assert_eq!(ids(outbox.take_batch(at(100))), [2]);
    let missed = |now| outbox.missed(at(now), 10).iter().map(|entry| entry.record.id.0).collect::<Vec<u64>>();
    assert_eq!(missed(100), [1]);
    assert_eq!(missed(500), [1], "a record in batch is not given up");
}

#[test]
fn a_bad_record_is_found_within_ten_calls_and_the_rest_goes_out() {
    for bad in 1..=25 {
        let mut outbox = outbox((1..=25).map(|id| (id, 1000)));
        let (mut calls, mut good) = (0, 0);
        while let Some(batch) = outbox.take_batch(at(1)) {
            calls += 1;
            let has_bad = batch.entries.iter().any(|entry| entry.record.id.0 == bad);
            if has_bad && batch.entries.len() > 1 {
                outbox.isolate(&batch, deliveries(&batch.entries), Culprit::Record);
            } else {
                good += if has_bad { 0 } else { batch.entries.len() };
                for entry in &batch.entries {
                    outbox.remove(entry.record.id);
                }
            }
            outbox.complete(batch, &reply(!has_bad));
        }
        assert_eq!(good, 24);
        assert!(calls <= 10, "{calls} calls for {bad}");
        assert!(outbox.is_empty());
    }
}

fn of_customer(id: u64, customer: &str) -> Arc<Record> {
    Arc::new(Record { customer: customer.into(), ..(*record(id, 1)).clone() })
}

#[test]
fn a_record_is_due_until_its_deadline() {
    let mut outbox = Outbox::default();
    assert!(outbox.is_empty() && !outbox.has_due(at(1)));
    outbox.insert(record(1, 1), Delivery::default(), at(100), Standing::Verified);
    assert!(!outbox.is_empty());
    assert!(outbox.has_due(at(99)) && !outbox.has_due(at(100)));
}

#[test]
fn the_halves_of_a_refused_batch_are_due_until_their_deadline() {
    let mut outbox = outbox([(1, 100), (2, 100)]);
    let batch = outbox.take_batch(at(1)).unwrap();
    outbox.isolate(&batch, deliveries(&batch.entries), Culprit::Record);
    outbox.complete(batch, &reply(false));
    assert!(outbox.has_due(at(2)), "although no product has any due");
    assert!(outbox.take_batch(at(100)).is_none(), "nothing is sent at its deadline");
}

#[test]
fn a_closing_customers_records_go_first_and_no_one_elses() {
    let mut outbox = Outbox::default();
    for (id, customer) in [(1, "staying"), (2, "closing"), (3, "closing")] {
        outbox.insert(
            of_customer(id, customer),
            Delivery::default(),
            at(1000 + i64::try_from(id).unwrap()),
            Standing::Verified,
        );
    }
    assert!(outbox.has_due(at(1)), "they are due already");
    outbox.hasten("prod", "closing", at(500));
    let batch = outbox.take_batch(at(1)).unwrap();
    let deadlines: Vec<_> = batch.entries.iter().map(|entry| (entry.record.id.0, entry.deadline)).collect();
    assert_eq!(deadlines, [(2, at(500)), (3, at(500)), (1, at(1001))]);
}

#[test]
fn a_known_record_only_gets_its_new_deadline() {
    let mut outbox = outbox([(1, 1000), (2, 900)]);
    outbox.insert(record(1, 1), Delivery { attempts: 7, ..Delivery::default() }, at(800), Standing::Verified);
    assert_eq!(outbox.len(), 2);
    let batch = outbox.take_batch(at(1)).unwrap();
    assert_eq!(batch.entries[0].record.id, RecordId(1));
    assert_eq!((batch.entries[0].deadline, batch.entries[0].delivery.attempts), (at(800), 0));
}

#[test]
fn the_next_event_is_never_now() {
    let mut outbox = outbox([(1, 1000)]);
    let _in_flight = outbox.take_batch(at(1));
    outbox.pause("prod", at(50));
    assert_eq!(outbox.next_event(at(49)), Some(at(50)));
    assert_eq!(outbox.next_event(at(50)), Some(at(1000)));
}

#[test]
fn unsent_tells_what_waits() {
    let mut outbox = outbox([(1, 1000), (2, 900)]);
    let unsent = outbox.unsent("prod");
    assert_eq!(unsent.nearest_deadline, Some(at(900)));
    assert_eq!(unsent.last_error, None);
    assert_eq!(unsent.units.get("requests"), Some(&10));
    let _in_flight = outbox.take_batch(at(1));
    outbox.put_back(RecordId(2), Delivery { last_error: "throttled".into(), ..Delivery::default() });
    assert_eq!(outbox.unsent("prod").last_error.as_deref(), Some("throttled"));
    outbox.remove(RecordId(2));
    assert_eq!(outbox.unsent("prod").units.get("requests"), Some(&5));
}

#[test]
fn new_records_are_due_at_once_and_those_that_back_off_are_not() {
    let mut outbox = outbox([(1, 1000)]);
    outbox.promote(at(50));
    for (id, next_attempt) in [(2, 50), (3, 51)] {
        let delivery = Delivery { next_attempt: at(next_attempt), ..Delivery::default() };
        outbox.insert(record(id, 1), delivery, at(1000), Standing::Verified);
    }
    let backing_off: Vec<_> = outbox.backing_off.iter().map(|(at, id)| (*at, id.0)).collect();
    assert_eq!(backing_off, [(at(51), 3)], "the others wait for no one to move them");
    assert_eq!(ids(outbox.take_batch(at(50))), [1, 2]);
}

#[test]
fn a_customers_records_are_forgotten_when_they_leave() {
    let mut outbox = Outbox::default();
    for id in [2, 1, 3] {
        outbox.insert(of_customer(id, "closing"), Delivery::default(), at(1000), Standing::Verified);
    }
    outbox.remove(RecordId(1));
    assert_eq!(outbox.products["prod"].of_customer("closing"), [RecordId(2), RecordId(3)]);
    outbox.hasten("prod", "closing", at(500));
    outbox.remove(RecordId(3));
    outbox.remove(RecordId(2));
    assert!(outbox.products["prod"].of_customer("closing").is_empty());
}

#[test]
fn customers_that_aws_knows_go_first_and_in_batches_of_their_own() {
    let mut outbox = Outbox::default();
    for (id, customer, standing) in [
        (1, "invented", Standing::SelfNamed),
        (2, "unknown", Standing::Refused),
        (3, "good", Standing::Verified),
        (4, "new", Standing::Registered),
        (5, "invented", Standing::SelfNamed),
    ] {
        outbox.insert(of_customer(id, customer), Delivery::default(), at(1_000_000), standing);
    }
    let batches: Vec<_> = (0..4).map(|_| ids(outbox.take_batch(at(1)))).collect();
    assert_eq!(batches, [vec![3], vec![4], vec![1, 5], vec![2]]);
}

#[test]
fn what_aws_says_of_a_customer_holds_for_all_that_waits_of_it() {
    let mut outbox = Outbox::default();
    for (id, customer) in [(1, "a"), (2, "b"), (3, "a"), (4, "c")] {
        outbox.insert(of_customer(id, customer), Delivery::default(), at(1000), Standing::SelfNamed);
    }
    outbox.set_standing("prod", "c", Standing::Verified);
    outbox.set_standing("prod", "a", Standing::Refused);
    outbox.insert(of_customer(5, "b"), Delivery::default(), at(1000), Standing::Registered);
    let batches: Vec<_> = (0..3).map(|_| ids(outbox.take_batch(at(1)))).collect();
    assert_eq!(batches, [vec![4], vec![2, 5], vec![1, 3]]);
    assert!(!outbox.has_due(at(1)));
}

#[test]
fn a_suspect_that_aws_turns_out_to_know_leaves_the_others() {
    let mut outbox = Outbox::default();
    for (id, customer) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
        outbox.insert(of_customer(id, customer), Delivery::default(), at(1000), Standing::SelfNamed);
    }
    let unknown = Reply::UnknownIdentity(Culprit::Customer, "no".into());
    let batch = outbox.take_batch(at(1)).unwrap();
    outbox.isolate(&batch, deliveries(&batch.entries), Culprit::Customer);
    outbox.complete(batch, &unknown);
    outbox.set_standing("prod", "a", Standing::Verified);
    assert_eq!(ids(outbox.take_batch(at(1))), [1], "on its own, and first");
    assert_eq!(ids(outbox.take_batch(at(1))), [2]);
}

#[test]
fn one_answer_tells_of_all_records_of_a_customer_that_aws_does_not_know() {
    let mut outbox = Outbox::default();
    for id in 1..=24 {
        let customer = ["a", "b", "c"][usize::try_from(id % 3).unwrap()];
        let identity = Identity::CustomerIdentifier { customer_identifier: customer.into() };
        let record = Record { identity, ..(*record(id, u32::try_from(id).unwrap())).clone() };
        let record = Record { customer: customer.into(), ..record };
        outbox.insert(Arc::new(record), Delivery::default(), at(1_000_000), Standing::SelfNamed);
    }
    let (mut calls, mut refused) = (0, Vec::new());
    while let Some(batch) = outbox.take_batch(at(1)) {
        calls += 1;
        let mut records = batch.entries.iter().map(|entry| &*entry.record);
        let is_bad = records.any(|record| &*record.customer != "b");
        let is_found = Culprit::Customer.is_found(batch.entries.iter().map(|entry| &*entry.record));
        if is_bad && !is_found {
            outbox.isolate(&batch, deliveries(&batch.entries), Culprit::Customer);
        } else {
            refused.extend(batch.entries.iter().filter(|_| is_bad).map(|entry| entry.record.id));
            batch.entries.iter().for_each(|entry| drop(outbox.remove(entry.record.id)));
        }
        let unknown = Reply::UnknownIdentity(Culprit::Customer, "no".into());
        outbox.complete(batch, if is_bad { &unknown } else { &Reply::Throttled });
    }
    assert_eq!(refused.len(), 16);
    assert!(calls <= 5, "{calls}");
}

#[test]
fn what_was_suspected_past_its_deadline_by_a_wrong_clock_goes_out_by_the_right_one() {
    let mut outbox = outbox([(1, 100), (2, 100)]);
    let batch = outbox.take_batch(at(1)).unwrap();
    outbox.isolate(&batch, deliveries(&batch.entries), Culprit::Record);
    outbox.complete(batch, &reply(false));
    assert!(!outbox.has_due(at(500)), "an hour too late, by a clock that is ahead");
    assert_eq!(ids(outbox.take_batch(at(2))), [1, 2]);
}

proptest! {
    /// Whatever is answered in whatever order, each record is in batch at most once at a time, and none vanishes. No
    /// batch has records of customers that AWS knows and of others.
    #[test]
    fn no_record_is_lost_or_sent_twice_at_once(answers in proptest::collection::vec((0..7_u8, 0..90_u64, 0..4_usize), 1..200)) {
        let mut outbox = Outbox::default();
        let customer = |id: u64| format!("customer-{}", id % 7);
        for id in 1..=60 {
            let hour = Hour::from_index(u32::try_from(id % 3).unwrap());
            let record = Record { customer: customer(id).into(), ..(*record(id, hour.index())).clone() };
            let standing = Standing::ALL[usize::try_from(id % 7).unwrap() % 4];
            outbox.insert(Arc::new(record), Delivery::default(), Window::AWS.deadline(hour), standing);
        }
        let (mut batches, mut settled, mut now) = (VecDeque::<InFlightBatch>::new(), BTreeSet::new(), at(0));
        for (answer, passed, told) in answers {
            now = now.plus(Duration::from_secs(passed));
            if let Some(batch) = outbox.take_batch(now) {
                for entry in &batch.entries {
                    let id = entry.record.id;
                    prop_assert!(batches.iter().flat_map(|other| &other.entries).all(|other| other.record.id != id));
                    prop_assert!(!settled.contains(&id));
                    prop_assert!(entry.delivery.next_attempt <= now && now < entry.deadline);
                    prop_assert_eq!(entry.standing, batch.standing);
                }
                batches.push_back(batch);
            }
            if answer == 0 { continue }
            if answer > 4 {
                outbox.set_standing("prod", &customer(passed), Standing::ALL[told]);
                continue;
            }
            let Some(batch) = batches.pop_front() else { continue };
            match answer {
                1 => for entry in &batch.entries {
                    settled.insert(entry.record.id);
                    outbox.remove(entry.record.id);
                },
                2 => outbox.isolate(&batch, deliveries(&batch.entries), Culprit::Record),
                4 => outbox.isolate(&batch, deliveries(&batch.entries), Culprit::Customer),
                _ => for entry in &batch.entries {
                    let next_attempt = now.plus(Duration::from_secs(30));
                    outbox.put_back(entry.record.id, Delivery { next_attempt, ..entry.delivery.clone() });
                },
            }
            outbox.complete(batch, &reply(answer == 1));
        }
        prop_assert_eq!(outbox.len() + settled.len(), 60);
        let places = outbox.entries.values().filter(|entry| entry.stage == Stage::Suspected).count();
        let suspects = outbox.suspects.len();
        let waiting: usize = batches.iter().flat_map(|batch| &batch.rest).map(|(rest, _)| rest.len()).sum();
        prop_assert_eq!(places, suspects + waiting, "a suspect is out of reach");
    }
}
