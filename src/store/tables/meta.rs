//! Single values: what the data folder is, and what the configuration said at the last start.

use prost::Message;

use crate::store::{TableId, table::Table, value::Protobuf};

/// The layout of keys and tables.
pub struct Format;

impl Table for Format {
    const ID: TableId = TableId::Meta;
    const PREFIX: &'static str = "format";
    const WHAT: &'static str = "format";
    type Key<'k> = ();
    type Value = u32;
}

/// The key that the hashes of event ids and subjects are made with.
pub(crate) struct HashKey;

impl Table for HashKey {
    const ID: TableId = TableId::Meta;
    const PREFIX: &'static str = "hash_key";
    const WHAT: &'static str = "hash key";
    type Key<'k> = ();
    type Value = u128;
}

/// Whether the folder's usage goes to a sandbox rather than to AWS.
pub(crate) struct IsSandbox;

impl Table for IsSandbox {
    const ID: TableId = TableId::Meta;
    const PREFIX: &'static str = "marketplace";
    const WHAT: &'static str = "marketplace";
    type Key<'k> = ();
    type Value = bool;
}

/// The endpoint or region that a product's records go to.
pub(crate) struct DestinationRows;

impl Table for DestinationRows {
    const ID: TableId = TableId::Meta;
    const PREFIX: &'static str = "destination/";
    const WHAT: &'static str = "destination of a product";
    /// The product code.
    type Key<'k> = &'k str;
    type Value = String;
}

/// How a dimension's events become one amount.
pub(crate) struct AggregateRows;

impl Table for AggregateRows {
    const ID: TableId = TableId::Meta;
    const PREFIX: &'static str = "aggregate/";
    const WHAT: &'static str = "aggregate of a dimension";
    /// The product code and the dimension.
    type Key<'k> = (&'k str, &'k str);
    type Value = String;
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StoredText {
    #[prost(string, tag = "1")]
    text: String,
}

impl Protobuf for String {
    type Stored = StoredText;

    fn to_stored(&self) -> StoredText {
        StoredText { text: self.clone() }
    }

    fn from_stored(stored: StoredText) -> Result<Self, String> {
        Ok(stored.text)
    }
}
