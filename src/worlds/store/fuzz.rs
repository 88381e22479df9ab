//! What is read from disk: any bytes as keys and as values.

use std::fmt::Debug;

use super::{
    keys::{
        BucketKey, RunPart, decode_generation, decode_mark, decode_mark_run, decode_record, decode_roster,
        decode_tagged, generation, mark, mark_run, record, roster, tagged_of,
    },
    values::{
        Decided, JournalHead, MarkRun, Number, Producer, ProductIdentity, SealingState, SignedAmount, Text,
        Value, decode, decode_hashes, encode, encode_hashes,
    },
};
use crate::domain::{
    bucket::{Bucket, Usage},
    customer::{Closing, Standing},
    hours::HourTally,
    identity::Identity,
    journal::{Digest, Entry, Line},
    quantity::Quantity,
    record::{
        Allocation, Amounts, Decision, DecisionKind, Delivery, HoldReason, Outcome, Record, RecordId, Settled,
    },
    tags::{TagSet, Tagged},
    time::{Hour, Timestamp},
};

/// The first byte chooses the kind of key. What is taken is the only way to write it.
pub(crate) fn key(data: &[u8]) -> bool {
    let Some((kind, key)) = data.split_first() else { return false };
    let again = match kind {
        b'b' => BucketKey::decode(key).map(|bucket| bucket.encode()),
        b't' => decode_tagged(key).map(|(bucket, tags)| [&tagged_of(bucket), tags].concat()),
        b'c' => decode_roster(key).map(|(product, customer)| roster(product, customer)),
        b'r' => decode_record(key).map(|id| record(id).to_vec()),
        b'm' => decode_mark(key).map(|(generation, number)| mark(generation, number).to_vec()),
        b'M' => decode_mark_run(key).map(|(run, part, number)| mark_run(run, part, number).to_vec()),
        // The rest is a hash.
        b'g' => decode_generation(key).map(|number| [&generation(number), &key[4..]].concat()),
        _ => None,
    };
    again.is_some_and(|again| {
        assert_eq!(again, key);
        true
    })
}

/// The first byte chooses the kind of value.
pub(crate) fn value(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else { return false };
    match kind {
        b'b' => is_kept::<Bucket>(bytes),
        b't' => is_kept::<TagSet>(bytes),
        b'r' => is_kept::<Record>(bytes),
        b'd' => is_kept::<Delivery>(bytes),
        b's' => is_kept::<Settled>(bytes),
        b'D' => is_kept::<Decided>(bytes),
        b'c' => is_kept::<Standing>(bytes),
        b'i' => is_kept::<ProductIdentity>(bytes),
        b'p' => is_kept::<Producer>(bytes),
        b'w' => is_kept::<SealingState>(bytes),
        b'n' => is_kept::<Number>(bytes),
        b'T' => is_kept::<Text>(bytes),
        b'l' => is_kept::<Line>(bytes),
        b'h' => is_kept::<JournalHead>(bytes),
        b'a' => is_kept::<SignedAmount>(bytes),
        b'm' => is_kept::<MarkRun>(bytes),
        b'u' => is_kept::<HourTally>(bytes),
        b'H' => are_kept(bytes),
        _ => false,
    }
}

/// Hashes have one way to be written.
fn are_kept(bytes: &[u8]) -> bool {
    let Ok(hashes) = decode_hashes(bytes) else { return false };
    assert_eq!(encode_hashes(&hashes.collect::<Vec<_>>()), bytes);
    true
}

/// What is read is written, and read again, as the same; and it does not grow.
fn is_kept<V: Value + PartialEq + Debug>(bytes: &[u8]) -> bool {
    let Ok(value) = decode::<V>(bytes) else { return false };
    let again = encode(&value);
    assert!(again.len() <= 4 * bytes.len() + 64, "{} bytes of {}", again.len(), bytes.len());
    let read = decode::<V>(&again).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(read, value);
    true
}

pub(crate) fn keys() -> Vec<Vec<u8>> {
    let bucket =
        BucketKey { hour: Hour::from_index(498_000), product: "prod", customer: "acmé", dimension: "gb" };
    let seed = |kind, key: Vec<u8>| [vec![kind], key].concat();
    vec![
        seed(b'b', bucket.encode()),
        seed(b't', [tagged_of(bucket), encode(&tags())].concat()),
        seed(b'c', roster("prod", "acme")),
        seed(b'r', record(RecordId(7)).to_vec()),
        seed(b'g', super::keys::event_id(248_999, u128::MAX / 3).to_vec()),
        seed(b'm', mark(1_793_620_800, 7).to_vec()),
        seed(b'M', mark_run(7, RunPart::Filter, 2).to_vec()),
    ]
}

