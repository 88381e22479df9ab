//! The body of a request, which must come in time once it has begun, and while its caller may still call.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use http_body::Frame;
use prost::bytes::Bytes;
use tokio::time::{Sleep, sleep};
use tokio_util::sync::CancellationToken;
use tonic::{Status, body::Body};

/// A flag and four bytes of length stand before each message.
const HEADER: usize = 5;

/// How much of a body is awaited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Awaited {
    /// The one message, to its end.
    Whole,
    /// The rest of a message that has begun. Between messages a stream may rest as long as it likes.
    RestOfMessage,
}

/// When what a call passed by is taken back.
#[derive(Debug, Default)]
pub(super) struct Over {
    /// The certificate of its connection.
    pub(super) withdrawn: Option<CancellationToken>,
    /// Its token.
    pub(super) given_up: Option<CancellationToken>,
}

impl Over {
    pub(super) fn check(&self) -> Result<(), Status> {
        let is_over = |token: Option<&CancellationToken>| token.is_some_and(CancellationToken::is_cancelled);
        if is_over(self.withdrawn.as_ref()) {
            Err(withdrawn())
        } else if is_over(self.given_up.as_ref()) {
            Err(given_up())
        } else {
            Ok(())
        }
    }

    /// Resolves then, with what the caller is told. `None` if it never will.
    fn wait(self) -> Option<Pin<Box<dyn Future<Output = Status> + Send>>> {
        let Self { withdrawn: certificate, given_up: token } = self;
        if certificate.is_none() && token.is_none() {
            return None;
        }
        Some(Box::pin(async move {
            tokio::select! {
                () = cancelled(certificate) => withdrawn(),
                () = cancelled(token) => given_up(),
            }
        }))
    }
}

async fn cancelled(token: Option<CancellationToken>) {
    match token {
        Some(token) => token.cancelled().await,
        None => std::future::pending().await,
    }
}

/// The client may have another one by now, and shall show it.
fn withdrawn() -> Status {
    Status::unavailable(
        "the certificate of this connection is not taken any more: connect again with one that is",
    )
}

fn given_up() -> Status {
    Status::unauthenticated("the token of this call is not taken any more")
}

pub(super) struct Timely {
    body: Body,
    /// For a stream, which has no end of its own.
    over: Option<Pin<Box<dyn Future<Output = Status> + Send>>>,
    within: Duration,
    awaited: Awaited,
    message: Progress,
    late: Option<Pin<Box<Sleep>>>,
}

impl Timely {
    pub(super) fn new(body: Body, awaited: Awaited, within: Duration, over: Over) -> Self {
        let over = if awaited == Awaited::RestOfMessage { over.wait() } else { None };
        Self { body, over, within, awaited, message: Progress::default(), late: None }
    }
}

impl http_body::Body for Timely {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        // First: a client that never pauses would go on for ever.
        if let Some(over) = &mut this.over
            && let Poll::Ready(status) = over.as_mut().poll(context)
        {
            this.over = None;
            return Poll::Ready(Some(Err(status)));
        }
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(context) {
            let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            if data.is_some_and(|data| this.message.take(data)) && this.awaited == Awaited::RestOfMessage {
                this.late = None;
            }
            return Poll::Ready(frame);
        }
        if this.awaited == Awaited::RestOfMessage && !this.message.has_begun() {
            return Poll::Pending;
        }
        let late = this.late.get_or_insert_with(|| Box::pin(sleep(this.within)));
        late.as_mut().poll(context).map(|()| {
            let within = this.within;
            Some(Err(Status::deadline_exceeded(format!(
                "the request did not come within {within:?} (limits.request_timeout); nothing was counted"
            ))))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

/// Where in a message a body is.
#[derive(Debug, Default)]
struct Progress {
    header: [u8; HEADER],
    /// Bytes of the header that are there.
    filled: usize,
    /// Bytes of the message that are not.
    left: usize,
}

impl Progress {
    /// Takes in what came, and tells whether a message ended in it.
    fn take(&mut self, mut data: &[u8]) -> bool {
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
            let (mut progress, mut at, mut cuts) = (Progress::default(), 0, cuts.iter().cycle());
            while at < bytes.len() {
                let next = (at + cuts.next().unwrap()).min(bytes.len());
                let has_ended = progress.take(&bytes[at..next]);
                prop_assert_eq!(has_ended, ends.iter().any(|end| (at + 1..=next).contains(end)));
                prop_assert_eq!(progress.has_begun(), !ends.contains(&next));
                at = next;
            }
        }
    }

    /// What a test hands over, when it does.
    struct Handed(mpsc::Receiver<Bytes>);

    impl http_body::Body for Handed {
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
    async fn pieces_in_time(awaited: Awaited, pauses: [u64; 4]) -> usize {
        let (hand, handed) = mpsc::channel(4);
        let mut timely =
            Timely::new(Body::new(Handed(handed)), awaited, Duration::from_secs(10), Over::default());
        let pieces: [&[u8]; 4] = [&[0, 0], &[0, 0, 1, 7], &[0, 0], &[0, 0, 1, 7]];
        let sending = async {
            for (piece, pause) in pieces.into_iter().zip(pauses) {
                hand.try_send(Bytes::from_static(piece)).unwrap();
                sleep(Duration::from_secs(pause)).await;
            }
            drop(hand);
        };
        let reading = async {
            let mut read = 0;
            while let Some(frame) = poll_fn(|context| Pin::new(&mut timely).poll_frame(context)).await {
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
    async fn each_message_of_a_stream_has_its_time_and_a_request_as_a_whole() {
        let stream = Awaited::RestOfMessage;
        assert_eq!(pieces_in_time(stream, [6, 60, 6, 60]).await, 4, "it may rest between messages");
        assert_eq!(pieces_in_time(stream, [6, 0, 6, 0]).await, 4, "and each has its own time");
        assert_eq!(pieces_in_time(stream, [11, 0, 0, 0]).await, 1);
        assert_eq!(pieces_in_time(stream, [0, 60, 11, 0]).await, 3);
        assert_eq!(pieces_in_time(Awaited::Whole, [3, 3, 3, 0]).await, 4);
        assert_eq!(pieces_in_time(Awaited::Whole, [4, 4, 4, 0]).await, 3);
    }
}
