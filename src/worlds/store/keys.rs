//! Keys, all big-endian, so that byte order is the order that scans want.
//!
//! ```text
//! meta        name
//! buckets     hour u32 | product len u8, bytes | customer len u8, bytes | dimension bytes
//! tagged      hour u32 | product len u8, bytes | customer len u8, bytes | dimension len u8, bytes | tags, as a value
//! subjects    hour u32 | hash of product, customer, dimension and subject, 16 bytes
//! event_ids   generation u32 | hash of the event's identity, 16 bytes; before there were marks
//! marks       generation u32 | number of the row u64
//! mark_runs   number of the run u64 | 0 block, 1 filter | number of the row u32
//! producers   producer id
//! records     record id u64
//! deliveries  record id u64
//! receipts    record id u64
//! held        record id u64
//! decisions   record id u64 | how many decisions before it u32
//! journal     line u64
//! outstanding product len u8, bytes | customer len u8, bytes | dimension bytes
//! roster      product len u8, bytes | customer bytes
//! ```
//!
//! Product, customer and dimension are names rather than numbers, so that a store can be read without its
//! configuration, and a configuration may be reordered.

use crate::domain::{record::RecordId, time::Hour};

pub const FORMAT: &[u8] = b"format";
pub const MARKETPLACE: &[u8] = b"marketplace";
pub const SEALING: &[u8] = b"sealing";
pub const NEXT_RECORD: &[u8] = b"next_record";
pub const JOURNAL: &[u8] = b"journal";
pub const HASH_KEY: &[u8] = b"hash_key";
/// Rows of markers of earlier generations count no more.
pub const FIRST_GENERATION: &[u8] = b"first_generation";

/// Where a product's records go.
pub fn destination(product: &str) -> Vec<u8> {
    format!("destination/{product}").into_bytes()
}

/// How a dimension's events become one amount.
pub fn aggregate(product: &str, dimension: &str) -> Vec<u8> {
    let mut key = b"aggregate/".to_vec();
    push_text(&mut key, product);
    key.extend(dimension.as_bytes());
    key
}

/// The start of the keys of runs of markers that are complete and not replaced.
pub const RUNS: &[u8] = b"mark_run/";

/// A run of markers that is complete and not replaced.
pub fn complete_run(run: u64) -> Vec<u8> {
    [RUNS, &run.to_be_bytes()].concat()
}

pub fn decode_complete_run(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.strip_prefix(RUNS)?.try_into().ok()?))
}

/// Earlier rows of a generation's markers are in runs.
pub fn first_mark(generation: u32) -> Vec<u8> {
    [b"first_mark/", &generation.to_be_bytes()[..]].concat()
}

/// The start of the keys of hours' tallies.
pub const HOURS: &[u8] = b"hour/";

/// What became of an hour's records.
pub fn hour_tally(hour: Hour) -> Vec<u8> {
    [HOURS, &hour.index().to_be_bytes()].concat()
}

pub fn decode_hour_tally(key: &[u8]) -> Option<Hour> {
    let index = key.strip_prefix(HOURS)?.try_into().ok()?;
    Some(Hour::from_index(u32::from_be_bytes(index)))
}

/// How a product's customers are known to AWS, now and before.
pub fn identity(product: &str) -> Vec<u8> {
    format!("identity/{product}").into_bytes()
}

/// A bucket's key, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketKey<'a> {
    pub hour: Hour,
    pub product: &'a str,
    pub customer: &'a str,
    pub dimension: &'a str,
}

impl<'a> BucketKey<'a> {
    pub fn encode(&self) -> Vec<u8> {
        let texts = self.product.len() + self.customer.len() + self.dimension.len();
        let mut key = Vec::with_capacity(6 + texts);
        key.extend(self.hour.index().to_be_bytes());
        push_text(&mut key, self.product);
        push_text(&mut key, self.customer);
        key.extend(self.dimension.as_bytes());
        key
    }

    pub fn decode(key: &'a [u8]) -> Option<Self> {
        let (hour, rest) = key.split_first_chunk()?;
        let (product, rest) = split_text(rest)?;
        let (customer, dimension) = split_text(rest)?;
        let hour = Hour::from_index(u32::from_be_bytes(*hour));
        Some(Self { hour, product, customer, dimension: std::str::from_utf8(dimension).ok()? })
    }
}

