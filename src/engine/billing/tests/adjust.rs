//! A person takes usage from open hours: exactly, once, and never more than there is.

use std::{sync::Arc, time::Duration};

use super::{ACCOUNTS, HOUR, TO_THE_SEAL, close, harness, requests};
use crate::{
    domain::{
        billing::{
            adjustment::Wanted,
            record::{DecisionKind, HoldReason},
        },
        product::{DimensionIndex, ProductIndex},
        time::Hour,
        usage::{bucket::Usage, tags::tests::tag_set},
    },
    engine::{
        billing::{AdjustError, AdjustRequest, Adjusted},
        counting::request::{Split, UsageEntry},
    },
    store::{Batch, Store, TableId, tables::adjustments::Adjustments},
    testing::{harness::Harness, sample},
};

/// AWS's largest quantity.
const LARGEST: u128 = 2_147_483_647;
const SLIP: u128 = 5_000_000_000_000;

fn minus(minus: u128) -> Wanted {
    Wanted { minus, hour: None, tags: None }
}

/// Of the first account.
fn adjust_of(
    harness: &mut Harness,
    dimension: u16,
    wanted: Wanted,
    id: &str,
) -> Result<Adjusted, AdjustError> {
    let request = AdjustRequest {
        product: ProductIndex(0),
        customer: ACCOUNTS[0].into(),
        dimension: DimensionIndex(dimension),
        wanted,
        id: id.into(),
        reason: "a slip".into(),
        by: "ann".into(),
        client: "ops".into(),
        at: harness.now,
    };
    harness.write(|state, txn| state.billing.adjust(&request, &mut state.counting, txn))
}

/// Of its requests.
fn adjust(harness: &mut Harness, minus_so_much: u128, id: &str) -> Result<Adjusted, AdjustError> {
    adjust_of(harness, 0, minus(minus_so_much), id)
}

#[test]
fn an_open_hour_is_lowered_and_what_is_left_is_billed_over_crashes() {
    let mut harness = harness();
    harness.count(requests(&harness, SLIP + 7));
    let adjusted = adjust(&mut harness, SLIP, "a").unwrap();
    assert_eq!((adjusted.left_open, adjusted.is_repeat, adjusted.adjustment.number), (7, false, 1));
    harness.crash();
    assert_eq!(harness.open_units(), 7);
    harness.count(requests(&harness, 3));
    harness.pass(TO_THE_SEAL);
    harness.seal_all();
    assert_eq!(harness.quantities("requests"), ["10"]);
    let record = harness.billing("requests").remove(0);
    let [noted] = &harness.records().adjustments_of(&record).unwrap()[..] else { panic!("not noted") };
    assert_eq!((&*noted.by, &*noted.client, &*noted.reason), ("ann", "ops", "a slip"));
    assert_eq!(noted.total(), SLIP);
    assert_eq!(harness.records().adjustments(0, 10).unwrap(), [adjusted.adjustment]);
}

#[test]
fn what_is_carried_above_the_largest_quantity_is_stopped() {
    let mut harness = harness();
    let hour = Hour::containing(harness.now);
    harness.count(requests(&harness, SLIP));
    harness.pass(TO_THE_SEAL);
    harness.seal_all();
    let first = harness.billing("requests").remove(0);
    assert_eq!(harness.open_units(), SLIP - LARGEST);
    let capped =
        |harness: &Harness| harness.state.status().capped_customers.values().copied().collect::<Vec<_>>();
    assert_eq!(capped(&harness), [1]);
    harness.count(requests(&harness, 5));
    let adjusted = adjust(&mut harness, SLIP - LARGEST, "a").unwrap();
    assert_eq!((adjusted.left_open, adjusted.adjustment.total()), (5, SLIP - LARGEST));
    let [taken] = &adjusted.adjustment.taken[..] else { panic!("{adjusted:?}") };
    assert_eq!(taken.lowered.carried.origins().collect::<Vec<_>>(), [(hour, SLIP - LARGEST)]);
    harness.crash();
    harness.pass(HOUR);
    harness.seal_all();
    assert_eq!(harness.quantities("requests")[1..], ["5"]);
    assert_eq!(capped(&harness), [0; 0], "the last hour is as others");
    harness.accept(&first);
    for record in harness.pending() {
        harness.accept(&record);
    }
    assert_eq!(harness.rows(TableId::Outstanding), 0, "nothing is left that anyone owes");
}

