//! A person's word that a product's unbilled usage may go to another destination, although something is at stake.
//!
//! It is written down for ever, by the running agent or in the folder of one that is stopped, and takes effect at the
//! next start whose configuration names that destination.

use std::sync::Arc;

use thiserror::Error;

use crate::{
    domain::{
        billing::journal::JournalEvent,
        destination::{AllowedMove, Destination},
        time::Timestamp,
    },
    store::{
        Batch, Encoded, ReadTable, Rows, Store, StoreError,
        journal::{Journal, hash_of_row},
        tables::{
            meta::DestinationRows,
            moves::{AllowedMoves, PendingMoves},
        },
    },
};

/// What a person says. Its texts are not empty.
#[derive(Clone, Debug)]
pub(crate) struct MoveOrder {
    pub product: Arc<str>,
    /// A region, or a URL as the configuration would have it.
    pub to: Arc<str>,
    pub reason: Arc<str>,
    pub by: Arc<str>,
    pub client: Option<Arc<str>>,
}

/// Why a move cannot be allowed.
#[derive(Debug, Error)]
pub enum MoveError {
    #[error("no agent has billed product `{product}` from this data folder: there is nothing to move")]
    UnknownProduct { product: Arc<str> },
    #[error("product `{product}` goes to {to} already: there is nothing to allow")]
    AlreadyThere { product: Arc<str>, to: String },
    #[error("no agent has run on this data folder yet")]
    NoJournal,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Writes the order down, under the number of its line. One that is still pending for the product is replaced, and kept
/// all the same.
pub(crate) fn allow(
    order: &MoveOrder,
    at: Timestamp,
    rows: &dyn Rows,
    journal: &mut Journal,
    batch: &mut Batch,
) -> Result<AllowedMove, MoveError> {
    let MoveOrder { product, reason, by, client, .. } = order.clone();
    let from = rows.find(DestinationRows, &product)?;
    let from = from.ok_or_else(|| MoveError::UnknownProduct { product: product.clone() })?;
    let to = Destination::parse(&order.to);
    if Destination::parse(&from) == to {
        return Err(MoveError::AlreadyThere { product, to: to.name().to_owned() });
    }
    let allowed = AllowedMove { product, from: from.into(), to: to.name().into(), reason, by, client, at };
    let number = journal.head().lines.saturating_add(1);
    let row = Encoded::of(&allowed);
    journal.append(JournalEvent::MoveAllowed { number, row: hash_of_row(row.bytes()) }, at, batch);
    batch.put_encoded(AllowedMoves, number, row);
    batch.put(PendingMoves, &allowed.product, &number);
    Ok(allowed)
}

/// The same in a folder that no agent uses.
pub(crate) fn allow_in_folder(
    order: &MoveOrder,
    at: Timestamp,
    store: &dyn Store,
) -> Result<AllowedMove, MoveError> {
    let mut journal = Journal::load(store)?.ok_or(MoveError::NoJournal)?;
    let mut batch = Batch::default();
    let allowed = allow(order, at, store, &mut journal, &mut batch)?;
    journal.flush(&mut batch);
    store.commit(batch)?;
    Ok(allowed)
}

/// The move that a person has allowed a product, and that it has not made yet.
pub(crate) fn pending(rows: &dyn Rows, product: &str) -> Result<Option<AllowedMove>, StoreError> {
    match rows.find(PendingMoves, product)? {
        Some(number) => rows.find(AllowedMoves, number),
        None => Ok(None),
    }
}

/// Whether a product has not made the move with this number yet.
pub(crate) fn is_pending(rows: &dyn Rows, number: u64, product: &str) -> Result<bool, StoreError> {
    Ok(rows.find(PendingMoves, product)? == Some(number))
}

/// All that were ever allowed, with their numbers.
pub(crate) fn all(rows: &dyn Rows) -> Result<Vec<(u64, AllowedMove)>, StoreError> {
    rows.all(AllowedMoves)
}
