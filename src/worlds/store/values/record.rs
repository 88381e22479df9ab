//! Records, what has been tried for them, what became of them, and what persons decided about them.

use prost::Message;

use super::{
    StoredAmount, Value, amount,
    bucket::{StoredOrigin, StoredTag, carried, origins, stored_tags, tag_set},
    customer::{StoredIdentity, identity},
};
use crate::domain::{
    quantity::Quantity,
    record::{
        Allocation, Amounts, Decision, DecisionKind, Delivery, HoldReason, Outcome, Record, RecordId, Settled,
    },
    time::{Hour, Timestamp},
};

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

/// Of a record's value the product's code alone: all that a start needs of a million of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProductOfRecord(pub String);

#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredProductOfRecord {
    #[prost(string, tag = "2")]
    product: String,
}

impl Value for ProductOfRecord {
    type Stored = StoredProductOfRecord;
    const WHAT: &'static str = Record::WHAT;

    fn to_stored(&self) -> StoredProductOfRecord {
        StoredProductOfRecord { product: self.0.clone() }
    }

    fn from_stored(stored: StoredProductOfRecord) -> Result<Self, String> {
        Ok(Self(stored.product))
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
