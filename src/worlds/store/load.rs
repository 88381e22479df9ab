//! Typed reading: what an agent finds at its start, and the ledger's pages.

use std::collections::BTreeMap;

use super::{
    Batch, Pair, Rows, Store, StoreError, Table,
    keys::{self, BucketKey},
    scan_all,
    values::{
        Decided, JournalHead, MarkRun, Number, Producer, ProductIdentity, ProductOfRecord, SealingState,
        SignedAmount, Text, Value, decode, encode,
    },
};
use crate::domain::{
    bucket::Bucket,
    customer::Standing,
    hours::HourTally,
    journal::Line,
    record::{Delivery, Record, RecordId, Settled},
    tags::TagSet,
    time::Hour,
};

/// The layout of keys and tables. Values have versions of their own.
const FORMAT: u32 = 1;
/// How many records are read at a time.
const PAGE: usize = 1000;

/// Marks a new store with this version's format and a hash key; refuses an old one of another format.
pub fn claim_format(store: &dyn Store, new_hash_key: u128) -> Result<(), StoreError> {
    let Some(found) = read::<Number>(store, Table::Meta, keys::FORMAT)? else {
        let mut batch = Batch::default();
        batch.put(Table::Meta, keys::FORMAT, encode(&Number(FORMAT.into())));
        batch.put(Table::Meta, keys::HASH_KEY, encode(&Number(new_hash_key)));
        return store.commit(batch);
    };
    let found = u32::try_from(found.0).unwrap_or(u32::MAX);
    if found == FORMAT { Ok(()) } else { Err(StoreError::UnknownFormat { found, known: FORMAT }) }
}

/// Marks a new store as AWS's or the sandbox's, and refuses the other one from then on: usage that was tried out must
/// never be billed, and usage that is to be billed must never end in a sandbox.
pub fn claim_marketplace(store: &dyn Store, is_sandbox: bool) -> Result<(), StoreError> {
    const NAMES: [&str; 2] = ["the real marketplace", "the sandbox"];
    let Some(found) = read::<Number>(store, Table::Meta, keys::MARKETPLACE)? else {
        let mut batch = Batch::default();
        batch.put(Table::Meta, keys::MARKETPLACE, encode(&Number(is_sandbox.into())));
        return store.commit(batch);
    };
    match (found.0 != 0, is_sandbox) {
        (true, false) => Err(StoreError::OtherMarketplace { owner: NAMES[1], other: NAMES[0] }),
        (false, true) => Err(StoreError::OtherMarketplace { owner: NAMES[0], other: NAMES[1] }),
        (false, false) | (true, true) => Ok(()),
    }
}

pub fn hash_key(store: &dyn Rows) -> Result<u128, StoreError> {
    let key = read::<Number>(store, Table::Meta, keys::HASH_KEY)?;
    key.map(|key| key.0).ok_or_else(|| unreadable("hash key", "it is missing"))
}

/// A single text among the meta rows.
pub fn text(store: &dyn Rows, key: &[u8]) -> Result<Option<String>, StoreError> {
    Ok(read::<Text>(store, Table::Meta, key)?.map(|text| text.0))
}

/// `None` before the first start.
pub fn sealing(store: &dyn Rows) -> Result<Option<SealingState>, StoreError> {
    read(store, Table::Meta, keys::SEALING)
}

/// The number of the next record to be sealed.
pub fn next_record(store: &dyn Rows) -> Result<RecordId, StoreError> {
    let next = read::<Number>(store, Table::Meta, keys::NEXT_RECORD)?.map_or(1, |number| number.0);
    u64::try_from(next).map(RecordId).map_err(|_| unreadable("record number", "it is too large"))
}

pub fn buckets(
    store: &dyn Rows,
    mut each: impl FnMut(BucketKey<'_>, Bucket) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    scan_all(store, Table::Buckets, &[], |key, value| {
        let key = BucketKey::decode(key).ok_or_else(|| unreadable("bucket", "its key makes no sense"))?;
        each(key, decode(value)?)
    })
}

/// The parts of buckets that have tags, in base units.
pub fn tagged(
    store: &dyn Rows,
    mut each: impl FnMut(BucketKey<'_>, TagSet, u128) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    scan_all(store, Table::Tagged, &[], |key, value| {
        let (bucket, tags) = keys::decode_tagged(key)
            .ok_or_else(|| unreadable("tagged part of a bucket", "its key makes no sense"))?;
        each(bucket, decode(tags)?, decode::<Number>(value)?.0)
    })
}

