//! Records as others may read them, wherever they are: pending, held, or settled for good.

use crate::{
    domain::billing::{
        adjustment::Adjustment,
        record::{Decided, Delivery, Record, RecordId, Settled},
    },
    store::{
        ReadTable, Rows, StoreError,
        key::BucketKey,
        tables::{
            adjustments::Adjustments,
            decisions::Decisions,
            records::Records,
            settled::{Held, Receipts},
        },
    },
};

/// Which records are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    Any,
    Pending,
    Held,
    /// Settled for good.
    Settled,
}

/// A record where it was found.
#[derive(Clone, Debug)]
pub(crate) enum FoundRecord {
    Pending(Record, Delivery),
    /// Held, or settled for good: its outcome tells.
    Settled(Settled),
}

impl FoundRecord {
    pub(crate) fn record(&self) -> &Record {
        match self {
            Self::Pending(record, _) => record,
            Self::Settled(settled) => &settled.record,
        }
    }

    pub(crate) fn id(&self) -> RecordId {
        match self {
            Self::Pending(record, _) => record.id,
            Self::Settled(settled) => settled.record.id,
        }
    }
}

/// Reads records. A record is in one place at a time; one that moves between two reads is found by one of them.
#[derive(Clone, Copy)]
pub struct RecordReader<'a> {
    store: &'a dyn Rows,
}

impl<'a> RecordReader<'a> {
    pub fn new(store: &'a dyn Rows) -> Self {
        Self { store }
    }

    /// Pending records with numbers above `after`, in order, at most `limit`, and what has been tried for each.
    pub fn pending_after(self, after: RecordId, limit: usize) -> Result<Vec<(Record, Delivery)>, StoreError> {
        Records::after(self.store, after, limit)
    }

    /// The attempts for a record, if it is pending.
    pub(crate) fn delivery(self, id: RecordId) -> Result<Option<Delivery>, StoreError> {
        Records::delivery(self.store, id)
    }

    /// Held records with numbers from `from` on, in order, at most `limit`.
    pub(crate) fn held(self, from: RecordId, limit: usize) -> Result<Vec<Settled>, StoreError> {
        self.store.page(Held, from, limit, |_, settled| settled)
    }

    /// Records that are settled for good, with numbers from `from` on, in order, at most `limit`.
    pub(crate) fn settled(self, from: RecordId, limit: usize) -> Result<Vec<Settled>, StoreError> {
        self.store.page(Receipts, from, limit, |_, settled| settled)
    }

    /// Persons' decisions about a record, oldest first.
    pub(crate) fn decisions(self, id: RecordId) -> Result<Vec<Decided>, StoreError> {
        Decisions::of(self.store, id)
    }

    /// What persons have taken from the bucket that became a record, oldest first.
    pub(crate) fn adjustments_of(self, record: &Record) -> Result<Vec<Adjustment>, StoreError> {
        let Record { hour, product, customer, dimension, .. } = record;
        Adjustments::of(self.store, BucketKey { hour: *hour, product, customer, dimension })
    }

    /// What persons have taken from open hours, with numbers from `from` on, in order, at most `limit`.
    pub(crate) fn adjustments(self, from: u64, limit: usize) -> Result<Vec<Adjustment>, StoreError> {
        self.store.page(Adjustments, from, limit, |_, adjustment| adjustment)
    }

    /// The next records in the order of their numbers, from `from` on, at most `limit`.
    pub(crate) fn page(
        self,
        wanted: Wanted,
        from: RecordId,
        limit: usize,
    ) -> Result<Vec<FoundRecord>, StoreError> {
        let is_wanted = |place| wanted == Wanted::Any || wanted == place;
        let mut found = Vec::new();
        let settled = |records: Vec<Settled>| records.into_iter().map(FoundRecord::Settled);
        if wanted == Wanted::Any {
            // Also read before the pending ones: a record that is sent again meanwhile would else be in neither.
            found.extend(settled(self.held(from, limit)?));
        }
        if is_wanted(Wanted::Pending) {
            let before = RecordId(from.0.saturating_sub(1));
            let pending = self.pending_after(before, limit)?.into_iter();
            found.extend(pending.map(|(record, delivery)| FoundRecord::Pending(record, delivery)));
        }
        if is_wanted(Wanted::Held) {
            found.extend(settled(self.held(from, limit)?));
        }
        if is_wanted(Wanted::Settled) {
            found.extend(settled(self.settled(from, limit)?));
        }
        // A record that was settled between two of these reads is there twice; the later read knows better.
        found.reverse();
        found.sort_by_key(FoundRecord::id);
        found.dedup_by_key(|found| found.id());
        // A table may have more rows before the last one of another: only the first page's worth is in order.
        found.truncate(limit);
        Ok(found)
    }
}
