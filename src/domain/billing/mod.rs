//! Bills: what an hour becomes, when it goes to AWS, and what AWS's answer means.

pub(crate) mod adjustment;
mod allocation;
pub(crate) mod answer;
pub(crate) mod backoff;
pub(crate) mod batch;
pub(crate) mod culprit;
pub(crate) mod deadline;
pub(crate) mod hour_tally;
pub(crate) mod journal;
pub(crate) mod outbox;
pub(crate) mod rate_budget;
pub(crate) mod record;
pub(crate) mod schedule;
pub(crate) mod seal;
pub(crate) mod seal_hold;
pub(crate) mod usual;
