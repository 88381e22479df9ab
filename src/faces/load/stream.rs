//! Messages of one `RecordStream`, many of them on the way at a time.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};

use super::{Job, Message, Pace, Tally, codec::Encoded, pace::Ticket, report::Answer};
use crate::base::proto::RecordStreamResponse;

const PATH: &str = "/tallyman.v1.UsageService/RecordStream";

/// A stream that the agent has greeted.
pub(super) struct Open {
    messages: mpsc::Sender<Message>,
    answers: Streaming<RecordStreamResponse>,
}

pub(super) async fn open(job: &Job, channel: Channel, number: usize) -> Result<Open, Status> {
    let (messages, outgoing) = mpsc::channel(job.in_flight.max(1));
    messages.try_send(job.requests.greeting(number)).map_err(|_| closed())?;
    let mut client = Grpc::new(channel).max_decoding_message_size(super::MAX_ANSWER_BYTES);
    client.ready().await.map_err(|fault| Status::from_error(fault.into()))?;
    let codec = Encoded::<RecordStreamResponse>::default();
    let request = job.request(ReceiverStream::new(outgoing));
    let answer = client.streaming(request, PathAndQuery::from_static(PATH), codec).await?;
    let mut answers = answer.into_inner();
    answers.message().await?.ok_or_else(closed)?;
    Ok(Open { messages, answers })
}

pub(super) async fn work(job: Arc<Job>, pace: Arc<Pace>, stream: Open) -> Tally {
    let mut tally = Tally::default();
    let mut waiting = VecDeque::new();
    if let Err(status) = exchange(&job, &pace, stream, &mut waiting, &mut tally).await {
        for ticket in waiting {
            tally.failed(ticket, &status);
        }
    }
    tally
}

/// Until all is sent and answered. `waiting` are those without an answer.
async fn exchange(
    job: &Job,
    pace: &Pace,
    mut stream: Open,
    waiting: &mut VecDeque<Ticket>,
    tally: &mut Tally,
) -> Result<(), Status> {
    let (mut sequence, mut is_over) = (0, false);
    while !is_over || !waiting.is_empty() {
        tokio::select! {
            ticket = pace.next(), if !is_over && waiting.len() < job.in_flight => {
                let Some(ticket) = ticket else {
                    is_over = true;
                    continue;
                };
                sequence += 1;
                waiting.push_back(ticket);
                let message = job.requests.numbered(ticket.slice, sequence);
                stream.messages.send(message).await.map_err(|_| closed())?;
            }
            answer = stream.answers.message(), if !waiting.is_empty() => {
                let answer = answer?.ok_or_else(closed)?;
                if let Some(ticket) = waiting.pop_front() {
                    let RecordStreamResponse { accepted, duplicates, rejected, late, .. } = answer;
                    let rejected = rejected.len() as u64;
                    tally.answered(ticket, &Answer { accepted, duplicates, rejected, late });
                }
            }
        }
    }
    Ok(())
}

fn closed() -> Status {
    Status::unavailable("the agent has ended the stream")
}
