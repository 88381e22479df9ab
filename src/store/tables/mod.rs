//! What is on disk: a file for each kind of row, with its key, its value, its layout and its own ways of reading.

pub(crate) mod adjustments;
pub(crate) mod buckets;
pub(crate) mod customers;
pub(crate) mod decisions;
pub(crate) mod dedup;
pub(crate) mod deliveries;
pub(crate) mod hour_tallies;
pub(crate) mod journal;
pub(crate) mod message_digests;
pub(crate) mod meta;
pub(crate) mod moves;
mod numbers;
pub(crate) mod outstanding;
pub(crate) mod producers;
pub(crate) mod product_identities;
pub(crate) mod records;
pub(crate) mod sealing;
pub(crate) mod settled;
pub(crate) mod subjects;
pub(crate) mod tagged;
#[cfg(test)]
mod tests;
pub(crate) mod usual_hours;
