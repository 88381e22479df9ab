//! What has been tried for pending records. One that was not tried has no row.

use std::collections::BTreeMap;

use prost::Message;

use crate::{
    domain::{
        billing::record::{Delivery, RecordId},
        time::Timestamp,
    },
    store::{ReadTable, Rows, StoreError, TableId, table::Table, value::Protobuf},
};

pub struct Deliveries;

impl Table for Deliveries {
    const ID: TableId = TableId::Deliveries;
    const WHAT: &'static str = "delivery";
    type Key<'k> = RecordId;
    type Value = Delivery;
}

impl Deliveries {
    /// The deliveries of the records from one to another, both included.
    pub(super) fn between(
        store: &dyn Rows,
        from: RecordId,
        last: RecordId,
    ) -> Result<BTreeMap<RecordId, Delivery>, StoreError> {
        const PAGE: usize = 1000;
        let (mut found, mut from) = (BTreeMap::new(), from);
        loop {
            let page = store.page(Self, from, PAGE, |id, delivery| (id, delivery))?;
            let is_whole = page.len() < PAGE;
            for (id, delivery) in page {
                if id > last {
                    return Ok(found);
                }
                from = RecordId(id.0.saturating_add(1));
                found.insert(id, delivery);
            }
            if is_whole {
                return Ok(found);
            }
        }
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StoredDelivery {
    #[prost(uint32, tag = "1")]
    attempts: u32,
    #[prost(bool, tag = "2")]
    outcome_unknown: bool,
    #[prost(int64, tag = "3")]
    next_attempt_millis: i64,
    #[prost(string, tag = "4")]
    last_error: String,
}

impl Protobuf for Delivery {
    type Stored = StoredDelivery;

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
