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

pub mod answer;
pub mod backoff;
pub mod batch;
pub mod bucket;
pub mod budget;
pub mod carried;
pub mod clock_guard;
pub mod customer;
pub mod deadline;
pub mod hours;
pub mod identity;
pub mod invariants;
pub mod journal;
pub mod outbox;
pub mod permission;
pub mod product;
pub mod quantity;
pub mod reconcile;
pub mod record;
#[cfg(any(test, fuzzing))]
pub(crate) mod sample;
pub mod seal;
pub mod tags;
pub mod time;
pub mod usage;
