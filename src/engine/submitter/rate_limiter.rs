//! The rate budget, shared by all submitters whose calls AWS counts together.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::domain::billing::rate_budget::RateBudget;

/// A cheap handle; clones share one budget.
#[derive(Clone, Debug)]
pub struct RateLimiter {
    /// Real time, for the budget, is counted from here.
    epoch: Instant,
    budget: Arc<Mutex<RateBudget>>,
}

impl RateLimiter {
    pub fn new(quota_per_second: f64) -> Self {
        Self { epoch: Instant::now(), budget: Arc::new(Mutex::new(RateBudget::new(quota_per_second))) }
    }

    /// Takes the next place that is not before `earliest`; returns the moment at which the call may go out.
    pub fn reserve(&self, earliest: Instant) -> Instant {
        self.epoch + self.budget().reserve(self.since_epoch(earliest))
    }

    /// AWS took a call that was sent at `sent`.
    pub fn answered(&self, sent: Instant) {
        self.budget().answered(self.since_epoch(sent));
    }

    /// AWS throttled a call that was sent at `sent`.
    pub fn throttled(&self, sent: Instant) {
        self.budget().throttled(self.since_epoch(sent), self.epoch.elapsed());
    }

    fn since_epoch(&self, moment: Instant) -> Duration {
        moment.duration_since(self.epoch)
    }

    /// Never held across an await.
    fn budget(&self) -> MutexGuard<'_, RateBudget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
