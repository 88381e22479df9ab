//! What is on disk, followed from commit to commit. `ledger_checks` holds it against the model and AWS's truth.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Series, plan::CUSTOMERS};
use crate::{
    domain::{
        billing::record::{Delivery, Outcome, Record, RecordId, Settled, Slot},
        product::Catalog,
        time::{Hour, Timestamp},
        usage::bucket::Bucket,
    },
    store::{
        Batch, Table, TableId,
        key::BucketKey,
        tables::{
            buckets::Buckets,
            customers::CustomerRows,
            deliveries::Deliveries,
            records::Records,
            sealing::{Sealing, SealingState},
            settled::Held,
        },
    },
};

/// A row that a commit has changed.
pub(super) enum Row {
    Bucket(Series, Hour, Bucket),
    BucketGone(Series, Hour),
    Pending(Record),
    Tried(RecordId, Delivery),
    Settled(Settled),
    Sealing(SealingState),
    /// A customer that is forgotten.
    CustomerGone(usize),
}

pub(super) fn rows(batch: &Batch, catalog: &Catalog) -> Vec<Row> {
    batch.rows().filter_map(|(table, key, value)| row(table, key, value, catalog)).collect()
}

fn row(table: TableId, key: &[u8], value: Option<&[u8]>, catalog: &Catalog) -> Option<Row> {
    let of_bucket = |key| {
        let BucketKey { hour, customer, dimension, .. } = Buckets::decode_key(key).unwrap();
        (Series::named(customer, dimension, catalog), hour)
    };
    match (table, value) {
        (TableId::Buckets, Some(value)) => {
            let (series, hour) = of_bucket(key);
            Some(Row::Bucket(series, hour, Buckets::decode(value).unwrap()))
        }
        (TableId::Buckets, None) => {
            let (series, hour) = of_bucket(key);
            Some(Row::BucketGone(series, hour))
        }
        (TableId::Records, Some(value)) => Some(Row::Pending(Records::decode(value).unwrap())),
        (TableId::Deliveries, Some(value)) => {
            let id = Deliveries::decode_key(key).unwrap();
            Some(Row::Tried(id, Deliveries::decode(value).unwrap()))
        }
        (TableId::Held | TableId::Receipts, Some(value)) => Some(Row::Settled(Held::decode(value).unwrap())),
        (TableId::Customers, None) => {
            let (_, key) = CustomerRows::decode_key(key).unwrap();
            Some(Row::CustomerGone(CUSTOMERS.iter().position(|(known, _)| *known == key).unwrap()))
        }
        (TableId::Meta, Some(value)) if Sealing::decode_key(key).is_ok() => {
            Some(Row::Sealing(Sealing::decode(value).unwrap()))
        }
        _ => None,
    }
}

/// Where a record's usage is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    Pending,
    Settled(Outcome),
}

pub(super) struct Entry {
    pub(super) series: Series,
    pub(super) record: Record,
    pub(super) place: Place,
    pub(super) may_be_unanswered: bool,
    /// Sealed for a customer with a notice.
    pub(super) was_closing: bool,
    /// When it was sealed, resumed or tried last.
    pub(super) touched: Timestamp,
    pub(super) next_attempt: Timestamp,
}

#[derive(Default)]
pub(super) struct Ledger {
    pub(super) open: HashMap<(Series, Hour), u128>,
    pub(super) entries: BTreeMap<RecordId, Entry>,
    pub(super) slots: HashMap<Slot, RecordId>,
    /// Base units that are in buckets and records.
    pub(super) placed: BTreeMap<Series, u128>,
    /// What the records of a level have come to at their seals; for sums, the model knows.
    pub(super) levels: BTreeMap<Series, u128>,
    pub(super) sealed: BTreeSet<(Series, Hour)>,
    pub(super) watermark: Hour,
    /// Customers of which the disk knows that AWS has accepted a record: since when.
    pub(super) verified: BTreeMap<usize, Timestamp>,
    /// Customers of which the disk knows that AWS does not know them.
    pub(super) refused: BTreeSet<usize>,
}

impl Ledger {
    pub(super) fn watermark(&self) -> Hour {
        self.watermark
    }

    pub(super) fn was_closing(&self, id: RecordId) -> bool {
        self.entries.get(&id).is_some_and(|entry| entry.was_closing)
    }

    /// Whether this is a record as it was committed last.
    pub(super) fn has(&self, record: &Record, place: &Place) -> bool {
        self.entries.get(&record.id).is_some_and(|entry| entry.record == *record && entry.place == *place)
    }

    pub(super) fn records(&self) -> usize {
        self.entries.len()
    }

    /// Base units that are in buckets and records.
    pub(super) fn placed(&self) -> impl Iterator<Item = (Series, u128)> {
        self.placed.iter().map(|(series, amount)| (*series, *amount))
    }

    /// Whether the agent has known for so long that AWS accepts a customer.
    pub(super) fn is_verified(&self, customer: usize, since: Timestamp) -> bool {
        self.verified.get(&customer).is_some_and(|verified| *verified < since)
    }

    pub(super) fn pending(&self) -> usize {
        self.entries.values().filter(|entry| entry.place == Place::Pending).count()
    }
}

/// What of a record's base units was used, and is in it.
pub(super) fn amount(record: &Record, place: &Place) -> u128 {
    let rounded = record.amounts.rounded;
    match place {
        Place::Settled(outcome) if outcome.moved_on() => rounded.min(0).unsigned_abs(),
        _ => u128::try_from(i128::try_from(record.amounts.billed).unwrap() - rounded).unwrap(),
    }
}
