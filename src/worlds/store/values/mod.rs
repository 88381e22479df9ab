//! Values: one version byte, then a protobuf message.
//!
//! Within a version, fields may be added under new numbers, with a meaning for their absence that old values keep.
//! Amounts are 128-bit, as two halves.

mod bucket;
mod customer;
mod hours;
mod journal;
mod marks;
mod record;

use std::sync::Arc;

use prost::Message;

use super::StoreError;
use crate::domain::time::{Hour, Timestamp};

pub use customer::ProductIdentity;
pub use journal::{JournalHead, SignedAmount};
pub use marks::{MarkRun, decode_hashes, encode_hashes};
pub use record::{Decided, ProductOfRecord};

/// The version that this code writes, and the only one that it reads.
pub const VERSION: u8 = 1;

/// A type with a place on disk.
pub trait Value: Sized {
    type Stored: Message + Default;
    const WHAT: &'static str;

    fn to_stored(&self) -> Self::Stored;
    /// The error says what about the value makes no sense.
    fn from_stored(stored: Self::Stored) -> Result<Self, String>;
}

pub fn encode<V: Value>(value: &V) -> Vec<u8> {
    let stored = value.to_stored();
    let mut bytes = Vec::with_capacity(1 + stored.encoded_len());
    bytes.push(VERSION);
    stored.encode_raw(&mut bytes);
    bytes
}

pub fn decode<V: Value>(bytes: &[u8]) -> Result<V, StoreError> {
    let unreadable = |why| StoreError::Unreadable { what: V::WHAT, why };
    match bytes.split_first() {
        Some((&VERSION, rest)) => {
            let stored = V::Stored::decode(rest).map_err(|error| unreadable(error.to_string()))?;
            V::from_stored(stored).map_err(unreadable)
        }
        Some((version, _)) => Err(unreadable(format!("its version is {version}, not {VERSION}"))),
        None => Err(unreadable("it is empty".to_owned())),
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct StoredAmount {
    #[prost(uint64, tag = "1")]
    low: u64,
    #[prost(uint64, tag = "2")]
    high: u64,
}

impl From<u128> for StoredAmount {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the number")]
    fn from(amount: u128) -> Self {
        Self { low: amount as u64, high: (amount >> 64) as u64 }
    }
}

impl From<StoredAmount> for u128 {
    fn from(stored: StoredAmount) -> Self {
        (Self::from(stored.high) << 64) | Self::from(stored.low)
    }
}

fn amount(stored: Option<StoredAmount>) -> u128 {
    stored.unwrap_or_default().into()
}

/// Where a stream's producer stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Producer {
    pub sequence: u64,
    pub last_seen: Timestamp,
    /// The client that alone may go on with its numbers. None for one that no named client has used.
    pub owner: Option<Arc<str>>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredProducer {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(int64, tag = "2")]
    last_seen_millis: i64,
    /// Empty for none, as in rows from before there were owners.
    #[prost(string, tag = "3")]
    owner: String,
}

impl Value for Producer {
    type Stored = StoredProducer;
    const WHAT: &'static str = "producer";

    fn to_stored(&self) -> StoredProducer {
        StoredProducer {
            sequence: self.sequence,
            last_seen_millis: self.last_seen.millis(),
            owner: self.owner.as_deref().unwrap_or_default().to_owned(),
        }
    }

    fn from_stored(stored: StoredProducer) -> Result<Self, String> {
        let last_seen = Timestamp::from_millis(stored.last_seen_millis);
        let owner = Some(stored.owner).filter(|owner| !owner.is_empty()).map(Arc::from);
        Ok(Self { sequence: stored.sequence, last_seen, owner })
    }
}

/// How far the hours are sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealingState {
    /// The last hour that is closed to events.
    pub watermark: Hour,
    /// While the watermark's hour is being sealed: the customer (product code, key) up to which it is done.
    pub unfinished: Option<Option<(String, String)>>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredSealingState {
    #[prost(uint32, tag = "1")]
    watermark: u32,
    #[prost(bool, tag = "2")]
    unfinished: bool,
    #[prost(string, optional, tag = "3")]
    done_product: Option<String>,
    #[prost(string, optional, tag = "4")]
    done_customer: Option<String>,
}

impl Value for SealingState {
    type Stored = StoredSealingState;
    const WHAT: &'static str = "watermark";

    fn to_stored(&self) -> StoredSealingState {
        let done = self.unfinished.clone().flatten();
        let (done_product, done_customer) = done.unzip();
        let unfinished = self.unfinished.is_some();
        StoredSealingState { watermark: self.watermark.index(), unfinished, done_product, done_customer }
    }

    fn from_stored(stored: StoredSealingState) -> Result<Self, String> {
        let done = stored.done_product.zip(stored.done_customer);
        let watermark = Hour::from_index(stored.watermark);
        Ok(Self { watermark, unfinished: stored.unfinished.then_some(done) })
    }
}

/// A single number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Number(pub u128);

impl Value for Number {
    type Stored = StoredAmount;
    const WHAT: &'static str = "number";

    fn to_stored(&self) -> StoredAmount {
        self.0.into()
    }

    fn from_stored(stored: StoredAmount) -> Result<Self, String> {
        Ok(Self(stored.into()))
    }
}

/// A single text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text(pub String);

#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredText {
    #[prost(string, tag = "1")]
    text: String,
}

