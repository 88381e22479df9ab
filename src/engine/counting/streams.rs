//! Open streams of numbered messages. Of a producer's streams only the one that was opened last counts: with two, each
//! would use up numbers of the other.

use std::{
    collections::HashMap,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
};

use thiserror::Error;
use tokio_util::sync::CancellationToken;

use super::digests::KEPT;
use crate::base::sabotage::{Sabotage, is_sabotaged};

/// Entries of streams that have ended may be so many before they are looked for.
const LEAST_SWEPT: usize = 64;

/// The name under which a process numbers its messages, and the client that it is of. The same name of two clients
/// means two producers, so that nobody can use up another's numbers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ProducerId {
    /// None where clients are not told apart.
    pub client: Option<Arc<str>>,
    pub name: Arc<str>,
}

/// A stream, for as long as it is open.
#[derive(Debug)]
pub struct ProducerStream {
    pub producer: ProducerId,
    taken_over: CancellationToken,
    /// A message was refused. Those behind it may be on their way already, and must not count either: the sender will
    /// be told of the first alone.
    is_over: AtomicBool,
}

/// Why a message of a stream was not counted. Its sequence is not used up.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StreamRefusal {
    #[error("the sequence has a gap: expected {expected}")]
    Gap { expected: u64 },
    #[error(
        "message {sequence} of producer `{producer}` was counted before with other events, and nothing of this one is \
         counted: another process sends as this producer, or this one has lost its count. Each process needs a \
         producer_id of its own; one that has lost its count opens its stream with sequence 0, and goes on after {last}"
    )]
    Diverged { producer: Arc<str>, sequence: u64, last: u64 },
    #[error(
        "message {sequence} of producer `{producer}` was counted long ago, and its events cannot be compared any more \
         (those of the last {KEPT} messages can): open the stream with sequence 0, and go on after {last}"
    )]
    TooOld { producer: Arc<str>, sequence: u64, last: u64 },
    #[error(
        "another stream of producer `{producer}` was opened after this one, and has taken over: each process needs a \
         producer_id of its own. What was not answered may not count"
    )]
    TakenOver { producer: Arc<str> },
    #[error("an earlier message of this stream was refused: open another one")]
    Over,
}

impl StreamRefusal {
    /// Its name for programs.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Gap { .. } => "SEQUENCE_GAP",
            Self::Diverged { .. } => "DIVERGED",
            Self::TooOld { .. } => "SEQUENCE_TOO_OLD",
            Self::TakenOver { .. } => "TAKEN_OVER",
            Self::Over => "STREAM_OVER",
        }
    }
}

impl ProducerStream {
    pub fn new(client: Option<Arc<str>>, name: Arc<str>) -> Arc<Self> {
        let client = client.filter(|_| !is_sabotaged(Sabotage::LendProducer));
        let producer = ProducerId { client, name };
        Arc::new(Self { producer, taken_over: CancellationToken::new(), is_over: AtomicBool::new(false) })
    }

    /// Resolves once a later stream of the producer has taken over.
    pub async fn taken_over(&self) {
        self.taken_over.cancelled().await;
    }

    pub(crate) fn check_open(&self) -> Result<(), StreamRefusal> {
        if self.taken_over.is_cancelled() {
            return Err(StreamRefusal::TakenOver { producer: self.producer.name.clone() });
        }
        if self.is_over.load(Ordering::Relaxed) { Err(StreamRefusal::Over) } else { Ok(()) }
    }

    /// A message was refused, and no other one of the stream counts any more.
    pub(super) fn end(&self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

/// The latest stream of each producer. It takes up memory by the number of open streams, and not by that of producers.
#[derive(Debug, Default)]
pub(super) struct LiveStreams {
    latest: HashMap<ProducerId, Weak<ProducerStream>>,
    sweep_at: usize,
}

impl LiveStreams {
    /// The stream counts from now on, and the one before it no more.
    pub(super) fn take_over(&mut self, stream: &Arc<ProducerStream>) {
        let is_latest = |latest: &Weak<_>| std::ptr::eq(latest.as_ptr(), Arc::as_ptr(stream));
        if self.latest.get(&stream.producer).is_some_and(is_latest) {
            return;
        }
        let before = self.latest.insert(stream.producer.clone(), Arc::downgrade(stream));
        if let Some(before) = before.and_then(|before| before.upgrade()) {
            before.taken_over.cancel();
        }
        if self.latest.len() >= self.sweep_at {
            self.latest.retain(|_, stream| stream.strong_count() > 0);
            self.sweep_at = (2 * self.latest.len()).max(LEAST_SWEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(client: &str, name: &str) -> Arc<ProducerStream> {
        let client = Some(client).filter(|client| !client.is_empty()).map(Arc::from);
        ProducerStream::new(client, name.into())
    }

    #[test]
    fn of_two_streams_of_a_producer_the_later_one_counts() {
        let mut live = LiveStreams::default();
        let (first, second) = (stream("", "p"), stream("", "p"));
        live.take_over(&first);
        live.take_over(&first);
        assert_eq!(first.check_open(), Ok(()), "it does not end itself");
        live.take_over(&second);
        assert_eq!(first.check_open(), Err(StreamRefusal::TakenOver { producer: "p".into() }));
        assert_eq!(second.check_open(), Ok(()));
    }

    #[test]
    fn clients_and_names_have_streams_of_their_own() {
        let mut live = LiveStreams::default();
        let streams = [stream("", "p"), stream("a", "p"), stream("b", "p"), stream("a", "q")];
        for stream in &streams {
            live.take_over(stream);
        }
        assert!(streams.iter().all(|stream| stream.check_open().is_ok()));
    }

    #[test]
    fn streams_that_have_ended_take_up_no_memory() {
        let mut live = LiveStreams::default();
        let open = stream("", "open");
        live.take_over(&open);
        for number in 0..10_000 {
            live.take_over(&stream("", &number.to_string()));
        }
        assert!(live.latest.len() <= 64 && live.latest.contains_key(&open.producer), "{}", live.latest.len());
    }
}
