//! Those who look at the page, and who of them makes room for a new one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

/// The most viewers at a time. Each is sent some kilobytes a second.
const MAX_VIEWERS: usize = 32;

/// The viewers of a page. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Viewers(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    /// In the order in which they came.
    watching: BTreeMap<u64, Arc<Place>>,
    next: u64,
}

#[derive(Debug, Default)]
struct Place {
    /// Whether an update waits for the viewer to take the one before.
    is_behind: AtomicBool,
    left: CancellationToken,
}

/// One who looks at the page.
#[derive(Debug)]
pub(super) struct Viewer {
    viewers: Viewers,
    number: u64,
    place: Arc<Place>,
}

impl Viewers {
    /// Lets a new viewer in. If there are too many, one leaves that takes nothing, or else the one that has looked the
    /// longest: a browser comes back by itself.
    pub(super) fn admit(&self) -> Viewer {
        let mut inner = self.lock();
        if inner.watching.len() >= MAX_VIEWERS {
            let behind = inner.watching.iter().find(|(_, place)| place.is_behind.load(Ordering::Relaxed));
            let leaves = behind.or_else(|| inner.watching.iter().next()).map(|(number, _)| *number);
            if let Some(place) = leaves.and_then(|number| inner.watching.remove(&number)) {
                place.left.cancel();
            }
        }
        let (number, place) = (inner.next, Arc::<Place>::default());
        inner.next += 1;
        inner.watching.insert(number, place.clone());
        Viewer { viewers: self.clone(), number, place }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Viewer {
    pub(super) fn set_behind(&self, is_behind: bool) {
        self.place.is_behind.store(is_behind, Ordering::Relaxed);
    }

    /// Resolves when the viewer must make room.
    pub(super) async fn left(&self) {
        self.place.left.cancelled().await;
    }
}

impl Drop for Viewer {
    fn drop(&mut self) {
        self.viewers.lock().watching.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_33rd_takes_the_place_of_one_that_takes_nothing_or_else_of_the_first() {
        let viewers = Viewers::default();
        let watching: Vec<_> = (0..32).map(|_| viewers.admit()).collect();
        let gone =
            || -> Vec<_> { (0..32).filter(|index| watching[*index].place.left.is_cancelled()).collect() };
        assert_eq!(gone(), [0; 0]);
        watching[7].set_behind(true);
        watching[9].set_behind(true);
        watching[9].set_behind(false);
        let (_a, _b) = (viewers.admit(), viewers.admit());
        assert_eq!(gone(), [0, 7]);
        drop(watching);
        assert_eq!(viewers.lock().watching.len(), 2);
    }
}
