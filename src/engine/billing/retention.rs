//! Drops receipts and journal lines that are past their retention.

use crate::{
    domain::{
        billing::{
            journal::{JournalEvent, JournalLine},
            record::{RecordId, Settled},
        },
        time::Timestamp,
    },
    engine::write_txn::WriteTxn,
    store::{
        ReadTable, Store, StoreError,
        tables::{journal::JournalLines, settled::Receipts},
    },
};

use super::Billing;

/// How many rows of a table are looked at in one step.
const PAGE: usize = 1000;

impl Billing {
    /// Drops some of the receipts and journal lines that have expired; says whether there is more of them.
    pub(crate) fn drop_expired(
        &mut self,
        now: Timestamp,
        txn: &mut WriteTxn<'_>,
    ) -> Result<bool, StoreError> {
        let oldest_kept = now.minus(self.rules.receipts_kept);
        let receipts = expired_receipts(txn.store, oldest_kept)?;
        let lines = expired_lines(txn.store, oldest_kept)?;
        self.drop_rows(receipts.last(), lines.last(), now, oldest_kept, txn);
        Ok(receipts.len() == PAGE || lines.len() == PAGE)
    }

    /// The journal says what was dropped, so that nothing else can be missing.
    fn drop_rows(
        &mut self,
        last_receipt: Option<&RecordId>,
        last_line: Option<&u64>,
        now: Timestamp,
        before: Timestamp,
        txn: &mut WriteTxn<'_>,
    ) {
        if last_receipt.is_none() && last_line.is_none() {
            return;
        }
        let head = self.journal.head();
        let through = last_receipt.copied().unwrap_or_default().max(head.dropped_through);
        let first_line = last_line.map_or(head.first_line, |last| last.saturating_add(1));
        if let Some(last) = last_receipt {
            let after_last = RecordId(last.0.saturating_add(1));
            txn.batch.delete_range(Receipts, RecordId(0), after_last);
        }
        txn.batch.delete_range(JournalLines, 0, first_line);
        self.journal.append(JournalEvent::Dropped { through, first_line, before }, now, txn.batch);
    }
}

fn expired_receipts(store: &dyn Store, oldest_kept: Timestamp) -> Result<Vec<RecordId>, StoreError> {
    let page = |limit| store.page(Receipts, RecordId(0), limit, |_, settled| settled);
    let is_expired = |settled: &Settled| settled.record.hour.end() < oldest_kept;
    // Mostly none is that old, and one tells.
    if !page(1)?.iter().all(is_expired) {
        return Ok(Vec::new());
    }
    let page = page(PAGE)?;
    Ok(page.iter().take_while(|settled| is_expired(settled)).map(|settled| settled.record.id).collect())
}

fn expired_lines(store: &dyn Store, oldest_kept: Timestamp) -> Result<Vec<u64>, StoreError> {
    let page = |limit| store.page(JournalLines, 0, limit, |number, line| (number, line));
    let is_expired = |(_, line): &(u64, JournalLine)| line.at < oldest_kept;
    if !page(1)?.iter().all(is_expired) {
        return Ok(Vec::new());
    }
    let page = page(PAGE)?;
    Ok(page.iter().take_while(|line| is_expired(line)).map(|(number, _)| *number).collect())
}
