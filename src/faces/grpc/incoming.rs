//! Connections on their way in: taken, held to TLS where that is asked for, and handed to the server.
//!
//! TLS is done here and not by tonic, whose certificates are those of the start.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
    time::{Instant, Sleep, sleep, sleep_until, timeout_at},
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use super::{
    access::Keys,
    crowd::{Crowd, Place},
    shown::Shown,
    socket::Bound,
};
use crate::base::{
    config::ConnectionLimits,
    metrics::{self, Closed},
    tasks::Tasks,
    x509,
};

/// After a connection that could not be taken, for want of file descriptors say. To ask again at once would take a
/// whole core from those that are there.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
/// For the calls that are under way on a connection whose certificate is not taken any more.
const LINGER: Duration = Duration::from_secs(5);
/// Connections that wait for the server to take them over, which it does at once.
const MAX_WAITING: usize = 64;
/// HTTP/2 begins with 24 bytes that are always the same, and a frame, whose head has 9.
const BEGINNING: usize = 24 + 9;

pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// One that may speak HTTP/2.
pub(super) struct Connection {
    io: Box<dyn Io>,
    peer: Peer,
    /// While it has not begun.
    opening: Option<Opening>,
    /// While it has not proven itself.
    must_leave: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// Where clients have certificates.
    withdrawal: Option<Withdrawal>,
}

struct Withdrawal {
    told: Pin<Box<WaitForCancellationFutureOwned>>,
    left: Option<Pin<Box<Sleep>>>,
    is_over: bool,
}

struct Opening {
    missing: usize,
    late: Pin<Box<Sleep>>,
}

/// Who is at the other end: part of each request's extensions.
#[derive(Clone, Debug)]
pub(super) struct Peer {
    /// Of its certificate.
    pub(super) names: Arc<[String]>,
    pub(super) shown: Option<Arc<Shown>>,
    pub(super) place: Arc<Place>,
}

/// Takes connections until the tasks stop.
pub(super) fn incoming(
    bound: Bound,
    keys: Keys,
    limits: &ConnectionLimits,
    tasks: &Tasks,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(MAX_WAITING);
    let crowd = Crowd::new(limits.max_connections);
    let door = Door { keys, crowd, handshake: limits.handshake_timeout, ready, tasks: tasks.clone() };
    tasks.spawn("accept", door.take(bound));
    ReceiverStream::new(connections)
}

#[derive(Clone)]
struct Door {
    keys: Keys,
    crowd: Crowd,
    handshake: Duration,
    ready: mpsc::Sender<io::Result<Connection>>,
    tasks: Tasks,
}

impl Door {
    async fn take(self, bound: Bound) {
        let stopping = self.tasks.stopping();
        tokio::pin!(stopping);
        let mut was_full = false;
        loop {
            let taken = tokio::select! {
                taken = bound.accept() => taken,
                () = &mut stopping => return,
            };
            let io = match taken {
                Ok(io) => io,
                Err(fault) => {
                    warn!(%fault, "a connection cannot be taken");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let place = self.crowd.enter();
            if place.is_none() {
                metrics::connection_closed(Closed::Full);
                if !was_full {
                    warn!("there are limits.max_connections connections: others are not taken");
                }
            }
            was_full = place.is_none();
            if let Some(place) = place {
                // Each on its own: one that is slow to prove itself holds up no other.
                self.tasks.spawn_short(self.clone().open(io, place));
            }
        }
    }

    async fn open(self, io: Box<dyn Io>, place: Place) {
        let must_leave = place.must_leave.clone();
        let opened = tokio::select! {
            opened = self.greet(io, place) => opened,
            () = must_leave.cancelled() => Err(crowded_out()),
            () = self.tasks.stopping() => return,
        };
        match opened {
            // The server is gone if it does not want it.
            Ok(connection) => drop(self.ready.send(Ok(connection)).await),
            Err(fault) => debug!(%fault, "a connection is refused"),
        }
    }

    async fn greet(&self, io: Box<dyn Io>, place: Place) -> io::Result<Connection> {
        let until = Instant::now() + self.handshake;
        let must_leave = Some(Box::pin(place.must_leave.clone().cancelled_owned()));
        let opening = Some(Opening { missing: BEGINNING, late: Box::pin(sleep_until(until)) });
        let place = Arc::new(place);
        let Some(tls) = self.keys.tls() else {
            let peer = Peer { names: Arc::default(), shown: None, place };
            return Ok(Connection { io, peer, opening, must_leave, withdrawal: None });
        };
        let accepted =
            timeout_at(until, TlsAcceptor::from(tls.config.clone()).accept(io)).await.map_err(|_| slow())?;
        let stream = accepted.inspect_err(|_| metrics::connection_closed(Closed::Tls))?;
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let read = chain.first().and_then(|der| x509::Certificate::read(der));
        let names: Arc<[String]> = read.map(|certificate| certificate.names).unwrap_or_default().into();
        debug!(?names, "a connection is taken");
        let shown = (!chain.is_empty()).then(|| Arc::new(Shown::new(chain)));
        let withdrawal = shown.as_ref().map(|shown| {
            self.keys.keep(shown, &tls);
            Withdrawal {
                told: Box::pin(shown.withdrawn.clone().cancelled_owned()),
                left: None,
                is_over: false,
            }
        });
        let peer = Peer { names, shown, place };
        Ok(Connection { io: Box::new(stream), peer, opening, must_leave, withdrawal })
    }
}

fn slow() -> io::Error {
    metrics::connection_closed(Closed::Slow);
    io::Error::new(io::ErrorKind::TimedOut, "it did not begin within limits.handshake_timeout")
}

fn crowded_out() -> io::Error {
    metrics::connection_closed(Closed::CrowdedOut);
    io::Error::new(io::ErrorKind::ConnectionAborted, "another connection needs its place")
}

impl Withdrawal {
    fn poll_over(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_over {
            return Poll::Ready(());
        }
        if self.left.is_none() {
            ready!(self.told.as_mut().poll(context));
        }
        ready!(self.left.get_or_insert_with(|| Box::pin(sleep(LINGER))).as_mut().poll(context));
        metrics::connection_closed(Closed::Withdrawn);
        self.is_over = true;
        Poll::Ready(())
    }
}

impl Connection {
    /// Lets nothing more through once its certificate has been withdrawn for a while.
    fn poll_withdrawal(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if let Some(withdrawal) = &mut self.withdrawal
            && withdrawal.poll_over(context).is_ready()
        {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "its certificate is not taken any more",
            ));
        }
        Ok(())
    }

    /// What comes is awaited, unless it is too late for that.
    fn poll_patience(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if let Some(opening) = &mut self.opening
            && opening.late.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(slow());
        }
        if self.peer.place.is_proven() {
            self.must_leave = None;
        }
        if let Some(must_leave) = &mut self.must_leave
            && must_leave.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(crowded_out());
        }
        Poll::Pending
    }

    fn note(&mut self, read: usize) {
        if let Some(opening) = &mut self.opening {
            opening.missing = opening.missing.saturating_sub(read);
            if opening.missing == 0 {
                self.opening = None;
            }
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll_withdrawal(context)?;
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.io).poll_read(context, buffer) {
            self.note(buffer.filled().len() - before);
            return Poll::Ready(read);
        }
        self.poll_patience(context).map(Err)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_withdrawal(context)?;
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_withdrawal(context)?;
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_withdrawal(context)?;
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
