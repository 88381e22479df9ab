//! What is on disk, followed from commit to commit. `commit_checks` holds it against the model and AWS's truth.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::{Series, plan::CUSTOMERS};
use crate::{
    domain::{
        billing::{
            adjustment::Adjustment,
            journal::JournalEvent,
            record::{Delivery, Outcome, Record, RecordId, Settled, Slot},
            usual::UsualHours,
        },
        product::Catalog,
        time::{Hour, Timestamp},
        usage::bucket::Bucket,
    },
    store::{
        Batch, Table, TableId,
        key::{BucketKey, SeriesKey},
        tables::{
            adjustments::Adjustments,
            buckets::Buckets,
            customers::CustomerRows,
            deliveries::Deliveries,
            journal::JournalLines,
            records::Records,
            sealing::{Sealing, SealingOf, SealingState},
            settled::Held,
            usual_hours::UsualHoursRows,
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
    /// Of the product whose hours are sealed on their own, or of all others.
    Sealing(Option<String>, SealingState),
    Usual(Series, UsualHours),
    Adjusted(Series, Adjustment),
    /// The journal's line about an adjustment.
    AdjustmentLine(u64),
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
        (TableId::UsualHours, Some(value)) => {
            let SeriesKey { customer, dimension, .. } = UsualHoursRows::decode_key(key).unwrap();
            let series = Series::named(customer, dimension, catalog);
            Some(Row::Usual(series, UsualHoursRows::decode(value).unwrap()))
        }
        (TableId::Customers, None) => {
            let (_, key) = CustomerRows::decode_key(key).unwrap();
            Some(Row::CustomerGone(CUSTOMERS.iter().position(|(known, _)| *known == key).unwrap()))
        }
        (TableId::Journal, Some(value)) => match JournalLines::decode(value).unwrap().entry {
            JournalEvent::Adjusted { number, .. } => Some(Row::AdjustmentLine(number)),
            _ => None,
        },
        (TableId::Meta, Some(value)) => meta_row(key, value, catalog),
        _ => None,
    }
}

fn meta_row(key: &[u8], value: &[u8], catalog: &Catalog) -> Option<Row> {
    if Sealing::decode_key(key).is_ok() {
        return Some(Row::Sealing(None, Sealing::decode(value).unwrap()));
    }
    if let Ok(product) = SealingOf::decode_key(key) {
        return Some(Row::Sealing(Some(product.to_owned()), SealingOf::decode(value).unwrap()));
    }
    Adjustments::decode_key(key).ok()?;
    let adjustment = Adjustments::decode(value).unwrap();
    let series = Series::named(&adjustment.customer, &adjustment.dimension, catalog);
    Some(Row::Adjusted(series, adjustment))
}

/// Where a record's usage is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Place {
    Pending,
    /// With the base units that are withheld beside what the record bills.
    Settled(Outcome, u128),
}

impl Place {
    pub(super) fn of(settled: &Settled) -> Self {
        Self::Settled(settled.outcome.clone(), settled.withheld.origins.total())
    }
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
    /// What of it was used in its own hour.
    pub(super) open_usage: HashMap<(Series, Hour), u128>,
    pub(super) entries: BTreeMap<RecordId, Entry>,
    pub(super) slots: HashMap<Slot, RecordId>,
    /// Base units that are in buckets and records.
    pub(super) placed: BTreeMap<Series, u128>,
    /// What the records of a level have come to at their seals; for sums, the model knows.
    pub(super) levels: BTreeMap<Series, u128>,
    pub(super) sealed: BTreeSet<(Series, Hour)>,
    pub(super) watermark: Hour,
    /// Whether the product has a watermark of its own.
    pub(super) is_on_its_own: bool,
    /// What persons have taken from each hour's own usage, and in all.
    pub(super) lowered: HashMap<(Series, Hour), u128>,
    pub(super) adjusted: BTreeMap<Series, u128>,
    /// The usual hours, and what they were before the commit that is looked at changed them.
    pub(super) usual: BTreeMap<Series, UsualHours>,
    pub(super) usual_before: BTreeMap<Series, UsualHours>,
    /// Customers of which the disk knows that AWS has accepted a record: since when.
    pub(super) verified: BTreeMap<usize, Timestamp>,
    /// Customers of which the disk knows that AWS does not know them.
    pub(super) refused: BTreeSet<usize>,
}

impl Ledger {
    /// What is open of each customer and dimension that adds up.
    pub(super) fn open(&self, catalog: &Catalog) -> Vec<(Series, u128)> {
        let mut open: BTreeMap<Series, u128> = BTreeMap::new();
        for ((series, _), amount) in &self.open {
            if series.dimension(catalog).aggregate.adds_up() {
                *open.entry(*series).or_default() += amount;
            }
        }
        open.into_iter().filter(|(_, amount)| *amount > 0).collect()
    }

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
        Place::Settled(outcome, _) if outcome.moved_on() => rounded.min(0).unsigned_abs(),
        place => {
            let withheld = if let Place::Settled(_, withheld) = place { *withheld } else { 0 };
            u128::try_from(i128::try_from(record.amounts.billed + withheld).unwrap() - rounded).unwrap()
        }
    }
}
