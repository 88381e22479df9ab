//! One `RecordStream` to the agent.

use std::time::Duration;

use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use super::{
    access::{AccessError, root_cause},
    settings::Settings,
};
use crate::base::proto::{
    RecordStreamRequest, RecordStreamResponse, usage_service_client::UsageServiceClient,
};

/// For the connection and the agent's first word.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// A peer that is gone without a word is noticed within both together.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The agent lists each rejected event of a message.
const MAX_ANSWER_BYTES: usize = 64 << 20;

#[derive(Debug)]
pub(super) struct Connection {
    messages: mpsc::Sender<RecordStreamRequest>,
    answers: Streaming<RecordStreamResponse>,
}

impl Connection {
    /// Connects, and learns the last message that is durable.
    pub(super) async fn open(
        settings: &Settings,
        greeting: RecordStreamRequest,
    ) -> Result<(Self, u64), Status> {
        let opened = timeout(OPEN_TIMEOUT, Self::greet(settings, greeting)).await;
        opened.unwrap_or_else(|_| Err(Status::unavailable("the agent does not answer")))
    }

    async fn greet(settings: &Settings, greeting: RecordStreamRequest) -> Result<(Self, u64), Status> {
        // Files may be in the midst of being renewed, so this may be mended by another try.
        let wrong = |error: AccessError| Status::unavailable(error.to_string());
        let authorization = settings.access.authorization().map_err(wrong)?;
        let channel = settings
            .access
            .endpoint()
            .map_err(wrong)?
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .connect()
            .await
            .map_err(|error| Status::unavailable(root_cause(&error)))?;
        // One place for each message that may be unanswered, and one for the greeting: it is never full.
        let (messages, outgoing) = mpsc::channel(settings.in_flight + 1);
        messages.try_send(greeting).map_err(|_| ended())?;
        let mut request = Request::new(ReceiverStream::new(outgoing));
        if let Some(token) = authorization {
            request.metadata_mut().insert("authorization", token);
        }
        let mut client = UsageServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES);
        let mut answers = client.record_stream(request).await?.into_inner();
        let durable = answers.message().await?.ok_or_else(ended)?.durable_sequence;
        Ok((Self { messages, answers }, durable))
    }

    pub(super) fn send(&self, message: RecordStreamRequest) -> Result<(), Status> {
        self.messages.try_send(message).map_err(|_| ended())
    }

    /// Nothing is lost if the future is dropped.
    pub(super) async fn answer(&mut self) -> Result<RecordStreamResponse, Status> {
        self.answers.message().await?.ok_or_else(ended)
    }
}

fn ended() -> Status {
    Status::unavailable("the agent has ended the stream")
}
