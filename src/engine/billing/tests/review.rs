//! Hours that wait for a review: they stay open, and are sealed later than those of other products.

use std::{sync::Arc, time::Duration};

use super::{ACCOUNTS, HOUR, close, harness, requests};
use crate::{
    domain::{
        billing::record::Record,
        product::{Catalog, Product, ProductIndex},
        time::Hour,
    },
    engine::counting::request::UsageEntry,
    testing::{harness::Harness, sample},
};

const REVIEW: Duration = Duration::from_hours(3);

/// `prod` as ever, and `slow`, with a review.
fn with_review(review: Duration) -> Harness {
    let mut harness = harness();
    set_review(&mut harness, review);
    harness
}

/// The next process has this configuration.
fn set_review(harness: &mut Harness, review: Duration) {
    let fast = harness.rules.catalog.products().next().unwrap().1.clone();
    let slow = Product { code: "slow".into(), review, ..fast.clone() };
    harness.rules.catalog = Arc::new(Catalog::new(vec![fast, slow]));
    harness.crash();
}

/// A request of the first account of the product with a review.
fn slow(harness: &Harness, amount: u128) -> UsageEntry {
    UsageEntry { product: ProductIndex(1), ..requests(harness, amount) }
}

/// The records of a product that bill something: their hours and quantities.
fn sealed(harness: &Harness, product: &str) -> Vec<(Hour, String)> {
    let is_meant = |record: &Record| *record.product == *product && record.bills_something();
    let records = harness.pending().into_iter().filter(is_meant);
    records.map(|record| (record.hour, record.quantity.to_string())).collect()
}

#[test]
fn an_hour_in_review_takes_usage_and_is_sealed_when_that_has_ended() {
    let mut harness = with_review(REVIEW);
    let hour = Hour::containing(harness.now);
    harness.count(slow(&harness, 5));
    harness.count(requests(&harness, 3));
    harness.now = hour.end().plus(Duration::from_mins(5));
    harness.seal_all();
    assert_eq!(sealed(&harness, "prod"), [(hour, "3".to_owned())], "others do not wait");
    assert_eq!(sealed(&harness, "slow"), []);
    harness.crash();
    harness.now = harness.now.plus(REVIEW).minus(Duration::from_secs(1));
    harness.count(UsageEntry { hour, ..slow(&harness, 2) });
    harness.count(UsageEntry { hour, ..requests(&harness, 4) });
    harness.seal_all();
    assert_eq!(sealed(&harness, "slow"), []);
    harness.pass(Duration::from_secs(1));
    harness.seal_all();
    assert_eq!(sealed(&harness, "slow"), [(hour, "7".to_owned())]);
    assert_eq!(harness.state.billing.watermarks().lowest(), hour);
    harness.count(UsageEntry { hour, ..slow(&harness, 1) });
    assert_eq!(harness.open_units(), 5, "4 of one product and 1 of the other came late");
}

#[test]
fn each_product_has_each_hour_once_over_crashes_in_the_middle_of_seals() {
    let mut harness = with_review(REVIEW);
    let first = Hour::containing(harness.now);
    for _ in 0..9 {
        for account in ACCOUNTS {
            let entry = sample::entry(account, 0, Hour::containing(harness.now), 1);
            harness.count(UsageEntry { product: ProductIndex(1), ..entry.clone() });
            harness.count(entry);
        }
        harness.pass(HOUR);
        // Each start leaves what is due open for a grace, so that the seals fall behind.
        while harness.seal_step().more {
            harness.crash();
        }
    }
    harness.pass(HOUR + REVIEW);
    harness.seal_all();
    for product in ["prod", "slow"] {
        let sealed = sealed(&harness, product);
        let expected = (0..9)
            .flat_map(|hour| ACCOUNTS.map(|_| (Hour::from_index(first.index() + hour), "1".to_owned())));
        assert_eq!(sealed, expected.collect::<Vec<_>>(), "{product}");
    }
}

#[test]
fn a_months_last_hours_are_reviewed_for_as_long_as_aws_leaves_time() {
    let mut harness = with_review(Duration::from_hours(20));
    harness.now = "2026-11-30T23:30:00Z".parse().unwrap();
    harness.seal_all();
    let hour = Hour::containing(harness.now);
    harness.count(slow(&harness, 5));
    harness.now = "2026-12-01T05:44:59Z".parse().unwrap();
    harness.seal_all();
    assert_eq!(sealed(&harness, "slow"), []);
    harness.pass(Duration::from_secs(1));
    harness.seal_all();
    assert_eq!(sealed(&harness, "slow"), [(hour, "5".to_owned())]);
}

#[test]
fn a_review_that_is_taken_out_or_put_in_loses_and_doubles_no_hour() {
    let mut harness = with_review(Duration::ZERO);
    let mut expected = Vec::new();
    let mut use_an_hour = |harness: &mut Harness| {
        expected.push((Hour::containing(harness.now), "2".to_owned()));
        harness.count(slow(harness, 2));
        harness.pass(HOUR);
        harness.seal_all();
    };
    for review in [Duration::ZERO, REVIEW, Duration::ZERO, REVIEW, Duration::ZERO] {
        set_review(&mut harness, review);
        for _ in 0..3 {
            use_an_hour(&mut harness);
        }
    }
    assert_eq!(sealed(&harness, "slow"), expected);
    let own = &harness.state.billing.watermarks().own;
    assert!(own.is_empty(), "it goes with the others again: {own:?}");
    let mut slots: Vec<_> =
        harness.pending().iter().map(Record::slot).map(|slot| (slot.hour, slot)).collect();
    let all = slots.len();
    slots.dedup();
    assert_eq!(slots.len(), all);
}

#[test]
fn a_closing_customers_hours_are_sealed_in_time_whatever_the_review() {
    let mut harness = with_review(Duration::from_hours(20));
    let hour = Hour::containing(harness.now);
    harness.count(slow(&harness, 5));
    harness.pass(2 * HOUR);
    harness.seal_all();
    harness.count(slow(&harness, 6));
    harness.write(|state, txn| {
        state.billing.close_customer(ProductIndex(1), ACCOUNTS[0], txn.now, txn).unwrap();
    });
    harness.pass(Duration::from_mins(5));
    harness.seal_all();
    let last = Hour::from_index(hour.index() + 2);
    assert_eq!(sealed(&harness, "slow"), [(hour, "5".to_owned()), (last, "6".to_owned())]);
    harness.pass(30 * HOUR);
    harness.seal_all();
    assert_eq!(sealed(&harness, "slow").len(), 2);
}

#[test]
fn a_closing_of_one_product_leaves_the_others_hours_alone() {
    let mut harness = with_review(REVIEW);
    harness.count(slow(&harness, 5));
    harness.count(requests(&harness, 3));
    close(&mut harness);
    harness.pass(Duration::from_mins(5));
    harness.seal_all();
    assert_eq!((sealed(&harness, "prod").len(), sealed(&harness, "slow").len()), (1, 0));
}
