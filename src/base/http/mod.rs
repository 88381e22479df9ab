//! An HTTP/1.1 server of which no peer takes more than its share.
//!
//! There are at most so many connections, and a new one is always let in: when all are taken, it takes the place of the
//! one that has said nothing for the longest time, or else of the one that is served the longest. A request's header has
//! a time, and so has an answer that its client does not read.

mod connections;
mod write_timeout;

use std::{
    convert::Infallible,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, http::Request, response::Response};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use prost::bytes::Bytes;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::sleep,
};
use tower::Service;
use tracing::{debug, warn};

use self::{
    connections::{Connections, Slot},
    write_timeout::WriteTimeout,
};
use super::tasks::Tasks;

pub(crate) use connections::ConnectionCloser;

/// What the system may hold of an answer that its client does not read. More would hide it for longer.
const SEND_BUFFER_BYTES: u32 = 64 << 10;
/// Upper bound of a request's header, and of an answer's part that is on its way to the system.
const BUFFER_BYTES: usize = 64 << 10;
/// Connections that may wait to be accepted.
const BACKLOG: u32 = 1024;
/// Pause after an `accept` that failed, for want of file descriptors say.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(500);

#[derive(Clone, Copy, Debug)]
pub(crate) struct HttpLimits {
    pub connections: usize,
    /// The time from a connection, or from the answer before, to the end of a request's header.
    pub header_timeout: Duration,
    /// The time in which a client must read something of its answer.
    pub write_timeout: Duration,
    /// Whether a connection serves a second request. If not, no client can rest on one.
    pub keeps_alive: bool,
}

pub(crate) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    // Connections have what their listener has.
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Serves until the tasks stop, and lets the answers under way be finished.
pub(crate) async fn serve(listener: TcpListener, app: Router, limits: HttpLimits, tasks: Tasks) {
    let connections = Connections::new(limits.connections);
    let mut stopping = pin!(tasks.stopping());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stopping => return,
        };
        match accepted {
            Ok((stream, _)) => {
                let served =
                    serve_connection(stream, app.clone(), limits, connections.admit(), tasks.clone());
                tasks.spawn_short(served);
            }
            Err(fault) => {
                warn!(%fault, "an HTTP connection cannot be taken");
                sleep(ACCEPT_RETRY_PAUSE).await;
            }
        }
    }
}