/// What became of the records of the last hours, up to `limit` of them.
pub fn hours(store: &dyn Rows, limit: usize) -> Result<BTreeMap<Hour, HourTally>, StoreError> {
    let rows = store.scan(Table::Meta, keys::HOURS, limit)?;
    let hours = rows.iter().take_while(|(key, _)| key.starts_with(keys::HOURS));
    let hour = |(key, value): &Pair| {
        let hour = keys::decode_hour_tally(key)
            .ok_or_else(|| unreadable("tally of an hour", "its key makes no sense"))?;
        Ok((hour, decode(value)?))
    };
    hours.map(hour).collect()
}

/// `None` before the first start.
pub fn journal_head(store: &dyn Rows) -> Result<Option<JournalHead>, StoreError> {
    read(store, Table::Meta, keys::JOURNAL)
}

/// Lines of the journal with their numbers, from number `from` on, at most `limit`.
pub fn journal(store: &dyn Rows, from: u64, limit: usize) -> Result<Vec<(u64, Line)>, StoreError> {
    let rows = store.scan(Table::Journal, &keys::line(from), limit)?;
    let line = |(key, value): &Pair| {
        let number =
            keys::decode_line(key).ok_or_else(|| unreadable("journal line", "its key makes no sense"))?;
        Ok((number, decode(value)?))
    };
    rows.iter().map(line).collect()
}

/// What is outstanding, in base units, by the key of its customer and dimension.
pub fn outstanding(store: &dyn Rows, mut each: impl FnMut(&[u8], i128)) -> Result<(), StoreError> {
    scan_all(store, Table::Outstanding, &[], |key, value| {
        each(key, decode::<SignedAmount>(value)?.0);
        Ok(())
    })
}

/// How a product's customers are known to AWS; `None` before its first start.
pub fn product_identity(store: &dyn Rows, product: &str) -> Result<Option<ProductIdentity>, StoreError> {
    read(store, Table::Meta, &keys::identity(product))
}

/// What persons decided about a record, oldest first.
pub fn decisions(store: &dyn Rows, id: RecordId) -> Result<Vec<Decided>, StoreError> {
    const MOST: usize = 100;
    let rows = store.scan(Table::Decisions, &keys::decision(id, 0), MOST)?;
    let of_record = rows.iter().take_while(|(key, _)| key.starts_with(&keys::record(id)));
    of_record.map(|(_, value)| decode(value)).collect()
}

/// What has been tried for a record, if it is pending.
pub fn delivery(store: &dyn Rows, id: RecordId) -> Result<Option<Delivery>, StoreError> {
    let key = keys::record(id);
    if store.get(Table::Records, &key)?.is_none() {
        return Ok(None);
    }
    Ok(Some(read(store, Table::Deliveries, &key)?.unwrap_or_default()))
}

/// A held record.
pub fn held(store: &dyn Rows, id: RecordId) -> Result<Option<Settled>, StoreError> {
    read(store, Table::Held, &keys::record(id))
}

/// Every customer, as (product code, key, standing).
pub fn customers(
    store: &dyn Rows,
    mut each: impl FnMut(&str, &str, Standing) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    scan_all(store, Table::Roster, &[], |key, value| {
        let (product, customer) =
            keys::decode_roster(key).ok_or_else(|| unreadable("customer", "its key makes no sense"))?;
        each(product, customer, decode(value)?)
    })
}

pub fn producers(store: &dyn Rows, mut each: impl FnMut(&str, Producer)) -> Result<(), StoreError> {
    scan_all(store, Table::Producers, &[], |key, value| {
        let id = std::str::from_utf8(key).map_err(|_| unreadable("producer", "its key is no text"))?;
        each(id, decode(value)?);
        Ok(())
    })
}

