//! Accepts connections, completes the TLS handshake where TLS is configured, and hands them to the HTTP/2 server.
//!
//! The TLS handshake is done here because tonic cannot replace its certificates while it runs.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    sync::mpsc,
    time::{Instant, sleep, timeout_at},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tracing::{debug, warn};

use super::{
    connection::{ByteStream, Connection, Peer, evicted, handshake_timed_out},
    connection_limit::{ConnectionLimit, ConnectionPermit},
    credentials::CredentialStore,
    listen::BoundSocket,
    peer_certs::PeerCerts,
    tls::Tls,
};
use crate::base::{
    config::ConnectionLimits,
    metrics::{self, CloseReason},
    tasks::Tasks,
    x509::{Certificate, CertificateName},
};

/// Pause after an `accept` that failed, for want of file descriptors say. Without it the loop would use a whole core.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(500);
/// Capacity of the queue of connections between their handshake and the server, which takes them over at once.
const MAX_QUEUED: usize = 64;

/// Accepts connections until the tasks stop. The stream yields each one after its TLS handshake.
pub(in crate::api) fn accept(
    socket: BoundSocket,
    credentials: CredentialStore,
    limits: &ConnectionLimits,
    tasks: &Tasks,
) -> ReceiverStream<io::Result<Connection>> {
    let (ready, connections) = mpsc::channel(MAX_QUEUED);
    let acceptor = Acceptor {
        credentials,
        limit: ConnectionLimit::new(limits.max_connections),
        handshake_timeout: limits.handshake_timeout,
        response_timeout: limits.response_timeout,
        ready,
        tasks: tasks.clone(),
    };
    tasks.spawn("accept", acceptor.run(socket));
    ReceiverStream::new(connections)
}

#[derive(Clone)]
struct Acceptor {
    credentials: CredentialStore,
    limit: ConnectionLimit,
    handshake_timeout: Duration,
    response_timeout: Duration,
    ready: mpsc::Sender<io::Result<Connection>>,
    tasks: Tasks,
}

impl Acceptor {
    async fn run(self, socket: BoundSocket) {
        let stopping = self.tasks.stopping();
        tokio::pin!(stopping);
        let mut is_full = false;
        loop {
            let accepted = tokio::select! {
                accepted = accept_stream(&socket) => accepted,
                () = &mut stopping => return,
            };
            match accepted {
                Ok(stream) => is_full = !self.admit(stream, is_full),
                Err(fault) => {
                    warn!(%fault, "a connection cannot be taken");
                    sleep(ACCEPT_RETRY_PAUSE).await;
                }
            }
        }
    }

    /// Starts the handshake of a new connection, or drops the connection if the limit is reached. Returns whether it
    /// was admitted. The log has one line for a run of refusals: `was_full` tells that the line has been written.
    fn admit(&self, stream: Box<dyn ByteStream>, was_full: bool) -> bool {
        let Some(permit) = self.limit.acquire() else {
            metrics::connection_closed(CloseReason::Full);
            if !was_full {
                warn!(
                    "limits.max_connections is reached, by authenticated connections: new ones are refused"
                );
            }
            return false;
        };
        // A task for each connection: a slow handshake delays no other.
        self.tasks.spawn_short(self.clone().open(stream, permit));
        true
    }

    async fn open(self, stream: Box<dyn ByteStream>, permit: ConnectionPermit) {
        let eviction = permit.evicted.clone();
        let opened = tokio::select! {
            opened = self.handshake(stream, permit) => opened,
            () = eviction.cancelled() => Err(evicted()),
            () = self.tasks.stopping() => return,
        };
        match opened {
            // Sending fails only if the server has stopped.
            Ok(connection) => drop(self.ready.send(Ok(connection)).await),
            Err(fault) => debug!(%fault, "a connection is refused"),
        }
    }

    async fn handshake(
        &self,
        stream: Box<dyn ByteStream>,
        permit: ConnectionPermit,
    ) -> io::Result<Connection> {
        let deadline = Instant::now() + self.handshake_timeout;
        let Some(tls) = self.credentials.tls() else {
            return Ok(Connection::new(stream, Peer::new(permit), deadline, self.response_timeout));
        };
        let handshake = TlsAcceptor::from(tls.config.clone()).accept(stream);
        let completed = timeout_at(deadline, handshake).await.map_err(|_| handshake_timed_out())?;
        let stream = completed.inspect_err(|_| metrics::connection_closed(CloseReason::Tls))?;
        let peer = self.identify_peer(&stream, &tls, permit);
        Ok(Connection::new(Box::new(stream), peer, deadline, self.response_timeout))
    }

    /// Reads the client's certificate chain, which rustls has verified, and registers it for later checks.
    fn identify_peer(
        &self,
        stream: &TlsStream<Box<dyn ByteStream>>,
        tls: &Arc<Tls>,
        permit: ConnectionPermit,
    ) -> Peer {
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        let read = chain.first().and_then(|der| Certificate::read(der));
        let names: Arc<[CertificateName]> =
            read.map(|certificate| certificate.names).unwrap_or_default().into();
        debug!(?names, "a connection is accepted");
        let certs = (!chain.is_empty()).then(|| Arc::new(PeerCerts::new(chain)));
        if let Some(certs) = &certs {
            self.credentials.register_peer(certs, tls);
        }
        Peer { names, certs, ..Peer::new(permit) }
    }
}

async fn accept_stream(socket: &BoundSocket) -> io::Result<Box<dyn ByteStream>> {
    match socket {
        BoundSocket::Tcp(listener) => {
            let (stream, _) = listener.accept().await?;
            // Answers are small. With Nagle's algorithm each would wait for the client's acknowledgement of the one
            // before, which some clients delay by 40 ms. This call fails only if the connection is gone already.
            stream.set_nodelay(true).ok();
            Ok(Box::new(stream))
        }
        BoundSocket::Unix(listener) => Ok(Box::new(listener.accept().await?.0)),
    }
}
