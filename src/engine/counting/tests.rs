//! The limits that counting keeps, in plain values.

use super::{CountError, request::StreamPosition, streams::ProducerStream};
use crate::{
    domain::{
        billing::record::MissedPolicy,
        customer::limits::CustomerLimits,
        product::ProductIndex,
        time::Hour,
        usage::{bucket::Usage, event::RejectReason},
    },
    engine::{
        counting::request::{CountRequest, Counted, UsageEntry},
        rules::Rules,
        state::EngineState,
    },
    testing::{harness::Harness, sample},
};

const ACME: &str = "000000000001";
const GLOBEX: &str = "000000000002";

fn harness(max_open_buckets: usize, max_customers: usize) -> Harness {
    let mut harness = Harness::new(MissedPolicy::Hold);
    let rules = sample::rules(MissedPolicy::Hold);
    let customers = CustomerLimits { most: max_customers, ..rules.customers };
    harness.rules = Rules { customers, max_open_buckets, ..rules };
    harness.crash();
    harness
}

fn entry(harness: &Harness, account: &str, dimension: u16, amount: u128) -> UsageEntry {
    sample::entry(account, dimension, Hour::containing(harness.now), amount)
}

fn count(
    harness: &mut Harness,
    entries: Vec<UsageEntry>,
    sequence: Option<u64>,
) -> Result<Counted, CountError> {
    let position = sequence.map(|sequence| StreamPosition {
        stream: ProducerStream::new(None, "host-1".into()),
        sequence,
        digest: sequence,
    });
    let request = CountRequest { events: entries.len(), entries, position, ..CountRequest::default() };
    harness.write(|state, txn| state.count(&request, txn))
}

fn refused(counted: &Counted) -> Vec<&RejectReason> {
    counted.refused_entries.iter().map(|refused| &refused.why).collect()
}

#[test]
fn a_bucket_above_the_limit_is_refused_and_an_open_one_still_takes_usage() {
    let mut harness = harness(1, 100);
    let [first, other] = [0, 1].map(|dimension| entry(&harness, ACME, dimension, 7));
    let counted = count(&mut harness, vec![first.clone(), other], None).unwrap();
    assert_eq!(
        refused(&counted),
        [&RejectReason::LimitReached { limit: "limits.max_open_buckets", most: 1 }]
    );
    assert_eq!(refused(&count(&mut harness, vec![first], None).unwrap()), Vec::<&RejectReason>::new());
    assert_eq!(harness.open_units(), 14);
    let oldest = (ProductIndex(0), Hour::containing(harness.now));
    assert_eq!(harness.state.status().oldest_open, [oldest].into());
}

#[test]
fn a_bucket_takes_64_bits_and_no_more() {
    let mut harness = harness(10, 100);
    let most = u128::from(u64::MAX);
    let [all, one] = [most, 1].map(|amount| entry(&harness, ACME, 0, amount));
    assert_eq!(refused(&count(&mut harness, vec![all], None).unwrap()), Vec::<&RejectReason>::new());
    let counted = count(&mut harness, vec![one], None).unwrap();
    assert_eq!(refused(&counted), [&RejectReason::QuantityOverflow]);
    let too_much = UsageEntry { usage: Usage::Sum(most + 1), ..entry(&harness, GLOBEX, 0, 0) };
    let counted = count(&mut harness, vec![too_much], None).unwrap();
    assert_eq!(refused(&counted), [&RejectReason::QuantityOverflow], "nor does a new one");
    assert_eq!(harness.open_units(), most);
}

/// A message uses up its number, so one that meets a full table is refused as a whole.
#[test]
fn a_message_for_which_there_is_no_room_can_come_again() {
    for (max_open_buckets, max_customers) in [(2, 100), (100, 1)] {
        let mut harness = harness(max_open_buckets, max_customers);
        let known = [0, 1].map(|dimension| entry(&harness, ACME, dimension, 7)).to_vec();
        count(&mut harness, known.clone(), Some(1)).unwrap();
        let new = vec![entry(&harness, GLOBEX, 0, 7)];
        assert!(matches!(count(&mut harness, new, Some(2)), Err(CountError::Full { .. })));
        count(&mut harness, known, Some(2)).unwrap();
        assert_eq!(harness.open_units(), 28, "{max_open_buckets} buckets, {max_customers} customers");
    }
}

/// Else its stream would never get on.
#[test]
fn a_message_that_no_empty_table_could_take_is_counted_as_far_as_it_goes() {
    let mut harness = harness(1, 100);
    let message = [0, 1].map(|dimension| entry(&harness, ACME, dimension, 7)).to_vec();
    let counted = count(&mut harness, message, Some(1)).unwrap();
    assert_eq!(
        refused(&counted),
        [&RejectReason::LimitReached { limit: "limits.max_open_buckets", most: 1 }]
    );
    let next = vec![entry(&harness, ACME, 0, 7)];
    count(&mut harness, next, Some(2)).unwrap();
    assert_eq!(harness.open_units(), 14);
}

