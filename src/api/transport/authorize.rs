//! The middleware that every call passes: it authenticates the call, and authorizes it by the client's roles.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::sync::Semaphore;

use tonic::{
    Status,
    body::Body,
    codegen::http::{HeaderMap, HeaderValue, Request, Response, Uri, header::AUTHORIZATION},
};
use tower::{Layer, Service};

use super::{
    authenticate::Principal,
    calls::{AnswerBody, ServedCall},
    connection::Peer,
    credentials::CredentialStore,
    request_deadline::{DeadlineBody, DeadlineScope},
    revocation::Revocation,
};
use crate::{base::telemetry::spans, domain::permission::Role};

/// Calls that need no authentication: whether the agent serves.
const PUBLIC: [&str; 2] = ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"];
/// The most of them at a time on a connection without an authorized call.
const MAX_PUBLIC: usize = 8;
/// Calls about which services there are. Any client may make them, whatever its roles.
const REFLECTION: &str = "/grpc.reflection.";
/// The most of them at a time. A person makes one now and then, and an answer takes a hundred times its question.
const MAX_REFLECTION: usize = 16;

/// Refuses calls without valid credentials or a sufficient role, and gives the others a deadline.
#[derive(Clone)]
pub(in crate::api) struct AuthLayer {
    credentials: CredentialStore,
    /// Deadline of a request, or of a stream's message, that has begun to arrive.
    request_timeout: Duration,
    reflection: Arc<Semaphore>,
}

impl AuthLayer {
    pub(in crate::api) fn new(credentials: CredentialStore, request_timeout: Duration) -> Self {
        Self { credentials, request_timeout, reflection: Arc::new(Semaphore::new(MAX_REFLECTION)) }
    }

    /// Authenticates and authorizes a call. A client that is told apart joins the request's extensions, and the
    /// connection is protected from eviction once a call on it is authenticated. Returns what may revoke the call
    /// later.
    fn authorize(&self, request: &mut Request<Body>, call: &mut ServedCall) -> Result<Revocation, Status> {
        if let Some(path) = PUBLIC.iter().find(|path| **path == request.uri().path()) {
            return admit_public(path, request, call).map(|()| Revocation::default());
        }
        let path = request.uri().path();
        let authorization = request.headers().get(AUTHORIZATION).map(HeaderValue::as_bytes);
        let peer = request.extensions().get::<Peer>();
        let names = peer.map(|peer| &*peer.names).unwrap_or_default();
        let Principal { client, token_revoked } =
            self.credentials.authenticator().authenticate(authorization, names)?;
        let certs = peer.and_then(|peer| peer.certs.as_ref());
        let certificate_revoked = certs.map(|certs| certs.revoked.clone());
        let revocation = Revocation { certificate: certificate_revoked, token: token_revoked };
        revocation.check()?;
        if let Some(peer) = peer {
            peer.mark_authenticated();
        }
        if path.starts_with(REFLECTION) {
            call.share =
                Some(self.reflection.clone().try_acquire_owned().map_err(|_| too_much_reflection())?);
            return Ok(revocation);
        }
        let Some(client) = client else { return Ok(revocation) };
        let name = &client.permission.client;
        spans::note_client(name);
        if !client.permission.has_any(sufficient_roles(path)) {
            let roles: Vec<_> = sufficient_roles(path).iter().map(|role| role.name()).collect();
            let text = format!("client `{name}` needs one of these roles: {}", roles.join(", "));
            return Err(Status::permission_denied(text));
        }
        request.extensions_mut().insert(client);
        Ok(revocation)
    }
}

/// Lets a call pass that needs no authentication. It keeps nothing of what an unauthenticated client may have made large.
fn admit_public(
    path: &'static str,
    request: &mut Request<Body>,
    call: &mut ServedCall,
) -> Result<(), Status> {
    let is_authenticated =
        request.extensions().get::<Peer>().is_some_and(|peer| peer.permit.is_authenticated());
    if call.mark_public() > MAX_PUBLIC && !is_authenticated {
        return Err(Status::resource_exhausted(format!(
            "there are {MAX_PUBLIC} calls of health under way on this connection, and none on it was authorized"
        )));
    }
    *request.headers_mut() = HeaderMap::new();
    *request.uri_mut() = Uri::from_static(path);
    Ok(())
}