/// What is outstanding of a customer and dimension.
pub fn series(product: &str, customer: &str, dimension: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(2 + product.len() + customer.len() + dimension.len());
    push_text(&mut key, product);
    push_text(&mut key, customer);
    key.extend(dimension.as_bytes());
    key
}

/// Its product, customer and dimension.
pub fn decode_series(key: &[u8]) -> Option<(&str, &str, &str)> {
    let (product, rest) = split_text(key)?;
    let (customer, dimension) = split_text(rest)?;
    Some((product, customer, std::str::from_utf8(dimension).ok()?))
}

pub fn line(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

pub fn decode_line(key: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(key.try_into().ok()?))
}

/// The start of the keys of a bucket's tagged parts.
pub fn tagged_of(bucket: BucketKey<'_>) -> Vec<u8> {
    let mut key = bucket.hour.index().to_be_bytes().to_vec();
    for text in [bucket.product, bucket.customer, bucket.dimension] {
        push_text(&mut key, text);
    }
    key
}

/// The first key that does not start with `prefix`, which ends in text, and thus not in the highest byte.
pub fn after(mut prefix: Vec<u8>) -> Vec<u8> {
    if let Some(last) = prefix.last_mut() {
        *last = last.saturating_add(1);
    }
    prefix
}

/// A tagged part's bucket and its tags.
pub fn decode_tagged(key: &[u8]) -> Option<(BucketKey<'_>, &[u8])> {
    let (hour, rest) = key.split_first_chunk()?;
    let (product, rest) = split_text(rest)?;
    let (customer, rest) = split_text(rest)?;
    let (dimension, tags) = split_text(rest)?;
    let hour = Hour::from_index(u32::from_be_bytes(*hour));
    Some((BucketKey { hour, product, customer, dimension }, tags))
}

pub fn subject(hour: Hour, hash: u128) -> [u8; 20] {
    event_id(hour.index(), hash)
}

pub fn decision(id: RecordId, number: u32) -> [u8; 12] {
    let mut key = [0; 12];
    key[..8].copy_from_slice(&record(id));
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

pub fn decode_decision(key: &[u8]) -> Option<(RecordId, u32)> {
    let (id, number) = key.split_first_chunk()?;
    Some((RecordId(u64::from_be_bytes(*id)), u32::from_be_bytes(number.try_into().ok()?)))
}

pub fn roster(product: &str, customer: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + product.len() + customer.len());
    push_text(&mut key, product);
    key.extend(customer.as_bytes());
    key
}

pub fn decode_roster(key: &[u8]) -> Option<(&str, &str)> {
    let (product, customer) = split_text(key)?;
    Some((product, std::str::from_utf8(customer).ok()?))
}

pub fn record(id: RecordId) -> [u8; 8] {
    id.0.to_be_bytes()
}

pub fn decode_record(key: &[u8]) -> Option<RecordId> {
    Some(RecordId(u64::from_be_bytes(key.try_into().ok()?)))
}

pub fn event_id(generation: u32, hash: u128) -> [u8; 20] {
    let mut key = [0; 20];
    key[..4].copy_from_slice(&generation.to_be_bytes());
    key[4..].copy_from_slice(&hash.to_be_bytes());
    key
}

pub fn decode_event_id(key: &[u8]) -> Option<(u32, u128)> {
    let (generation, hash) = key.split_first_chunk()?;
    Some((u32::from_be_bytes(*generation), u128::from_be_bytes(hash.try_into().ok()?)))
}

/// A row of a generation's markers.
pub fn mark(generation: u32, number: u64) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&generation.to_be_bytes());
    key[4..].copy_from_slice(&number.to_be_bytes());
    key
}

pub fn decode_mark(key: &[u8]) -> Option<(u32, u64)> {
    let (generation, number) = key.split_first_chunk()?;
    Some((u32::from_be_bytes(*generation), u64::from_be_bytes(number.try_into().ok()?)))
}

/// What a run of markers consists of, in the order in which it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunPart {
    Block = 0,
    Filter = 1,
}

pub fn mark_run(run: u64, part: RunPart, number: u32) -> [u8; 13] {
    let mut key = [0; 13];
    key[..8].copy_from_slice(&run.to_be_bytes());
    key[8] = part as u8;
    key[9..].copy_from_slice(&number.to_be_bytes());
    key
}

/// The last key that a run can have.
pub fn mark_run_end(run: u64) -> [u8; 13] {
    mark_run(run, RunPart::Filter, u32::MAX)
}

