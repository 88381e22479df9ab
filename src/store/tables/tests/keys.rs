//! Keys are written and read again as the same, in the order that scans want.

use std::fmt::Debug;

use proptest::prelude::*;

use crate::{
    domain::{billing::record::RecordId, time::Hour},
    store::{
        Batch, MemoryStore, ReadTable, Store, Table,
        claim::claim_format,
        key::{BucketKey, Key, SeriesKey},
        tables::{
            buckets::Buckets,
            customers::CustomerRows,
            dedup::{DedupKeys, RunBlocks, RunFilters, RunKey, RunManifests},
            meta::DestinationRows,
            outstanding::OutstandingRows,
            records::Records,
            sealing::NextRecord,
            tagged::{TaggedKey, TaggedRows},
        },
    },
};

const TEXT: &str = "\\PC{0,60}";

fn round_trips<'k, T: Table>(bytes: &'k [u8], key: &T::Key<'k>)
where
    T::Key<'k>: PartialEq + Debug,
{
    assert_eq!(&T::decode_key(bytes).unwrap(), key);
}

proptest! {
    #[test]
    fn keys_of_series_and_buckets_round_trip(hour: u32, product in TEXT, customer in TEXT, dimension in TEXT, tags: Vec<u8>) {
        let series = SeriesKey { product: &product, customer: &customer, dimension: &dimension };
        round_trips::<OutstandingRows>(&OutstandingRows::encode_key(series), &series);
        let hour = Hour::from_index(hour);
        let bucket = BucketKey { hour, product: &product, customer: &customer, dimension: &dimension };
        round_trips::<Buckets>(&Buckets::encode_key(bucket), &bucket);
        let part = TaggedKey { bucket, tags: &tags };
        round_trips::<TaggedRows>(&TaggedRows::encode_key(part), &part);
        let customer = (&*product, &*customer);
        round_trips::<CustomerRows>(&CustomerRows::encode_key(customer), &customer);
    }

    #[test]
    fn keys_of_records_and_dedup_keys_round_trip(id: u64, number: u32) {
        round_trips::<Records>(&Records::encode_key(RecordId(id)), &RecordId(id));
        round_trips::<DedupKeys>(&DedupKeys::encode_key((number, id)), &(number, id));
        round_trips::<RunManifests>(&RunManifests::encode_key(id), &id);
        let (block, filter) = (RunKey { run: id, number }, RunKey { run: id, number });
        round_trips::<RunBlocks>(&RunBlocks::encode_key(block), &block);
        round_trips::<RunFilters>(&RunFilters::encode_key(filter), &filter);
        prop_assert!(RunFilters::decode_key(&RunBlocks::encode_key(block)).is_err());
    }

    #[test]
    fn keys_of_buckets_are_in_the_order_of_hours(a: u32, b: u32) {
        let key = |hour| Buckets::encode_key(BucketKey { hour: Hour::from_index(hour), product: "p", customer: "c", dimension: "d" });
        prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
    }

    #[test]
    fn a_bucket_takes_its_own_tagged_parts_along_and_no_others(
        hour: u32, product in TEXT, customer in TEXT, dimension in "[a-zé\u{ffff}]{1,9}", tags: Vec<u8>,
    ) {
        let bucket = BucketKey { hour: Hour::from_index(hour), product: &product, customer: &customer, dimension: &dimension };
        let longer = format!("{dimension}x");
        let other = BucketKey { dimension: &longer, ..bucket };
        let (store, mut batch) = (MemoryStore::default(), Batch::default());
        for bucket in [bucket, other] {
            batch.put(TaggedRows, TaggedKey { bucket, tags: &tags }, &7);
        }
        store.commit(batch).unwrap();
        let mut batch = Batch::default();
        TaggedRows::delete_of(&mut batch, bucket);
        store.commit(batch).unwrap();
        let has = |bucket| store.has(TaggedRows, TaggedKey { bucket, tags: &tags }).unwrap();
        prop_assert_eq!((has(bucket), has(other)), (false, true));
    }

    #[test]
    fn no_bytes_panic(bytes: Vec<u8>) {
        let _ = (<(u32, u64)>::read(&bytes), BucketKey::read(&bytes), TaggedKey::read(&bytes));
        let _ = (SeriesKey::read(&bytes), RunKey::<1>::read(&bytes), <(&str, &str)>::read(&bytes));
    }
}

#[test]
fn rows_that_share_a_table_are_told_apart_by_their_prefixes() {
    let (store, mut batch) = (MemoryStore::default(), Batch::default());
    claim_format(&store, 7).unwrap();
    batch.put(NextRecord, (), &RecordId(3));
    for (product, region) in [("a", "us-east-1"), ("b", "eu-west-1")] {
        batch.put(DestinationRows, product, &region.to_owned());
    }
    store.commit(batch).unwrap();
    let mut found = Vec::new();
    store
        .each(DestinationRows, |product, region| {
            found.push((product.to_owned(), region));
            Ok(())
        })
        .unwrap();
    assert_eq!(found, [("a", "us-east-1"), ("b", "eu-west-1")].map(|(a, b)| (a.to_owned(), b.to_owned())));
    let page = store.page(DestinationRows, "b", 9, |product, _| product.to_owned());
    assert_eq!(page.unwrap(), ["b"]);
}
