//! Fuzz targets for keys and values from disk, with their seeds.

use std::fmt::Debug;

use super::{
    key::BucketKey,
    table::Table,
    tables::{
        adjustments::{AdjustedBuckets, AdjustedKey, AdjustmentIds, Adjustments},
        buckets::Buckets,
        customers::CustomerRows,
        decisions::Decisions,
        dedup::{DedupKeys, RunBlocks, RunFilters, RunKey, RunManifest, RunManifests},
        hour_tallies::HourTallyRows,
        journal::{JournalEnd, JournalHead, JournalLines},
        message_digests::{DigestBlock, DigestBlockKey, DigestBlocks},
        meta::{AggregateRows, DestinationRows},
        moves::{AllowedMoves, PendingMoves},
        outstanding::OutstandingRows,
        producers::{NamedProducerRows, Producer, ProducerKey, ProducerRows},
        product_identities::ProductIdentity,
        records::Records,
        sealing::{SealingOf, SealingState},
        subjects::SubjectRows,
        tagged::{TaggedKey, TaggedRows},
        usual_hours::UsualHoursRows,
    },
    value::Value,
};
use crate::domain::{
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
        identity::Identity,
        standing::Verification,
        state::{CustomerState, Subscription},
        tenure::{Replaced, Start},
    },
    destination::AllowedMove,
    time::{Hour, Timestamp, UnixNanos},
    usage::{
        bucket::{Bucket, Carry, Lowered, Usage},
        quantity::Quantity,
        tags::{self, TagSet},
    },
};

/// The first byte chooses the kind of key. What is taken is the only way to write it.
pub(crate) fn key(data: &[u8]) -> bool {
    let Some((kind, key)) = data.split_first() else { return false };
    match kind {
        b'b' => is_only_way::<Buckets>(key),
        b't' => is_only_way::<TaggedRows>(key),
        b'c' => is_only_way::<CustomerRows>(key),
        b'r' => is_only_way::<Records>(key),
        b'm' => is_only_way::<DedupKeys>(key),
        b'M' => is_only_way::<RunFilters>(key),
        b'B' => is_only_way::<RunBlocks>(key),
        b'R' => is_only_way::<RunManifests>(key),
        b'D' => is_only_way::<Decisions>(key),
        b'j' => is_only_way::<JournalLines>(key),
        b'J' => is_only_way::<JournalEnd>(key),
        b'o' => is_only_way::<OutstandingRows>(key),
        b's' => is_only_way::<SubjectRows>(key),
        b'p' => is_only_way::<NamedProducerRows>(key),
        b'P' => is_only_way::<ProducerRows>(key),
        b'g' => is_only_way::<DigestBlocks>(key),
        b'h' => is_only_way::<HourTallyRows>(key),
        b'a' => is_only_way::<AggregateRows>(key),
        b'd' => is_only_way::<DestinationRows>(key),
        b'v' => is_only_way::<AllowedMoves>(key),
        b'V' => is_only_way::<PendingMoves>(key),
        b'U' => is_only_way::<UsualHoursRows>(key),
        b'W' => is_only_way::<SealingOf>(key),
        b'A' => is_only_way::<Adjustments>(key),
        b'i' => is_only_way::<AdjustmentIds>(key),
        b'u' => is_only_way::<AdjustedBuckets>(key),
        _ => false,
    }
}

fn is_only_way<T: Table>(bytes: &[u8]) -> bool {
    let Ok(key) = T::decode_key(bytes) else { return false };
    assert_eq!(T::encode_key(key), bytes);
    true
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
        b'c' => is_kept::<CustomerState>(bytes),
        b'i' => is_kept::<ProductIdentity>(bytes),
        b'p' => is_kept::<Producer>(bytes),
        b'w' => is_kept::<SealingState>(bytes),
        b'n' => is_kept::<u128>(bytes),
        b'T' => is_kept::<String>(bytes),
        b'l' => is_kept::<JournalLine>(bytes),
        b'h' => is_kept::<JournalHead>(bytes),
        b'a' => is_kept::<i128>(bytes),
        b'm' => is_kept::<RunManifest>(bytes),
        b'u' => is_kept::<HourTally>(bytes),
        b'H' => is_kept::<Vec<u128>>(bytes),
        b'f' => is_kept::<Vec<u8>>(bytes),
        b'e' => is_kept::<()>(bytes),
        b'v' => is_kept::<AllowedMove>(bytes),
        b'g' => is_kept::<DigestBlock>(bytes),
        b'U' => is_kept::<UsualHours>(bytes),
        b'A' => is_kept::<Adjustment>(bytes),
        _ => false,
    }
}

/// What is read is written, and read again, as the same; and it does not grow.
fn is_kept<V: Value + PartialEq + Debug>(bytes: &[u8]) -> bool {
    let Ok(value) = V::decode(bytes) else { return false };
    let again = value.encode();
    assert!(again.len() <= 4 * bytes.len() + 64, "{} bytes of {}", again.len(), bytes.len());
    let read = V::decode(&again).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(read, value);
    true
}

