//! A ledger, what AWS makes of it, and one line altered at a time.

use proptest::prelude::*;

use super::*;

fn now() -> Timestamp {
    Hour::from_index(600_000).start()
}

fn identity(number: u32) -> (Buyer, [Arc<str>; 4]) {
    let none: Arc<str> = "".into();
    let product: Arc<str> = "prod".into();
    let name: Arc<str> = format!("{:012}", number / 3).into();
    match number % 3 {
        0 => (Buyer::License(name.clone()), [none.clone(), "1".into(), name, none]),
        1 => (
            Buyer::Account { product: product.clone(), account_id: name.clone() },
            [product, name, none.clone(), none],
        ),
        _ => (
            Buyer::CustomerIdentifier { product: product.clone(), customer_identifier: name.clone() },
            [product, none.clone(), none, name],
        ),
    }
}

/// Records of distinct slots; `kind` 0 is accepted with a receipt, 1 presumed without one.
fn ledger_line(slot: u32, quantity: u64, kind: u8) -> LedgerLine {
    let at = Timestamp::from_seconds(1_000_000);
    let state = match kind {
        0 => LineState::Accepted { receipt: format!("receipt-{slot}").into(), at },
        1 => LineState::Accepted { receipt: "".into(), at },
        2 => LineState::Pending,
        3 => LineState::Held { in_conflict: false },
        4 => LineState::RolledForward,
        5 => LineState::Carried,
        6 => LineState::WrittenOff,
        7 => LineState::Expired,
        _ => LineState::Held { in_conflict: true },
    };
    LedgerLine {
        id: RecordId(slot.into()),
        product: "prod".into(),
        customer: "acme".into(),
        buyer: identity(slot % 12).0,
        dimension: if slot.is_multiple_of(2) { "a" } else { "b" }.into(),
        hour: Hour::from_index(498_000 + slot / 12),
        quantity: Quantity::from_micros(quantity).unwrap(),
        state,
    }
}

/// AWS's side of it.
fn trail_line(record: &LedgerLine) -> TrailLine {
    let slot = u32::try_from(record.id.0).unwrap();
    let [product, account_id, license_arn, customer_identifier] = identity(slot % 12).1;
    TrailLine {
        hour: record.hour,
        product,
        account_id,
        license_arn,
        customer_identifier,
        dimension: record.dimension.clone(),
        region: "us-east-1".into(),
        receipt: format!("receipt-{slot}").into(),
        quantity: record.quantity,
        at: Timestamp::from_seconds(999_999),
        sender: sender("tallyman"),
    }
}

fn sender(name: &str) -> Sender {
    Sender { arn: format!("arn:{name}").into(), address: "192.0.2.1".into(), user_agent: name.into() }
}

fn is_accepted(record: &LedgerLine) -> bool {
    matches!(record.state, LineState::Accepted { .. })
}

fn findings(report: &Report<'_>) -> Vec<(Finding, Option<RecordId>)> {
    let found = |it: &Difference<'_>| (it.finding, it.ours.map(|line| line.id));
    report.differences.iter().map(found).collect()
}

prop_compose! {
    fn ledgers()(lines in prop::collection::btree_map(0..60_u32, (0..5_000_000_u64, 0..8_u8), 1..40))
        -> Vec<LedgerLine>
    {
        lines.into_iter().map(|(slot, (quantity, kind))| ledger_line(slot, quantity, kind)).collect()
    }
}

prop_compose! {
    /// A ledger, AWS's side of it, and which of the accepted records something happens to.
    fn pairs()(ledger in ledgers(), chosen: prop::sample::Index, again in 0..4_i64)
        -> (Vec<LedgerLine>, Vec<TrailLine>, usize)
    {
        let mut ledger = ledger;
        ledger.push(ledger_line(77, 3, 0));
        let mut trail: Vec<TrailLine> = ledger.iter().filter(|line| is_accepted(line)).map(trail_line).collect();
        let chosen = chosen.index(trail.len());
        // Calls that are repeated, in files that are not in order.
        for second in 0..again {
            let line = trail[0].clone();
            trail.insert(0, TrailLine { at: Timestamp::from_seconds(second), sender: sender("again"), ..line });
        }
        trail.reverse();
        (ledger, trail, chosen)
    }
}

/// The accepted record that something happens to, and where it is.
fn chosen_record(ledger: &[LedgerLine], chosen: usize) -> usize {
    ledger.iter().enumerate().filter(|(_, line)| is_accepted(line)).nth(chosen).unwrap().0
}

fn has_receipt(record: &LedgerLine) -> bool {
    matches!(&record.state, LineState::Accepted { receipt, .. } if !receipt.is_empty())
}

