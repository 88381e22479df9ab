//! Values: one version byte, then a protobuf message.
//!
//! Within a version, fields may be added under new numbers, with a meaning for their absence that old values keep.
//! Amounts are 128-bit, as two halves.

use prost::Message;

use super::StoreError;
use crate::domain::{
    bucket::{Bucket, Carried, Usage},
    customer::{Closing, FormerIdentity, Standing},
    identity::{Identity, IdentityFields, IdentityMode},
    quantity::Quantity,
    record::{
        Allocation, Amounts, Decision, DecisionKind, Delivery, HoldReason, Outcome, Record, RecordId, Settled,
    },
    tags::{TagSet, Tagged},
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

/// A bucket without its tagged parts, which have rows of their own.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredBucket {
    #[prost(message, optional, tag = "1")]
    usage: Option<StoredAmount>,
    #[prost(uint64, tag = "2")]
    events: u64,
    #[prost(message, repeated, tag = "3")]
    carried: Vec<StoredOrigin>,
    /// 0 sum, 1 max, 2 latest, 3 unique.
    #[prost(uint32, tag = "4")]
    kind: u32,
    /// When a latest level was told.
    #[prost(int64, tag = "5")]
    at_millis: i64,
}

impl Value for Bucket {
    type Stored = StoredBucket;
    const WHAT: &'static str = "bucket";

    fn to_stored(&self) -> StoredBucket {
        let (kind, at_millis) = match self.usage {
            Usage::Sum(_) => (0, 0),
            Usage::Max(_) => (1, 0),
            Usage::Latest { at, .. } => (2, at.millis()),
            Usage::Unique(_) => (3, 0),
        };
        StoredBucket {
            usage: Some(self.usage.amount().into()),
            events: self.events,
            carried: origins(&self.carried),
            kind,
            at_millis,
        }
    }

