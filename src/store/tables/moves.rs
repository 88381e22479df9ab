//! Persons' words that a product's unbilled usage may go to another destination. Never dropped.

use prost::Message;

use crate::{
    domain::{destination::AllowedMove, time::Timestamp},
    store::{TableId, table::Table, value::Protobuf},
};

/// Each has the number of its line in the journal, and is written once.
pub(crate) struct AllowedMoves;

impl Table for AllowedMoves {
    const ID: TableId = TableId::Meta;
    const PREFIX: &'static str = "allowed_move/";
    const WHAT: &'static str = "allowed move";
    /// The number.
    type Key<'k> = u64;
    type Value = AllowedMove;
}

/// The number of the allowed move that a product has not made yet.
pub(crate) struct PendingMoves;

impl Table for PendingMoves {
    const ID: TableId = TableId::Meta;
    const PREFIX: &'static str = "pending_move/";
    const WHAT: &'static str = "pending move";
    /// The product code.
    type Key<'k> = &'k str;
    type Value = u64;
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StoredMove {
    #[prost(string, tag = "1")]
    product: String,
    #[prost(string, tag = "2")]
    from: String,
    #[prost(string, tag = "3")]
    to: String,
    #[prost(string, tag = "4")]
    reason: String,
    #[prost(string, tag = "5")]
    by: String,
    /// Empty for none.
    #[prost(string, tag = "6")]
    client: String,
    #[prost(int64, tag = "7")]
    at_millis: i64,
}

impl Protobuf for AllowedMove {
    type Stored = StoredMove;

    fn to_stored(&self) -> StoredMove {
        StoredMove {
            product: self.product.to_string(),
            from: self.from.to_string(),
            to: self.to.to_string(),
            reason: self.reason.to_string(),
            by: self.by.to_string(),
            client: self.client.as_deref().unwrap_or_default().to_owned(),
            at_millis: self.at.millis(),
        }
    }

    fn from_stored(stored: StoredMove) -> Result<Self, String> {
        Ok(Self {
            product: stored.product.into(),
            from: stored.from.into(),
            to: stored.to.into(),
            reason: stored.reason.into(),
            by: stored.by.into(),
            client: Some(stored.client).filter(|client| !client.is_empty()).map(Into::into),
            at: Timestamp::from_millis(stored.at_millis),
        })
    }
}
