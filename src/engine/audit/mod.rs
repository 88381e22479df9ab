//! Checks the invariants over the whole store, in one pass over each table.
//!
//! Works on any snapshot: a running agent's, or a folder's that no agent uses. A record, a bucket or a line that cannot be
//! read is a fault like another; only what nothing makes sense without ends the audit.

mod cursor;
mod journal;
mod open;
mod records;
#[cfg(test)]
mod tests;
mod whole;

pub(crate) use whole::read_the_rest;

use std::collections::HashMap;

use thiserror::Error;

use crate::{
    domain::{
        billing::journal::Digest,
        invariants::{Balances, Fault, Invariant, Location, SealedHours, SealedUpTo},
    },
    store::{
        ReadTable, Rows, StoreError, Table,
        tables::{
            customers::CustomerRows,
            outstanding::OutstandingRows,
            sealing::{Sealing, SealingOf, SealingState},
        },
    },
};

/// What is known beside the store.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    pub limits: Limits,
    /// A line of the journal that was noted down, and the hash that it had.
    pub noted: Option<(u64, Digest)>,
}

/// What a configuration allows; a folder that is looked at without one has only the limits that are built in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub customers: Option<u64>,
    pub open_buckets: Option<u64>,
    pub open_subjects: Option<u64>,
}

/// What an audit has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Report {
    /// The rows of all tables that were read.
    pub rows: u64,
    pub records: u64,
    pub open_buckets: u64,
    /// Persons' decisions, about held records and about what was open.
    pub decisions: u64,
    /// The journal's last line, and its hash: who noted down an earlier one can see that it is still in the chain.
    pub lines: u64,
    pub last_line: Digest,
    /// How many there are; only the first ones are kept.
    pub faults_found: u64,
    pub faults: Vec<Fault>,
}

#[derive(Debug, Error)]
pub(crate) enum AuditError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the audit was broken off")]
    BrokenOff,
}

/// Faults that are kept.
const MAX_FAULTS: usize = 1000;
/// Rows between two reports of progress.
const PROGRESS_ROWS: u64 = 10_000;

/// Audits what `rows` hold. `go_on` is told now and then how many rows were read, and may break off.
pub(crate) fn audit(
    rows: &dyn Rows,
    known: Known,
    go_on: &mut dyn FnMut(u64) -> bool,
) -> Result<Report, AuditError> {
    let mut audit = Audit {
        rows,
        known,
        go_on,
        report: Report::default(),
        balances: Balances::default(),
        watermarks: watermarks(rows)?,
    };
    let journal = audit.journal()?;
    audit.decisions(&journal)?;
    audit.adjustments(&journal)?;
    audit.records(&journal)?;
    audit.open_buckets()?;
    audit.usual_hours()?;
    audit.customers_and_producers()?;
    audit.balances()?;
    Ok(audit.report)
}

struct Audit<'a> {
    rows: &'a dyn Rows,
    known: Known,
    go_on: &'a mut dyn FnMut(u64) -> bool,
    report: Report,
    balances: Balances,
    watermarks: SealedHours,
}

impl Audit<'_> {
    fn note(&mut self, faults: impl IntoIterator<Item = Fault>) {
        for fault in faults {
            self.report.faults_found += 1;
            if self.report.faults.len() < MAX_FAULTS {
                self.report.faults.push(fault);
            }
        }
    }

    /// A row that cannot be read is not what was written.
    fn note_unreadable(&mut self, place: Location, why: &StoreError) {
        self.note([Fault { invariant: Invariant::Frozen, place, amount: 0, what: why.to_string() }]);
    }

    fn count_row(&mut self) -> Result<(), AuditError> {
        self.report.rows += 1;
        let goes_on = !self.report.rows.is_multiple_of(PROGRESS_ROWS) || (self.go_on)(self.report.rows);
        if goes_on { Ok(()) } else { Err(AuditError::BrokenOff) }
    }

    /// What is outstanding against what was found of it (I1).
    fn balances(&mut self) -> Result<(), AuditError> {
        self.rows.visit(OutstandingRows::ID, &[], &mut |series, amount| {
            self.balances.outstanding(series, OutstandingRows::decode(amount)?);
            Ok(())
        })?;
        let faults = self.balances.faults().map(|(series, missing)| Fault {
            invariant: Invariant::Conservation,
            place: place_of(series),
            amount: missing,
            what: "what is under way, held and carried is not what is outstanding".to_owned(),
        });
        let mut faults: Vec<Fault> = faults.collect();
        faults.sort_by(|a, b| a.what.cmp(&b.what).then_with(|| a.place.customer.cmp(&b.place.customer)));
        self.note(faults);
        Ok(())
    }
}

fn place_of(series: &[u8]) -> Location {
    OutstandingRows::decode_key(series).map_or_else(
        |_| Location::default(),
        |key| Location::series(key.product, key.customer, key.dimension),
    )
}

fn watermarks(rows: &dyn Rows) -> Result<SealedHours, StoreError> {
    let sealing = rows.find(Sealing, ())?;
    let (mut own, mut parts) = (HashMap::new(), HashMap::new());
    rows.each(CustomerRows, |(product, customer), state| {
        let key = || (product.to_owned(), customer.to_owned());
        if let Some(hour) = state.sealed_through {
            own.insert(key(), hour);
        }
        if !state.replaced.is_empty() {
            let its = state.replaced.into_iter().map(|replaced| (replaced.identity, replaced.until));
            parts.insert(key(), its.collect());
        }
        Ok(())
    })?;
    let (all, unfinished) =
        sealing.map_or_else(Default::default, |sealing| (sealing.watermark, sealing.unfinished));
    let mut products = HashMap::new();
    rows.each(SealingOf, |product, state| {
        let SealingState { watermark, unfinished } = state;
        products.insert(product.to_owned(), SealedUpTo { watermark, unfinished });
        Ok(())
    })?;
    Ok(SealedHours { all, unfinished, products, own, parts })
}
