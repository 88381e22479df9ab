//! Values: one version byte, then a protobuf message.
//!
//! Within a version, fields may be added under new numbers, with a meaning for their absence that old values keep.
//! Amounts are 128-bit, as two halves.

use prost::Message;

use super::StoreError;
use crate::domain::{
    bucket::{Bucket, Carried},
    identity::{Identity, IdentityFields, IdentityMode},
    quantity::Quantity,
    record::{Amounts, Delivery, HoldReason, Outcome, Record, RecordId, Settled},
    time::{Hour, Timestamp},
};

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
    bytes.extend(stored.encode_to_vec());
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

#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredOrigin {
    #[prost(uint32, tag = "1")]
    hour: u32,
    #[prost(message, optional, tag = "2")]
    amount: Option<StoredAmount>,
}

fn origins(carried: &Carried) -> Vec<StoredOrigin> {
    let stored =
        |(hour, amount): (Hour, u128)| StoredOrigin { hour: hour.index(), amount: Some(amount.into()) };
    carried.origins().map(stored).collect()
}

fn carried(origins: Vec<StoredOrigin>) -> Carried {
    origins.into_iter().map(|origin| (Hour::from_index(origin.hour), amount(origin.amount))).collect()
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredBucket {
    #[prost(message, optional, tag = "1")]
    usage: Option<StoredAmount>,
    #[prost(uint64, tag = "2")]
    events: u64,
    #[prost(message, repeated, tag = "3")]
    carried: Vec<StoredOrigin>,
}

impl Value for Bucket {
    type Stored = StoredBucket;
    const WHAT: &'static str = "bucket";

    fn to_stored(&self) -> StoredBucket {
        StoredBucket { usage: Some(self.usage.into()), events: self.events, carried: origins(&self.carried) }
    }

    fn from_stored(stored: StoredBucket) -> Result<Self, String> {
        Ok(Self { usage: amount(stored.usage), events: stored.events, carried: carried(stored.carried) })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredIdentity {
    #[prost(uint32, tag = "1")]
    mode: u32,
    #[prost(string, tag = "2")]
    account_id: String,
    #[prost(string, tag = "3")]
    license_arn: String,
    #[prost(string, tag = "4")]
    customer_identifier: String,
}

impl From<&Identity> for StoredIdentity {
    fn from(identity: &Identity) -> Self {
        let fields = identity.fields();
        Self {
            mode: match identity.mode() {
                IdentityMode::License => 1,
                IdentityMode::Account => 2,
                IdentityMode::CustomerIdentifier => 3,
            },
            account_id: fields.account_id.to_owned(),
            license_arn: fields.license_arn.to_owned(),
            customer_identifier: fields.customer_identifier.to_owned(),
        }
    }
}

fn identity(stored: Option<&StoredIdentity>) -> Result<Identity, String> {
    let stored = stored.ok_or("it has no identity")?;
    let mode = match stored.mode {
        1 => IdentityMode::License,
        2 => IdentityMode::Account,
        3 => IdentityMode::CustomerIdentifier,
        other => return Err(format!("unknown identity mode {other}")),
    };
    let fields = IdentityFields {
        account_id: &stored.account_id,
        license_arn: &stored.license_arn,
        customer_identifier: &stored.customer_identifier,
    };
    Identity::from_fields(mode, fields)
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredRecord {
    #[prost(uint64, tag = "1")]
    id: u64,
    #[prost(string, tag = "2")]
    product: String,
    #[prost(string, tag = "3")]
    customer: String,
    #[prost(string, tag = "4")]
    dimension: String,
    #[prost(message, optional, tag = "5")]
    identity: Option<StoredIdentity>,
    #[prost(uint32, tag = "6")]
    hour: u32,
    #[prost(int64, tag = "7")]
    timestamp_millis: i64,
    #[prost(uint64, tag = "8")]
    quantity_micros: u64,
    #[prost(bool, tag = "9")]
    decimal: bool,
    #[prost(message, optional, tag = "10")]
    usage: Option<StoredAmount>,
    #[prost(uint64, tag = "11")]
    events: u64,
    #[prost(message, repeated, tag = "12")]
    carried_in: Vec<StoredOrigin>,
    #[prost(message, optional, tag = "13")]
    billed: Option<StoredAmount>,
    #[prost(message, optional, tag = "14")]
    carried_out: Option<StoredAmount>,
}

impl Value for Record {
    type Stored = StoredRecord;
    const WHAT: &'static str = "record";

    fn to_stored(&self) -> StoredRecord {
        StoredRecord {
            id: self.id.0,
            product: self.product.to_string(),
            customer: self.customer.to_string(),
            dimension: self.dimension.to_string(),
            identity: Some((&self.identity).into()),
            hour: self.hour.index(),
            timestamp_millis: self.timestamp.millis(),
            quantity_micros: self.quantity.micros(),
            decimal: self.decimal,
            usage: Some(self.amounts.usage.into()),
            events: self.amounts.events,
            carried_in: origins(&self.amounts.carried_in),
            billed: Some(self.amounts.billed.into()),
            carried_out: Some(self.amounts.carried_out.into()),
        }
    }

    fn from_stored(stored: StoredRecord) -> Result<Self, String> {
        let quantity = Quantity::from_micros(stored.quantity_micros).ok_or("its quantity is too large")?;
        Ok(Self {
            id: RecordId(stored.id),
            identity: identity(stored.identity.as_ref())?,
            product: stored.product.into(),
            customer: stored.customer.into(),
            dimension: stored.dimension.into(),
            hour: Hour::from_index(stored.hour),
            timestamp: Timestamp::from_millis(stored.timestamp_millis),
            quantity,
            decimal: stored.decimal,
            amounts: Amounts {
                usage: amount(stored.usage),
                events: stored.events,
                carried_in: carried(stored.carried_in),
                billed: amount(stored.billed),
                carried_out: amount(stored.carried_out),
            },
        })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredDelivery {
    #[prost(uint32, tag = "1")]
    attempts: u32,
    #[prost(bool, tag = "2")]
    outcome_unknown: bool,
    #[prost(int64, tag = "3")]
    next_attempt_millis: i64,
    #[prost(string, tag = "4")]
    last_error: String,
}

impl Value for Delivery {
    type Stored = StoredDelivery;
    const WHAT: &'static str = "delivery";

    fn to_stored(&self) -> StoredDelivery {
        StoredDelivery {
            attempts: self.attempts,
            outcome_unknown: self.outcome_unknown,
            next_attempt_millis: self.next_attempt.millis(),
            last_error: self.last_error.to_string(),
        }
    }

    fn from_stored(stored: StoredDelivery) -> Result<Self, String> {
        Ok(Self {
            attempts: stored.attempts,
            outcome_unknown: stored.outcome_unknown,
            next_attempt: Timestamp::from_millis(stored.next_attempt_millis),
            last_error: stored.last_error.into(),
        })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredSettled {
    #[prost(message, optional, tag = "1")]
    record: Option<StoredRecord>,
    #[prost(uint32, tag = "2")]
    attempts: u32,
    #[prost(int64, tag = "3")]
    at_millis: i64,
    /// 1 accepted, 2 held, 3 rolled forward, 4 expired.
    #[prost(uint32, tag = "4")]
    outcome: u32,
    #[prost(string, tag = "5")]
    receipt: String,
    #[prost(bool, tag = "6")]
    presumed: bool,
    #[prost(string, tag = "7")]
    hold_reason: String,
    #[prost(string, tag = "8")]
    detail: String,
    #[prost(uint32, tag = "9")]
    into_hour: u32,
}

impl Value for Settled {
    type Stored = StoredSettled;
    const WHAT: &'static str = "settled record";

    fn to_stored(&self) -> StoredSettled {
        let mut stored = StoredSettled {
            record: Some(self.record.to_stored()),
            attempts: self.attempts,
            at_millis: self.at.millis(),
            ..StoredSettled::default()
        };
        match &self.outcome {
            Outcome::Accepted { receipt, presumed } => {
                stored.outcome = 1;
                stored.receipt = receipt.to_string();
                stored.presumed = *presumed;
            }
            Outcome::Held { reason, detail } => {
                stored.outcome = 2;
                reason.name().clone_into(&mut stored.hold_reason);
                stored.detail = detail.to_string();
            }
            Outcome::RolledForward { into } => {
                stored.outcome = 3;
                stored.into_hour = into.index();
            }
            Outcome::Expired => stored.outcome = 4,
        }
        stored
    }

    fn from_stored(stored: StoredSettled) -> Result<Self, String> {
        let outcome = match stored.outcome {
            1 => Outcome::Accepted { receipt: stored.receipt.into(), presumed: stored.presumed },
            2 => Outcome::Held { reason: hold_reason(&stored.hold_reason)?, detail: stored.detail.into() },
            3 => Outcome::RolledForward { into: Hour::from_index(stored.into_hour) },
            4 => Outcome::Expired,
            other => return Err(format!("unknown outcome {other}")),
        };
        Ok(Self {
            record: Record::from_stored(stored.record.ok_or("it has no record")?)?,
            attempts: stored.attempts,
            outcome,
            at: Timestamp::from_millis(stored.at_millis),
        })
    }
}

fn hold_reason(name: &str) -> Result<HoldReason, String> {
    let reason = HoldReason::ALL.into_iter().find(|reason| reason.name() == name);
    reason.ok_or_else(|| format!("unknown hold reason `{name}`"))
}

/// A customer as the roster keeps it; product and key are in the row's key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RosterEntry {
    pub identity: Identity,
    pub since: Option<Timestamp>,
    /// The first hour for which a zero record may be claimed.
    pub first_hour: Hour,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredRosterEntry {
    #[prost(message, optional, tag = "1")]
    identity: Option<StoredIdentity>,
    #[prost(int64, optional, tag = "2")]
    since_millis: Option<i64>,
    #[prost(uint32, tag = "3")]
    first_hour: u32,
}

impl Value for RosterEntry {
    type Stored = StoredRosterEntry;
    const WHAT: &'static str = "customer";

    fn to_stored(&self) -> StoredRosterEntry {
        StoredRosterEntry {
            identity: Some((&self.identity).into()),
            since_millis: self.since.map(Timestamp::millis),
            first_hour: self.first_hour.index(),
        }
    }

    fn from_stored(stored: StoredRosterEntry) -> Result<Self, String> {
        Ok(Self {
            identity: identity(stored.identity.as_ref())?,
            since: stored.since_millis.map(Timestamp::from_millis),
            first_hour: Hour::from_index(stored.first_hour),
        })
    }
}

/// Where a stream's producer stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Producer {
    pub sequence: u64,
    pub last_seen: Timestamp,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct StoredProducer {
    #[prost(uint64, tag = "1")]
    sequence: u64,
    #[prost(int64, tag = "2")]
    last_seen_millis: i64,
}

impl Value for Producer {
    type Stored = StoredProducer;
    const WHAT: &'static str = "producer";

    fn to_stored(&self) -> StoredProducer {
        StoredProducer { sequence: self.sequence, last_seen_millis: self.last_seen.millis() }
    }

    fn from_stored(stored: StoredProducer) -> Result<Self, String> {
        let last_seen = Timestamp::from_millis(stored.last_seen_millis);
        Ok(Self { sequence: stored.sequence, last_seen })
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
    use crate::domain::bucket::tests::buckets;
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
        ) -> Record {
            Record {
                id: RecordId(id), product: texts.0.into(), customer: texts.1.into(), dimension: texts.2.into(), identity,
                hour: Hour::from_index(hour), timestamp: Timestamp::from_millis(timestamp),
                quantity: Quantity::from_micros(micros).unwrap(), decimal,
                amounts: Amounts { usage: bucket.usage, events: bucket.events, carried_in: bucket.carried, billed, carried_out },
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
        ]
    }

    proptest! {
        #[test]
        fn buckets_round_trip(bucket in buckets()) {
            round_trips(&bucket);
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
        fn customers_producers_and_numbers_round_trip(identity in identities(), since: Option<i64>, number: u128, sequence: u64) {
            let (since, first_hour) = (since.map(Timestamp::from_millis), Hour::from_index(7));
            round_trips(&RosterEntry { identity, since, first_hour });
            round_trips(&Producer { sequence, last_seen: Timestamp::from_millis(5) });
            round_trips(&Number(number));
            round_trips(&Text(number.to_string()));
        }

        #[test]
        fn watermarks_round_trip(hour: u32, unfinished: Option<Option<(String, String)>>) {
            round_trips(&SealingState { watermark: Hour::from_index(hour), unfinished });
        }

        #[test]
        fn no_bytes_panic(mut bytes: Vec<u8>) {
            bytes.insert(0, VERSION);
            drop((decode::<Bucket>(&bytes), decode::<Record>(&bytes), decode::<Settled>(&bytes)));
            drop((decode::<Delivery>(&bytes), decode::<RosterEntry>(&bytes), decode::<SealingState>(&bytes)));
        }
    }
}
