//! `RecordStream`: numbered messages of one producer, answered in order.
//!
//! Messages are handed over as they come, without waiting for the answers before them, so that one sync serves many.

use std::sync::Arc;

use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::sleep,
};
use tokio_stream::{Stream, StreamExt, wrappers::ReceiverStream};
use tonic::{Status, Streaming};
use tracing::{Instrument, Span};

use crate::{
    api::transport::client::Client,
    base::{
        metrics,
        proto::{RecordStreamResponse, raw::RecordStreamRequest},
        telemetry::StreamTrace,
    },
    engine::{
        committer::{CommitError, Ticket},
        counting::{
            CountError,
            request::{Counted, Repeat, StreamPosition},
            streams::{ProducerStream, StreamRefusal},
        },
    },
};

use super::{Ingest, fold::FoldedRequest, rejection_budget::RejectionBudget, wire::Message};

/// Messages handed over and not answered yet. More than this and the stream is not read.
const MAX_UNANSWERED: usize = 64;
/// Answers that the client has not taken yet.
const MAX_UNREAD: usize = 4;
const MAX_PRODUCER_BYTES: usize = 128;

/// A response, with the room that it takes until the client reads it.
type Owed = (Pending, Option<OwnedSemaphorePermit>);

/// What the stream still owes its client.
enum Pending {
    Answer(Box<FoldedRequest>, Ticket<Counted, CountError>, Span),
    Resume(u64),
    TakenOver(Arc<ProducerStream>),
    Failure(Status),
}

pub(super) fn answer(
    ingest: Ingest,
    client: Option<Arc<Client>>,
    trace: StreamTrace,
    messages: Streaming<RecordStreamRequest>,
) -> impl Stream<Item = Result<RecordStreamResponse, Status>> + Send {
    let (pending, mut owed) = mpsc::channel::<Owed>(MAX_UNANSWERED);
    let (answers, stream) = mpsc::channel(MAX_UNREAD);
    let tasks = ingest.tasks.clone();
    tasks.spawn_short(read(ingest.clone(), client.clone(), trace, messages, pending));
    tasks.spawn_short(async move {
        while let Some((next, _room)) = owed.recv().await {
            let answer = resolve(&ingest, client.as_deref(), next).await;
            let is_last = answer.is_err();
            if answers.send(answer).await.is_err() || is_last {
                return;
            }
        }
    });
    ReceiverStream::new(stream)
}

/// Hands messages over until the client ends, something fails, or the agent stops.
async fn read(
    ingest: Ingest,
    client: Option<Arc<Client>>,
    trace: StreamTrace,
    mut messages: Streaming<RecordStreamRequest>,
    pending: mpsc::Sender<Owed>,
) {
    let is_stopping = ingest.tasks.stopping();
    tokio::pin!(is_stopping);
    let (mut stream, budget): (Option<Arc<ProducerStream>>, _) = (None, RejectionBudget::new());
    loop {
        let message = tokio::select! {
            biased;
            () = &mut is_stopping => Some(Err(stopping())),
            message = messages.next() => message.map(|message| message.map_err(too_large)),
            taken_over = taken_over(stream.clone()) => {
                // Behind what was handed over before, which may have counted.
                drop(pending.send((Pending::TakenOver(taken_over), None)).await);
                return;
            }
        };
        let next = match message {
            None => return,
            Some(Ok(message)) => {
                let span = trace.message();
                let handed_over = hand_over(&ingest, client.as_deref(), &mut stream, &budget, message);
                handed_over.instrument(span).await
            }
            Some(Err(status)) => Err(status),
        };
        let next = next.unwrap_or_else(|status| (Pending::Failure(status), None));
        let is_last = matches!(next.0, Pending::Failure(_));
        if pending.send(next).await.is_err() || is_last {
            return;
        }
    }
}

async fn hand_over(
    ingest: &Ingest,
    client: Option<&Client>,
    stream: &mut Option<Arc<ProducerStream>>,
    budget: &RejectionBudget,
    request: RecordStreamRequest,
) -> Result<Owed, Status> {
    let message = Message::of_stream(&request)?;
    ingest.check(message.events)?;
    let (is_first, sequence) = (stream.is_none(), message.sequence);
    let stream = name_producer(stream, client, message.producer_id)?;
    if sequence == 0 {
        if !is_first || message.events > 0 {
            return Err(Status::invalid_argument(
                "sequence 0 is only for a first message without events; sequences count from 1",
            ));
        }
        return Ok((Pending::Resume(ingest.agent.committer.open_stream(stream).await?), None));
    }
    if let Some(client) = client {
        wait_for_leave(ingest, client, message.events).await?;
    }
    let mut folded = ingest.fold(client, &message)?;
    drop(request);
    let room = tokio::select! {
        room = budget.take(folded.rejected()) => room.ok(),
        () = ingest.tasks.stopping() => return Err(stopping()),
    };
    let position = StreamPosition { stream, sequence, digest: folded.digest };
    let count_request = folded.take_count_request(Some(position));
    let ticket = ingest.agent.committer.count_patiently(count_request).await?;
    Ok((Pending::Answer(Box::new(folded), ticket, Span::current()), room))
}

