//! The limits that counting keeps, in plain values.

use super::{CountError, request::StreamPosition, streams::ProducerStream};
use crate::{
    domain::{
        billing::record::MissedPolicy,
        product::ProductIndex,
        time::Hour,
        usage::{bucket::Usage, event::RejectReason},
    },
    engine::{
        counting::request::{CountRequest, Counted, UsageEntry},
        rules::Rules,
    },
    testing::{harness::Harness, sample},
};

const ACME: &str = "000000000001";
const GLOBEX: &str = "000000000002";

fn harness(max_open_buckets: usize, max_customers: usize) -> Harness {
    let mut harness = Harness::new(MissedPolicy::Hold);
    harness.rules = Rules { max_customers, max_open_buckets, ..sample::rules(MissedPolicy::Hold) };
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
        assert!(matches!(count(&mut harness, new, Some(2)), Err(CountError::Full)));
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

#[test]
#[should_panic(expected = "a bucket was left out of its seal")]
fn an_hour_with_a_bucket_in_it_does_not_end() {
    let mut harness = harness(10, 100);
    let entry = entry(&harness, ACME, 0, 7);
    count(&mut harness, vec![entry], None).unwrap();
    let hour = Hour::containing(harness.now);
    harness.write(|state, txn| state.counting.end_hour(hour, txn));
}
