//! Hours that are held before they are sent, and what stays with held records.

use std::{sync::Arc, time::Duration};

use super::{ACCOUNTS, HOUR, TO_THE_SEAL, close, harness, put, requests};
use crate::{
    domain::{
        billing::record::{DecisionKind, HoldReason, Outcome, Settled},
        customer::identity::{Identity, IdentityMode},
        product::{Catalog, FormerIdentity, Product, QuantityLimits},
        time::Hour,
    },
    engine::{
        billing::{Registration, next_decision},
        counting::request::UsageEntry,
        state::EngineState,
    },
    store::TableId,
    testing::{harness::Harness, sample},
};

/// AWS's largest quantity.
const LARGEST: u128 = 2_147_483_647;
const SLIP: u128 = 5_000_000_000_000;

#[test]
fn what_a_closed_customer_has_left_above_the_largest_quantity_is_one_record_with_a_true_reason() {
    let mut harness = harness();
    let hour = Hour::containing(harness.now);
    harness.count(requests(&harness, SLIP));
    close(&mut harness);
    harness.pass(Duration::from_mins(5));
    harness.seal_all();
    let sent = harness.billing("requests").remove(0);
    assert_eq!((sent.amounts.billed, harness.open_units()), (LARGEST, SLIP - LARGEST));
    for _ in 0..5 {
        harness.pass(HOUR);
        harness.seal_all();
    }
    let [held] = &harness.held()[..] else { panic!("{:?}", harness.held()) };
    let Outcome::Held { reason, detail } = &held.outcome else { panic!("{held:?}") };
    assert_eq!(*reason, HoldReason::NotBillable);
    assert_eq!(&**detail, format!("carried from {hour}, above AWS's largest quantity"));
    assert_eq!((held.amount(), harness.open_units()), (SLIP - LARGEST, 0));
    let record = held.record.clone();
    harness.crash();
    assert_eq!(harness.state.billing.tally().held_units.values().sum::<u128>(), SLIP - LARGEST);
    harness.decide(&record, DecisionKind::WriteOff).unwrap();
    harness.accept(&sent);
    assert_eq!((harness.rows(TableId::Outstanding), harness.held().len()), (0, 0));
    let [decided] = &harness.records().decisions(record.id).unwrap()[..] else { panic!("no decision") };
    assert_eq!(decided.amount, SLIP - LARGEST);
}

#[test]
fn what_a_held_record_withholds_goes_the_way_of_its_record() {
    for kind in [DecisionKind::Carry, DecisionKind::Retry] {
        let mut harness = harness();
        harness.count(requests(&harness, 1));
        close(&mut harness);
        harness.pass(Duration::from_mins(5));
        harness.seal_all();
        harness.pass(HOUR);
        harness.count(requests(&harness, LARGEST + 5));
        harness.pass(HOUR);
        harness.seal_all();
        let held = harness.held().remove(0);
        assert_eq!((held.amount(), held.withheld.origins.total()), (LARGEST + 5, 5));
        put(&mut harness, ACCOUNTS[0], ACCOUNTS[0], true).unwrap();
        harness.decide(&held.record, kind).unwrap();
        let open = if kind == DecisionKind::Carry { LARGEST + 5 } else { 5 };
        assert_eq!((harness.open_units(), harness.held().len()), (open, 0), "{kind:?}");
        harness.crash();
        assert_eq!(harness.open_units(), open);
    }
}

/// Of whose dimension `requests` an hour above these is held.
fn suspicious_of(hold_above: Option<u64>, hold_above_usual: Option<u64>) -> Harness {
    let mut harness = harness();
    let products = harness.rules.catalog.products().map(|(_, product)| {
        let mut product = product.clone();
        product.dimensions[0].limits =
            QuantityLimits { hold_above, hold_above_usual, ..QuantityLimits::default() };
        product
    });
    harness.rules.catalog = Arc::new(Catalog::new(products.collect()));
    harness.crash();
    harness
}

/// Uses so much in the hour that it is, and seals that.
fn use_and_seal(harness: &mut Harness, amount: u128) {
    if amount > 0 {
        harness.count(requests(harness, amount));
    }
    harness.pass(HOUR);
    harness.seal_all();
}

fn held_reasons(harness: &Harness) -> Vec<HoldReason> {
    let reason = |settled: &Settled| match settled.outcome {
        Outcome::Held { reason, .. } => reason,
        _ => panic!("{settled:?}"),
    };
    harness.held().iter().map(reason).collect()
}

