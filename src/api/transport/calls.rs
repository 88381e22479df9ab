//! The calls of one connection: those that its frames have begun and not ended, and those that the services have.
//!
//! A call that is open on the wire and that no service has is at one of two points: it was read and no service has seen
//! it yet, or it was answered and the client has not taken the answer. Both take up memory, which the connection bounds.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker, ready},
};

use http_body::Frame;
use prost::bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Status, body::Body};

/// The calls that are open on the wire: begun by the client, and ended by neither side.
#[derive(Debug, Default)]
pub(super) struct OpenStreams {
    /// In the order of their numbers, which is that of their beginnings.
    open: Vec<u32>,
    latest: u32,
}

impl OpenStreams {
    /// Notes a header of the client's. Returns whether it begins a call; if not, it is the end of one.
    pub(super) fn begin(&mut self, stream: u32) -> bool {
        let is_new = stream > self.latest;
        if is_new {
            self.latest = stream;
            self.open.push(stream);
        }
        is_new
    }

    /// Notes that the answer is sent, or that either side has given the call up.
    pub(super) fn end(&mut self, stream: u32) {
        if let Ok(index) = self.open.binary_search(&stream) {
            self.open.remove(index);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }
}

/// What the services tell the connection about its calls. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct ServedCalls(Arc<Served>);

#[derive(Debug, Default)]
struct Served {
    /// Calls that a service works on, or whose answer it has not handed over.
    under_way: AtomicUsize,
    /// Those of them that need no authentication.
    public: AtomicUsize,
    /// Answers of which a part waits for the client to take it.
    untaken: AtomicUsize,
    /// Whether the connection waits for a change of the above.
    is_awaited: AtomicBool,
    waker: Mutex<Option<Waker>>,
}

impl ServedCalls {
    /// Notes that a call has reached the services. It is under way until the guard is dropped.
    pub(super) fn begin(&self) -> ServedCall {
        self.0.under_way.fetch_add(1, Ordering::SeqCst);
        self.wake();
        ServedCall { calls: self.clone(), is_public: false, is_untaken: false, share: None }
    }

    pub(super) fn under_way(&self) -> usize {
        self.0.under_way.load(Ordering::SeqCst)
    }

    pub(super) fn has_untaken(&self) -> bool {
        self.0.untaken.load(Ordering::SeqCst) > 0
    }

    /// Has the task of `context` woken when the next call begins, or at [`wake`](Self::wake).
    pub(super) fn await_change(&self, context: &mut Context<'_>) {
        *self.waker() = Some(context.waker().clone());
        self.0.is_awaited.store(true, Ordering::SeqCst);
    }

    pub(super) fn wake(&self) {
        if self.0.is_awaited.swap(false, Ordering::SeqCst)
            && let Some(waker) = self.waker().take()
        {
            waker.wake();
        }
    }

    fn waker(&self) -> MutexGuard<'_, Option<Waker>> {
        self.0.waker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that the services have.
#[derive(Debug)]
pub(super) struct ServedCall {
    calls: ServedCalls,
    is_public: bool,
    is_untaken: bool,
    /// The call's share of what few calls may use at a time.
    pub(super) share: Option<OwnedSemaphorePermit>,
}

impl ServedCall {
    /// Notes that the call needs no authentication. Returns how many of these are under way on the connection.
    pub(super) fn mark_public(&mut self) -> usize {
        self.is_public = true;
        self.calls.0.public.fetch_add(1, Ordering::SeqCst) + 1
    }

    fn set_untaken(&mut self, is_untaken: bool) {
        if std::mem::replace(&mut self.is_untaken, is_untaken) == is_untaken {
            return;
        }
        let untaken = &self.calls.0.untaken;
        if is_untaken {
            untaken.fetch_add(1, Ordering::SeqCst)
        } else {
            untaken.fetch_sub(1, Ordering::SeqCst)
        };
    }
}

impl Drop for ServedCall {
    fn drop(&mut self) {
        self.set_untaken(false);
        if self.is_public {
            self.calls.0.public.fetch_sub(1, Ordering::SeqCst);
        }
        self.calls.0.under_way.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The body of an answer. It tells whether the client takes what there is.
pub(super) struct AnswerBody {
    body: Body,
    call: ServedCall,
}

impl AnswerBody {
    pub(super) fn new(body: Body, call: ServedCall) -> Self {
        Self { body, call }
    }
}

impl http_body::Body for AnswerBody {
    type Data = Bytes;
    type Error = Status;

    /// The HTTP/2 server asks for the next part once there is room for the one before.
    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        this.call.set_untaken(false);
        let frame = ready!(Pin::new(&mut this.body).poll_frame(context));
        this.call.set_untaken(matches!(frame, Some(Ok(_))));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, sync::atomic::AtomicU32, task::Wake};

    use http_body::Body as _;

    use super::*;

    #[test]
    fn a_call_is_open_from_its_first_header_to_the_end_that_comes_first() {
        let mut streams = OpenStreams::default();
        assert!(streams.begin(1) && streams.begin(5) && streams.begin(9));
        assert!(!streams.begin(5), "the trailers of a call");
        assert!(!streams.begin(3), "a number below the latest is never used");
        streams.end(5);
        streams.end(5);
        streams.end(7);
        assert_eq!((streams.len(), streams.open.clone()), (2, vec![1, 9]));
        assert!(!streams.begin(9) && streams.begin(11));
    }

    #[test]
    fn what_the_services_have_is_counted_until_the_answer_is_dropped() {
        let calls = ServedCalls::default();
        let (first, mut second) = (calls.begin(), calls.begin());
        assert_eq!((calls.under_way(), second.mark_public()), (2, 1));
        second.set_untaken(true);
        second.set_untaken(true);
        assert!(calls.has_untaken());
        drop(first);
        assert_eq!((calls.under_way(), calls.has_untaken()), (1, true));
        drop(second);
        assert_eq!((calls.under_way(), calls.has_untaken(), calls.begin().mark_public()), (0, false, 1));
    }

    #[tokio::test]
    async fn an_answer_is_untaken_from_a_part_of_it_until_the_next_one_is_asked_for() {
        let calls = ServedCalls::default();
        let mut body = AnswerBody::new(Body::new("part".to_owned()), calls.begin());
        assert!(!calls.has_untaken());
        let mut next = async || poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await;
        assert!(next().await.is_some());
        assert!(calls.has_untaken());
        assert!(next().await.is_none());
        assert!(!calls.has_untaken());
    }

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn who_waits_is_woken_once_by_the_next_call() {
        let (calls, woken) = (ServedCalls::default(), Arc::new(Woken::default()));
        drop(calls.begin());
        calls.await_change(&mut Context::from_waker(&woken.clone().into()));
        drop((calls.begin(), calls.begin()));
        assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    }
}
