//! The gRPC server: services, limits, health, reflection, and who may call.

use std::{
    fs, io,
    os::unix::{
        fs::{FileTypeExt, PermissionsExt},
        net::UnixStream,
    },
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustix::fs::{Mode, fchmod};
use tokio::{
    net::{TcpListener, TcpStream, UnixListener, UnixSocket},
    sync::watch,
    time::sleep,
};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{TcpListenerStream, UnixListenerStream},
};
use tonic::{
    Code, Request, Status,
    codegen::http::{HeaderValue, Response},
    service::{Interceptor, Routes, RoutesBuilder, interceptor::InterceptedService},
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::util::MapResponseLayer;
use tracing::warn;

use crate::{
    base::{
        config::{Grpc, Listen, Tls},
        proto::{
            DESCRIPTORS, customer_service_server::CustomerServiceServer,
            ledger_service_server::LedgerServiceServer, served::usage_service_server::UsageServiceServer,
        },
    },
    work::phase::Phase,
};

use super::{customers::Customers, ingest::Ingest, ledger::Ledger};

/// Room for `max_events_per_request` events with long keys; a larger request is refused before it is read.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// Streams that one connection may have open at a time.
const MAX_STREAMS_PER_CONNECTION: u32 = 256;
/// An application has another user than the agent, and shares a group with it (in Kubernetes the pod's fsGroup).
const SOCKET_MODE: u32 = 0o660;
/// Connections that wait to be taken; as tokio has it for TCP.
const SOCKET_BACKLOG: u32 = 1024;
const KEEPALIVE: Duration = Duration::from_secs(30);
/// After a connection that could not be taken, for want of file descriptors say. To ask again at once would take a
/// whole core from those that are there.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
const HEALTH_NAMES: [&str; 4] =
    ["", "tallyman.v1.UsageService", "tallyman.v1.CustomerService", "tallyman.v1.LedgerService"];

type Fault = Box<dyn std::error::Error + Send + Sync>;

pub struct Services {
    pub ingest: Ingest,
    pub customers: Customers,
    pub ledger: Ledger,
    pub phase: watch::Receiver<Phase>,
}

/// A socket that is bound and not served yet.
pub enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener),
}

pub async fn bind(listen: &Listen) -> io::Result<Bound> {
    match listen {
        Listen::Tcp(address) => TcpListener::bind(address).await.map(Bound::Tcp),
        Listen::Unix(path) => {
            remove_stale_socket(path)?;
            listen_unix(path).map(Bound::Unix)
        }
    }
}

/// Nobody can connect before the socket listens, and by then its mode is right.
fn listen_unix(path: &Path) -> io::Result<UnixListener> {
    let socket = bind_socket(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(SOCKET_MODE))?;
    socket.listen(SOCKET_BACKLOG)
}

/// Its file is never open to more than owner and group, though to less if the process's umask says so.
fn bind_socket(path: &Path) -> io::Result<UnixSocket> {
    let socket = UnixSocket::new_stream()?;
    // Linux gives the file the socket's own mode. Where that cannot be set, the file's is set in a moment.
    fchmod(&socket, Mode::from_bits_retain(SOCKET_MODE)).ok();
    socket.bind(path)?;
    Ok(socket)
}

/// Removes the socket file that an earlier process left. One that is still answered, or another kind of file, stays.
fn remove_stale_socket(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(found) if !found.file_type().is_socket() => {
            Err(io::Error::other("there is a file that is no socket"))
        }
        Ok(_) if UnixStream::connect(path).is_ok() => Err(io::ErrorKind::AddrInUse.into()),
        Ok(_) => fs::remove_file(path),
    }
}

/// Who may call, read from the files that the configuration names.
pub struct Access {
    server: Server,
    guard: Guard,
}

impl Access {
    /// Reads certificates and token, so that a fault in them shows before anyone is told that the agent is ready.
    pub fn load(grpc: &Grpc) -> Result<Self, Fault> {
        let mut server = Server::builder()
            .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
            .http2_keepalive_interval(Some(KEEPALIVE));
        if let Some(tls) = &grpc.tls {
            server = server.tls_config(tls_config(tls)?)?;
        }
        Ok(Self { server, guard: Guard::load(grpc.token_file.as_deref())? })
    }
}

/// Serves until `stopping`, then answers what is under way.
pub async fn serve(
    bound: Bound,
    access: Access,
    services: Services,
    stopping: impl Future<Output = ()>,
) -> Result<(), Fault> {
    let Access { server, guard } = access;
    let (reporter, health) = tonic_health::server::health_reporter();
    let phase = services.phase.clone();
    let mut routes = routes(services, guard)?;
    routes.add_service(health);
    let router = server.layer(MapResponseLayer::new(too_large_is_exhausted)).add_routes(routes.routes());
    let serving = async {
        match bound {
            Bound::Tcp(listener) => {
                let incoming = patiently(TcpListenerStream::new(listener).map(at_once));
                router.serve_with_incoming_shutdown(incoming, stopping).await
            }
            Bound::Unix(listener) => {
                let incoming = patiently(UnixListenerStream::new(listener));
                router.serve_with_incoming_shutdown(incoming, stopping).await
            }
        }
    };
    tokio::select! {
        served = serving => Ok(served?),
        () = report_health(phase, reporter) => Ok(()),
    }
}