/// A stream that sends more than its client may is slowed down, and not refused.
async fn wait_for_leave(ingest: &Ingest, client: &Client, events: usize) -> Result<(), Status> {
    while let Err(wait) = client.admit(events) {
        tokio::select! {
            () = sleep(wait) => {}
            () = ingest.tasks.stopping() => return Err(stopping()),
        }
    }
    Ok(())
}

fn stopping() -> Status {
    Status::unavailable("the agent is stopping")
}

/// Resolves once another stream of the producer has taken over. Never for one that has no producer yet.
async fn taken_over(stream: Option<Arc<ProducerStream>>) -> Arc<ProducerStream> {
    let Some(stream) = stream else { return std::future::pending().await };
    stream.taken_over().await;
    stream
}

/// The stream's producer: named by the first message, and the same from then on.
fn name_producer(
    stream: &mut Option<Arc<ProducerStream>>,
    client: Option<&Client>,
    named: &str,
) -> Result<Arc<ProducerStream>, Status> {
    match stream {
        Some(known) if named.is_empty() || *known.producer.name == *named => Ok(known.clone()),
        Some(known) => Err(Status::invalid_argument(format!(
            "the stream belongs to producer `{}`: open another one for `{named}`",
            known.producer.name
        ))),
        None if (1..=MAX_PRODUCER_BYTES).contains(&named.len()) => {
            let client = client.map(|client| client.permission.client.clone());
            Ok(stream.insert(ProducerStream::new(client, named.into())).clone())
        }
        None => Err(Status::invalid_argument(format!(
            "the first message must name its producer_id, 1 to {MAX_PRODUCER_BYTES} bytes"
        ))),
    }
}

async fn resolve(
    ingest: &Ingest,
    client: Option<&Client>,
    pending: Pending,
) -> Result<RecordStreamResponse, Status> {
    match pending {
        Pending::Failure(status) => Err(status),
        Pending::TakenOver(stream) => {
            let refusal = StreamRefusal::TakenOver { producer: stream.producer.name.clone() };
            ingest.refused_streams.note(client, &refusal);
            Err(refusal.into())
        }
        Pending::Resume(durable_sequence) => {
            Ok(RecordStreamResponse { durable_sequence, ..RecordStreamResponse::default() })
        }
        Pending::Answer(folded, ticket, span) => {
            let counted = ticket.answer().await.inspect_err(|error| {
                if let CommitError::Refused(CountError::Stream(refusal)) = error {
                    ingest.refused_streams.note(client, refusal);
                }
            })?;
            let _answering = span.enter();
            let durable_sequence = counted.durable_sequence;
            if let Some(repeat) = counted.repeat {
                metrics::stream_repeated(repeat == Repeat::Same);
                return Ok(RecordStreamResponse {
                    durable_sequence,
                    repeats: 1,
                    ..RecordStreamResponse::default()
                });
            }
            let answer = ingest.answer(*folded, counted);
            Ok(RecordStreamResponse {
                durable_sequence,
                accepted: answer.accepted,
                duplicates: answer.duplicates,
                rejected: answer.rejected,
                late: answer.late,
                untagged: answer.untagged,
                not_billable: answer.not_billable,
                repeats: 0,
            })
        }
    }
}

/// tonic reports a message over the size limit as `OUT_OF_RANGE`; the interface says `RESOURCE_EXHAUSTED`.
fn too_large(status: Status) -> Status {
    if status.code() == tonic::Code::OutOfRange {
        Status::resource_exhausted(status.message())
    } else {
        status
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[test]
    fn a_stream_has_the_one_producer_that_its_first_message_names() {
        let mut stream = None;
        let mut name = |named: &str| name_producer(&mut stream, None, named);
        for nameless in ["", &"x".repeat(MAX_PRODUCER_BYTES + 1)] {
            assert_eq!(name(nameless).unwrap_err().code(), Code::InvalidArgument);
        }
        for named in ["host-1", "", "host-1"] {
            assert_eq!(&*name(named).unwrap().producer.name, "host-1");
        }
        let other = name("host-2").unwrap_err();
        assert!(other.message().contains("belongs to producer `host-1`"), "{other}");
        assert_eq!(&*name("").unwrap().producer.name, "host-1");
    }
}