/// At most ten customers, of which one is kept for registered ones, four of a client are yet to be accepted, and five
/// come in an hour.
fn small() -> Harness {
    let mut harness = harness(100, 10);
    let customers = CustomerLimits { most: 10, most_unverified: 4, most_new: 5 };
    harness.rules = Rules { customers, ..harness.rules };
    harness.crash();
    harness
}

fn account(number: u32) -> String {
    format!("{number:012}")
}

/// How many of some new customers a client's usage may name, and the limit that it meets.
fn name(harness: &mut Harness, client: Option<&str>, numbers: std::ops::Range<u32>) -> (usize, String) {
    let (mut named, mut limit) = (0, String::new());
    for number in numbers {
        let entry = entry(harness, &account(number), 0, 1);
        match harness.count_for(client, entry) {
            None => named += 1,
            Some(RejectReason::LimitReached { limit: reached, .. }) => {
                reached.split([',', ' ']).next().unwrap().clone_into(&mut limit);
            }
            Some(other) => panic!("{other}"),
        }
    }
    (named, limit)
}

#[test]
fn no_client_takes_the_room_for_customers_that_the_others_and_the_registered_need() {
    let mut harness = small();
    let unverified = "limits.max_unverified_customers".to_owned();
    assert_eq!(name(&mut harness, Some("greedy"), 0..6), (4, unverified.clone()));
    harness.crash();
    assert_eq!(name(&mut harness, Some("greedy"), 6..8), (0, unverified), "nor after a restart");
    assert_eq!(name(&mut harness, Some("modest"), 10..13).0, 3);
    let first = entry(&harness, &account(0), 0, 1);
    assert_eq!(harness.count_for(Some("greedy"), first), None, "those that it has go on");
    assert_eq!(name(&mut harness, None, 20..25), (2, "limits.max_customers".to_owned()), "a tenth is kept");
    let put = |harness: &mut Harness, number| {
        harness.write(|EngineState { billing, counting }, txn| {
            let account = account(number);
            let registration = sample::registration(&account, &account, Hour::containing(txn.now));
            billing.put_customer(registration, counting, txn).map_err(|refused| refused.to_string())
        })
    };
    put(&mut harness, 30).unwrap();
    let full = put(&mut harness, 31).unwrap_err();
    assert!(full.contains("limits.max_customers (10) is reached"), "{full}");
}

#[test]
fn customers_that_aws_accepts_make_room_for_new_ones() {
    let mut harness = small();
    assert_eq!(name(&mut harness, Some("app"), 0..4).0, 4);
    harness.pass(std::time::Duration::from_hours(1));
    harness.seal_all();
    let records = harness.billing("requests");
    for record in &records[..3] {
        harness.accept(record);
    }
    let unverified = "limits.max_unverified_customers".to_owned();
    let more = name(&mut harness, Some("app"), 10..15);
    assert_eq!(more, (3, unverified.clone()), "one of the first four is yet to be accepted");
    for record in harness.pending() {
        harness.accept(&record);
    }
    assert_eq!(name(&mut harness, Some("app"), 20..22), (1, unverified), "that was the one");
}

#[test]
fn each_hour_has_room_for_new_customers_of_each_client() {
    let mut harness = harness(100, 100);
    let customers = CustomerLimits { most: 100, most_unverified: 100, most_new: 5 };
    harness.rules = Rules { customers, ..harness.rules };
    harness.crash();
    let per_hour = "limits.max_new_customers_per_hour".to_owned();
    assert_eq!(name(&mut harness, Some("app"), 0..7), (5, per_hour.clone()));
    assert_eq!(name(&mut harness, Some("other"), 10..13).0, 3);
    assert_eq!(name(&mut harness, None, 20..27).0, 7, "clients that are not told apart have no limit");
    harness.pass(std::time::Duration::from_hours(1));
    assert_eq!(name(&mut harness, Some("app"), 30..37), (5, per_hour));
}

#[test]
fn usage_of_a_customer_that_has_ended_is_told_as_not_billable() {
    let mut harness = harness(100, 100);
    let first = entry(&harness, ACME, 0, 7);
    count(&mut harness, vec![first], None).unwrap();
    harness.write(|state, txn| {
        state.billing.close_customer(ProductIndex(0), ACME, txn.now, txn).unwrap();
    });
    let told = |harness: &mut Harness| {
        let entries = vec![entry(harness, ACME, 0, 5), entry(harness, GLOBEX, 0, 3)];
        let counts = count(harness, entries, None).unwrap().counts[&ProductIndex(0)];
        (counts.accepted, counts.not_billable)
    };
    assert_eq!(told(&mut harness), (2, 0), "its last hour is open still");
    harness.pass(std::time::Duration::from_mins(5));
    harness.seal_all();
    assert_eq!(told(&mut harness), (2, 1));
    harness.crash();
    assert_eq!(told(&mut harness), (2, 1));
}

#[test]
#[should_panic(expected = "a bucket was left out of its seal")]
fn an_hour_with_a_bucket_in_it_does_not_end() {
    let mut harness = harness(10, 100);
    let entry = entry(&harness, ACME, 0, 7);
    count(&mut harness, vec![entry], None).unwrap();
    let hour = Hour::containing(harness.now);
    harness.write(|state, txn| state.counting.end_hour(hour, txn));
}
