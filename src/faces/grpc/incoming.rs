//! Connections on their way in: taken, held to TLS where that is asked for, and handed to the server.
//!
//! TLS is done here and not by tonic, whose certificates are those of the start.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::mpsc,
    time::{sleep, timeout},
};
use tokio_rustls::{TlsAcceptor, rustls::pki_types::CertificateDer};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use super::{access::Keys, socket::Bound};
use crate::base::{tasks::Tasks, x509};

/// After a connection that could not be taken, for want of file descriptors say. To ask again at once would take a
/// whole core from those that are there.
const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
/// Until TLS is agreed on.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Connections that wait for the server to take them over, which it does at once.
const MAX_WAITING: usize = 64;

pub(super) trait Io: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// One that may speak HTTP/2.
pub(super) struct Connection {
    io: Box<dyn Io>,
    peer: Peer,
}

/// Who is at the other end: part of each request's extensions.
#[derive(Clone, Debug, Default)]
pub(super) struct Peer {
    /// Of its certificate.
    pub(super) names: Arc<[String]>,
}

/// Takes connections until the tasks stop.
pub(super) fn incoming(bound: Bound, keys: Keys, tasks: &Tasks) -> ReceiverStream<io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(MAX_WAITING);
    let door = Door { keys, ready, tasks: tasks.clone() };
    tasks.spawn("accept", door.take(bound));
    ReceiverStream::new(connections)
}

#[derive(Clone)]
struct Door {
    keys: Keys,
    ready: mpsc::Sender<io::Result<Connection>>,
    tasks: Tasks,
}

impl Door {
    async fn take(self, bound: Bound) {
        let stopping = self.tasks.stopping();
        tokio::pin!(stopping);
        loop {
            let taken = tokio::select! {
                taken = bound.accept() => taken,
                () = &mut stopping => return,
            };
            match taken {
                // Each on its own: one that is slow to prove itself holds up no other.
                Ok(io) => self.tasks.spawn_short(self.clone().open(io)),
                Err(fault) => {
                    warn!(%fault, "a connection cannot be taken");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn open(self, io: Box<dyn Io>) {
        let opened = tokio::select! {
            opened = self.greet(io) => opened,
            () = self.tasks.stopping() => return,
        };
        match opened {
            // The server is gone if it does not want it.
            Ok(connection) => drop(self.ready.send(Ok(connection)).await),
            Err(fault) => debug!(%fault, "a connection is refused"),
        }
    }

    async fn greet(&self, io: Box<dyn Io>) -> io::Result<Connection> {
        let Some(tls) = self.keys.tls() else { return Ok(Connection { io, peer: Peer::default() }) };
        let stream = timeout(HANDSHAKE, TlsAcceptor::from(tls).accept(io)).await??;
        let certificate = stream.get_ref().1.peer_certificates().and_then(<[CertificateDer<'_>]>::first);
        let read = certificate.and_then(|der| x509::Certificate::read(der));
        let names: Arc<[String]> = read.map(|certificate| certificate.names).unwrap_or_default().into();
        debug!(?names, "a connection is taken");
        Ok(Connection { io: Box::new(stream), peer: Peer { names } })
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
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
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
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
