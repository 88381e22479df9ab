//! A server with tallyman's interface that decodes each request, as prost does it, and throws it away. It is what a
//! server in this language and with this protocol could reach if counting, deduplicating and syncing cost nothing.

use std::{
    convert::Infallible,
    future::{Ready, ready},
    hint::black_box,
    io::Read,
    pin::Pin,
    process::{Command, Stdio},
    task::{Context, Poll},
    time::Duration,
};

use tallyman_client::proto::{
    RecordRequest, RecordResponse, RecordStreamRequest, RecordStreamResponse, UsageEvent,
};
use tokio_stream::{Stream, StreamExt};
use tonic::{
    Request, Response, Status, Streaming,
    body::Body,
    codegen::{Service, http},
    server::{Grpc, NamedService, StreamingService, UnaryService},
    transport::Server,
};
use tonic_prost::ProstCodec;

use super::{Running, channel};
use crate::{
    myself,
    process::{Process, free_address},
    results::Subject,
};

pub(crate) async fn start() -> Running {
    let address = free_address();
    let mut command = Command::new(myself());
    command.arg("--discard").env(ADDRESS, &address).stdin(Stdio::piped());
    let mut process = Process::start(&mut command);
    process.ready(async || channel(&address).await).await;
    Running { subject: Subject::Discard, address, process }
}

const ADDRESS: &str = "TALLYMAN_BENCH_DISCARD";

/// Serves with the settings of tallyman's own server, until whoever started it is gone.
pub(crate) async fn serve() {
    let address = std::env::var(ADDRESS).unwrap().parse().unwrap();
    let server = Server::builder()
        .max_concurrent_streams(256)
        .http2_keepalive_interval(Some(Duration::from_secs(30)))
        .tcp_nodelay(true)
        .add_service(Discard)
        .serve(address);
    let orphaned = tokio::task::spawn_blocking(|| std::io::stdin().read_to_end(&mut Vec::new()));
    tokio::select! {
        served = server => served.unwrap(),
        _ = orphaned => std::process::exit(0),
    }
}

#[derive(Clone, Copy)]
struct Discard;

impl NamedService for Discard {
    const NAME: &'static str = "tallyman.v1.UsageService";
}

impl Service<http::Request<Body>> for Discard {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async move {
            let answer = match request.uri().path() {
                "/tallyman.v1.UsageService/Record" => grpc(ProstCodec::default()).unary(Throw, request).await,
                "/tallyman.v1.UsageService/RecordStream" => {
                    grpc(ProstCodec::default()).streaming(Throw, request).await
                }
                other => Status::unimplemented(other).into_http(),
            };
            Ok(answer)
        })
    }
}

fn grpc<T: tonic::codec::Codec>(codec: T) -> Grpc<T> {
    Grpc::new(codec).apply_max_message_size_config(Some(16 << 20), None)
}

struct Throw;

fn throw(events: Vec<UsageEvent>) -> u64 {
    black_box(events).len() as u64
}

impl UnaryService<RecordRequest> for Throw {
    type Response = RecordResponse;
    type Future = Ready<Result<Response<RecordResponse>, Status>>;

    fn call(&mut self, request: Request<RecordRequest>) -> Self::Future {
        let accepted = throw(request.into_inner().events);
        ready(Ok(Response::new(RecordResponse { accepted, ..RecordResponse::default() })))
    }
}

impl StreamingService<RecordStreamRequest> for Throw {
    type Response = RecordStreamResponse;
    type ResponseStream = Pin<Box<dyn Stream<Item = Result<RecordStreamResponse, Status>> + Send>>;
    type Future = Ready<Result<Response<Self::ResponseStream>, Status>>;

    fn call(&mut self, request: Request<Streaming<RecordStreamRequest>>) -> Self::Future {
        let answers = request.into_inner().map(|message| {
            let RecordStreamRequest { sequence, events, .. } = message?;
            let accepted = throw(events);
            Ok(RecordStreamResponse {
                durable_sequence: sequence,
                accepted,
                ..RecordStreamResponse::default()
            })
        });
        ready(Ok(Response::new(Box::pin(answers))))
    }
}
