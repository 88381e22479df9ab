//! The marketplace as its requests share it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::marketplace::{Answer, Marketplace, Moment, Request};
use crate::{base::clock::Clock, domain::time::Timestamp};

#[derive(Debug)]
pub(super) struct SharedMarketplace {
    clock: Clock,
    started: Instant,
    /// Calls take turns, which is what makes a seed's faults the same in every run.
    marketplace: Mutex<Marketplace>,
}

impl SharedMarketplace {
    pub(super) fn new(marketplace: Marketplace, clock: Clock) -> Self {
        Self { clock, started: Instant::now(), marketplace: Mutex::new(marketplace) }
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn call(&self, request: Request<'_>) -> Answer {
        let moment = Moment { now: self.now(), real: self.started.elapsed() };
        self.lock().call(request, moment)
    }

    /// Never held across an await.
    pub(super) fn lock(&self) -> MutexGuard<'_, Marketplace> {
        self.marketplace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
