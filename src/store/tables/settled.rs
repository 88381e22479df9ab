//! Records that are not under way: those that are held, and the ledger of those that are settled for good.

use prost::Message;

use super::{
    buckets::{StoredOrigin, carried, origins},
    records::StoredRecord,
    tagged::{StoredPart, stored_parts, tagged},
};
use crate::{
    domain::{
        billing::record::{HoldReason, Outcome, Record, RecordId, Settled},
        time::{Hour, Timestamp},
        usage::bucket::Carry,
    },
    store::{TableId, table::Table, value::Protobuf},
};

/// Records that wait for a person or for a subscription.
pub(crate) struct Held;

impl Table for Held {
    const ID: TableId = TableId::Held;
    const WHAT: &'static str = "held record";
    type Key<'k> = RecordId;
    type Value = Settled;
}

/// The ledger: records that are neither pending nor held.
pub struct Receipts;

impl Table for Receipts {
    const ID: TableId = TableId::Receipts;
    const WHAT: &'static str = "settled record";
    type Key<'k> = RecordId;
    type Value = Settled;
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StoredSettled {
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
    /// Absent if nothing is withheld.
    #[prost(message, optional, tag = "10")]
    withheld: Option<StoredWithheld>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StoredWithheld {
    #[prost(message, repeated, tag = "1")]
    origins: Vec<StoredOrigin>,
    #[prost(message, repeated, tag = "2")]
    tagged: Vec<StoredPart>,
}

fn stored_withheld(withheld: &Carry) -> Option<StoredWithheld> {
    let stored =
        || StoredWithheld { origins: origins(&withheld.origins), tagged: stored_parts(&withheld.tagged) };
    (!withheld.origins.is_empty()).then(stored)
}

fn withheld(stored: StoredWithheld) -> Result<Carry, String> {
    Ok(Carry { origins: carried(stored.origins), tagged: tagged(stored.tagged)?, level: None })
}

impl Protobuf for Settled {
    type Stored = StoredSettled;

    fn to_stored(&self) -> StoredSettled {
        let mut stored = StoredSettled {
            record: Some(self.record.to_stored()),
            attempts: self.attempts,
            at_millis: self.at.millis(),
            withheld: stored_withheld(&self.withheld),
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
            withheld: stored.withheld.map(withheld).transpose()?.unwrap_or_default(),
        })
    }
}

pub(super) fn hold_reason(name: &str) -> Result<HoldReason, String> {
    let reason = HoldReason::ALL.into_iter().find(|reason| reason.name() == name);
    reason.ok_or_else(|| format!("unknown hold reason `{name}`"))
}
