//! What a command changes on disk, and what it may look at to decide that.

use crate::{
    domain::time::Timestamp,
    store::{Batch, Store},
};

/// A command's part in the write that is being made.
pub struct WriteTxn<'a> {
    /// The rows as they are without this write.
    pub store: &'a dyn Store,
    /// The moment at which the command is carried out.
    pub now: Timestamp,
    /// That moment is only the best guess: see `TrustedClock`.
    pub is_clock_doubted: bool,
    /// Takes effect as a whole, with one sync, after the last command of the group.
    pub batch: &'a mut Batch,
}
