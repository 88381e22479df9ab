//! Records that AWS has not accepted yet. Each is written once, at its seal.

use std::collections::BTreeMap;

use prost::Message;

use super::{
    buckets::{StoredOrigin, carried, origins},
    customers::{StoredIdentity, identity},
    deliveries::Deliveries,
    numbers::{StoredAmount, amount},
    tagged::{StoredTag, stored_tags, tag_set},
};
use crate::{
    domain::{
        billing::record::{Allocation, Amounts, Delivery, Record, RecordId},
        time::{Hour, Timestamp},
        usage::quantity::Quantity,
    },
    store::{ReadTable, Rows, StoreError, TableId, table::Table, value::Protobuf},
};

pub(crate) struct Records;

impl Table for Records {
    const ID: TableId = TableId::Records;
    const WHAT: &'static str = "record";
    type Key<'k> = RecordId;
    type Value = Record;
}

impl Records {
    /// The records with numbers above `after`, in order, at most `limit`, and what has been tried for each.
    pub(crate) fn after(
        store: &dyn Rows,
        after: RecordId,
        limit: usize,
    ) -> Result<Vec<(Record, Delivery)>, StoreError> {
        let from = RecordId(after.0.saturating_add(1));
        let records = store.page(Self, from, limit, |id, record| (id, record))?;
        let Some((last, _)) = records.last() else { return Ok(Vec::new()) };
        let mut deliveries = Deliveries::between(store, from, *last)?;
        let with_delivery = |(id, record)| (record, deliveries.remove(&id).unwrap_or_default());
        Ok(records.into_iter().map(with_delivery).collect())
    }

    /// The attempts for a record, if it is pending.
    pub(crate) fn delivery(store: &dyn Rows, id: RecordId) -> Result<Option<Delivery>, StoreError> {
        if store.has(Self, id)? {
            Ok(Some(store.find(Deliveries, id)?.unwrap_or_default()))
        } else {
            Ok(None)
        }
    }

    /// How many there are, by product code.
    pub(crate) fn by_product(store: &dyn Rows) -> Result<BTreeMap<String, u64>, StoreError> {
        let mut products: BTreeMap<String, u64> = BTreeMap::new();
        Self::each_owner(store, |product, _| match products.get_mut(product) {
            Some(records) => *records += 1,
            None => _ = products.insert(product.to_owned(), 1),
        })?;
        Ok(products)
    }

    /// The product and the customer of each.
    pub(crate) fn each_owner(store: &dyn Rows, mut each: impl FnMut(&str, &str)) -> Result<(), StoreError> {
        store.each(OwnersOfRecords, |_, OwnerOfRecord { product, customer }| {
            each(&product, &customer);
            Ok(())
        })
    }
}

/// The records again, read for their products and customers alone.
struct OwnersOfRecords;

impl Table for OwnersOfRecords {
    const ID: TableId = Records::ID;
    const WHAT: &'static str = Records::WHAT;
    type Key<'k> = RecordId;
    type Value = OwnerOfRecord;
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StoredRecord {
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
pub(crate) struct StoredAllocation {
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

/// The amount rounded up less the amount rounded down, of which one is zero.
fn rounded(up: Option<StoredAmount>, down: Option<StoredAmount>) -> i128 {
    let signed = |stored| i128::try_from(amount(stored)).unwrap_or(i128::MAX);
    signed(up).saturating_sub(signed(down))
}

impl Protobuf for Record {
    type Stored = StoredRecord;

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

/// Of a record's value its owner alone: all that a start needs of a million of them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OwnerOfRecord {
    product: String,
    customer: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct StoredOwnerOfRecord {
    #[prost(string, tag = "2")]
    product: String,
    #[prost(string, tag = "3")]
    customer: String,
}

impl Protobuf for OwnerOfRecord {
    type Stored = StoredOwnerOfRecord;

    fn to_stored(&self) -> StoredOwnerOfRecord {
        StoredOwnerOfRecord { product: self.product.clone(), customer: self.customer.clone() }
    }

    fn from_stored(StoredOwnerOfRecord { product, customer }: StoredOwnerOfRecord) -> Result<Self, String> {
        Ok(Self { product, customer })
    }
}