pub(crate) fn keys() -> Vec<Vec<u8>> {
    fn seed<T: Table>(kind: u8, key: T::Key<'_>) -> Vec<u8> {
        [vec![kind], T::encode_key(key)].concat()
    }
    let hour = Hour::from_index(498_000);
    let bucket = BucketKey { hour, product: "prod", customer: "acmé", dimension: "gb" };
    let record = RecordId(7);
    vec![
        seed::<Buckets>(b'b', bucket),
        seed::<TaggedRows>(b't', TaggedKey { bucket, tags: &tags().encode() }),
        seed::<CustomerRows>(b'c', ("prod", "acme")),
        seed::<Records>(b'r', record),
        seed::<DedupKeys>(b'm', (1_793_620_800, 7)),
        seed::<RunFilters>(b'M', RunKey { run: 7, number: 2 }),
        seed::<RunBlocks>(b'B', RunKey { run: 7, number: 2 }),
        seed::<RunManifests>(b'R', 7),
        seed::<Decisions>(b'D', (record, 1)),
        seed::<JournalLines>(b'j', 7),
        seed::<JournalEnd>(b'J', ()),
        seed::<OutstandingRows>(b'o', bucket.series()),
        seed::<SubjectRows>(b's', (hour, u128::MAX / 3)),
        seed::<NamedProducerRows>(b'p', "host-1"),
        seed::<ProducerRows>(b'P', ProducerKey { client: "checkout", name: "host-1" }),
        seed::<DigestBlocks>(b'g', DigestBlockKey { client: "", name: "host-1", place: 7 }),
        seed::<HourTallyRows>(b'h', hour),
        seed::<AggregateRows>(b'a', ("prod", "gb")),
        seed::<DestinationRows>(b'd', "prod"),
        seed::<AllowedMoves>(b'v', 7),
        seed::<PendingMoves>(b'V', "prod"),
        seed::<UsualHoursRows>(b'U', bucket.series()),
        seed::<SealingOf>(b'W', "prod"),
        seed::<Adjustments>(b'A', 7),
        seed::<AdjustmentIds>(b'i', "adjust-1"),
        seed::<AdjustedBuckets>(b'u', AdjustedKey { bucket, number: 7 }),
    ]
}

pub(crate) fn values() -> Vec<Vec<u8>> {
    fn seed<V: Value>(kind: u8, value: &V) -> Vec<u8> {
        [vec![kind], value.encode()].concat()
    }
    let levels = [
        Usage::Max(9),
        Usage::Latest { at: Timestamp::from_millis(1_793_620_800_123).into(), level: u64::MAX },
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
        seed(b'c', &customer_state()),
        seed(b'i', &ProductIdentity { mode: sample().identity.mode(), former: None }),
        seed(b'p', &producer(None)),
        seed(b'p', &producer(Some("checkout"))),
        seed(b'w', &sealing()),
        seed(b'n', &(u128::MAX / 3)),
        seed(b'T', &"1".to_owned()),
        seed(b'h', &JournalHead { lines: 7, first_line: 2, ..JournalHead::default() }),
        seed(b'a', &-3_i128),
        seed(b'm', &run_manifest()),
        seed(b'u', &HourTally { pending: 3, accepted: 900, ..HourTally::default() }),
        seed(b'H', &vec![7_u128, u128::MAX / 3]),
        seed(b'f', &vec![0_u8, 1, 255]),
        seed(b'e', &()),
        seed(b'v', &allowed_move(None)),
        seed(b'v', &allowed_move(Some("operator"))),
        seed(b'l', &line(JournalEvent::MoveAllowed { number: 7, row: Digest([5; 32]) })),
        seed(b'p', &Producer { first_digest: 8, digests: vec![7, u64::MAX / 3], ..producer(None) }),
        seed(b'g', &DigestBlock { first: 8, digests: vec![7, u64::MAX / 3] }),
        seed(b'D', &decided_by_client()),
        seed(b'b', &bucket(Usage::Latest { at: UnixNanos::new(1_793_620_800_123_456_789), level: 7 })),
        seed(b'c', &customer_that_changed()),
        seed(b's', &withholding()),
        seed(b'A', &adjustment(None, None)),
        seed(b'A', &adjustment(Some(Hour::from_index(497_999)), Some(tags()))),
        seed(b'l', &line(JournalEvent::Adjusted { number: 7, row: Digest([5; 32]) })),
        seed(
            b'U',
            &UsualHours {
                first: Hour::from_index(498_000),
                days: vec![(20_750, 7), (20_751, u128::MAX / 3)],
            },
        ),
        seed(b'c', &named_customer_state()),
    ]);
    seeds
}

