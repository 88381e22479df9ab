//! What an operation may use of the sandbox, besides the state of its own service.

use super::{
    call_counts::CallCounts,
    catalog::Catalog,
    faults::{DrawnFaults, Faults},
    ids::Ids,
};
use crate::domain::time::Timestamp;

/// The circumstances of one call.
#[derive(Debug)]
pub(super) struct Context<'a> {
    /// The region for which the request is signed.
    pub(super) region: &'a str,
    /// The time of the call, by the sandbox's clock.
    pub(super) now: Timestamp,
    /// Without one, every product, dimension, license and customer is known.
    pub(super) catalog: Option<&'a Catalog>,
    pub(super) faults: &'a Faults,
    pub(super) drawn: DrawnFaults,
    pub(super) ids: &'a mut Ids,
    pub(super) counts: &'a mut CallCounts,
}