proptest! {
    #[test]
    fn a_ledger_and_what_was_made_of_it_agree((ledger, trail, _) in pairs()) {
        let report = reconcile(&ledger, &trail, now());
        prop_assert_eq!(findings(&report), []);
        prop_assert_eq!(report.matched, ledger.iter().filter(|line| is_accepted(line)).count() as u64);
    }

    #[test]
    fn a_line_that_aws_lacks_is_found_alone((ledger, mut trail, chosen) in pairs()) {
        let record = &ledger[chosen_record(&ledger, chosen)];
        let receipt = trail_line(record).receipt;
        trail.retain(|line| line.receipt != receipt);
        let report = reconcile(&ledger, &trail, now());
        prop_assert_eq!(findings(&report), [(Finding::NotInCloudTrail, Some(record.id))]);
    }

    #[test]
    fn a_record_that_the_ledger_lacks_is_found_alone((mut ledger, trail, chosen) in pairs()) {
        let removed = ledger.remove(chosen_record(&ledger, chosen));
        let report = reconcile(&ledger, &trail, now());
        prop_assert_eq!(findings(&report), [(Finding::NotInLedger, None)]);
        let receipt = report.differences[0].theirs.map(|line| line.receipt.clone());
        prop_assert_eq!(receipt, Some(trail_line(&removed).receipt));
    }

    #[test]
    fn another_quantity_is_found_alone((mut ledger, trail, chosen) in pairs()) {
        let at = chosen_record(&ledger, chosen);
        ledger[at].quantity = Quantity::from_micros(ledger[at].quantity.micros() + 1).unwrap();
        let report = reconcile(&ledger, &trail, now());
        prop_assert_eq!(findings(&report), [(Finding::DifferentQuantity, Some(ledger[at].id))]);
    }

    #[test]
    fn another_receipt_is_found_alone((mut ledger, trail, chosen) in pairs()) {
        let at = chosen_record(&ledger, chosen);
        prop_assume!(has_receipt(&ledger[at]));
        ledger[at].state = LineState::Accepted { receipt: "other".into(), at: Timestamp::default() };
        let report = reconcile(&ledger, &trail, now());
        prop_assert_eq!(findings(&report), [(Finding::DifferentReceipt, Some(ledger[at].id))]);
    }

    #[test]
    fn a_record_that_is_not_accepted_here_is_found_alone((mut ledger, trail, chosen) in pairs(), kind in 2..8_u8) {
        let at = chosen_record(&ledger, chosen);
        ledger[at].state = ledger_line(0, 0, kind).state;
        let report = reconcile(&ledger, &trail, now());
        prop_assert_eq!(findings(&report), [(Finding::NotAcceptedHere, Some(ledger[at].id))]);
    }

    #[test]
    fn another_slot_under_the_same_receipt_is_found_alone(
        (ledger, mut trail, chosen) in pairs(), hours in 1..6_u32, what in 0..3,
    ) {
        let record = &ledger[chosen_record(&ledger, chosen)];
        prop_assume!(has_receipt(record));
        let receipt = trail_line(record).receipt;
        for line in trail.iter_mut().filter(|line| line.receipt == receipt) {
            match what {
                0 => line.hour = Hour::from_index(line.hour.index() + hours),
                1 => line.dimension = if &*line.dimension == "a" { "b" } else { "a" }.into(),
                _ => line.license_arn = "another".into(),
            }
        }
        let report = reconcile(&ledger, &trail, now());
        prop_assert_eq!(findings(&report), [(Finding::DifferentSlot, Some(record.id))]);
    }

    #[test]
    fn a_slot_that_aws_accepted_under_two_receipts_is_found_alone((ledger, mut trail, chosen) in pairs()) {
        let record = &ledger[chosen_record(&ledger, chosen)];
        let region = "eu-west-1".into();
        trail.push(TrailLine { receipt: "second".into(), region, ..trail_line(record) });
        let report = reconcile(&ledger, &trail, now());
        prop_assert_eq!(findings(&report), [(Finding::AcceptedTwice, Some(record.id))]);
    }
}

#[test]
fn another_amount_in_the_slot_of_a_record_that_is_not_accepted_is_of_another_reporter() {
    for kind in 2..=8 {
        let ledger = [ledger_line(1, 7, kind)];
        let other = TrailLine { quantity: Quantity::from_micros(99).unwrap(), ..trail_line(&ledger[0]) };
        let report = reconcile(&ledger, std::slice::from_ref(&other), now());
        assert_eq!(findings(&report), [(Finding::Conflict, Some(RecordId(1)))], "{kind}");
        assert_eq!(report.differences[0].theirs.map(|line| &line.sender), Some(&other.sender));
    }
}