async fn serve_connection(stream: TcpStream, app: Router, limits: HttpLimits, slot: Slot, tasks: Tasks) {
    // Fails only if the connection is gone already.
    stream.set_nodelay(true).ok();
    let slot = Arc::new(slot);
    let service = SlotService { app, slot: slot.clone(), keeps_alive: limits.keeps_alive };
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_timeout)
        .keep_alive(limits.keeps_alive)
        .max_buf_size(BUFFER_BYTES);
    let stream = TokioIo::new(WriteTimeout::new(stream, limits.write_timeout));
    let mut connection = pin!(builder.serve_connection(stream, TowerToHyperService::new(service)));
    let (mut stopping, mut is_stopping) = (pin!(tasks.stopping()), false);
    loop {
        tokio::select! {
            biased;
            () = slot.closed() => return,
            served = connection.as_mut() => {
                if let Err(fault) = served {
                    debug!(fault, "an HTTP connection has ended");
                }
                return;
            }
            () = &mut stopping, if !is_stopping => {
                is_stopping = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

/// The service of one connection, which notes whether it serves a request.
#[derive(Clone)]
struct SlotService {
    app: Router,
    slot: Arc<Slot>,
    keeps_alive: bool,
}

impl<B> Service<Request<B>> for SlotService
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError>,
{
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        self.slot.note_request();
        request.extensions_mut().insert(self.slot.closer());
        let answering = self.app.call(request);
        if !self.keeps_alive {
            return Box::pin(answering);
        }
        let slot = self.slot.clone();
        Box::pin(async move {
            let answer = answering.await;
            slot.note_rest();
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use axum::{Extension, body::Body, routing::get};
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        time::timeout,
    };
    use tokio_stream::StreamExt;

    use super::*;

    const BOUND: Duration = Duration::from_secs(30);
    const LIMITS: HttpLimits =
        HttpLimits { connections: 3, header_timeout: BOUND, write_timeout: BOUND, keeps_alive: false };

    #[expect(clippy::unused_async, reason = "it is to be called inside a runtime")]
    async fn start(limits: HttpLimits) -> (SocketAddr, Tasks, Arc<()>) {
        let held = Arc::new(());
        let long = held.clone();
        let app = Router::new()
            .route("/", get(async || "hello"))
            .route("/long", get(move || std::future::ready(endless(long))))
            .route("/begun", get(async || Body::from_stream(begun())))
            .route(
                "/lost",
                get(async |Extension(closer): Extension<ConnectionCloser>| closer.close::<()>().await),
            );
        let (listener, tasks) = (bind(([127, 0, 0, 1], 0).into()).unwrap(), Tasks::default());
        let address = listener.local_addr().unwrap();
        tasks.spawn("http", serve(listener, app, limits, tasks.clone()));
        (address, tasks, held)
    }

    /// An answer that has begun and does not end.
    fn begun() -> impl tokio_stream::Stream<Item = Result<&'static str, Infallible>> {
        tokio_stream::once(Ok("begun")).chain(tokio_stream::pending())
    }

    /// An answer without end, which has `held` for as long as it is sent.
    fn endless(held: Arc<()>) -> Body {
        let chunk = Bytes::from(vec![b'x'; 1 << 16]);
        Body::from_stream(tokio_stream::iter(std::iter::repeat_with(move || {
            assert!(Arc::strong_count(&held) > 0);
            Ok::<_, Infallible>(chunk.clone())
        })))
    }

    async fn say(address: SocketAddr, text: &str) -> TcpStream {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        stream
    }

    /// A request that is being answered.
    async fn begin(address: SocketAddr) -> TcpStream {
        let mut stream = say(address, "GET /begun HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let mut text = Vec::new();
        while !text.ends_with(b"begun\r\n") {
            text.push(timeout(BOUND, stream.read_u8()).await.unwrap().unwrap());
        }
        stream
    }

    /// What still comes until the connection is closed.
    async fn rest(mut stream: TcpStream) -> String {
        let mut text = Vec::new();
        timeout(BOUND, stream.read_to_end(&mut text)).await.expect("it is closed").ok();
        String::from_utf8_lossy(&text).into_owned()
    }

    async fn ask(address: SocketAddr, path: &str) -> String {
        rest(say(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")).await).await
    }

    #[tokio::test]
    async fn a_connection_serves_one_request_unless_it_is_kept() {
        let (address, ..) = start(LIMITS).await;
        let twice = "GET / HTTP/1.1\r\nhost: x\r\n\r\n".repeat(2);
        assert_eq!(rest(say(address, &twice).await).await.matches("200 OK").count(), 1);
        let kept = HttpLimits { keeps_alive: true, header_timeout: Duration::from_secs(1), ..LIMITS };
        let (address, ..) = start(kept).await;
        assert_eq!(rest(say(address, &twice).await).await.matches("200 OK").count(), 2);
    }

    #[tokio::test]
    async fn http_2_is_not_spoken() {
        let (address, ..) = start(LIMITS).await;
        let answer = rest(say(address, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await).await;
        assert!(!answer.starts_with('\0') && !answer.contains("200"), "{answer:?}");
    }

    #[tokio::test]
    async fn a_header_that_does_not_end_is_not_waited_for() {
        let (address, ..) = start(HttpLimits { header_timeout: Duration::from_millis(100), ..LIMITS }).await;
        for beginning in ["", "GET / HT", "GET / HTTP/1.1\r\nhost: x\r\nmore: "] {
            let answer = rest(say(address, beginning).await).await;
            assert!(!answer.contains("200"), "{answer}");
        }
    }

    #[tokio::test]
    async fn when_all_connections_are_taken_a_new_one_gets_the_place_of_an_idle_one_first() {
        let (address, ..) = start(LIMITS).await;
        let (first, second, mut silent) = (begin(address).await, begin(address).await, Vec::new());
        for _ in 0..20 {
            silent.push(say(address, "GET / HT").await);
            assert!(ask(address, "/").await.contains("hello"));
        }
        for stream in silent {
            assert_eq!(rest(stream).await, "");
        }
        let _third = begin(address).await;
        for stream in [&first, &second] {
            assert!(stream.try_read(&mut [0]).is_err_and(|fault| fault.kind() == io::ErrorKind::WouldBlock));
        }
        let _fourth = begin(address).await;
        assert_eq!(rest(first).await, "", "where all are served, it is the one that is served the longest");
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_its_answer_is_left() {
        let limits = HttpLimits { write_timeout: Duration::from_millis(200), ..LIMITS };
        let (address, _tasks, held) = start(limits).await;
        let before = Arc::strong_count(&held);
        let _stream = say(address, "GET /long HTTP/1.1\r\nhost: x\r\n\r\n").await;
        let is_left = async {
            while Arc::strong_count(&held) <= before {
                sleep(Duration::from_millis(1)).await;
            }
            while Arc::strong_count(&held) > before {
                sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(BOUND, is_left).await.unwrap();
    }

    #[tokio::test]
    async fn a_handler_can_close_its_connection_without_an_answer() {
        let (address, ..) = start(LIMITS).await;
        assert_eq!(ask(address, "/lost").await, "");
    }
}
