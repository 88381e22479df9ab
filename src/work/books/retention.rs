//! Dropping what is too old to be needed: markers past the dedup window, receipts and journal lines past their
//! retention.

use crate::{
    domain::{
        journal::{Entry, Line},
        record::{RecordId, Settled},
        time::Timestamp,
    },
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
        let receipts = expired_receipts(store, oldest_kept)?;
        let lines = expired_lines(store, oldest_kept)?;
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

fn expired_receipts(store: &dyn Store, oldest_kept: Timestamp) -> Result<Vec<RecordId>, StoreError> {
    let page = |limit| load::settled(store, Table::Receipts, RecordId(0), limit);
    let is_expired = |settled: &Settled| settled.record.hour.end() < oldest_kept;
    // Mostly none is that old, and one tells.
    if !page(1)?.iter().all(is_expired) {
        return Ok(Vec::new());
    }
    let page = page(PAGE)?;
    Ok(page.iter().take_while(|settled| is_expired(settled)).map(|settled| settled.record.id).collect())
}

fn expired_lines(store: &dyn Store, oldest_kept: Timestamp) -> Result<Vec<u64>, StoreError> {
    let page = |limit| load::journal(store, 0, limit);
    let is_expired = |(_, line): &(u64, Line)| line.at < oldest_kept;
    if !page(1)?.iter().all(is_expired) {
        return Ok(Vec::new());
    }
    let page = page(PAGE)?;
    Ok(page.iter().take_while(|line| is_expired(line)).map(|(number, _)| *number).collect())
}