pub(crate) fn values() -> Vec<Vec<u8>> {
    fn seed<V: Value>(kind: u8, value: &V) -> Vec<u8> {
        [vec![kind], encode(value)].concat()
    }
    let levels = [
        Usage::Max(9),
        Usage::Latest { at: Timestamp::from_millis(1_793_620_800_123), level: u64::MAX },
        Usage::Unique(3),
    ];
    let mut seeds: Vec<Vec<u8>> = levels.map(|usage| seed(b'b', &bucket(usage))).into();
    seeds.extend(outcomes().map(|outcome| seed(b's', &settled(outcome))));
    seeds.extend(entries().map(|entry| seed(b'l', &line(entry))));
    seeds.extend([
        seed(b'b', &bucket(Usage::Sum(u128::MAX / 5))),
        seed(b't', &tags()),
        seed(b'r', &sample()),
        seed(
            b'd',
            &Delivery { last_error: "AWS: ThrottlingException".into(), ..Delivery::default() }.attempted(),
        ),
        seed(b'D', &decided()),
        seed(b'c', &standing()),
        seed(b'i', &ProductIdentity { mode: sample().identity.mode(), former: None }),
        seed(b'p', &producer(None)),
        seed(b'p', &producer(Some("checkout"))),
        seed(b'w', &sealing()),
        seed(b'n', &Number(u128::MAX / 3)),
        seed(b'T', &Text("1".to_owned())),
        seed(b'h', &JournalHead { lines: 7, first_line: 2, ..JournalHead::default() }),
        seed(b'a', &SignedAmount(-3)),
        seed(b'm', &mark_run_value()),
        seed(b'u', &HourTally { pending: 3, accepted: 900, ..HourTally::default() }),
        [vec![b'H'], encode_hashes(&[7, u128::MAX / 3])].concat(),
    ]);
    seeds
}

fn producer(owner: Option<&str>) -> Producer {
    let last_seen = Timestamp::from_seconds(1_793_620_800);
    Producer { sequence: 9, last_seen, owner: owner.map(Into::into) }
}

fn tags() -> TagSet {
    let tags = TagSet::new([("team", "blue"), ("env", "a b")]);
    tags.ok().flatten().expect("good tags")
}

fn bucket(usage: Usage) -> Bucket {
    let carried = [(Hour::from_index(497_999), 5), (Hour::from_index(497_998), u128::MAX / 7)];
    Bucket { usage, events: 3, carried: carried.into_iter().collect(), tagged: Tagged::default() }
}

fn sample() -> Record {
    let quantity = Quantity::from_micros(7_500_000).expect("a quantity");
    Record {
        id: RecordId(1),
        product: "prod".into(),
        customer: "acme".into(),
        dimension: "gb".into(),
        identity: Identity::License {
            account_id: "123456789012".into(),
            license_arn: "arn:aws:license-manager::123456789012:license:l-0123abcd".into(),
        },
        hour: Hour::from_index(498_000),
        timestamp: Hour::from_index(498_000).start(),
        quantity,
        decimal: true,
        allocations: vec![
            Allocation { tags: Some(tags()), quantity, billed: 75 },
            Allocation { tags: None, quantity: Quantity::ZERO, billed: 0 },
        ],
        amounts: Amounts {
            usage: 70,
            events: 4,
            carried_in: bucket(Usage::Sum(0)).carried,
            billed: 75,
            carried_out: 0,
            rounded: -3,
        },
    }
}

fn outcomes() -> [Outcome; 6] {
    let hour = Hour::from_index(498_002);
    [
        Outcome::Accepted { receipt: "0123-abcd".into(), presumed: false },
        Outcome::Held { reason: HoldReason::Conflict, detail: "AWS: DuplicateRecord".into() },
        Outcome::RolledForward { into: hour },
        Outcome::Expired,
        Outcome::Carried { into: hour },
        Outcome::WrittenOff,
    ]
}

fn settled(outcome: Outcome) -> Settled {
    Settled { record: sample(), attempts: 2, outcome, at: Timestamp::from_millis(1_793_620_800_123) }
}

fn decided() -> Decided {
    let Record { id, hour, .. } = sample();
    let at = Timestamp::from_seconds(1_793_620_800);
    Decided {
        record: id,
        product: "prod".to_owned(),
        customer: "acme".to_owned(),
        dimension: "gb".to_owned(),
        hour,
        amount: 75,
        held_for: HoldReason::Conflict,
        decision: Decision { kind: DecisionKind::Carry, reason: "because".into(), by: "me".into(), at },
    }
}

fn standing() -> Standing {
    let noticed = Timestamp::from_seconds(1_793_620_800);
    Standing {
        former: Some(Identity::CustomerIdentifier { customer_identifier: "abc".into() }),
        closing: Some(Closing { noticed, is_sealed: true }),
        sealed_through: Some(Hour::from_index(498_000)),
        ..Standing::new(sample().identity, Some(noticed), Hour::from_index(497_000))
    }
}

fn mark_run_value() -> MarkRun {
    MarkRun {
        generation: 1_793_620_800,
        shard: 3,
        shards: 64,
        tier: 1,
        hashes: 98_000,
        blocks: 408,
        lines: 3063,
    }
}

fn sealing() -> SealingState {
    let done = ("prod".to_owned(), "acme".to_owned());
    SealingState { watermark: Hour::from_index(498_000), unfinished: Some(Some(done)) }
}

fn entries() -> [Entry; 6] {
    let (record, row) = (RecordId(7), Digest([5; 32]));
    [
        Entry::Opened { next: record },
        Entry::Sealed { first: record, rows: vec![[1; 16], [2; 16]] },
        Entry::Settled { record, row },
        Entry::Resumed { record },
        Entry::Decided { record, number: 1, row },
        Entry::Dropped { through: record, first_line: 4, before: Timestamp::from_seconds(1_793_620_800) },
    ]
}

fn line(entry: Entry) -> Line {
    Line { at: Timestamp::from_seconds(1_793_620_800), previous: Digest([9; 32]), entry }
}
