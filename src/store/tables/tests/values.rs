//! Every kind of value is written and read again as the same.

use std::{fmt::Debug, sync::Arc};

use proptest::prelude::*;

use crate::{
    domain::{
        billing::{
            adjustment::{Adjustment, Taken, Wanted},
            hour_tally::HourTally,
            journal::{Digest, JournalEvent, JournalLine},
            record::{
                Allocation, Amounts, Decided, Decision, DecisionKind, Delivery, HoldReason, Outcome, Record,
                RecordId, Settled,
            },
            usual::UsualHours,
        },
        customer::{
            identity::{Identity, IdentityMode},
            standing::{Origin, Verification},
            state::{CustomerState, Subscription},
        },
        destination::AllowedMove,
        product::FormerIdentity,
        time::{Hour, Timestamp},
        usage::{
            bucket::{
                Bucket, Carry, Lowered,
                tests::{buckets, usages},
            },
            quantity::Quantity,
            tags::{TagSet, Tagged},
        },
    },
    store::{
        tables::{
            journal::JournalHead, message_digests::DigestBlock, producers::Producer,
            product_identities::ProductIdentity, sealing::SealingState,
        },
        value::{VERSION, Value},
    },
};

fn round_trips<V: Value + PartialEq + Debug>(value: &V) {
    let bytes = value.encode();
    assert_eq!(bytes[0], VERSION);
    assert_eq!(V::decode(&bytes).as_ref(), Ok(value));
    let mut newer = bytes;
    newer[0] = VERSION + 1;
    assert!(V::decode(&newer).unwrap_err().contains("version"), "an unknown version was read");
    assert!(V::decode(&[]).is_err());
}

#[test]
fn a_producer_of_before_has_no_field_for_what_came_later() {
    // Version 1; field 1: 9; field 2: 1 793 620 800 000 milliseconds.
    let row = [1, 0x08, 9, 0x10, 0x80, 0xe4, 0x85, 0xe1, 0x99, 0x34];
    let last_seen = Timestamp::from_seconds(1_793_620_800);
    let producer = Producer { sequence: 9, last_seen, ..Producer::default() };
    assert_eq!(Producer::decode(&row), Ok(producer.clone()));
    assert_eq!(producer.encode(), row);
}

fn identities() -> impl Strategy<Value = Identity> {
    let account_id = "[0-9]{12}".prop_map(Into::into);
    let license = ("[0-9]{12}", "[a-z0-9]{1,20}").prop_map(|(account_id, tail)| Identity::License {
        account_id: account_id.into(),
        license_arn: format!("arn:aws:license-manager::123456789012:license:l-{tail}").into(),
    });
    prop_oneof![
        license,
        account_id.prop_map(|account_id| Identity::Account { account_id }),
        "[!-~]{1,40}".prop_map(|id| Identity::CustomerIdentifier { customer_identifier: id.into() }),
    ]
}

prop_compose! {
    fn records()(
        id: u64, texts in ("\\PC{0,20}", "\\PC{0,20}", "\\PC{0,20}"), identity in identities(), hour: u32,
        timestamp: i64, micros in 0..=Quantity::MAX.micros(), decimal: bool, bucket in buckets(), billed: u128, carried_out: u128,
        rounded in -1_000_000_000_000_000_000_000_i128..1_000_000_000_000_000_000_000,
    ) -> Record {
        let part = |(tags, billed): (&TagSet, u128)| Allocation { tags: Some(tags.clone()), quantity: Quantity::MAX, billed };
        let untagged = Allocation { tags: None, quantity: Quantity::ZERO, billed: 7 };
        Record {
            id: RecordId(id), product: texts.0.into(), customer: texts.1.into(), dimension: texts.2.into(), identity,
            hour: Hour::from_index(hour), timestamp: Timestamp::from_millis(timestamp),
            quantity: Quantity::from_micros(micros).unwrap(), decimal,
            allocations: bucket.tagged.iter().map(part).chain([untagged]).collect(),
            amounts: Amounts {
                usage: bucket.usage.amount(), events: bucket.events, carried_in: bucket.carried, billed, carried_out, rounded,
            },
        }
    }
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    let reasons = proptest::sample::select(HoldReason::ALL.to_vec());
    prop_oneof![
        ("\\PC{0,20}", any::<bool>())
            .prop_map(|(receipt, presumed)| Outcome::Accepted { receipt: receipt.into(), presumed }),
        (reasons, "\\PC{0,20}").prop_map(|(reason, detail)| Outcome::Held { reason, detail: detail.into() }),
        any::<u32>().prop_map(|hour| Outcome::RolledForward { into: Hour::from_index(hour) }),
        Just(Outcome::Expired),
        any::<u32>().prop_map(|hour| Outcome::Carried { into: Hour::from_index(hour) }),
        Just(Outcome::WrittenOff),
    ]
}

