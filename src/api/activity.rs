//! The usage events of late: when each product's last one came, and how many came in the last minutes.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::time::Instant;

use crate::{
    domain::time::Timestamp,
    engine::throughput::{Sample, Throughput},
};

/// Counts of recent usage events. Cheap to clone; clones share what they count.
#[derive(Clone, Debug)]
pub(crate) struct Activity {
    noted: Arc<Mutex<Noted>>,
    since: Instant,
}

#[derive(Debug, Default)]
struct Noted {
    /// When each product's last usage event was accepted. Until the first one, when the product could first send one.
    last: BTreeMap<Arc<str>, Timestamp>,
    throughput: Throughput,
}

impl Default for Activity {
    fn default() -> Self {
        Self { noted: Arc::default(), since: Instant::now() }
    }
}

impl Activity {
    /// Notes that a product can send usage from now on.
    pub(crate) fn begin(&self, product: &Arc<str>, now: Timestamp) {
        self.noted().last.insert(product.clone(), now);
    }

    /// Notes that events of a product were accepted.
    pub(crate) fn accepted(&self, product: &Arc<str>, now: Timestamp, events: u64) {
        let age = self.since.elapsed();
        let mut noted = self.noted();
        noted.last.insert(product.clone(), now);
        noted.throughput.add(age, Sample { accepted: events, refused: 0 });
    }

    /// Notes that events were refused for want of room.
    pub(crate) fn refused(&self, events: u64) {
        let age = self.since.elapsed();
        self.noted().throughput.add(age, Sample { accepted: 0, refused: events });
    }

    /// When the product's last event was accepted, or when it could first send one.
    pub(crate) fn last(&self, product: &str) -> Option<Timestamp> {
        self.noted().last.get(product).copied()
    }

    /// The events of the last five minutes by short spans, oldest first.
    pub(crate) fn samples(&self) -> Vec<Sample> {
        let age = self.since.elapsed();
        self.noted().throughput.samples(age)
    }

    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