fn too_much_reflection() -> Status {
    Status::resource_exhausted(format!("{MAX_REFLECTION} calls of reflection are under way: try it again"))
}

fn deadline_scope(path: &str) -> DeadlineScope {
    if path.ends_with("/RecordStream") { DeadlineScope::EachMessage } else { DeadlineScope::Request }
}

/// The roles that may make a call: one of them suffices. A call that is not listed is refused to every role. The table in
/// `tests/it/security/permissions` says the same for each call of the proto, and holds it against the real binary.
fn sufficient_roles(path: &str) -> &'static [Role] {
    let (service, method) =
        path.strip_prefix("/tallyman.v1.").and_then(|rest| rest.split_once('/')).unwrap_or_default();
    match (service, method) {
        ("UsageService", "Record" | "RecordStream") => &[Role::Meter],
        ("CustomerService", "GetCustomer" | "ListCustomers") => &[Role::Customers, Role::Read],
        ("CustomerService", "PutCustomer" | "CloseCustomer") => &[Role::Customers],
        (
            "LedgerService",
            "GetSummary" | "ListRecords" | "ListHeld" | "ListAdjustments" | "ListMoves" | "Audit",
        ) => &[Role::Read],
        ("LedgerService", "DecideHeld" | "Adjust" | "AllowMove") => &[Role::Decide],
        _ => &[],
    }
}

impl<S> Layer<S> for AuthLayer {
    type Service = AuthService<S>;

    fn layer(&self, inner: S) -> AuthService<S> {
        AuthService { layer: self.clone(), inner }
    }
}

/// The services behind an [`AuthLayer`].
#[derive(Clone)]
pub(in crate::api) struct AuthService<S> {
    layer: AuthLayer,
    inner: S,
}

