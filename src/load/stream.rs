//! One worker of a `RecordStream`, with many messages under way at a time.

use std::{collections::VecDeque, sync::Arc};

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming, client::Grpc, codegen::http::uri::PathAndQuery, transport::Channel};

use super::{
    Job, Message, Schedule, WorkerReport, codec::Encoded, report::Answer, schedule::ScheduledRequest,
};
use crate::base::proto::RecordStreamResponse;

const PATH: &str = "/tallyman.v1.UsageService/RecordStream";

/// A stream whose first message the agent has answered.
pub(super) struct OpenStream {
    messages: mpsc::Sender<Message>,
    answers: Streaming<RecordStreamResponse>,
}

pub(super) async fn open(job: &Job, channel: Channel, number: usize) -> Result<OpenStream, Status> {
    let (messages, outgoing) = mpsc::channel(job.in_flight.max(1));
    messages.try_send(job.requests.opening(number)).map_err(|_| closed())?;
    let mut client = Grpc::new(channel).max_decoding_message_size(super::MAX_ANSWER_BYTES);
    client.ready().await.map_err(|fault| Status::from_error(fault.into()))?;
    let codec = Encoded::<RecordStreamResponse>::default();
    let request = job.request(ReceiverStream::new(outgoing));
    let answer = client.streaming(request, PathAndQuery::from_static(PATH), codec).await?;
    let mut answers = answer.into_inner();
    answers.message().await?.ok_or_else(closed)?;
    Ok(OpenStream { messages, answers })
}

pub(super) async fn work(job: Arc<Job>, schedule: Arc<Schedule>, stream: OpenStream) -> WorkerReport {
    let mut report = WorkerReport::default();
    let mut waiting = VecDeque::new();
    if let Err(status) = exchange(&job, &schedule, stream, &mut waiting, &mut report).await {
        for scheduled in waiting {
            report.failed(scheduled, &status);
        }
    }
    report
}

/// Sends until the run is over and all is answered. `waiting` holds the requests without an answer.
async fn exchange(
    job: &Job,
    schedule: &Schedule,
    mut stream: OpenStream,
    waiting: &mut VecDeque<ScheduledRequest>,
    report: &mut WorkerReport,
) -> Result<(), Status> {
    let (mut sequence, mut is_over) = (0, false);
    while !is_over || !waiting.is_empty() {
        tokio::select! {
            scheduled = schedule.next(), if !is_over && waiting.len() < job.in_flight => {
                let Some(scheduled) = scheduled else {
                    is_over = true;
                    continue;
                };
                sequence += 1;
                waiting.push_back(scheduled);
                let message = job.requests.numbered(scheduled.range, sequence);
                stream.messages.send(message).await.map_err(|_| closed())?;
            }
            answer = stream.answers.message(), if !waiting.is_empty() => {
                let answer = answer?.ok_or_else(closed)?;
                if let Some(scheduled) = waiting.pop_front() {
                    let RecordStreamResponse { accepted, duplicates, rejected, late, .. } = answer;
                    let rejected = rejected.len() as u64;
                    report.answered(scheduled, &Answer { accepted, duplicates, rejected, late });
                }
            }
        }
    }
    Ok(())
}

fn closed() -> Status {
    Status::unavailable("the agent has ended the stream")
}
