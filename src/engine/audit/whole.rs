//! Reads the rows that no invariant is about, so that none of a folder's rows goes unread: each must be what it stands for.

use super::AuditError;
use crate::{
    engine::counting::dedup,
    store::{
        ReadTable, Rows, StoreError,
        tables::{
            adjustments::AdjustedBuckets,
            hour_tallies::HourTallyRows,
            journal::JournalEnd,
            meta::{AggregateRows, DestinationRows, Format, HashKey, IsSandbox},
            producers::ProducerRows,
            product_identities::ProductIdentities,
            sealing::{NextRecord, Sealing, SealingOf},
            subjects::SubjectRows,
        },
    },
};

/// Fails with the first row that cannot be read. Returns how many dedup keys there are.
pub(crate) fn read_the_rest(rows: &dyn Rows) -> Result<u64, AuditError> {
    read_singles(rows)?;
    rows.each(AggregateRows, |_, _| Ok(()))?;
    rows.each(DestinationRows, |_, _| Ok(()))?;
    rows.each(ProductIdentities, |_, _| Ok(()))?;
    rows.each(HourTallyRows, |_, _| Ok(()))?;
    rows.each(AdjustedBuckets, |_, ()| Ok(()))?;
    rows.each(SealingOf, |_, _| Ok(()))?;
    rows.each(ProducerRows, |_, _| Ok(()))?;
    rows.each(SubjectRows, |_, ()| Ok(()))?;
    Ok(dedup::verify(rows)?)
}

fn read_singles(rows: &dyn Rows) -> Result<(), StoreError> {
    rows.find(Format, ())?;
    rows.find(HashKey, ())?;
    rows.find(IsSandbox, ())?;
    rows.find(Sealing, ())?;
    rows.find(NextRecord, ())?;
    rows.find(JournalEnd, ())?;
    Ok(())
}
