//! The bytes of each kind of row, as they have been since format 1. Who changes one reads old folders as something else.

use crate::{
    domain::{billing::record::RecordId, time::Hour},
    store::{
        fuzz,
        key::BucketKey,
        table::Table,
        tables::{
            adjustments::{AdjustedBuckets, AdjustedKey, AdjustmentIds, Adjustments},
            buckets::Buckets,
            customers::CustomerRows,
            decisions::Decisions,
            dedup::{DedupKeys, FirstGeneration, FirstRows, RunBlocks, RunFilters, RunKey, RunManifests},
            hour_tallies::HourTallyRows,
            journal::{JournalEnd, JournalLines},
            message_digests::{DigestBlockKey, DigestBlocks},
            meta::{AggregateRows, DestinationRows, Format, HashKey, IsSandbox},
            moves::{AllowedMoves, PendingMoves},
            outstanding::OutstandingRows,
            producers::{NamedProducerRows, ProducerKey, ProducerRows},
            product_identities::ProductIdentities,
            records::Records,
            sealing::{NextRecord, Sealing, SealingOf},
            subjects::SubjectRows,
            tagged::{TaggedKey, TaggedRows},
            usual_hours::UsualHoursRows,
        },
    },
};

const GOLDEN: &str = include_str!("golden.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"))
}

fn key<T: Table>(key: T::Key<'_>) -> String {
    let path = std::any::type_name::<T>();
    let name = path.rsplit("::").next().unwrap();
    format!("key {name} {}\n", hex(&T::encode_key(key)))
}

#[test]
fn keys_and_values_have_the_bytes_that_they_always_had() {
    let hour = Hour::from_index(498_000);
    let bucket = BucketKey { hour, product: "prod", customer: "acmé", dimension: "gb" };
    let producer = ProducerKey { client: "checkout", name: "host-1" };
    let keys = [
        key::<Buckets>(bucket),
        key::<TaggedRows>(TaggedKey { bucket, tags: &fuzz::tags_as_value() }),
        key::<CustomerRows>(("prod", "acme")),
        key::<Records>(RecordId(7)),
        key::<DedupKeys>((1_793_620_800, 7)),
        key::<RunFilters>(RunKey { run: 7, number: 2 }),
        key::<RunBlocks>(RunKey { run: 7, number: 2 }),
        key::<RunManifests>(7),
        key::<Decisions>((RecordId(7), 1)),
        key::<JournalLines>(7),
        key::<JournalEnd>(()),
        key::<OutstandingRows>(bucket.series()),
        key::<SubjectRows>((hour, u128::MAX / 3)),
        key::<NamedProducerRows>("host-1"),
        key::<HourTallyRows>(hour),
        key::<AggregateRows>(("prod", "gb")),
        key::<DestinationRows>("prod"),
        key::<ProductIdentities>("prod"),
        key::<Format>(()),
        key::<HashKey>(()),
        key::<IsSandbox>(()),
        key::<Sealing>(()),
        key::<NextRecord>(()),
        key::<FirstRows>(1_793_620_800),
        key::<FirstGeneration>(()),
        key::<AllowedMoves>(7),
        key::<PendingMoves>("prod"),
        key::<ProducerRows>(producer),
        key::<DigestBlocks>(DigestBlockKey { client: "checkout", name: "host-1", place: 7 }),
        key::<UsualHoursRows>(bucket.series()),
        key::<SealingOf>("prod"),
        key::<Adjustments>(7),
        key::<AdjustmentIds>("adjust-1"),
        key::<AdjustedBuckets>(AdjustedKey { bucket, number: 7 }),
    ];
    let values = fuzz::values();
    let values = values.iter().map(|seed| format!("value {} {}\n", char::from(seed[0]), hex(&seed[1..])));
    let found: String = keys.into_iter().chain(values).collect();
    for (found, golden) in found.lines().zip(GOLDEN.lines()) {
        assert_eq!(found, golden);
    }
    assert_eq!(found.lines().count(), GOLDEN.lines().count());
}
