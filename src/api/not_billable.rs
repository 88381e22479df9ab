//! Usage of customers that have ended: its sender is told in the answer, the operator in the log and in `status`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::warn;

/// The log says so once in this time for each product, however much there is.
const QUIET: Duration = Duration::from_mins(1);

/// Counts since the agent's start. Cheap to clone; clones share what they count.
#[derive(Clone, Debug, Default)]
pub(crate) struct NotBillable(Arc<Mutex<BTreeMap<Arc<str>, Noted>>>);

#[derive(Debug, Default)]
struct Noted {
    events: u64,
    /// Those that the log has not told yet.
    untold: u64,
    told: Option<Instant>,
}

impl NotBillable {
    pub(crate) fn note(&self, product: &Arc<str>, events: u64) {
        if let Some(events) = self.noted().entry(product.clone()).or_default().add(events, Instant::now()) {
            warn!(
                %product, events,
                "usage of customers that have ended: it is held as not billable, unless they subscribe again (see \
                 `tallyman customers` and `tallyman held`)"
            );
        }
    }

    /// A product's events so far.
    pub(crate) fn events(&self, product: &str) -> u64 {
        self.noted().get(product).map_or(0, |noted| noted.events)
    }

    fn noted(&self) -> MutexGuard<'_, BTreeMap<Arc<str>, Noted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Noted {
    /// Returns how many events the log is to tell of now.
    fn add(&mut self, events: u64, now: Instant) -> Option<u64> {
        if events == 0 {
            return None;
        }
        self.events = self.events.saturating_add(events);
        self.untold = self.untold.saturating_add(events);
        if self.told.is_some_and(|told| now < told + QUIET) {
            return None;
        }
        self.told = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_others_once_a_minute() {
        let (mut noted, start) = (Noted::default(), Instant::now());
        let mut told = |events, seconds| noted.add(events, start + Duration::from_secs(seconds));
        assert_eq!([told(3, 0), told(0, 0), told(2, 1), told(5, 59)], [Some(3), None, None, None]);
        assert_eq!([told(1, 60), told(4, 61)], [Some(8), None], "with those that were passed over");
        assert_eq!((noted.events, noted.untold), (15, 4));
    }
}
