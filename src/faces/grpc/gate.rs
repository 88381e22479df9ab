//! Where each call passes, and shows that it may.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use tonic::{
    Status,
    body::Body,
    codegen::http::{HeaderValue, Request, Response, header::AUTHORIZATION},
};
use tower::{Layer, Service};

use super::access::Keys;

/// What may be asked without a word about who asks: whether the agent serves, and what its services are.
const OPEN: [&str; 2] = ["/grpc.health.", "/grpc.reflection."];

#[derive(Clone)]
pub(super) struct Gate {
    keys: Keys,
}

impl Gate {
    pub(super) fn new(keys: Keys) -> Self {
        Self { keys }
    }

    fn pass(&self, request: &Request<Body>) -> Result<(), Status> {
        if OPEN.iter().any(|open| request.uri().path().starts_with(open)) {
            return Ok(());
        }
        let authorization = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        if self.keys.admits(authorization) {
            return Ok(());
        }
        Err(Status::unauthenticated("send the token of grpc.token_file as `authorization: Bearer <token>`"))
    }
}

impl<S> Layer<S> for Gate {
    type Service = Gated<S>;

    fn layer(&self, inner: S) -> Gated<S> {
        Gated { gate: self.clone(), inner }
    }
}

/// What lies behind the gate.
#[derive(Clone)]
pub(super) struct Gated<S> {
    gate: Gate,
    inner: S,
}

impl<S> Service<Request<Body>> for Gated<S>
where
    S: Service<Request<Body>, Response = Response<Body>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        match self.gate.pass(&request) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(refused) => Box::pin(std::future::ready(Ok(refused.into_http()))),
        }
    }
}
