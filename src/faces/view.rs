//! What every face sees of the agent.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use crate::{
    base::clock::Clock,
    domain::{deadline::Window, product::Catalog, time::Timestamp},
    faces::pulse::{Beat, Pulse},
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
    /// Whether the status page may name customers.
    pub shows_customers: bool,
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

/// What came in of late.
#[derive(Clone, Debug)]
pub struct Activity {
    noted: Arc<Mutex<Noted>>,
    since: Instant,
}

#[derive(Debug, Default)]
struct Noted {
    /// When each product's last usage event was accepted; until the first one, since when it could have been.
    last: BTreeMap<Arc<str>, Timestamp>,
    pulse: Pulse,
}

impl Default for Activity {
    fn default() -> Self {
        Self { noted: Arc::default(), since: Instant::now() }
    }
}

impl Activity {
    /// A product could send usage from now on.
    pub fn begin(&self, product: &Arc<str>, now: Timestamp) {
        self.noted().last.insert(product.clone(), now);
    }

    pub fn accepted(&self, product: &Arc<str>, now: Timestamp, events: u64) {
        let age = self.since.elapsed();
        let mut noted = self.noted();
        noted.last.insert(product.clone(), now);
        noted.pulse.add(age, Beat { accepted: events, refused: 0 });
    }

    /// Events found no room.
    pub fn refused(&self, events: u64) {
        let age = self.since.elapsed();
        self.noted().pulse.add(age, Beat { accepted: 0, refused: events });
    }

    pub fn last(&self, product: &str) -> Option<Timestamp> {
        self.noted().last.get(product).copied()
    }

    pub fn beats(&self) -> Vec<Beat> {
        let age = self.since.elapsed();
        self.noted().pulse.beats(age)
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