impl Value for Text {
    type Stored = StoredText;
    const WHAT: &'static str = "text";

    fn to_stored(&self) -> StoredText {
        StoredText { text: self.0.clone() }
    }

    fn from_stored(stored: StoredText) -> Result<Self, String> {
        Ok(Self(stored.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::bucket::tests::{buckets, usages};
    use crate::domain::{
        bucket::Bucket,
        customer::{Closing, FormerIdentity, Standing},
        hours::HourTally,
        identity::{Identity, IdentityMode},
        journal::{Digest, Entry, Line},
        quantity::Quantity,
        record::{
            Allocation, Amounts, Decision, DecisionKind, Delivery, HoldReason, Outcome, Record, RecordId,
            Settled,
        },
        tags::{TagSet, Tagged},
    };
    use proptest::prelude::*;
    use std::fmt::Debug;

    fn round_trips<V: Value + PartialEq + Debug>(value: &V) {
        let bytes = encode(value);
        assert_eq!(bytes[0], VERSION);
        assert_eq!(&decode::<V>(&bytes).unwrap(), value);
        let mut newer = bytes;
        newer[0] = VERSION + 1;
        assert!(
            matches!(decode::<V>(&newer), Err(StoreError::Unreadable { .. })),
            "an unknown version was read"
        );
        assert!(decode::<V>(&[]).is_err());
    }

    #[test]
    fn a_producer_from_before_there_were_owners_has_none() {
        // Version 1; field 1: 9; field 2: 1 793 620 800 000 milliseconds.
        let row = [1, 0x08, 9, 0x10, 0x80, 0xe4, 0x85, 0xe1, 0x99, 0x34];
        let last_seen = Timestamp::from_seconds(1_793_620_800);
        let producer = Producer { sequence: 9, last_seen, owner: None };
        assert_eq!(decode::<Producer>(&row).unwrap(), producer);
        assert_eq!(encode(&producer), row, "and is written as it was");
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
            (reasons, "\\PC{0,20}")
                .prop_map(|(reason, detail)| Outcome::Held { reason, detail: detail.into() }),
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
        fn decisions_round_trip(record in records(), at: i64, kind in proptest::sample::select(DecisionKind::ALL.to_vec())) {
            let decision = Decision { kind, reason: "because".into(), by: "me".into(), at: Timestamp::from_millis(at) };
            round_trips(&Decided {
                record: record.id, product: record.product.to_string(), customer: record.customer.to_string(),
                dimension: record.dimension.to_string(), hour: record.hour, amount: record.amounts.billed,
                held_for: HoldReason::Conflict, decision,
            });
        }

        #[test]
        fn customers_round_trip(
            identity in identities(), former: bool, since: Option<i64>, closing: Option<(i64, bool)>, sealed: Option<u32>,
            not_subscribed: bool,
        ) {
            let closing = closing.map(|(noticed, is_sealed)| Closing { noticed: Timestamp::from_millis(noticed), is_sealed });
            round_trips(&Standing {
                former: former.then(|| identity.clone()), closing, sealed_through: sealed.map(Hour::from_index), not_subscribed,
                ..Standing::new(identity, since.map(Timestamp::from_millis), Hour::from_index(7))
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
        fn settled_records_round_trip(record in records(), attempts: u32, outcome in outcomes(), at: i64) {
            round_trips(&Settled { record, attempts, outcome, at: Timestamp::from_millis(at) });
        }

        #[test]
        fn deliveries_round_trip(attempts: u32, outcome_unknown: bool, next: i64, error in "\\PC{0,20}") {
            let next_attempt = Timestamp::from_millis(next);
            round_trips(&Delivery { attempts, outcome_unknown, next_attempt, last_error: error.into() });
        }

        #[test]
        fn producers_and_numbers_round_trip(number: u128, sequence: u64, owner in proptest::option::of("\\PC{1,20}")) {
            round_trips(&Producer { sequence, last_seen: Timestamp::from_millis(5), owner: owner.map(Arc::from) });
            round_trips(&Number(number));
            round_trips(&Text(number.to_string()));
        }

        #[test]
        fn journal_lines_round_trip(at: i64, previous: [u8; 32], row: [u8; 32], record: u64, other: u64, number: u32) {
            let (record, row) = (RecordId(record), Digest(row));
            let entries = [
                Entry::Opened { next: record },
                Entry::Sealed { first: record, rows: vec![[number.to_be_bytes()[0]; 16]; 3] },
                Entry::Settled { record, row },
                Entry::Resumed { record },
                Entry::Decided { record, number, row },
                Entry::Dropped { through: record, first_line: other, before: Timestamp::from_millis(at) },
            ];
            for entry in entries {
                round_trips(&Line { at: Timestamp::from_millis(at), previous: Digest(previous), entry });
            }
            round_trips(&JournalHead { lines: other, last: row, first_line: record.0, dropped_through: record });
        }

        #[test]
        fn signed_amounts_round_trip(amount: i128) {
            round_trips(&SignedAmount(amount));
        }

        #[test]
        fn tallies_of_hours_round_trip(
            pending: u64, held: u64, accepted: u64, rolled_forward: u64, carried: u64, written_off: u64, expired: u64,
        ) {
            round_trips(&HourTally { pending, held, accepted, rolled_forward, carried, written_off, expired });
        }

        #[test]
        fn watermarks_round_trip(hour: u32, unfinished: Option<Option<(String, String)>>) {
            round_trips(&SealingState { watermark: Hour::from_index(hour), unfinished });
        }

        #[test]
        fn no_bytes_panic(mut bytes: Vec<u8>) {
            bytes.insert(0, VERSION);
            drop((decode::<Bucket>(&bytes), decode::<Record>(&bytes), decode::<Settled>(&bytes)));
            drop((decode::<Delivery>(&bytes), decode::<Standing>(&bytes), decode::<SealingState>(&bytes)));
            drop((decode::<TagSet>(&bytes), decode::<Decided>(&bytes), decode::<ProductIdentity>(&bytes)));
            drop((decode::<Line>(&bytes), decode::<JournalHead>(&bytes), decode::<SignedAmount>(&bytes)));
            drop(decode::<HourTally>(&bytes));
        }
    }
}
