//! The connections of a server, and which of them makes room for a new one.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio_util::sync::CancellationToken;

/// The connections of one server. Clones share them.
#[derive(Clone, Debug)]
pub(super) struct Connections(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    max: usize,
    /// Each open connection with what closes it, in the order in which they make room.
    open: BTreeMap<Order, CancellationToken>,
    changes: u64,
}

/// Connections that serve no request come first, and among their like those that have been so for the longest time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    serves: bool,
    since: u64,
}

/// The place of one connection among the others.
#[derive(Debug)]
pub(super) struct Slot {
    connections: Connections,
    order: Mutex<Order>,
    closed: CancellationToken,
}

/// Closes the connection of a request, which gets no answer then.
#[derive(Clone, Debug)]
pub(crate) struct ConnectionCloser(CancellationToken);

impl Connections {
    pub(super) fn new(max: usize) -> Self {
        Self(Arc::new(Mutex::new(Inner { max, open: BTreeMap::new(), changes: 0 })))
    }

    /// Takes a new connection in, for which another one is closed if there are too many.
    pub(super) fn admit(&self) -> Slot {
        let mut inner = self.lock();
        while inner.open.len() >= inner.max
            && let Some((_, oldest)) = inner.open.pop_first()
        {
            oldest.cancel();
        }
        let (order, closed) = (inner.next(false), CancellationToken::new());
        inner.open.insert(order, closed.clone());
        Slot { connections: self.clone(), order: Mutex::new(order), closed }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn next(&mut self, serves: bool) -> Order {
        self.changes += 1;
        Order { serves, since: self.changes }
    }
}

impl Slot {
    /// Notes that the connection serves a request.
    pub(super) fn note_request(&self) {
        self.move_to(true);
    }

    /// Notes that the connection waits for its next request.
    pub(super) fn note_rest(&self) {
        self.move_to(false);
    }

    fn move_to(&self, serves: bool) {
        let mut order = self.order.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inner = self.connections.lock();
        // A connection that has made room already stays out.
        if let Some(closed) = inner.open.remove(&order) {
            *order = inner.next(serves);
            inner.open.insert(*order, closed);
        }
    }

    /// Resolves when the connection must close.
    pub(super) async fn closed(&self) {
        self.closed.cancelled().await;
    }

    pub(super) fn closer(&self) -> ConnectionCloser {
        ConnectionCloser(self.closed.clone())
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let order = *self.order.lock().unwrap_or_else(PoisonError::into_inner);
        self.connections.lock().open.remove(&order);
    }
}

impl ConnectionCloser {
    /// Closes the connection. The caller is dropped with it.
    pub(crate) async fn close<T>(&self) -> T {
        self.0.cancel();
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn are_closed(slots: &[&Slot]) -> Vec<bool> {
        slots.iter().map(|slot| slot.closed.is_cancelled()).collect()
    }

    #[test]
    #[expect(clippy::many_single_char_names, reason = "connections in the order of their arrival")]
    fn the_one_that_rests_the_longest_makes_room_and_then_the_one_that_is_served_the_longest() {
        let connections = Connections::new(4);
        let [a, b, c, d] = [(); 4].map(|()| connections.admit());
        a.note_request();
        b.note_request();
        b.note_rest();
        let e = connections.admit();
        assert_eq!(are_closed(&[&a, &b, &c, &d, &e]), [false, false, true, false, false]);
        drop(d);
        let f = connections.admit();
        assert_eq!(are_closed(&[&a, &b, &e, &f]), [false; 4], "there was room");
        for slot in [&b, &e, &f] {
            slot.note_request();
        }
        let g = connections.admit();
        assert_eq!(are_closed(&[&a, &b, &e, &f, &g]), [true, false, false, false, false]);
        a.note_request();
        drop((a, c));
        assert_eq!(connections.lock().open.len(), 4);
        drop((b, e, f, g));
        assert_eq!(connections.lock().open.len(), 0);
    }
}