/// The runs of markers that are complete, in order.
pub fn mark_runs(store: &dyn Rows) -> Result<Vec<(u64, MarkRun)>, StoreError> {
    let mut runs = Vec::new();
    let mut from = keys::RUNS.to_vec();
    loop {
        let page = store.scan(Table::Meta, &from, PAGE)?;
        for (key, row) in page.iter().take_while(|(key, _)| key.starts_with(keys::RUNS)) {
            let number = keys::decode_complete_run(key);
            let number = number.ok_or_else(|| unreadable("run of event ids", "its key makes no sense"))?;
            runs.push((number, decode(row)?));
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE && last.starts_with(keys::RUNS) => {
                from = [&**last, &[0]].concat();
            }
            _ => return Ok(runs),
        }
    }
}

/// The first row of a generation's markers that are in no run.
pub fn first_mark(store: &dyn Rows, generation: u32) -> Result<u64, StoreError> {
    let first =
        read::<Number>(store, Table::Meta, &keys::first_mark(generation))?.map_or(0, |number| number.0);
    u64::try_from(first).map_err(|_| unreadable("number of event ids", "it is too large"))
}

/// The first generation of markers whose rows count.
pub fn first_generation(store: &dyn Rows) -> Result<u32, StoreError> {
    let first = read::<Number>(store, Table::Meta, keys::FIRST_GENERATION)?.map_or(0, |number| number.0);
    u32::try_from(first).map_err(|_| unreadable("generation of event ids", "it is too large"))
}

/// The generations of event ids that are on disk in the old table, oldest first. One seek each.
pub fn generations(store: &dyn Rows) -> Result<Vec<u32>, StoreError> {
    let mut found = Vec::new();
    let mut from = keys::generation(0);
    while let Some((key, _)) = store.scan(Table::EventIds, &from, 1)?.first() {
        let generation =
            keys::decode_generation(key).ok_or_else(|| unreadable("event id", "its key makes no sense"))?;
        found.push(generation);
        let Some(next) = generation.checked_add(1) else { break };
        from = keys::generation(next);
    }
    Ok(found)
}

/// Pending records with numbers above `after`, in order, at most `limit`.
pub fn pending_after(
    store: &dyn Rows,
    after: RecordId,
    limit: usize,
) -> Result<Vec<(Record, Delivery)>, StoreError> {
    let from = keys::record(RecordId(after.0.saturating_add(1)));
    let rows = store.scan(Table::Records, &from, limit)?;
    let Some((last, _)) = rows.last() else { return Ok(Vec::new()) };
    let mut deliveries = deliveries(store, &from, last)?;
    let pending = |(key, value): &Pair| Ok((decode(value)?, deliveries.remove(key).unwrap_or_default()));
    rows.iter().map(pending).collect()
}

/// What has been tried, by the records' keys, from one key to another.
fn deliveries(
    store: &dyn Rows,
    from: &[u8],
    last: &[u8],
) -> Result<BTreeMap<Box<[u8]>, Delivery>, StoreError> {
    let (mut found, mut from) = (BTreeMap::new(), from.to_vec());
    loop {
        let page = store.scan(Table::Deliveries, &from, PAGE)?;
        let is_whole = page.len() < PAGE;
        for (key, value) in page {
            if *key > *last {
                return Ok(found);
            }
            from = [&key, &[0][..]].concat();
            found.insert(key, decode(&value)?);
        }
        if is_whole {
            return Ok(found);
        }
    }
}

/// How many records are pending, by product code.
pub fn pending_by_product(store: &dyn Rows) -> Result<BTreeMap<String, u64>, StoreError> {
    let mut products: BTreeMap<String, u64> = BTreeMap::new();
    scan_all(store, Table::Records, &[], |_, value| {
        let ProductOfRecord(product) = decode(value)?;
        match products.get_mut(&product) {
            Some(records) => *records += 1,
            None => _ = products.insert(product, 1),
        }
        Ok(())
    })?;
    Ok(products)
}

/// Settled records of the ledger or the held ones, with numbers from `from` on, in order, at most `limit`.
pub fn settled(
    store: &dyn Rows,
    table: Table,
    from: RecordId,
    limit: usize,
) -> Result<Vec<Settled>, StoreError> {
    let rows = store.scan(table, &keys::record(from), limit)?;
    rows.iter().map(|(_, value)| decode(value)).collect()
}

/// Every pending record, in order.
pub fn all_pending(store: &dyn Rows, mut each: impl FnMut(Record, Delivery)) -> Result<(), StoreError> {
    let mut after = RecordId(0);
    loop {
        let page = pending_after(store, after, PAGE)?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = last.id;
        for (record, delivery) in page {
            each(record, delivery);
        }
    }
}

