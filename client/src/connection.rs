//! One `RecordStream` to the agent.

use std::time::Duration;

use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

use crate::{
    credentials::{CredentialsError, root_cause},
    proto::{RecordStreamRequest, RecordStreamResponse, usage_service_client::UsageServiceClient},
    settings::Settings,
};

/// The time for the connection and the agent's first response together.
const OPEN_TIMEOUT: Duration = Duration::from_secs(15);
/// A peer that has vanished is noticed within both of these together.
const KEEPALIVE: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The agent lists each rejected event of a message.
const MAX_RESPONSE_BYTES: usize = 64 << 20;

#[derive(Debug)]
pub(crate) struct Connection {
    messages: mpsc::Sender<RecordStreamRequest>,
    responses: Streaming<RecordStreamResponse>,
}

impl Connection {
    /// Connects, and returns the number of the last message that is durable.
    pub(crate) async fn open(
        settings: &Settings,
        handshake: RecordStreamRequest,
    ) -> Result<(Self, u64), Status> {
        let opened = timeout(OPEN_TIMEOUT, Self::connect(settings, handshake)).await;
        opened.unwrap_or_else(|_| Err(Status::unavailable("the agent does not answer")))
    }

    async fn connect(settings: &Settings, handshake: RecordStreamRequest) -> Result<(Self, u64), Status> {
        // A retry may mend this: the files may be in the midst of being renewed.
        let unavailable = |error: CredentialsError| Status::unavailable(error.to_string());
        let authorization = settings.credentials.authorization().map_err(unavailable)?;
        let channel = settings
            .credentials
            .endpoint(&settings.address)
            .map_err(unavailable)?
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .connect()
            .await
            .map_err(|error| Status::unavailable(root_cause(&error)))?;
        // One slot for each message that may be unacknowledged, and one for the handshake: it is never full.
        let (messages, outgoing) = mpsc::channel(settings.in_flight + 1);
        messages.try_send(handshake).map_err(|_| stream_ended())?;
        let mut request = Request::new(ReceiverStream::new(outgoing));
        if let Some(token) = authorization {
            request.metadata_mut().insert("authorization", token);
        }
        let mut client = UsageServiceClient::new(channel).max_decoding_message_size(MAX_RESPONSE_BYTES);
        let mut responses = client.record_stream(request).await?.into_inner();
        let durable = responses.message().await?.ok_or_else(stream_ended)?.durable_sequence;
        Ok((Self { messages, responses }, durable))
    }

    pub(crate) fn send(&self, message: RecordStreamRequest) -> Result<(), Status> {
        self.messages.try_send(message).map_err(|_| stream_ended())
    }

    /// Waits for the next response. Dropping the future loses nothing.
    pub(crate) async fn response(&mut self) -> Result<RecordStreamResponse, Status> {
        self.responses.message().await?.ok_or_else(stream_ended)
    }
}

fn stream_ended() -> Status {
    Status::unavailable("the agent has ended the stream")
}
