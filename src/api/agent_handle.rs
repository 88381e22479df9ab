//! The running agent, as the gRPC services, the admin port and the demo see it.

use std::{path::Path, sync::Arc, time::Duration};

use crate::{
    api::{activity::Activity, not_billable::NotBillable},
    aws::metering::Endpoint,
    base::clock::Clock,
    domain::{billing::deadline::Window, product::Catalog},
    engine::{
        audit::Limits, billing::record_reader::RecordReader, committer::Committer, lifecycle::Lifecycle,
        submitter::UnsentStatus, trusted_clock::TrustedClock,
    },
    store::Store,
};

/// Handles to the running agent. Cheap to clone.
#[derive(Clone)]
pub(crate) struct AgentHandle {
    pub agent_id: Arc<str>,
    pub data_dir: Arc<Path>,
    /// Whether no agent had run on the data folder before this start.
    pub is_data_dir_new: bool,
    pub catalog: Arc<Catalog>,
    /// Where the records of each product of the catalog are sent, in the catalog's order.
    pub endpoints: Arc<[Endpoint]>,
    /// Whether AWS is a sandbox in this process.
    pub is_sandbox: bool,
    /// Whether the status page may name customers.
    pub shows_customers: bool,
    pub window: Window,
    pub grace: Duration,
    pub limits: Limits,
    pub clock: Clock,
    pub trusted_clock: TrustedClock,
    pub lifecycle: Lifecycle,
    pub committer: Committer,
    pub unsent: UnsentStatus,
    pub activity: Activity,
    pub not_billable: NotBillable,
    pub store: Arc<dyn Store>,
}

impl AgentHandle {
    pub(crate) fn records(&self) -> RecordReader<'_> {
        RecordReader::new(&*self.store)
    }
}