    fn from_stored(stored: StoredBucket) -> Result<Self, String> {
        let amount = amount(stored.usage);
        let level = || u64::try_from(amount).map_err(|_| "its level is too large".to_owned());
        let usage = match stored.kind {
            0 => Usage::Sum(amount),
            1 => Usage::Max(level()?),
            2 => Usage::Latest { at: Timestamp::from_millis(stored.at_millis), level: level()? },
            3 => Usage::Unique(level()?),
            other => return Err(format!("unknown kind {other}")),
        };
        let carried = carried(stored.carried);
        Ok(Self { usage, events: stored.events, carried, tagged: Tagged::default() })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredTag {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredTags {
    #[prost(message, repeated, tag = "1")]
    tags: Vec<StoredTag>,
}

impl Value for TagSet {
    type Stored = StoredTags;
    const WHAT: &'static str = "set of tags";

    fn to_stored(&self) -> StoredTags {
        StoredTags { tags: stored_tags(Some(self)) }
    }

    fn from_stored(stored: StoredTags) -> Result<Self, String> {
        tag_set(&stored.tags)?.ok_or_else(|| "it is empty".to_owned())
    }
}

fn stored_tags(tags: Option<&TagSet>) -> Vec<StoredTag> {
    let stored = |(key, value): (&str, &str)| StoredTag { key: key.to_owned(), value: value.to_owned() };
    tags.into_iter().flat_map(TagSet::tags).map(stored).collect()
}

fn tag_set(stored: &[StoredTag]) -> Result<Option<TagSet>, String> {
    TagSet::new(stored.iter().map(|tag| (&*tag.key, &*tag.value)))
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
            mode: mode_number(identity.mode()),
            account_id: fields.account_id.to_owned(),
            license_arn: fields.license_arn.to_owned(),
            customer_identifier: fields.customer_identifier.to_owned(),
        }
    }
}

const fn mode_number(mode: IdentityMode) -> u32 {
    match mode {
        IdentityMode::License => 1,
        IdentityMode::Account => 2,
        IdentityMode::CustomerIdentifier => 3,
    }
}

fn mode(number: u32) -> Result<IdentityMode, String> {
    match number {
        1 => Ok(IdentityMode::License),
        2 => Ok(IdentityMode::Account),
        3 => Ok(IdentityMode::CustomerIdentifier),
        other => Err(format!("unknown identity mode {other}")),
    }
}

fn identity(stored: Option<&StoredIdentity>) -> Result<Identity, String> {
    let stored = stored.ok_or("it has no identity")?;
    let mode = mode(stored.mode)?;
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
    #[prost(message, repeated, tag = "15")]
    allocations: Vec<StoredAllocation>,
    #[prost(message, optional, tag = "16")]
    rounded_up: Option<StoredAmount>,
    #[prost(message, optional, tag = "17")]
    rounded_down: Option<StoredAmount>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredAllocation {
    #[prost(message, repeated, tag = "1")]
    tags: Vec<StoredTag>,
    #[prost(uint64, tag = "2")]
    quantity_micros: u64,
    #[prost(message, optional, tag = "3")]
    billed: Option<StoredAmount>,
}

impl From<&Allocation> for StoredAllocation {
    fn from(allocation: &Allocation) -> Self {
        Self {
            tags: stored_tags(allocation.tags.as_ref()),
            quantity_micros: allocation.quantity.micros(),
            billed: Some(allocation.billed.into()),
        }
    }
}

impl TryFrom<StoredAllocation> for Allocation {
    type Error = String;

    fn try_from(stored: StoredAllocation) -> Result<Self, String> {
        let quantity = Quantity::from_micros(stored.quantity_micros).ok_or("a part of it is too large")?;
        Ok(Self { tags: tag_set(&stored.tags)?, quantity, billed: amount(stored.billed) })
    }
}

/// What was rounded up less what was rounded down; one of them is zero.
fn rounded(up: Option<StoredAmount>, down: Option<StoredAmount>) -> i128 {
    let signed = |stored| i128::try_from(amount(stored)).unwrap_or(i128::MAX);
    signed(up).saturating_sub(signed(down))
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
            allocations: self.allocations.iter().map(Into::into).collect(),
            rounded_up: u128::try_from(self.amounts.rounded).ok().filter(|up| *up > 0).map(Into::into),
            rounded_down: Some(self.amounts.rounded)
                .filter(|rounded| *rounded < 0)
                .map(|rounded| rounded.unsigned_abs().into()),
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
            allocations: stored.allocations.into_iter().map(TryInto::try_into).collect::<Result<_, _>>()?,
            amounts: Amounts {
                usage: amount(stored.usage),
                events: stored.events,
                carried_in: carried(stored.carried_in),
                billed: amount(stored.billed),
                carried_out: amount(stored.carried_out),
                rounded: rounded(stored.rounded_up, stored.rounded_down),
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
    /// 1 accepted, 2 held, 3 rolled forward, 4 expired, 5 carried, 6 written off.
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
            Outcome::Carried { into } => {
                stored.outcome = 5;
                stored.into_hour = into.index();
            }
            Outcome::WrittenOff => stored.outcome = 6,
        }
        stored
    }

    fn from_stored(stored: StoredSettled) -> Result<Self, String> {
        let outcome = match stored.outcome {
            1 => Outcome::Accepted { receipt: stored.receipt.into(), presumed: stored.presumed },
            2 => Outcome::Held { reason: hold_reason(&stored.hold_reason)?, detail: stored.detail.into() },
            3 => Outcome::RolledForward { into: Hour::from_index(stored.into_hour) },
            4 => Outcome::Expired,
            5 => Outcome::Carried { into: Hour::from_index(stored.into_hour) },
            6 => Outcome::WrittenOff,
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

/// What a person decided about a held record, with what was at stake: it outlives the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    pub record: RecordId,
    pub product: String,
    pub customer: String,
    pub dimension: String,
    pub hour: Hour,
    /// Base units.
    pub amount: u128,
    pub held_for: HoldReason,
    pub decision: Decision,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredDecided {
    #[prost(uint64, tag = "1")]
    record: u64,
    #[prost(string, tag = "2")]
    product: String,
    #[prost(string, tag = "3")]
    customer: String,
    #[prost(string, tag = "4")]
    dimension: String,
    #[prost(uint32, tag = "5")]
    hour: u32,
    #[prost(message, optional, tag = "6")]
    amount: Option<StoredAmount>,
    #[prost(string, tag = "7")]
    held_for: String,
    #[prost(string, tag = "8")]
    kind: String,
    #[prost(string, tag = "9")]
    reason: String,
    #[prost(string, tag = "10")]
    by: String,
    #[prost(int64, tag = "11")]
    at_millis: i64,
}

impl Value for Decided {
    type Stored = StoredDecided;
    const WHAT: &'static str = "decision";

    fn to_stored(&self) -> StoredDecided {
        StoredDecided {
            record: self.record.0,
            product: self.product.clone(),
            customer: self.customer.clone(),
            dimension: self.dimension.clone(),
            hour: self.hour.index(),
            amount: Some(self.amount.into()),
            held_for: self.held_for.name().to_owned(),
            kind: self.decision.kind.name().to_owned(),
            reason: self.decision.reason.to_string(),
            by: self.decision.by.to_string(),
            at_millis: self.decision.at.millis(),
        }
    }

    fn from_stored(stored: StoredDecided) -> Result<Self, String> {
        let kind = DecisionKind::ALL.into_iter().find(|kind| kind.name() == stored.kind);
        Ok(Self {
            record: RecordId(stored.record),
            product: stored.product,
            customer: stored.customer,
            dimension: stored.dimension,
            hour: Hour::from_index(stored.hour),
            amount: amount(stored.amount),
            held_for: hold_reason(&stored.held_for)?,
            decision: Decision {
                kind: kind.ok_or_else(|| format!("unknown decision `{}`", stored.kind))?,
                reason: stored.reason.into(),
                by: stored.by.into(),
                at: Timestamp::from_millis(stored.at_millis),
            },
        })
    }
}

/// A customer as the roster keeps it; product and key are in the row's key.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredStanding {
    #[prost(message, optional, tag = "1")]
    identity: Option<StoredIdentity>,
    #[prost(int64, optional, tag = "2")]
    since_millis: Option<i64>,
    #[prost(uint32, tag = "3")]
    first_hour: u32,
    #[prost(message, optional, tag = "4")]
    former: Option<StoredIdentity>,
    #[prost(int64, optional, tag = "5")]
    closing_noticed_millis: Option<i64>,
    #[prost(bool, tag = "6")]
    closing_is_sealed: bool,
    #[prost(uint32, optional, tag = "7")]
    sealed_through: Option<u32>,
    #[prost(bool, tag = "8")]
    not_subscribed: bool,
}

impl Value for Standing {
    type Stored = StoredStanding;
    const WHAT: &'static str = "customer";

    fn to_stored(&self) -> StoredStanding {
        StoredStanding {
            identity: Some((&self.identity).into()),
            since_millis: self.since.map(Timestamp::millis),
            first_hour: self.first_hour.index(),
            former: self.former.as_ref().map(Into::into),
            closing_noticed_millis: self.closing.map(|closing| closing.noticed.millis()),
            closing_is_sealed: self.is_closed(),
            sealed_through: self.sealed_through.map(Hour::index),
            not_subscribed: self.not_subscribed,
        }
    }

    fn from_stored(stored: StoredStanding) -> Result<Self, String> {
        let former = stored.former.as_ref().map(|former| identity(Some(former))).transpose()?;
        let closing = |noticed| Closing {
            noticed: Timestamp::from_millis(noticed),
            is_sealed: stored.closing_is_sealed,
        };
        Ok(Self {
            identity: identity(stored.identity.as_ref())?,
            former,
            since: stored.since_millis.map(Timestamp::from_millis),
            first_hour: Hour::from_index(stored.first_hour),
            closing: stored.closing_noticed_millis.map(closing),
            sealed_through: stored.sealed_through.map(Hour::from_index),
            not_subscribed: stored.not_subscribed,
        })
    }
}

/// How a product's customers are known to AWS, and were before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProductIdentity {
    pub mode: IdentityMode,
    pub former: Option<FormerIdentity>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct StoredProductIdentity {
    #[prost(uint32, tag = "1")]
    mode: u32,
    #[prost(uint32, optional, tag = "2")]
    former_mode: Option<u32>,
    #[prost(uint32, tag = "3")]
    until: u32,
}

impl Value for ProductIdentity {
    type Stored = StoredProductIdentity;
    const WHAT: &'static str = "product's identity";

    fn to_stored(&self) -> StoredProductIdentity {
        StoredProductIdentity {
            mode: mode_number(self.mode),
            former_mode: self.former.map(|former| mode_number(former.mode)),
            until: self.former.map_or(0, |former| former.until.index()),
        }
    }

    fn from_stored(stored: StoredProductIdentity) -> Result<Self, String> {
        let until = Hour::from_index(stored.until);
        let former = stored.former_mode.map(mode).transpose()?;
        let former = former.map(|mode| FormerIdentity { mode, until });
        Ok(Self { mode: mode(stored.mode)?, former })
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
    use crate::domain::bucket::tests::{buckets, usages};
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
        fn producers_and_numbers_round_trip(number: u128, sequence: u64) {
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
            drop((decode::<Delivery>(&bytes), decode::<Standing>(&bytes), decode::<SealingState>(&bytes)));
            drop((decode::<TagSet>(&bytes), decode::<Decided>(&bytes), decode::<ProductIdentity>(&bytes)));
        }
    }
}
