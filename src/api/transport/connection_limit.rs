//! The limit on connections. When it is reached, a new connection evicts the oldest unauthenticated one.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

use crate::base::metrics;

/// Counts the connections of the agent. Clones share the count.
#[derive(Clone, Debug)]
pub(super) struct ConnectionLimit(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    max: usize,
    /// Connections that hold a permit and are not evicted.
    open: usize,
    /// Those that have not made an authenticated call, in the order in which they came, each with its eviction.
    unauthenticated: BTreeMap<u64, CancellationToken>,
    next_id: u64,
}

/// The right of one connection to be open. It ends on drop, or by eviction.
#[derive(Debug)]
pub(in crate::api) struct ConnectionPermit {
    limit: ConnectionLimit,
    id: u64,
    is_authenticated: AtomicBool,
    /// Cancelled when the connection must close, to make room for a new one.
    pub(super) evicted: CancellationToken,
}

impl ConnectionLimit {
    pub(super) fn new(max: usize) -> Self {
        Self(Arc::new(Mutex::new(Inner { max, open: 0, unauthenticated: BTreeMap::new(), next_id: 0 })))
    }

    /// A permit for a new connection. When the limit is reached, the oldest unauthenticated connection is evicted for
    /// it; if all are authenticated, there is no permit.
    ///
    /// So a peer without credentials cannot shut others out by opening connections, and a client with credentials makes
    /// its first call long before it is the oldest.
    pub(super) fn acquire(&self) -> Option<ConnectionPermit> {
        let mut inner = self.lock();
        if inner.open >= inner.max {
            let (_, oldest) = inner.unauthenticated.pop_first()?;
            oldest.cancel();
            inner.open -= 1;
        }
        let (id, evicted) = (inner.next_id, CancellationToken::new());
        inner.next_id += 1;
        inner.open += 1;
        inner.unauthenticated.insert(id, evicted.clone());
        metrics::connections(inner.open);
        Some(ConnectionPermit { limit: self.clone(), id, is_authenticated: AtomicBool::new(false), evicted })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ConnectionPermit {
    /// Records an authenticated call on the connection, which protects it from eviction from now on.
    pub(super) fn mark_authenticated(&self) {
        if !self.is_authenticated.swap(true, Ordering::SeqCst) {
            self.limit.lock().unauthenticated.remove(&self.id);
        }
    }

    pub(super) fn is_authenticated(&self) -> bool {
        self.is_authenticated.load(Ordering::SeqCst)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut inner = self.limit.lock();
        inner.unauthenticated.remove(&self.id);
        // An evicted connection was subtracted when it was evicted.
        if !self.evicted.is_cancelled() {
            inner.open -= 1;
        }
        metrics::connections(inner.open);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_unauthenticated_connection_is_evicted_for_a_new_one() {
        let limit = ConnectionLimit::new(3);
        let [a, b, c] = [(); 3].map(|()| limit.acquire().unwrap());
        a.mark_authenticated();
        assert!(a.is_authenticated());
        let d = limit.acquire().unwrap();
        let is_evicted = |permit: &ConnectionPermit| permit.evicted.is_cancelled();
        assert_eq!([&a, &b, &c, &d].map(is_evicted), [false, true, false, false]);
        drop(b);
        assert_eq!(limit.lock().open, 3, "it was subtracted when it was evicted");
        c.mark_authenticated();
        d.mark_authenticated();
        assert!(limit.acquire().is_none());
        drop(c);
        assert!(limit.acquire().is_some());
        assert_eq!(limit.lock().open, 2, "the new permit was dropped at once");
    }

    #[test]
    fn a_connection_that_authenticates_after_its_eviction_counts_once() {
        let limit = ConnectionLimit::new(1);
        let first = limit.acquire().unwrap();
        let second = limit.acquire().unwrap();
        first.mark_authenticated();
        second.mark_authenticated();
        assert!(first.evicted.is_cancelled() && limit.acquire().is_none());
        drop(first);
        assert!(limit.acquire().is_none());
        drop(second);
        let inner = limit.lock();
        assert_eq!((inner.open, inner.unauthenticated.len()), (0, 0));
    }
}