#[test]
fn a_suspicious_hour_is_held_before_it_is_sent_and_nothing_of_it_slips_through_later() {
    let mut harness = suspicious_of(Some(50), None);
    harness.pass(TO_THE_SEAL);
    use_and_seal(&mut harness, SLIP);
    let held = harness.held().remove(0);
    assert_eq!((held_reasons(&harness), held.attempts), (vec![HoldReason::Suspicious], 0));
    assert_eq!((held.amount(), held.record.amounts.billed, harness.open_units()), (SLIP, LARGEST, 0));
    use_and_seal(&mut harness, 50);
    use_and_seal(&mut harness, 0);
    assert_eq!(
        (harness.held().len(), harness.quantities("requests").len()),
        (1, 2),
        "only what is usual is sent"
    );
    harness.crash();
    let deadline = harness.state.billing.deadline(&held.record);
    let next =
        |harness: &Harness| next_decision(&harness.state.billing.decision_deadlines(), "prod", harness.now);
    assert_eq!(next(&harness), Some(deadline), "it counts down");
    harness.decide(&held.record, DecisionKind::WriteOff).unwrap();
    assert_eq!((next(&harness), harness.open_units()), (None, 0), "all of it is written off at once");
    for record in harness.pending() {
        harness.accept(&record);
    }
    assert_eq!(harness.rows(TableId::Outstanding), 0);
}

#[test]
fn a_suspicious_hour_that_a_person_sends_goes_out_as_it_is_and_its_rest_with_the_next_hours() {
    let mut harness = suspicious_of(Some(50), None);
    harness.pass(TO_THE_SEAL);
    use_and_seal(&mut harness, 2 * LARGEST + 7);
    let held = harness.held().remove(0);
    let resumed = harness.decide(&held.record, DecisionKind::Retry).unwrap();
    assert_eq!(resumed[0].0, held.record);
    assert!(!resumed[0].1.outcome_unknown, "it was never sent");
    assert_eq!(harness.open_units(), LARGEST + 7);
    use_and_seal(&mut harness, 1);
    use_and_seal(&mut harness, 0);
    assert!(harness.held().is_empty(), "a person has looked at it");
    let largest = LARGEST.to_string();
    assert_eq!(harness.quantities("requests"), [&*largest, &*largest, "8"]);
}

#[test]
fn an_hour_is_compared_with_those_that_were_billed_over_crashes_and_a_slip_is_no_measure() {
    let mut harness = suspicious_of(None, Some(20));
    harness.pass(TO_THE_SEAL);
    use_and_seal(&mut harness, 1000);
    for _ in 0..23 {
        use_and_seal(&mut harness, 10);
    }
    assert!(harness.held().is_empty(), "there is no usual in the first day");
    harness.crash();
    use_and_seal(&mut harness, 20_000);
    assert!(harness.held().is_empty());
    use_and_seal(&mut harness, 400_001);
    use_and_seal(&mut harness, 400_001);
    assert_eq!(
        held_reasons(&harness),
        [HoldReason::Suspicious; 2],
        "the first slip makes the second no less of one"
    );
    let [first, second] = &harness.held()[..] else { panic!() };
    let (first, second) = (first.record.clone(), second.record.clone());
    harness.decide(&first, DecisionKind::WriteOff).unwrap();
    use_and_seal(&mut harness, 400_001);
    assert_eq!(harness.held().len(), 2, "what is written off is no measure");
    harness.decide(&second, DecisionKind::Carry).unwrap();
    harness.crash();
    use_and_seal(&mut harness, 8_000_000);
    assert_eq!(harness.held().len(), 1, "what a person has billed is one");
    assert_eq!(harness.rows(TableId::UsualHours), 1);
}

#[test]
fn a_closing_brings_the_time_to_decide_forward() {
    let mut harness = suspicious_of(Some(50), None);
    harness.pass(TO_THE_SEAL);
    use_and_seal(&mut harness, 51);
    let next =
        |harness: &Harness| next_decision(&harness.state.billing.decision_deadlines(), "prod", harness.now);
    assert!(next(&harness).unwrap() > harness.now.plus(Duration::from_hours(4)));
    close(&mut harness);
    assert_eq!(next(&harness), Some(harness.now.plus(HOUR)));
    harness.crash();
    assert_eq!(next(&harness), Some(harness.now.plus(HOUR)));
    harness.pass(HOUR);
    assert_eq!(next(&harness), None, "it is missed, and can only be carried");
}

#[test]
fn usage_that_waits_for_a_new_identity_is_looked_at_in_its_own_hour() {
    let mut harness = suspicious_of(Some(50), None);
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
    harness.pass(TO_THE_SEAL);
    harness.count(UsageEntry { hour: until, ..requests(&harness, 51) });
    harness.seal_all();
    let held = harness.held().remove(0);
    assert_eq!((held_reasons(&harness), harness.open_units()), (vec![HoldReason::Suspicious], 0));
    let refused = harness.decide(&held.record, DecisionKind::Retry).unwrap_err().to_string();
    assert!(refused.contains("carry it"), "{refused}");
    harness.decide(&held.record, DecisionKind::Carry).unwrap();
    assert_eq!(harness.open_units(), 51);
}