/// Every settled record of the ledger or of the held ones, in order.
pub fn all_settled(store: &dyn Rows, table: Table, mut each: impl FnMut(Settled)) -> Result<(), StoreError> {
    let mut from = RecordId(0);
    loop {
        let page = settled(store, table, from, PAGE)?;
        let Some(last) = page.last() else { return Ok(()) };
        from = RecordId(last.record.id.0.saturating_add(1));
        page.into_iter().for_each(&mut each);
    }
}

fn read<V: Value>(store: &dyn Rows, table: Table, key: &[u8]) -> Result<Option<V>, StoreError> {
    store.get(table, key)?.map(|bytes| decode(&bytes)).transpose()
}

fn unreadable(what: &'static str, why: &str) -> StoreError {
    StoreError::Unreadable { what, why: why.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worlds::store::MemoryStore;

    #[test]
    fn an_unknown_format_is_refused() {
        let store = MemoryStore::default();
        claim_format(&store, 7).unwrap();
        claim_format(&store, 8).unwrap();
        assert_eq!(hash_key(&store).unwrap(), 7, "the hash key is chosen once");
        let mut batch = Batch::default();
        batch.put(Table::Meta, keys::FORMAT, encode(&Number(2)));
        store.commit(batch).unwrap();
        assert!(matches!(
            claim_format(&store, 9),
            Err(StoreError::UnknownFormat { found: 2, known: FORMAT })
        ));
    }

    #[test]
    fn a_folder_of_the_sandbox_is_never_billed_to_aws_nor_the_other_way_round() {
        for is_sandbox in [true, false] {
            let store = MemoryStore::default();
            claim_marketplace(&store, is_sandbox).unwrap();
            claim_marketplace(&store, is_sandbox).unwrap();
            assert!(matches!(
                claim_marketplace(&store, !is_sandbox),
                Err(StoreError::OtherMarketplace { .. })
            ));
        }
    }

    #[test]
    fn only_a_pending_record_has_a_delivery_and_it_is_the_one_on_disk() {
        let (store, id) = (MemoryStore::default(), RecordId(7));
        let put = |table, value| {
            let mut batch = Batch::default();
            batch.put(table, keys::record(id), value);
            store.commit(batch).unwrap();
        };
        let attempted = Delivery::default().attempted();
        put(Table::Deliveries, encode(&attempted));
        assert_eq!(delivery(&store, id).unwrap(), None, "it is not pending");
        put(Table::Records, encode(&crate::domain::record::tests::sample(7)));
        assert_eq!(delivery(&store, id).unwrap(), Some(attempted));
    }

    #[test]
    fn pending_records_come_with_what_was_tried_for_each() {
        let (store, mut batch) = (MemoryStore::default(), Batch::default());
        let tried = Delivery::default().attempted();
        for id in 1..=9 {
            let (record, key) = (crate::domain::record::tests::sample(id), keys::record(RecordId(id)));
            batch.put(Table::Records, key, encode(&record));
            if id % 3 == 0 {
                batch.put(Table::Deliveries, key, encode(&tried));
            }
        }
        // Whatever lies there without a record.
        for id in [0, 10, 11] {
            batch.put(Table::Deliveries, keys::record(RecordId(id)), encode(&tried));
        }
        store.commit(batch).unwrap();
        let page = pending_after(&store, RecordId(1), 7).unwrap();
        let tried: Vec<_> = page.iter().map(|(record, tried)| (record.id.0, tried.attempts)).collect();
        assert_eq!(tried, [(2, 0), (3, 1), (4, 0), (5, 0), (6, 1), (7, 0), (8, 0)]);
        assert_eq!(pending_after(&store, RecordId(9), 7).unwrap(), []);
        assert_eq!(pending_by_product(&store).unwrap(), [("prod".to_owned(), 9)].into());
    }

    #[test]
    fn generations_are_listed_once_each() {
        let store = MemoryStore::default();
        let mut batch = Batch::default();
        for (generation, hash) in [(3, 1), (3, 2), (9, 1), (u32::MAX, 5)] {
            batch.put(Table::EventIds, keys::event_id(generation, hash), vec![1]);
        }
        store.commit(batch).unwrap();
        assert_eq!(generations(&store).unwrap(), [3, 9, u32::MAX]);
    }
}
