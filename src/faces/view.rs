//! What every face sees of the agent.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    base::clock::Clock,
    domain::{deadline::Window, product::Catalog, time::Timestamp},
    work::{
        audit::Limits, committer::Committer, phase::PhaseHandle, submitter::UnsentBoard,
        trusted_clock::TrustedClock,
    },
    worlds::store::Store,
};

/// Handles to the running agent. Cheap to clone.
#[derive(Clone)]
pub struct View {
    pub agent_id: Arc<str>,
    pub data_dir: Arc<Path>,
    pub catalog: Arc<Catalog>,
    /// Whether AWS is a sandbox in this process.
    pub is_sandbox: bool,
    pub window: Window,
    pub limits: Limits,
    pub clock: Clock,
    pub trusted_clock: TrustedClock,
    pub phase: PhaseHandle,
    pub committer: Committer,
    pub unsent: UnsentBoard,
    pub activity: Activity,
    pub store: Arc<dyn Store>,
}

/// When each product's last usage event was accepted; until the first one, since when it could have been.
#[derive(Clone, Debug, Default)]
pub struct Activity(Arc<Mutex<BTreeMap<Arc<str>, Timestamp>>>);

impl Activity {
    pub fn note(&self, product: &Arc<str>, now: Timestamp) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(product.clone(), now);
    }

    pub fn last(&self, product: &str) -> Option<Timestamp> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(product).copied()
    }
}