#[test]
fn the_same_id_lowers_once_also_after_a_crash_and_in_one_batch_and_means_one_adjustment() {
    let mut harness = harness();
    harness.count(requests(&harness, 100));
    assert!(!adjust(&mut harness, 30, "a").unwrap().is_repeat);
    let again = adjust(&mut harness, 30, "a").unwrap();
    assert_eq!((again.is_repeat, again.left_open, again.adjustment.number), (true, 70, 1));
    harness.crash();
    assert!(adjust(&mut harness, 30, "a").unwrap().is_repeat);
    let other = adjust(&mut harness, 31, "a").unwrap_err();
    assert!(other.to_string().contains("choose another id"), "{other}");
    assert!(matches!(other, AdjustError::IdTaken { minus: 30, .. }));
    let request = AdjustRequest {
        product: ProductIndex(0),
        customer: ACCOUNTS[0].into(),
        dimension: DimensionIndex(0),
        wanted: minus(10),
        id: "b".into(),
        reason: "a slip".into(),
        by: "ann".into(),
        client: "ops".into(),
        at: harness.now,
    };
    let repeats = harness.write(|state, txn| {
        [(); 2].map(|()| state.billing.adjust(&request, &mut state.counting, txn).unwrap().is_repeat)
    });
    assert_eq!((repeats, harness.open_units()), ([false, true], 60));
    assert_eq!(harness.records().adjustments(0, 10).unwrap().len(), 2);
}

#[test]
fn more_than_there_is_is_refused_as_a_whole_and_says_how_much_there_is() {
    let mut harness = harness();
    harness.count(requests(&harness, 10));
    let refused = adjust(&mut harness, 11, "a").unwrap_err().to_string();
    assert!(refused.contains("only 10 base units") && refused.contains("tallyman held"), "{refused}");
    assert_eq!(harness.open_units(), 10);
    assert!(!adjust(&mut harness, 10, "a").unwrap().is_repeat, "what is refused uses up no id");
    harness.pass(TO_THE_SEAL);
    harness.seal_all();
    assert_eq!(harness.quantities("requests"), Vec::<String>::new());
    let unknown = harness.write(|state, txn| {
        let request = AdjustRequest {
            product: ProductIndex(0),
            customer: "nobody".into(),
            dimension: DimensionIndex(0),
            wanted: minus(1),
            id: "b".into(),
            reason: "a slip".into(),
            by: "ann".into(),
            client: "ops".into(),
            at: txn.now,
        };
        state.billing.adjust(&request, &mut state.counting, txn).unwrap_err()
    });
    assert!(matches!(unknown, AdjustError::UnknownCustomer { .. }));
}

#[test]
fn of_a_level_only_what_is_carried_can_be_lowered() {
    let mut harness = harness();
    let level = 3 * u64::try_from(LARGEST).unwrap();
    let seats = sample::entry(ACCOUNTS[0], 2, Hour::containing(harness.now), 0);
    let usage = Usage::Latest { at: harness.now.into(), level };
    harness.count(UsageEntry { usage, ..seats });
    let refused = adjust_of(&mut harness, 2, minus(1), "a").unwrap_err().to_string();
    assert!(refused.contains("is a level (latest)") && refused.contains("send an event"), "{refused}");
    harness.pass(TO_THE_SEAL);
    harness.seal_all();
    let adjusted = adjust_of(&mut harness, 2, minus(2 * LARGEST), "a").unwrap();
    assert_eq!(adjusted.left_open, level.into(), "the level itself stands");
}

