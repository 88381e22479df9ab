//! The engine: counts, seals and submits. One owner for each piece of state; others hold a cheap handle.
//!
//! ```text
//! api -> committer -> counting (open buckets) -> billing (records) -> submitter -> AWS
//!                         ^-- sealer: an hour is over --^
//! ```

pub(crate) mod audit;
pub(crate) mod billing;
pub(crate) mod committer;
pub(crate) mod counting;
pub(crate) mod customers;
pub(crate) mod folder_glance;
pub(crate) mod health;
pub(crate) mod lifecycle;
pub(crate) mod moves;
pub(crate) mod open_error;
pub(crate) mod rules;
pub(crate) mod seal_gate;
pub(crate) mod sealer;
pub(crate) mod state;
pub(crate) mod submitter;
pub(crate) mod throughput;
pub(crate) mod trusted_clock;
pub(crate) mod watermark;
pub(crate) mod write_txn;