/// Whether AWS calls an identical record of someone else a duplicate is not known for sure.
#[test]
fn a_record_that_aws_called_a_duplicate_is_in_conflict_also_with_the_same_amount() {
    let ledger = [ledger_line(1, 7, 8)];
    let report_of = |trail: &[TrailLine]| findings(&reconcile(&ledger, trail, now()));
    assert_eq!(report_of(&[trail_line(&ledger[0])]), [(Finding::Conflict, Some(RecordId(1)))]);
    assert_eq!(report_of(&[]), []);
}

#[test]
fn a_slot_that_is_billed_twice_beside_a_record_that_is_not_accepted_is_no_conflict() {
    let ledger = [ledger_line(1, 7, 3)];
    let own = trail_line(&ledger[0]);
    let other = TrailLine {
        receipt: "another".into(),
        quantity: Quantity::from_micros(1).unwrap(),
        region: "eu-west-1".into(),
        ..own.clone()
    };
    let expected =
        [(Finding::AcceptedTwice, Some(RecordId(1))), (Finding::NotAcceptedHere, Some(RecordId(1)))];
    for trail in [[own.clone(), other.clone()], [other, own]] {
        assert_eq!(findings(&reconcile(&ledger, &trail, now())), expected);
    }
}

#[test]
fn of_calls_that_say_the_same_the_first_one_is_told() {
    let unknown = trail_line(&ledger_line(1, 7, 0));
    let later =
        TrailLine { at: Timestamp::from_seconds(1_000_007), sender: sender("later"), ..unknown.clone() };
    for trail in [[unknown.clone(), later.clone()], [later, unknown]] {
        let report = reconcile(&[], &trail, now());
        let senders: Vec<_> = report.differences.iter().map(|it| it.theirs.unwrap().sender.clone()).collect();
        assert_eq!(senders, [sender("tallyman")]);
    }
}

#[test]
fn what_was_accepted_a_moment_ago_may_not_be_there_yet() {
    let ledger = [ledger_line(1, 1, 0)];
    let accepted = Timestamp::from_seconds(1_000_000);
    for (minutes, finding) in [(14, Finding::NotInCloudTrailYet), (15, Finding::NotInCloudTrail)] {
        let report = reconcile(&ledger, &[], accepted.plus(Duration::from_mins(minutes)));
        assert_eq!(findings(&report), [(finding, Some(RecordId(1)))]);
    }
}

#[test]
fn a_hidden_customer_is_found_by_its_receipt() {
    let ledger = [ledger_line(1, 1, 0)];
    let hidden: Arc<str> = "".into();
    let line = TrailLine {
        product: hidden.clone(),
        account_id: hidden.clone(),
        license_arn: hidden.clone(),
        customer_identifier: hidden,
        ..trail_line(&ledger[0])
    };
    assert_eq!(reconcile(&ledger, &[line], now()).matched, 1);
}

#[test]
fn a_line_with_two_names_of_the_buyer_fits_either() {
    let both = |record: &LedgerLine| TrailLine {
        account_id: "000000000000".into(),
        customer_identifier: "000000000000".into(),
        receipt: "".into(),
        ..trail_line(record)
    };
    for record in [ledger_line(1, 1, 0), ledger_line(2, 1, 0)] {
        let line = both(&record);
        assert_eq!(reconcile(&[record], &[line], now()).matched, 1);
    }
}

#[test]
fn the_dangerous_findings_come_first_and_each_by_the_hour() {
    let ledger: Vec<LedgerLine> = [30, 0, 12].map(|slot| ledger_line(slot, 5, 0)).into();
    let mut unknown = trail_line(&ledger_line(25, 5, 0));
    unknown.receipt = "unknown".into();
    let trail = [unknown];
    let report = reconcile(&ledger, &trail, now());
    let found: Vec<_> = report.differences.iter().map(|found| (found.finding, found.hour())).collect();
    let hour = |slot: u32| Some(Hour::from_index(498_000 + slot / 12));
    assert_eq!(
        found,
        [
            (Finding::NotInLedger, hour(25)),
            (Finding::NotInCloudTrail, hour(0)),
            (Finding::NotInCloudTrail, hour(12)),
            (Finding::NotInCloudTrail, hour(30)),
        ]
    );
}

#[test]
fn only_what_cloudtrail_does_not_show_yet_may_pass() {
    assert!(Finding::NotInCloudTrailYet.may_pass());
    assert!(!Finding::NotInCloudTrail.may_pass() && !Finding::AcceptedTwice.may_pass());
    assert_eq!(Finding::NotAcceptedHere.name(), "not_accepted_here");
}
