//! Dropping what is too old to be needed: markers past the dedup window, receipts and journal lines past their
//! retention.

use crate::{
    domain::{journal::Entry, record::RecordId, time::Timestamp},
    worlds::store::{Batch, Store, StoreError, Table, keys, load},
};

use super::Books;

/// How many rows of a table are looked at in one step.
const PAGE: usize = 1000;

impl Books {
    /// Drops some of what has expired; says whether there is more of it.
    pub fn drop_expired(
        &mut self,
        store: &dyn Store,
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<bool, StoreError> {
        self.dedup.drop_expired(now, batch);
        let oldest_kept = now.minus(self.rules.receipts_kept);
        let receipts = load::settled(store, Table::Receipts, RecordId(0), PAGE)?;
        let receipts: Vec<RecordId> = receipts
            .iter()
            .take_while(|settled| settled.record.hour.end() < oldest_kept)
            .map(|settled| settled.record.id)
            .collect();
        let lines = load::journal(store, 0, PAGE)?;
        let lines: Vec<u64> =
            lines.iter().take_while(|(_, line)| line.at < oldest_kept).map(|(number, _)| *number).collect();
        self.drop_rows(receipts.last(), lines.last(), now, oldest_kept, batch);
        Ok(receipts.len() == PAGE || lines.len() == PAGE)
    }

    /// The journal says what was dropped, so that nothing else can be missing.
    fn drop_rows(
        &mut self,
        last_receipt: Option<&RecordId>,
        last_line: Option<&u64>,
        now: Timestamp,
        before: Timestamp,
        batch: &mut Batch,
    ) {
        if last_receipt.is_none() && last_line.is_none() {
            return;
        }
        let head = self.journal.head();
        let through = last_receipt.copied().unwrap_or_default().max(head.dropped_through);
        let first_line = last_line.map_or(head.first_line, |last| last.saturating_add(1));
        if let Some(last) = last_receipt {
            let after_last = keys::record(RecordId(last.0.saturating_add(1)));
            batch.delete_range(Table::Receipts, keys::record(RecordId(0)), after_last);
        }
        batch.delete_range(Table::Journal, keys::line(0), keys::line(first_line));
        self.journal.append(Entry::Dropped { through, first_line, before }, now, batch);
    }
}