fn allowed_move(client: Option<&str>) -> AllowedMove {
    AllowedMove {
        product: "prod".into(),
        from: "us-east-1".into(),
        to: "eu-west-1".into(),
        reason: "because".into(),
        by: "me".into(),
        client: client.map(Into::into),
        at: Timestamp::from_seconds(1_793_620_800),
    }
}

fn producer(owner: Option<&str>) -> Producer {
    let last_seen = Timestamp::from_seconds(1_793_620_800);
    Producer { sequence: 9, last_seen, owner: owner.map(Into::into), ..Producer::default() }
}

#[cfg(test)]
pub(super) fn tags_as_value() -> Vec<u8> {
    tags().encode()
}

fn tags() -> TagSet {
    let tags = TagSet::new([("team", "blue"), ("env", "a b")]);
    tags.ok().flatten().expect("good tags")
}

fn bucket(usage: Usage) -> Bucket {
    let carried = [(Hour::from_index(497_999), 5), (Hour::from_index(497_998), u128::MAX / 7)];
    Bucket { usage, events: 3, carried: carried.into_iter().collect(), tagged: tags::Tagged::default() }
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
    let at = Timestamp::from_millis(1_793_620_800_123);
    Settled { record: sample(), attempts: 2, outcome, at, withheld: Carry::default() }
}

/// Held at its seal, with more than AWS takes at a time.
fn withholding() -> Settled {
    let mut withheld = Carry { origins: bucket(Usage::Sum(0)).carried, ..Carry::default() };
    withheld.tagged.add(&tags(), 7);
    let outcome =
        Outcome::Held { reason: HoldReason::NotBillable, detail: "used after the last hour".into() };
    Settled { withheld, ..settled(outcome) }
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
        decision: Decision {
            kind: DecisionKind::Carry,
            reason: "because".into(),
            by: "me".into(),
            client: "".into(),
            at,
        },
    }
}

fn decided_by_client() -> Decided {
    let decided = decided();
    Decided { decision: Decision { client: "ops".into(), ..decided.decision.clone() }, ..decided }
}

fn customer_state() -> CustomerState {
    let noticed = Timestamp::from_seconds(1_793_620_800);
    CustomerState {
        former: Some(Identity::CustomerIdentifier { customer_identifier: "abc".into() }),
        subscription: Subscription::Closed { noticed, not_subscribed: false },
        sealed_through: Some(Hour::from_index(498_000)),
        ..CustomerState::new(sample().identity, Some(noticed), Hour::from_index(497_000))
    }
}

/// Its license was replaced inside an hour, and a `since` was told late.
fn customer_that_changed() -> CustomerState {
    let since = Some(Timestamp::from_seconds(1_793_620_800));
    let identity = Identity::Account { account_id: "123456789012".into() };
    let start = Start { since, by_arrival: true };
    CustomerState {
        by_arrival: true,
        replaced: vec![Replaced { identity, start, until: Hour::from_index(498_000) }],
        doubtful: Some(Hour::from_index(498_001)),
        ..CustomerState::new(sample().identity, since, Hour::from_index(497_000))
    }
}

fn adjustment(hour: Option<Hour>, tags: Option<TagSet>) -> Adjustment {
    let mut lowered = Lowered { usage: 5, carried: bucket(Usage::Sum(0)).carried, ..Lowered::default() };
    if let Some(tags) = &tags {
        lowered.tagged.add(tags, 3);
    }
    Adjustment {
        number: 7,
        id: "adjust-1".into(),
        product: "prod".to_owned(),
        customer: "acme".to_owned(),
        dimension: "gb".to_owned(),
        wanted: Wanted { minus: lowered.total(), hour, tags },
        taken: vec![Taken { hour: Hour::from_index(498_000), lowered }],
        reason: "a slip".into(),
        by: "me".into(),
        client: "ops".into(),
        at: Timestamp::from_seconds(1_793_620_800),
    }
}

/// One that usage has named, and that AWS does not know.
fn named_customer_state() -> CustomerState {
    let identity = Identity::CustomerIdentifier { customer_identifier: "abc".into() };
    let named = CustomerState::self_named(identity, Hour::from_index(498_000), Some("checkout".into()));
    CustomerState { verification: Verification::Refused, ..named }
}

fn run_manifest() -> RunManifest {
    RunManifest {
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

fn entries() -> [JournalEvent; 6] {
    let (record, row) = (RecordId(7), Digest([5; 32]));
    [
        JournalEvent::Opened { next: record },
        JournalEvent::Sealed { first: record, rows: vec![[1; 16], [2; 16]] },
        JournalEvent::Settled { record, row },
        JournalEvent::Resumed { record },
        JournalEvent::Decided { record, number: 1, row },
        JournalEvent::Dropped {
            through: record,
            first_line: 4,
            before: Timestamp::from_seconds(1_793_620_800),
        },
    ]
}

fn line(entry: JournalEvent) -> JournalLine {
    JournalLine { at: Timestamp::from_seconds(1_793_620_800), previous: Digest([9; 32]), entry }
}
