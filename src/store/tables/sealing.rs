//! The watermark, how far the seal of its hour has come, and the number of the next record.

use prost::Message;

use crate::{
    domain::{billing::record::RecordId, time::Hour},
    store::{ReadTable, Rows, StoreError, TableId, table::Table, value::Protobuf},
};

/// The watermark, and how far the seal of its hour has come. There is none before the first start.
pub(crate) struct Sealing;

impl Table for Sealing {
    const ID: TableId = TableId::Meta;
    const PREFIX: &'static str = "sealing";
    const WHAT: &'static str = "watermark";
    type Key<'k> = ();
    type Value = SealingState;
}

/// The same of a product whose hours are sealed on their own, later than the others'.
pub(crate) struct SealingOf;

impl Table for SealingOf {
    const ID: TableId = TableId::Meta;
    const PREFIX: &'static str = "sealing_of/";
    const WHAT: &'static str = "watermark of a product";
    /// The product code.
    type Key<'k> = &'k str;
    type Value = SealingState;
}

impl SealingOf {
    /// The last hour of a product that is closed to events.
    pub(crate) fn watermark(store: &dyn Rows, product: &str) -> Result<Hour, StoreError> {
        let state = match store.find(Self, product)? {
            Some(own) => Some(own),
            None => store.find(Sealing, ())?,
        };
        Ok(state.map_or(Hour::FIRST, |state| state.watermark))
    }
}

/// The number of the next record to be sealed.
pub struct NextRecord;

impl Table for NextRecord {
    const ID: TableId = TableId::Meta;
    const PREFIX: &'static str = "next_record";
    const WHAT: &'static str = "record number";
    type Key<'k> = ();
    type Value = RecordId;
}

impl NextRecord {
    pub(crate) fn read(store: &dyn Rows) -> Result<RecordId, StoreError> {
        Ok(store.find(Self, ())?.unwrap_or(RecordId(1)))
    }
}

/// How far the hours are sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SealingState {
    /// The last hour that is closed to events.
    pub watermark: Hour,
    /// While the watermark's hour is being sealed: the customer (product code, key) up to which it is done.
    #[expect(clippy::option_option, reason = "not begun, begun, or done up to a customer")]
    pub unfinished: Option<Option<(String, String)>>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StoredSealingState {
    #[prost(uint32, tag = "1")]
    watermark: u32,
    #[prost(bool, tag = "2")]
    unfinished: bool,
    #[prost(string, optional, tag = "3")]
    done_product: Option<String>,
    #[prost(string, optional, tag = "4")]
    done_customer: Option<String>,
}

impl Protobuf for SealingState {
    type Stored = StoredSealingState;

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
