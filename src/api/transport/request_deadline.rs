//! The body of a request, with a deadline for what has begun to arrive, and an end at the revocation of its
//! credentials.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http_body::Frame;
use prost::bytes::Bytes;
use tokio::time::{Sleep, sleep};
use tonic::{Status, body::Body};

use super::revocation::{Revocation, Revoked};

/// Length of a gRPC message's header: a flag and four bytes of length.
const HEADER: usize = 5;

/// What the deadline of a body covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DeadlineScope {
    /// The whole body, of a request with one message.
    Request,
    /// Each message of a stream, from its first byte to its last. Between messages there is no deadline.
    EachMessage,
}

/// A body that fails with `DEADLINE_EXCEEDED` when it is late, and a stream also with the status of its revocation.
pub(super) struct DeadlineBody {
    body: Body,
    /// `None` for a request with one message, which is over soon by its deadline.
    revoked: Option<Revoked>,
    timeout: Duration,
    scope: DeadlineScope,
    framing: MessageFraming,
    /// Set when the body is first awaited within the scope.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl DeadlineBody {
    pub(super) fn new(body: Body, scope: DeadlineScope, timeout: Duration, revocation: Revocation) -> Self {
        let revoked = if scope == DeadlineScope::EachMessage { revocation.wait() } else { None };
        Self { body, revoked, timeout, scope, framing: MessageFraming::default(), deadline: None }
    }

    fn is_between_messages(&self) -> bool {
        self.scope == DeadlineScope::EachMessage && !self.framing.has_begun()
    }

    fn poll_deadline(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        let timeout = self.timeout;
        let deadline = self.deadline.get_or_insert_with(|| Box::pin(sleep(timeout)));
        deadline.as_mut().poll(context).map(|()| {
            Status::deadline_exceeded(format!(
                "the request did not come within {timeout:?} (limits.request_timeout); nothing was counted"
            ))
        })
    }
}

impl http_body::Body for DeadlineBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        // Polled before the body: a client that sends without a pause would keep the body ready for ever.
        if let Some(revoked) = &mut this.revoked
            && let Poll::Ready(status) = revoked.as_mut().poll(context)
        {
            this.revoked = None;
            return Poll::Ready(Some(Err(status)));
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            if data.is_some_and(|data| this.framing.advance(data)) && this.scope == DeadlineScope::EachMessage
            {
                this.deadline = None;
            }
            return Poll::Ready(frame);
        }
        if this.is_between_messages() {
            return Poll::Pending;
        }
        this.poll_deadline(context).map(|status| Some(Err(status)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// The position in the sequence of gRPC messages that a body holds.
#[derive(Debug, Default)]
struct MessageFraming {
    header: [u8; HEADER],
    /// Bytes of the header that have arrived.
    filled: usize,
    /// Bytes of the message that have not arrived.
    left: usize,
}

impl MessageFraming {
    /// Moves on by `data`. Returns whether a message has ended in it.
    fn advance(&mut self, mut data: &[u8]) -> bool {
        let mut has_ended = false;
        while !data.is_empty() {
            if self.filled < HEADER {
                let (next, rest) = data.split_at((HEADER - self.filled).min(data.len()));
                self.header[self.filled..self.filled + next.len()].copy_from_slice(next);
                self.filled += next.len();
                data = rest;
                if self.filled == HEADER {
                    let [_, length @ ..] = self.header;
                    self.left = u32::from_be_bytes(length) as usize;
                }
            } else {
                let taken = self.left.min(data.len());
                (self.left, data) = (self.left - taken, &data[taken..]);
            }
            if self.filled == HEADER && self.left == 0 {
                (self.filled, has_ended) = (0, true);
            }
        }
        has_ended
    }

    /// Whether a part of a message has arrived, and its end has not.
    fn has_begun(&self) -> bool {
        self.filled > 0
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn};

    use http_body::Body as _;
    use proptest::prelude::*;
    use tokio::sync::mpsc;
    use tonic::Code;

    use super::*;

    proptest! {
        #[test]
        fn where_a_message_ends_does_not_depend_on_the_pieces(
            lengths in prop::collection::vec(0_u8..20, 1..6), cuts in prop::collection::vec(1_usize..9, 1..9)
        ) {
            let mut bytes = Vec::new();
            let mut ends = vec![0];
            for length in &lengths {
                bytes.extend([0, 0, 0, 0, *length]);
                bytes.resize(bytes.len() + usize::from(*length), 7);
                ends.push(bytes.len());
            }
            let (mut framing, mut at, mut cuts) = (MessageFraming::default(), 0, cuts.iter().cycle());
            while at < bytes.len() {
                let next = (at + cuts.next().unwrap()).min(bytes.len());
                let has_ended = framing.advance(&bytes[at..next]);
                prop_assert_eq!(has_ended, ends.iter().any(|end| (at + 1..=next).contains(end)));
                prop_assert_eq!(framing.has_begun(), !ends.contains(&next));
                at = next;
            }
        }
    }

    /// A body of what a test sends, when it sends it.
    struct Sent(mpsc::Receiver<Bytes>);

    impl http_body::Body for Sent {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            self.0.poll_recv(context).map(|bytes| bytes.map(|bytes| Ok(Frame::data(bytes))))
        }
    }

    /// Two messages of six bytes in pieces, with a pause after each piece; how many pieces came in time.
    async fn pieces_in_time(scope: DeadlineScope, pauses: [u64; 4]) -> usize {
        let (sender, sent) = mpsc::channel(4);
        let mut body =
            DeadlineBody::new(Body::new(Sent(sent)), scope, Duration::from_secs(10), Revocation::default());
        let pieces: [&[u8]; 4] = [&[0, 0], &[0, 0, 1, 7], &[0, 0], &[0, 0, 1, 7]];
        let sending = async {
            for (piece, pause) in pieces.into_iter().zip(pauses) {
                sender.try_send(Bytes::from_static(piece)).unwrap();
                sleep(Duration::from_secs(pause)).await;
            }
            drop(sender);
        };
        let reading = async {
            let mut read = 0;
            while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
                if let Err(status) = frame {
                    assert_eq!(status.code(), Code::DeadlineExceeded);
                    break;
                }
                read += 1;
            }
            read
        };
        tokio::select! {
            biased;
            read = reading => read,
            () = async { sending.await; pending().await } => unreachable!("it ends by reading"),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn each_message_of_a_stream_has_its_own_deadline_and_a_request_has_one() {
        let stream = DeadlineScope::EachMessage;
        assert_eq!(
            pieces_in_time(stream, [6, 60, 6, 60]).await,
            4,
            "a pause between messages has no deadline"
        );
        assert_eq!(pieces_in_time(stream, [6, 0, 6, 0]).await, 4, "each message has its own deadline");
        assert_eq!(pieces_in_time(stream, [11, 0, 0, 0]).await, 1);
        assert_eq!(pieces_in_time(stream, [0, 60, 11, 0]).await, 3);
        assert_eq!(pieces_in_time(DeadlineScope::Request, [3, 3, 3, 0]).await, 4);
        assert_eq!(pieces_in_time(DeadlineScope::Request, [4, 4, 4, 0]).await, 3);
    }
}
