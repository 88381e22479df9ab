//! What persons decided about held records. Never dropped.

use prost::Message;

use super::{
    numbers::{StoredAmount, amount},
    settled::hold_reason,
};
use crate::{
    domain::{
        billing::record::{Decided, Decision, DecisionKind, RecordId},
        time::{Hour, Timestamp},
    },
    store::{Rows, StoreError, TableId, table::Table, value::Protobuf},
};

pub(crate) struct Decisions;

impl Table for Decisions {
    const ID: TableId = TableId::Decisions;
    const WHAT: &'static str = "decision";
    /// The record, and how many decisions about it were made before.
    type Key<'k> = (RecordId, u32);
    type Value = Decided;
}

impl Decisions {
    /// The decisions about a record, oldest first, at most 100.
    pub(crate) fn of(store: &dyn Rows, id: RecordId) -> Result<Vec<Decided>, StoreError> {
        const MOST: usize = 100;
        let mut decisions = Vec::new();
        for (key, value) in store.scan(Self::ID, &Self::encode_key((id, 0)), MOST)? {
            if Self::decode_key(&key)?.0 != id {
                break;
            }
            decisions.push(Self::decode(&value)?);
        }
        Ok(decisions)
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StoredDecided {
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
    /// Empty in rows that were written before clients were noted.
    #[prost(string, tag = "12")]
    client: String,
}

impl Protobuf for Decided {
    type Stored = StoredDecided;

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
            client: self.decision.client.to_string(),
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
                client: stored.client.into(),
                at: Timestamp::from_millis(stored.at_millis),
            },
        })
    }
}