proptest! {
    #[test]
    fn buckets_round_trip_but_for_their_tagged_parts(bucket in buckets(), usage in usages()) {
        for (tags, _) in bucket.tagged.iter() {
            round_trips(tags);
        }
        round_trips(&Bucket { usage, tagged: Tagged::default(), ..bucket });
    }

    #[test]
    fn decisions_round_trip(
        record in records(), at: i64, kind in proptest::sample::select(DecisionKind::ALL.to_vec()), client in "[a-z]{0,3}",
    ) {
        let at = Timestamp::from_millis(at);
        let decision = Decision { kind, reason: "because".into(), by: "me".into(), client: client.into(), at };
        round_trips(&Decided {
            record: record.id, product: record.product.to_string(), customer: record.customer.to_string(),
            dimension: record.dimension.to_string(), hour: record.hour, amount: record.amounts.billed,
            held_for: HoldReason::Conflict, decision,
        });
    }

    #[test]
    fn customers_round_trip(
        identity in identities(), former: bool, since: Option<i64>, closing: Option<(i64, bool)>, sealed: Option<u32>,
        not_subscribed: bool, answered: Option<bool>, named: Option<Option<u8>>,
    ) {
        let subscription = match closing.map(|(noticed, is_closed)| (Timestamp::from_millis(noticed), is_closed)) {
            Some((noticed, true)) => Subscription::Closed { noticed, not_subscribed },
            Some((noticed, false)) => Subscription::Closing { noticed, not_subscribed },
            None if not_subscribed => Subscription::NotSubscribed,
            None => Subscription::Active,
        };
        let verification = match answered {
            Some(true) => Verification::Verified,
            Some(false) => Verification::Refused,
            None => Verification::Unverified,
        };
        let by = |by: Option<u8>| by.map(|client| format!("client-{client}").into());
        let origin = named.map_or(Origin::Registered, |named| Origin::SelfNamed { by: by(named) });
        round_trips(&CustomerState {
            former: former.then(|| identity.clone()), sealed_through: sealed.map(Hour::from_index), subscription,
            verification, origin,
            ..CustomerState::new(identity, since.map(Timestamp::from_millis), Hour::from_index(7))
        });
    }

    #[test]
    fn identities_of_products_round_trip(identity in identities(), until: Option<u32>) {
        let former = until.map(|hour| FormerIdentity { mode: IdentityMode::License, until: Hour::from_index(hour) });
        round_trips(&ProductIdentity { mode: identity.mode(), former });
    }

    #[test]
    fn records_round_trip(record in records()) {
        round_trips(&record);
    }

    #[test]
    fn settled_records_round_trip(record in records(), attempts: u32, outcome in outcomes(), at: i64, left in buckets()) {
        let withheld = Carry { origins: left.carried.clone(), tagged: left.tagged, level: None };
        let withheld = if withheld.origins.is_empty() { Carry::default() } else { withheld };
        round_trips(&Settled { record, attempts, outcome, at: Timestamp::from_millis(at), withheld });
    }

    #[test]
    fn deliveries_round_trip(attempts: u32, outcome_unknown: bool, next: i64, error in "\\PC{0,20}") {
        let next_attempt = Timestamp::from_millis(next);
        round_trips(&Delivery { attempts, outcome_unknown, next_attempt, last_error: error.into() });
    }

    #[test]
    fn producers_and_numbers_round_trip(number: u128, sequence: u64, owner in proptest::option::of("\\PC{1,20}")) {
        let row = Producer { sequence, last_seen: Timestamp::from_millis(5), owner: owner.map(Arc::from), ..Producer::default() };
        round_trips(&row);
        round_trips(&number);
            round_trips(&sequence);
        round_trips(&number.to_string());
            round_trips(&RecordId(sequence));
            round_trips(&());
    }

    #[test]
    fn digests_of_messages_round_trip(first: u64, digests in prop::collection::vec(any::<u64>(), 0..40)) {
        let block = DigestBlock { first, digests: digests.clone() };
        round_trips(&block);
        let known = digests.iter().enumerate();
        prop_assert!(first > u64::MAX - 40 || known.clone().all(|(index, digest)| block.get(first + index as u64) == Some(*digest)));
        prop_assert_eq!((block.get(first.wrapping_add(digests.len() as u64)), block.get(first.wrapping_sub(1))), (None, None));
        round_trips(&Producer { sequence: 40, first_digest: first, digests, ..Producer::default() });
    }

    #[test]
    fn journal_lines_round_trip(at: i64, previous: [u8; 32], row: [u8; 32], record: u64, other: u64, number: u32) {
        let (record, row) = (RecordId(record), Digest(row));
        let entries = [
            JournalEvent::Opened { next: record },
            JournalEvent::Sealed { first: record, rows: vec![[number.to_be_bytes()[0]; 16]; 3] },
            JournalEvent::Settled { record, row },
            JournalEvent::Resumed { record },
            JournalEvent::Decided { record, number, row },
            JournalEvent::MoveAllowed { number: other, row },
            JournalEvent::Adjusted { number: other, row },
            JournalEvent::Dropped { through: record, first_line: other, before: Timestamp::from_millis(at) },
        ];
        for entry in entries {
            round_trips(&JournalLine { at: Timestamp::from_millis(at), previous: Digest(previous), entry });
        }
        round_trips(&JournalHead { lines: other, last: row, first_line: record.0, dropped_through: record });
    }

    #[test]
    fn allowed_moves_round_trip(texts in ("\\PC{0,20}", "\\PC{0,20}", "\\PC{0,20}"), client in proptest::option::of("\\PC{1,20}"), at: i64) {
        let [product, from, to]: [Arc<str>; 3] = [texts.0.into(), texts.1.into(), texts.2.into()];
        let (reason, by) = (product.clone(), to.clone());
        round_trips(&AllowedMove { product, from, to, reason, by, client: client.map(Arc::from), at: Timestamp::from_millis(at) });
    }

    #[test]
    fn signed_amounts_round_trip(amount: i128) {
        round_trips(&amount);
    }

    #[test]
    fn tallies_of_hours_round_trip(
        pending: u64, held: u64, accepted: u64, rolled_forward: u64, carried: u64, written_off: u64, expired: u64,
    ) {
        round_trips(&HourTally { pending, held, accepted, rolled_forward, carried, written_off, expired });
    }

    #[test]
    fn adjustments_round_trip(
        number: u64, texts in ("\\PC{0,20}", "\\PC{0,20}", "\\PC{0,20}"), minus: u128, hour: Option<u32>, of_tags: bool,
        taken in proptest::collection::vec((any::<u32>(), buckets()), 0..3), at: i64,
    ) {
        let tags = taken.iter().find_map(|(_, bucket)| bucket.tagged.iter().next().map(|(tags, _)| tags.clone()));
        let lowered = |(hour, bucket): (u32, Bucket)| {
            let Bucket { usage, carried, tagged, .. } = bucket;
            let lowered = Lowered { usage: usage.amount(), carried, tagged };
            Taken { hour: Hour::from_index(hour), lowered }
        };
        round_trips(&Adjustment {
            number, id: "id".into(), product: texts.0, customer: texts.1, dimension: texts.2,
            wanted: Wanted { minus, hour: hour.map(Hour::from_index), tags: tags.filter(|_| of_tags) },
            taken: taken.into_iter().map(lowered).collect(),
            reason: "because".into(), by: "me".into(), client: "ops".into(), at: Timestamp::from_millis(at),
        });
    }

    #[test]
    fn usual_hours_round_trip(first: u32, days in proptest::collection::btree_map(any::<u32>(), any::<u128>(), 0..9)) {
        round_trips(&UsualHours { first: Hour::from_index(first), days: days.into_iter().collect() });
    }

    #[test]
    fn watermarks_round_trip(hour: u32, unfinished: Option<Option<(String, String)>>) {
        round_trips(&SealingState { watermark: Hour::from_index(hour), unfinished });
    }

    #[test]
    fn no_bytes_panic(mut bytes: Vec<u8>) {
        bytes.insert(0, VERSION);
        drop((Bucket::decode(&bytes), Record::decode(&bytes), Settled::decode(&bytes)));
        drop((Delivery::decode(&bytes), CustomerState::decode(&bytes), SealingState::decode(&bytes)));
        drop((TagSet::decode(&bytes), Decided::decode(&bytes), ProductIdentity::decode(&bytes)));
        drop((JournalLine::decode(&bytes), JournalHead::decode(&bytes), i128::decode(&bytes)));
        drop((HourTally::decode(&bytes), Producer::decode(&bytes), DigestBlock::decode(&bytes)));
        drop((UsualHours::decode(&bytes), Adjustment::decode(&bytes)));
    }
}
