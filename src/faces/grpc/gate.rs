//! Where each call passes, and shows that it may.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tonic::{
    Status,
    body::Body,
    codegen::http::{HeaderValue, Request, Response, header::AUTHORIZATION},
};
use tower::{Layer, Service};

use super::{
    access::Keys,
    callers::Pass,
    incoming::Peer,
    timely::{Awaited, Over, Timely},
};
use crate::{base::telemetry::spans, domain::permission::Role};

/// What may be asked without a word about who asks: whether the agent serves, and what its services are.
const OPEN: [&str; 2] = ["/grpc.health.", "/grpc.reflection."];

#[derive(Clone)]
pub(super) struct Gate {
    keys: Keys,
    /// For a request, or a stream's message, that has begun.
    within: Duration,
}

impl Gate {
    pub(super) fn new(keys: Keys, within: Duration) -> Self {
        Self { keys, within }
    }

    /// Lets a call pass, until what it passes by is taken back.
    fn pass(&self, request: &mut Request<Body>) -> Result<Over, Status> {
        let path = request.uri().path();
        if OPEN.iter().any(|open| path.starts_with(open)) {
            return Ok(Over::default());
        }
        let authorization = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let peer = request.extensions().get::<Peer>();
        let names = peer.map(|peer| &*peer.names).unwrap_or_default();
        let Pass { client, given_up } = self.keys.callers().find(authorization, names)?;
        let withdrawn = peer.and_then(|peer| peer.shown.as_ref()).map(|shown| shown.withdrawn.clone());
        let over = Over { withdrawn, given_up };
        over.check()?;
        if let Some(peer) = peer {
            peer.place.prove();
        }
        let Some(client) = client else { return Ok(over) };
        let name = &client.permission.client;
        spans::note_client(name);
        if !client.permission.has_any(roles(path)) {
            let roles: Vec<_> = roles(path).iter().map(|role| role.name()).collect();
            let text = format!("client `{name}` needs one of these roles: {}", roles.join(", "));
            return Err(Status::permission_denied(text));
        }
        request.extensions_mut().insert(client);
        Ok(over)
    }
}

fn awaited(path: &str) -> Awaited {
    let is_stream = path.ends_with("/RecordStream") || path.ends_with("/ServerReflectionInfo");
    if is_stream { Awaited::RestOfMessage } else { Awaited::Whole }
}

/// The roles of which a client must have one. What is not known here is for nobody.
fn roles(path: &str) -> &'static [Role] {
    let (service, method) =
        path.strip_prefix("/tallyman.v1.").and_then(|rest| rest.split_once('/')).unwrap_or_default();
    match (service, method) {
        ("UsageService", _) => &[Role::Meter],
        ("CustomerService", "GetCustomer" | "ListCustomers") => &[Role::Customers, Role::Read],
        ("CustomerService", _) => &[Role::Customers],
        ("LedgerService", "GetSummary" | "ListRecords" | "ListHeld" | "Audit") => &[Role::Read],
        ("LedgerService", _) => &[Role::Decide],
        _ => &[],
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

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        match self.gate.pass(&mut request) {
            Ok(over) => {
                let (within, awaited) = (self.gate.within, awaited(request.uri().path()));
                let timely = |body| Body::new(Timely::new(body, awaited, within, over));
                Box::pin(self.inner.call(request.map(timely)))
            }
            Err(refused) => Box::pin(std::future::ready(Ok(refused.into_http()))),
        }
    }
}
