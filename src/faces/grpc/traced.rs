//! A span for each call that is traced.

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

#[derive(Clone, Copy)]
pub(super) struct Tracing {
    sampling: Sampling,
}

impl Tracing {
    pub(super) fn new(sampling: Sampling) -> Self {
        Self { sampling }
    }

    /// The call's span, if it has one: a stream's messages have their own.
    fn begin(self, request: &mut Request<Body>) -> Option<Span> {
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

impl<S> Layer<S> for Tracing {
    type Service = Traced<S>;

    fn layer(&self, inner: S) -> Traced<S> {
        Traced { tracing: *self, inner }
    }
}

#[derive(Clone)]
pub(super) struct Traced<S> {
    tracing: Tracing,
    inner: S,
}

type Answering<E> = Pin<Box<dyn Future<Output = Result<Response<Body>, E>> + Send>>;

impl<S> Service<Request<Body>> for Traced<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Either<S::Future, Answering<S::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let Some(span) = self.tracing.begin(&mut request) else {
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

/// A refusal has its code among the headers; an answer that has a body comes to a good end.
fn code(response: &Response<Body>) -> Code {
    let status = response.headers().get("grpc-status").map(HeaderValue::as_bytes);
    status.map_or(Code::Ok, Code::from_bytes)
}
