//! The connections that there are: so many and no more, and those that have proven themselves go first.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

use crate::base::metrics;

/// Cheap to clone; all clones count together.
#[derive(Clone, Debug)]
pub(super) struct Crowd(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    most: usize,
    /// Those in their places.
    all: usize,
    /// Those of them that have not made a call that may pass, in the order in which they came.
    strangers: BTreeMap<u64, CancellationToken>,
    next: u64,
}

/// A connection's place. Whoever drops it leaves.
#[derive(Debug)]
pub(super) struct Place {
    crowd: Crowd,
    number: u64,
    is_proven: AtomicBool,
    /// Cancelled once it must make room for another.
    pub(super) must_leave: CancellationToken,
}

impl Crowd {
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(Inner { most, all: 0, strangers: BTreeMap::new(), next: 0 })))
    }

    /// Whoever opens connections and says nothing of use must not keep others out: when all places are taken, the
    /// stranger that came first leaves. One that means well has proven itself long before its turn comes.
    pub(super) fn enter(&self) -> Option<Place> {
        let mut inner = self.lock();
        if inner.all >= inner.most {
            let (_, oldest) = inner.strangers.pop_first()?;
            oldest.cancel();
            inner.all -= 1;
        }
        let (number, must_leave) = (inner.next, CancellationToken::new());
        inner.next += 1;
        inner.all += 1;
        inner.strangers.insert(number, must_leave.clone());
        metrics::connections(inner.all);
        Some(Place { crowd: self.clone(), number, is_proven: AtomicBool::new(false), must_leave })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// It has made a call that may pass, and keeps its place as long as it likes.
    pub(super) fn prove(&self) {
        if !self.is_proven.swap(true, Ordering::Relaxed) {
            self.crowd.lock().strangers.remove(&self.number);
        }
    }

    pub(super) fn is_proven(&self) -> bool {
        self.is_proven.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.crowd.lock();
        inner.strangers.remove(&self.number);
        // Else another has its place already.
        if !self.must_leave.is_cancelled() {
            inner.all -= 1;
        }
        metrics::connections(inner.all);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stranger_that_came_first_leaves_for_one_more() {
        let crowd = Crowd::new(3);
        let [a, b, c] = [(); 3].map(|()| crowd.enter().unwrap());
        a.prove();
        assert!(a.is_proven());
        let d = crowd.enter().unwrap();
        let left = |place: &Place| place.must_leave.is_cancelled();
        assert_eq!([&a, &b, &c, &d].map(left), [false, true, false, false]);
        drop(b);
        assert_eq!(crowd.lock().all, 3, "its place was taken");
        c.prove();
        d.prove();
        assert!(crowd.enter().is_none());
        drop(c);
        assert!(crowd.enter().is_some());
        assert_eq!(crowd.lock().all, 2, "it left at once");
    }

    #[test]
    fn one_that_must_leave_and_proves_itself_too_late_counts_once() {
        let crowd = Crowd::new(1);
        let first = crowd.enter().unwrap();
        let second = crowd.enter().unwrap();
        first.prove();
        second.prove();
        assert!(first.must_leave.is_cancelled() && crowd.enter().is_none());
        drop(first);
        assert!(crowd.enter().is_none());
        drop(second);
        let inner = crowd.lock();
        assert_eq!((inner.all, inner.strangers.len()), (0, 0));
    }
}
