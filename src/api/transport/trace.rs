//! The middleware that gives each sampled call a span of its trace.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tokio_util::either::Either;
use tonic::{
    Code,
    body::Body,
    codegen::http::{HeaderValue, Request, Response},
};
use tower::{Layer, Service};
use tracing::{Instrument, Span};

use crate::base::telemetry::{Origin, Sampling, StreamTrace, spans};

const PACKAGE: &str = "/tallyman.v1.";

/// Starts a span for each call of a tallyman service that is sampled.
#[derive(Clone, Copy)]
pub(in crate::api) struct TraceLayer {
    sampling: Sampling,
}

impl TraceLayer {
    pub(in crate::api) fn new(sampling: Sampling) -> Self {
        Self { sampling }
    }

    /// The span of a call. `None` if the call is not sampled, or is a stream, whose messages have spans of their own.
    fn start_span(self, request: &mut Request<Body>) -> Option<Span> {
        if self.sampling.is_off() {
            return None;
        }
        let origin = Origin::of(request.headers());
        let (service, method) = request.uri().path().strip_prefix(PACKAGE)?.split_once('/')?;
        if method == "RecordStream" {
            request.extensions_mut().insert(StreamTrace::new(self.sampling, origin));
            return None;
        }
        if !self.sampling.picks(origin.is_traced()) {
            return None;
        }
        let span = spans::call(&format!("tallyman.v1.{service}"), method);
        origin.continue_in(&span);
        Some(span)
    }
}

impl<S> Layer<S> for TraceLayer {
    type Service = TraceService<S>;

    fn layer(&self, inner: S) -> TraceService<S> {
        TraceService { layer: *self, inner }
    }
}

/// The services behind a [`TraceLayer`].
#[derive(Clone)]
pub(in crate::api) struct TraceService<S> {
    layer: TraceLayer,
    inner: S,
}

type ResponseFuture<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S> Service<Request<Body>> for TraceService<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, ResponseFuture<S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Some(span) = self.layer.start_span(&mut request) else {
            return Either::Left(self.inner.call(request));
        };
        let answering = span.in_scope(|| self.inner.call(request));
        let noted = async move {
            let answer = answering.await;
            if let Ok(response) = &answer {
                spans::note_status(&Span::current(), code(response));
            }
            answer
        };
        Either::Right(Box::pin(noted.instrument(span)))
    }
}

/// The status code of a response. Only a refusal has it among the headers; a response with a body ends in success.
fn code(response: &Response<Body>) -> Code {
    let status = response.headers().get("grpc-status").map(HeaderValue::as_bytes);
    status.map_or(Code::Ok, Code::from_bytes)
}
