//! What tallyman decides: time, quantities, identities, buckets, records, batches.
//!
//! Pure: no I/O, no clock, no log. Functions take facts and `now`, and return decisions.

#![cfg_attr(
    not(test),
    warn(
        clippy::arithmetic_side_effects,
        clippy::as_conversions,
        clippy::indexing_slicing,
        clippy::wildcard_enum_match_arm
    )
)]

pub(crate) mod billing;
pub(crate) mod clock_guard;
pub(crate) mod customer;
pub(crate) mod destination;
pub(crate) mod invariants;
pub(crate) mod permission;
pub(crate) mod product;
pub(crate) mod reconcile;
#[cfg(any(test, fuzzing))]
pub(crate) mod sample;
pub(crate) mod text;
pub(crate) mod time;
pub(crate) mod usage;