pub fn decode_mark_run(key: &[u8]) -> Option<(u64, RunPart, u32)> {
    let (run, rest) = key.split_first_chunk()?;
    let (part, number) = rest.split_first()?;
    let part = match part {
        0 => RunPart::Block,
        1 => RunPart::Filter,
        _ => return None,
    };
    Some((u64::from_be_bytes(*run), part, u32::from_be_bytes(number.try_into().ok()?)))
}

/// The start of a generation's keys.
pub fn generation(generation: u32) -> [u8; 4] {
    generation.to_be_bytes()
}

pub fn decode_generation(key: &[u8]) -> Option<u32> {
    key.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// Texts are at most 255 bytes: the configuration and the ingest see to that.
fn push_text(key: &mut Vec<u8>, text: &str) {
    debug_assert!(u8::try_from(text.len()).is_ok(), "text too long for a key");
    key.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
    key.extend(text.as_bytes());
}

fn split_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (length, rest) = bytes.split_first()?;
    let (text, rest) = rest.split_at_checked(usize::from(*length))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &str = "\\PC{0,60}";

    proptest! {
        #[test]
        fn bucket_keys_round_trip(hour: u32, product in TEXT, customer in TEXT, dimension in TEXT) {
            let hour = Hour::from_index(hour);
            let key = BucketKey { hour, product: &product, customer: &customer, dimension: &dimension };
            let bytes = key.encode();
            prop_assert_eq!(BucketKey::decode(&bytes), Some(key));
        }

        #[test]
        fn bucket_keys_are_in_the_order_of_hours(a: u32, b: u32) {
            let key = |hour| BucketKey { hour: Hour::from_index(hour), product: "p", customer: "c", dimension: "d" }.encode();
            prop_assert_eq!(key(a).cmp(&key(b)), a.cmp(&b));
        }

        #[test]
        fn tagged_keys_lead_back_to_their_bucket(hour: u32, product in TEXT, customer in TEXT, dimension in "[a-zé\u{ffff}]{1,9}", tags: Vec<u8>) {
            let bucket = BucketKey { hour: Hour::from_index(hour), product: &product, customer: &customer, dimension: &dimension };
            let mut key = tagged_of(bucket);
            let (from, to) = (key.clone(), after(key.clone()));
            key.extend(&tags);
            prop_assert!(from <= key && key < to);
            prop_assert_eq!(decode_tagged(&key), Some((bucket, &*tags)));
            let longer = format!("{dimension}x");
            let other = tagged_of(BucketKey { dimension: &longer, ..bucket });
            prop_assert!(other < from || other >= to, "another dimension's");
        }

        #[test]
        fn roster_keys_round_trip(product in TEXT, customer in TEXT) {
            let bytes = roster(&product, &customer);
            prop_assert_eq!(decode_roster(&bytes), Some((&*product, &*customer)));
        }

        #[test]
        fn series_keys_round_trip(product in TEXT, customer in TEXT, dimension in TEXT) {
            let bytes = series(&product, &customer, &dimension);
            prop_assert_eq!(decode_series(&bytes), Some((&*product, &*customer, &*dimension)));
        }

        #[test]
        fn record_and_event_keys_round_trip(id: u64, generation: u32, hash: u128) {
            prop_assert_eq!(decode_record(&record(RecordId(id))), Some(RecordId(id)));
            prop_assert_eq!(decode_generation(&event_id(generation, hash)), Some(generation));
            prop_assert!(event_id(generation, hash).starts_with(&super::generation(generation)));
            prop_assert_eq!(decode_event_id(&event_id(generation, hash)), Some((generation, hash)));
            prop_assert!(mark(generation, id).starts_with(&super::generation(generation)));
            prop_assert_eq!(decode_mark(&mark(generation, id)), Some((generation, id)));
            prop_assert_eq!(decode_complete_run(&complete_run(id)), Some(id));
            for part in [RunPart::Block, RunPart::Filter] {
                prop_assert_eq!(decode_mark_run(&mark_run(id, part, generation)), Some((id, part, generation)));
            }
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = (decode_event_id(&bytes), decode_mark(&bytes), decode_mark_run(&bytes), BucketKey::decode(&bytes), decode_tagged(&bytes), decode_roster(&bytes), decode_record(&bytes), decode_generation(&bytes), decode_series(&bytes));
        }
    }
}