impl<S> Service<Request<Body>> for AuthService<S>
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
        let calls = request.extensions().get::<Peer>().map(|peer| peer.calls.clone());
        let mut call = calls.unwrap_or_default().begin();
        match self.layer.authorize(&mut request, &mut call) {
            Ok(revocation) => {
                let (timeout, scope) = (self.layer.request_timeout, deadline_scope(request.uri().path()));
                let limited = |body| Body::new(DeadlineBody::new(body, scope, timeout, revocation));
                let answering = self.inner.call(request.map(limited));
                Box::pin(async move {
                    let answer = answering.await?;
                    Ok(answer.map(|body| Body::new(AnswerBody::new(body, call))))
                })
            }
            Err(refused) => Box::pin(std::future::ready(Ok(refused.into_http()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tonic::Code;

    use super::*;
    use crate::{
        api::transport::{calls::ServedCalls, credentials::ServerCredentials},
        base::config::parse,
    };

    const ROLES: [&str; 4] = ["meter", "customers", "read", "decide"];
    const REFLECTED: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

    /// A layer with a client for each role, whose name and token are the role's name.
    fn layer() -> AuthLayer {
        let folder = tempfile::tempdir().unwrap();
        let client = |role: &str| {
            let file = folder.path().join(role);
            fs::write(&file, role).unwrap();
            format!(
                "[[grpc.client]]\nname = '{role}'\nroles = ['{role}']\ntoken_file = '{}'\n",
                file.display()
            )
        };
        let product = "[[product]]\ncode = 'p'\ndimension = [{ name = 'd' }]";
        let text = format!("{}{product}", ROLES.map(client).concat());
        let config = parse(&text, "t.toml", std::iter::empty()).unwrap();
        AuthLayer::new(ServerCredentials::load(&config.grpc).unwrap().store, Duration::from_secs(1))
    }

    /// How a call is answered by the layer.
    fn asked(layer: &AuthLayer, path: &str, token: Option<&str>) -> Code {
        let mut request = Request::builder().uri(path);
        if let Some(token) = token {
            request = request.header(AUTHORIZATION, format!("Bearer {token}"));
        }
        let mut call = ServedCalls::default().begin();
        layer
            .authorize(&mut request.body(Body::empty()).unwrap(), &mut call)
            .err()
            .map_or(Code::Ok, |refused| refused.code())
    }

    #[test]
    fn a_call_that_may_last_for_weeks_has_a_deadline_for_each_message() {
        for (path, scope) in [
            ("/tallyman.v1.UsageService/RecordStream", DeadlineScope::EachMessage),
            (REFLECTED, DeadlineScope::Request),
            ("/tallyman.v1.UsageService/Record", DeadlineScope::Request),
            ("/tallyman.v1.LedgerService/Audit", DeadlineScope::Request),
        ] {
            assert_eq!(deadline_scope(path), scope, "{path}");
        }
    }

    #[test]
    fn what_is_not_listed_is_for_nobody() {
        let layer = layer();
        let services = ["UsageService", "CustomerService", "LedgerService"];
        let new_calls = services.map(|service| format!("/tallyman.v1.{service}/New"));
        let others = ["/tallyman.v1.OtherService/Record", "/tallyman.v2.UsageService/Record", "/", "/x"];
        for path in new_calls.iter().map(String::as_str).chain(others) {
            for role in ROLES {
                assert_eq!(asked(&layer, path, Some(role)), Code::PermissionDenied, "{path} by {role}");
            }
            assert_eq!(asked(&layer, path, None), Code::Unauthenticated, "{path}");
        }
    }

    #[test]
    fn health_is_for_everyone_and_reflection_for_every_client() {
        let layer = layer();
        for path in ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"] {
            assert_eq!(asked(&layer, path, None), Code::Ok, "{path}");
        }
        assert_eq!(asked(&layer, "/grpc.health.v1.Health/Other", None), Code::Unauthenticated);
        for role in ROLES {
            assert_eq!(asked(&layer, REFLECTED, Some(role)), Code::Ok, "{role}");
        }
        for nobody in [None, Some("root")] {
            assert_eq!(asked(&layer, REFLECTED, nobody), Code::Unauthenticated);
        }
    }

    #[test]
    fn sixteen_calls_of_reflection_are_answered_at_a_time() {
        let (layer, calls) = (layer(), ServedCalls::default());
        let ask = || {
            let request = Request::builder().uri(REFLECTED).header(AUTHORIZATION, "Bearer read");
            let mut call = calls.begin();
            layer.authorize(&mut request.body(Body::empty()).unwrap(), &mut call).map(|_| call)
        };
        let mut under_way: Vec<_> = (0..16).map(|_| ask().unwrap()).collect();
        assert_eq!(ask().unwrap_err().code(), Code::ResourceExhausted);
        under_way.pop();
        assert!(ask().is_ok());
    }

    #[test]
    fn eight_public_calls_are_under_way_on_an_unauthorized_connection_and_keep_nothing_of_it() {
        let (layer, calls) = (layer(), ServedCalls::default());
        let ask = || {
            let uri = format!("/grpc.health.v1.Health/Check?{}", "x".repeat(10_000));
            let request = Request::builder().uri(uri).header("x", "y".repeat(10_000));
            let (mut request, mut call) = (request.body(Body::empty()).unwrap(), calls.begin());
            layer.authorize(&mut request, &mut call).map(|_| (request, call))
        };
        let mut under_way: Vec<_> = (0..8).map(|_| ask().unwrap()).collect();
        assert_eq!(ask().unwrap_err().code(), Code::ResourceExhausted);
        let (request, call) = under_way.pop().unwrap();
        assert_eq!((request.uri().to_string().as_str(), request.headers().len()), (PUBLIC[0], 0));
        drop(call);
        assert!(ask().is_ok());
    }
}