#[test]
fn tags_that_are_taken_away_are_gone_from_the_bill_and_from_the_disk() {
    let mut harness = harness();
    let hour = Hour::containing(harness.now);
    let (red, blue) = (tag_set(&[("team", "red")]), tag_set(&[("team", "blue")]));
    for (tags, amount) in [(&red, 9_000_000), (&blue, 2000)] {
        let entry = sample::entry(ACCOUNTS[0], 1, hour, amount);
        harness.count(UsageEntry { split: Split::of(Some(tags.clone()), None), ..entry });
    }
    harness.count(sample::entry(ACCOUNTS[0], 1, hour, 1000));
    adjust_of(&mut harness, 1, minus(8_999_000), "a").unwrap();
    let wanted = Wanted { tags: Some(red.clone()), ..minus(1000) };
    adjust_of(&mut harness, 1, wanted, "b").unwrap();
    assert_eq!(harness.rows(TableId::Tagged), 1, "blue alone is left");
    harness.crash();
    let none = adjust_of(&mut harness, 1, Wanted { tags: Some(red), ..minus(1) }, "c").unwrap_err();
    assert!(matches!(none, AdjustError::TooMuch { available: 0, .. }));
    harness.pass(TO_THE_SEAL);
    harness.seal_all();
    let record = harness.billing("gb").remove(0);
    let parts: Vec<_> = record.allocations.iter().map(|part| (part.tags.clone(), part.billed)).collect();
    assert_eq!(parts, [(Some(blue), 2000), (None, 1000)]);
}

#[test]
fn what_a_customer_that_closes_has_left_can_be_lowered_before_it_is_held() {
    let mut harness = harness();
    harness.count(requests(&harness, SLIP));
    close(&mut harness);
    harness.pass(Duration::from_mins(5));
    harness.seal_all();
    adjust(&mut harness, SLIP - LARGEST, "a").unwrap();
    harness.pass(2 * HOUR);
    harness.seal_all();
    assert!(harness.held().is_empty(), "{:?}", harness.held());
}

#[test]
fn an_adjustment_that_was_altered_or_taken_away_is_found() {
    let mut harness = harness();
    harness.count(requests(&harness, 100));
    for id in ["a", "b", "c"] {
        adjust(&mut harness, 5, id).unwrap();
    }
    let rows = harness.records().adjustments(0, 10).unwrap();
    let put = |harness: &Harness, number: u64, change: Option<u128>| {
        let mut batch = Batch::default();
        match change {
            Some(minus) => {
                let mut other = rows[usize::try_from(number).unwrap() - 1].clone();
                other.wanted.minus = minus;
                batch.put(Adjustments, number, &other);
            }
            None => batch.delete(Adjustments, number),
        }
        harness.store.commit(batch).unwrap();
    };
    put(&harness, 2, Some(4));
    let faults = harness.faults().join("\n");
    assert!(faults.contains("I1: adjustment 2 does not add up"), "{faults}");
    assert!(faults.contains("I2: an adjustment is not what its line in the journal says"), "{faults}");
    put(&harness, 2, None);
    assert_eq!(harness.faults(), ["I2: adjustment 2 is gone"]);
    put(&harness, 2, Some(5));
    assert_eq!(harness.faults(), Vec::<String>::new());
    put(&harness, 3, None);
    assert_eq!(harness.faults(), ["I2: adjustment 3 is gone"]);
}

#[test]
fn a_record_that_was_held_and_carried_can_be_lowered_afterwards() {
    let mut harness = harness();
    harness.count(requests(&harness, 100));
    harness.pass(TO_THE_SEAL);
    harness.seal_all();
    let record = Arc::new(harness.billing("requests").remove(0));
    harness.hold(&record, HoldReason::Refused);
    assert!(adjust(&mut harness, 1, "a").is_err(), "it is held, and not open");
    harness.decide(&record, DecisionKind::Carry).unwrap();
    assert_eq!(adjust(&mut harness, 60, "a").unwrap().left_open, 40);
}
