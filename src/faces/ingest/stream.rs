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
    base::{
        proto::{RecordStreamResponse, raw::RecordStreamRequest},
        telemetry::StreamTrace,
    },
    faces::client::Client,
    work::{
        books::RecordError,
        committer::Ticket,
        delta::{Mark, Recorded},
    },
};

use super::{Ingest, fold::Folded, room::Room, wire::Message};

/// Messages handed over and not answered yet. More than this and the stream is not read.
const MAX_UNANSWERED: usize = 64;
/// Answers that the client has not taken yet.
const MAX_UNREAD: usize = 4;
const MAX_PRODUCER_BYTES: usize = 128;

/// With the room that it has until the client takes it.
type Owed = (Pending, Option<OwnedSemaphorePermit>);

/// What the stream still owes its client.
enum Pending {
    Answer(Box<Folded>, Ticket<Result<Recorded, RecordError>>, Span),
    Resume(u64),
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
    let (mut producer, room): (Option<Arc<str>>, _) = (None, Room::new());
    loop {
        let message = tokio::select! {
            message = messages.next() => message,
            () = &mut is_stopping => Some(Err(stopping())),
        };
        let Some(message) = message else { return };
        let next = match message.map_err(too_large) {
            Ok(message) => {
                let span = trace.message();
                let handed_over = hand_over(&ingest, client.as_deref(), &mut producer, &room, message);
                handed_over.instrument(span).await
            }
            Err(status) => Err(status),
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
    producer: &mut Option<Arc<str>>,
    room: &Room,
    request: RecordStreamRequest,
) -> Result<Owed, Status> {
    let message = Message::of_stream(&request)?;
    ingest.check(message.events)?;
    let is_first = producer.is_none();
    let producer = name_producer(producer, message.producer_id)?;
    let (sequence, name) = (message.sequence, client.map(|client| client.permission.client.clone()));
    if sequence == 0 {
        if !is_first || message.events > 0 {
            return Err(Status::invalid_argument(
                "sequence 0 is only for a first message without events; sequences count from 1",
            ));
        }
        let last = ingest.view.committer.last_sequence(producer, name).await?;
        return Ok((Pending::Resume(last.map_err(|error| refused(client, error))?), None));
    }
    if let Some(client) = client {
        wait_for_leave(ingest, client, message.events).await?;
    }
    let mut folded = ingest.fold(client, &message)?;
    drop(request);
    let room = tokio::select! {
        room = room.take(folded.rejected()) => room.ok(),
        () = ingest.tasks.stopping() => return Err(stopping()),
    };
    let delta = folded.take_delta(Some(Mark { producer, sequence, client: name }));
    let ticket = ingest.view.committer.record_patiently(delta).await?;
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

/// The stream's producer: named by the first message, and the same from then on.
fn name_producer(producer: &mut Option<Arc<str>>, named: &str) -> Result<Arc<str>, Status> {
    match producer {
        Some(known) if named.is_empty() || **known == *named => Ok(known.clone()),
        Some(known) => Err(Status::invalid_argument(format!(
            "the stream belongs to producer `{known}`: open another one for `{named}`"
        ))),
        None if (1..=MAX_PRODUCER_BYTES).contains(&named.len()) => Ok(producer.insert(named.into()).clone()),
        None => Err(Status::invalid_argument(format!(
            "the first message must name its producer_id, 1 to {MAX_PRODUCER_BYTES} bytes"
        ))),
    }
}

/// Says so to the operator as well, where a client has another's producer.
fn refused(client: Option<&Client>, error: RecordError) -> Status {
    if let (Some(client), RecordError::Foreign(foreign)) = (client, &error) {
        client.note_foreign(foreign);
    }
    error.into()
}

async fn resolve(
    ingest: &Ingest,
    client: Option<&Client>,
    pending: Pending,
) -> Result<RecordStreamResponse, Status> {
    match pending {
        Pending::Failure(status) => Err(status),
        Pending::Resume(durable_sequence) => {
            Ok(RecordStreamResponse { durable_sequence, ..RecordStreamResponse::default() })
        }
        Pending::Answer(folded, ticket, span) => {
            let recorded = ticket.answer().await?.map_err(|error| refused(client, error))?;
            let _answering = span.enter();
            if recorded.is_repeat {
                let durable_sequence = recorded.durable_sequence;
                return Ok(RecordStreamResponse { durable_sequence, ..RecordStreamResponse::default() });
            }
            let durable_sequence = recorded.durable_sequence;
            let answer = ingest.answer(*folded, recorded);
            Ok(RecordStreamResponse {
                durable_sequence,
                accepted: answer.accepted,
                duplicates: answer.duplicates,
                rejected: answer.rejected,
                late: answer.late,
                untagged: answer.untagged,
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
