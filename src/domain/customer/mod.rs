//! Customers: how AWS knows them, how they stand with it, and what changes that.

pub(crate) mod identity;
pub(crate) mod limits;
pub(crate) mod replacement;
pub(crate) mod standing;
pub(crate) mod state;
pub(crate) mod tenure;
pub(crate) mod transition;