/// Answers are small, and must not wait for the client's acknowledgement of those before them (40 ms, for some). tonic's
/// own setting is for listeners that it binds itself.
fn at_once(taken: io::Result<TcpStream>) -> io::Result<TcpStream> {
    taken.inspect(|stream| {
        // It fails for a connection that is gone: whoever serves it will see.
        drop(stream.set_nodelay(true));
    })
}

fn patiently<T>(incoming: impl Stream<Item = io::Result<T>>) -> impl Stream<Item = io::Result<T>> {
    incoming.then(async |taken| {
        if let Err(fault) = &taken {
            warn!(%fault, "a connection cannot be taken");
            sleep(ACCEPT_PAUSE).await;
        }
        taken
    })
}

fn routes(services: Services, guard: Guard) -> Result<RoutesBuilder, Fault> {
    let usage = UsageServiceServer::new(services.ingest).max_decoding_message_size(MAX_MESSAGE_BYTES);
    let customers = CustomerServiceServer::new(services.customers);
    let ledger = LedgerServiceServer::new(services.ledger).max_encoding_message_size(MAX_MESSAGE_BYTES);
    let reflection =
        || tonic_reflection::server::Builder::configure().register_encoded_file_descriptor_set(DESCRIPTORS);
    let mut routes = Routes::builder();
    routes
        .add_service(InterceptedService::new(usage, guard.clone()))
        .add_service(InterceptedService::new(customers, guard.clone()))
        .add_service(InterceptedService::new(ledger, guard))
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    Ok(routes)
}

/// Keeps the standard health service true to the phase, for ever.
async fn report_health(mut phase: watch::Receiver<Phase>, reporter: HealthReporter) {
    loop {
        let serving = *phase.borrow_and_update() == Phase::Serving;
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in HEALTH_NAMES {
            reporter.set_service_status(name, status).await;
        }
        if phase.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// tonic answers a message over the size limit with `OUT_OF_RANGE`; gRPC's own word for it is `RESOURCE_EXHAUSTED`.
fn too_large_is_exhausted<B>(mut response: Response<B>) -> Response<B> {
    let status = response.headers().get("grpc-status").map(HeaderValue::as_bytes);
    if status.is_some_and(|status| Code::from_bytes(status) == Code::OutOfRange) {
        let exhausted = HeaderValue::from(Code::ResourceExhausted as i32);
        response.headers_mut().insert("grpc-status", exhausted);
    }
    response
}

fn tls_config(tls: &Tls) -> io::Result<ServerTlsConfig> {
    let identity = Identity::from_pem(read(&tls.cert)?, read(&tls.key)?);
    let config = ServerTlsConfig::new().identity(identity);
    match &tls.client_ca {
        Some(path) => Ok(config.client_ca_root(Certificate::from_pem(read(path)?))),
        None => Ok(config),
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    fs::read(path).map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

/// Lets only calls with the token pass, if there is one.
#[derive(Clone)]
struct Guard {
    expected: Option<Arc<str>>,
}

impl Guard {
    fn load(token_file: Option<&Path>) -> io::Result<Self> {
        let Some(path) = token_file else { return Ok(Self { expected: None }) };
        let token = String::from_utf8_lossy(&read(path)?).trim().to_owned();
        if token.is_empty() {
            return Err(io::Error::other(format!("{}: the token is empty", path.display())));
        }
        Ok(Self { expected: Some(format!("Bearer {token}").into()) })
    }
}

impl Interceptor for Guard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let Some(expected) = &self.expected else { return Ok(request) };
        let given = request.metadata().get("authorization").map_or(&[][..], |value| value.as_bytes());
        if same_bytes(given, expected.as_bytes()) {
            Ok(request)
        } else {
            Err(Status::unauthenticated(
                "send the token of grpc.token_file as `authorization: Bearer <token>`",
            ))
        }
    }
}

/// Takes as long for a wrong byte early as late, so that a token cannot be guessed byte by byte.
fn same_bytes(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_open_to_owner_and_group_and_at_no_moment_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tallyman.sock");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o777;
        let socket = bind_socket(&path).unwrap();
        assert_eq!(mode() & !SOCKET_MODE, 0, "{:o}", mode());
        assert!(UnixStream::connect(&path).is_err(), "it does not listen yet");
        drop(socket);
        let _listener = bind(&Listen::Unix(path.clone())).await.unwrap();
        assert_eq!(mode(), SOCKET_MODE, "{:o}", mode());
        assert!(UnixStream::connect(&path).is_ok());
    }
}
