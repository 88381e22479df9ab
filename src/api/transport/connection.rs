//! An accepted connection, as the HTTP/2 server reads and writes it.
//!
//! It ends by itself in these cases: the client does not begin HTTP/2 in time, takes no answers, or sends frames without
//! end; the connection limit evicts it; or its client certificate is revoked. Before the first authorized call it reads
//! no more than `traffic` lets pass.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep, sleep_until},
};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tonic::transport::server::Connected;

use super::{
    calls::ServedCalls,
    connection_limit::ConnectionPermit,
    frames::PREFACE,
    peer_certs::PeerCerts,
    traffic::{TooManyFrames, Traffic},
};
use crate::base::{
    metrics::{self, CloseReason},
    x509::CertificateName,
};

/// Time between the revocation of a connection's certificate and its close, in which calls under way are answered.
const REVOKED_GRACE: Duration = Duration::from_secs(5);
/// Length of what an HTTP/2 client sends first: the preface, and a frame with a header of 9 bytes.
const PREFACE_BYTES: usize = PREFACE + 9;

/// A TCP, Unix or TLS stream.
pub(super) trait ByteStream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> ByteStream for T {}

/// An accepted connection whose TLS handshake, if any, is complete.
pub(in crate::api) struct Connection {
    stream: Box<dyn ByteStream>,
    peer: Peer,
    /// `None` once the client has begun HTTP/2.
    preface: Option<PrefaceDeadline>,
    /// Resolves when the limit evicts the connection. `None` once the connection is authenticated.
    eviction: Option<Pin<Box<WaitForCancellationFutureOwned>>>,
    /// `None` if the client has shown no certificate.
    revocation: Option<CloseOnRevocation>,
    traffic: Traffic,
    /// Whether the last write or flush found no room.
    is_blocked: bool,
}

/// What is known about the client of a connection. It is part of the extensions of each request.
#[derive(Clone, Debug)]
pub(in crate::api) struct Peer {
    /// Names in the client's certificate.
    pub(super) names: Arc<[CertificateName]>,
    pub(super) certs: Option<Arc<PeerCerts>>,
    pub(super) permit: Arc<ConnectionPermit>,
    pub(super) calls: ServedCalls,
}

struct PrefaceDeadline {
    missing_bytes: usize,
    expired: Pin<Box<Sleep>>,
}

struct CloseOnRevocation {
    revoked: Pin<Box<WaitForCancellationFutureOwned>>,
    /// Runs from the revocation on.
    grace: Option<Pin<Box<Sleep>>>,
    is_closed: bool,
}

/// The error of a connection that did not complete TLS and begin HTTP/2 in time. Counts it.
pub(super) fn handshake_timed_out() -> io::Error {
    metrics::connection_closed(CloseReason::HandshakeTimeout);
    io::Error::new(io::ErrorKind::TimedOut, "it did not begin within limits.handshake_timeout")
}

/// The error of an unauthenticated connection that makes room for a new one. Counts it.
pub(super) fn evicted() -> io::Error {
    metrics::connection_closed(CloseReason::Evicted);
    io::Error::new(io::ErrorKind::ConnectionAborted, "it was evicted for a new connection")
}

fn stalled() -> io::Error {
    metrics::connection_closed(CloseReason::Stalled);
    io::Error::new(io::ErrorKind::TimedOut, "it took no answer within limits.response_timeout")
}

fn flooded(_: TooManyFrames) -> io::Error {
    metrics::connection_closed(CloseReason::Flood);
    io::Error::new(io::ErrorKind::ConnectionAborted, "it sent too many frames that belong to no call")
}

impl Peer {
    pub(super) fn new(permit: ConnectionPermit) -> Self {
        Self { names: Arc::default(), certs: None, permit: Arc::new(permit), calls: ServedCalls::default() }
    }

    /// Records an authorized call on the connection. From now on it is not evicted, and nothing is held back.
    pub(super) fn mark_authenticated(&self) {
        self.permit.mark_authenticated();
        self.calls.wake();
    }
}

impl Connection {
    /// `deadline` is when the client must have begun HTTP/2; `response_timeout` the time in which it must take
    /// something of what waits for it.
    pub(super) fn new(
        stream: Box<dyn ByteStream>,
        peer: Peer,
        deadline: Instant,
        response_timeout: Duration,
    ) -> Self {
        let preface =
            PrefaceDeadline { missing_bytes: PREFACE_BYTES, expired: Box::pin(sleep_until(deadline)) };
        let eviction = Box::pin(peer.permit.evicted.clone().cancelled_owned());
        let revocation = peer.certs.as_ref().map(|certs| CloseOnRevocation::new(certs));
        let traffic = Traffic::new(peer.calls.clone(), response_timeout);
        Self {
            stream,
            peer,
            preface: Some(preface),
            eviction: Some(eviction),
            revocation,
            traffic,
            is_blocked: false,
        }
    }

    /// Fails once the certificate has been revoked for [`REVOKED_GRACE`]: no more bytes pass in either direction.
    fn check_revocation(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if let Some(revocation) = &mut self.revocation
            && revocation.poll_close(context).is_ready()
        {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionAborted,
                "its certificate is revoked, expired or no longer trusted",
            ));
        }
        Ok(())
    }

    /// Resolves when the connection may wait no longer for its client.
    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        if let Some(preface) = &mut self.preface
            && preface.expired.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(handshake_timed_out());
        }
        if self.peer.permit.is_authenticated() {
            self.eviction = None;
        }
        if let Some(eviction) = &mut self.eviction
            && eviction.as_mut().poll(context).is_ready()
        {
            return Poll::Ready(evicted());
        }
        self.traffic.poll_deadline(self.is_blocked, context).map(|()| stalled())
    }

    /// Resolves to the number of bytes that may be read; `None` is any number.
    fn poll_read_limit(&mut self, context: &mut Context<'_>) -> Poll<Option<usize>> {
        if self.traffic.is_open() {
            return Poll::Ready(None);
        }
        let limit = self.traffic.poll_read_limit(context);
        // Asked afterwards, so that a call that is authorized meanwhile has either been seen or wakes this task.
        if self.peer.permit.is_authenticated() {
            self.traffic.open();
            return Poll::Ready(None);
        }
        limit
    }

    /// Reads into the buffer, at most so many bytes.
    fn poll_read_some(
        &mut self,
        limit: Option<usize>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let stream = Pin::new(&mut self.stream);
        let Some(limit) = limit.filter(|limit| *limit < buffer.remaining()) else {
            return stream.poll_read(context, buffer);
        };
        let mut part = ReadBuf::new(buffer.initialize_unfilled_to(limit));
        ready!(stream.poll_read(context, &mut part))?;
        let read = part.filled().len();
        buffer.advance(read);
        Poll::Ready(Ok(()))
    }

    /// Follows what was read, before HTTP/2 sees it.
    fn note_read(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.count_preface(bytes.len());
        self.traffic.note_read(bytes).map_err(flooded)
    }

    /// Follows what was written of the bytes.
    fn note_write(
        &mut self,
        written: Poll<io::Result<usize>>,
        bytes: &[IoSlice<'_>],
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        self.is_blocked = written.is_pending();
        let Poll::Ready(written) = written else { return self.poll_close(context).map(Err) };
        let mut left = written.as_ref().copied().unwrap_or_default();
        for slice in bytes {
            let passed = left.min(slice.len());
            self.traffic.note_written(&slice[..passed]);
            left -= passed;
        }
        Poll::Ready(written)
    }

    fn count_preface(&mut self, read: usize) {
        if let Some(preface) = &mut self.preface {
            preface.missing_bytes = preface.missing_bytes.saturating_sub(read);
            if preface.missing_bytes == 0 {
                self.preface = None;
            }
        }
    }
}

impl CloseOnRevocation {
    fn new(certs: &PeerCerts) -> Self {
        Self { revoked: Box::pin(certs.revoked.clone().cancelled_owned()), grace: None, is_closed: false }
    }

    fn poll_close(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_closed {
            return Poll::Ready(());
        }
        if self.grace.is_none() {
            ready!(self.revoked.as_mut().poll(context));
        }
        ready!(self.grace.get_or_insert_with(|| Box::pin(sleep(REVOKED_GRACE))).as_mut().poll(context));
        metrics::connection_closed(CloseReason::CertificateRevoked);
        self.is_closed = true;
        Poll::Ready(())
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
        self.check_revocation(context)?;
        if let Poll::Ready(limit) = self.poll_read_limit(context) {
            let before = buffer.filled().len();
            if let Poll::Ready(read) = self.poll_read_some(limit, context, buffer) {
                let noted = read.and_then(|()| self.note_read(&buffer.filled()[before..]));
                return Poll::Ready(noted);
            }
        }
        self.poll_close(context).map(Err)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check_revocation(context)?;
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.note_write(written, &[IoSlice::new(bytes)], context)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check_revocation(context)?;
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        // TLS takes a write before the socket has room for it.
        self.is_blocked = flushed.is_pending();
        if flushed.is_ready() {
            return flushed;
        }
        self.poll_close(context).map(Err)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check_revocation(context)?;
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, slices);
        self.note_write(written, slices, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream, DuplexStream, duplex};

    use super::{
        super::{connection_limit::ConnectionLimit, frames::tests::frame},
        *,
    };

    const TIMEOUT: Duration = Duration::from_mins(1);

    fn connected(room: usize) -> (DuplexStream, Connection) {
        let (client, stream) = duplex(room);
        let peer = Peer::new(ConnectionLimit::new(1).acquire().unwrap());
        let connection = Connection::new(Box::new(stream), peer, Instant::now() + TIMEOUT, TIMEOUT);
        (client, connection)
    }

    /// What a client sends first, and then frames of a hundred calls.
    fn hundred_calls() -> Vec<u8> {
        let mut bytes = vec![b'P'; PREFACE];
        bytes.extend(frame(4, 0, 0, 12));
        for call in 0..100 {
            bytes.extend(frame(1, 4, 2 * call + 1, 40));
            bytes.extend(frame(0, 1, 2 * call + 1, 300));
        }
        bytes
    }

    async fn read(connection: &mut Connection, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        poll_fn(|context| Pin::new(&mut *connection).poll_read(context, &mut buffer)).await?;
        Ok(buffer.filled().len())
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_held_back_of_a_client_passes_whole_once_a_call_is_authorized() {
        for size in [1, 7, 100, 16_384] {
            let (mut client, mut connection) = connected(1 << 20);
            let (sent, peer) = (hundred_calls(), connection.peer.clone());
            client.write_all(&sent).await.unwrap();
            let (mut passed, mut buffer) = (Vec::<u8>::new(), vec![0; size]);
            while let Ok(Ok(read)) =
                tokio::time::timeout(Duration::from_secs(1), read(&mut connection, &mut buffer)).await
            {
                passed.extend(&buffer[..read]);
            }
            // The first call, and the header of its body.
            assert_eq!(passed, sent[..PREFACE + 21 + 49 + 9], "in pieces of {size}");
            let reading = async {
                while passed.len() < sent.len() {
                    let read = read(&mut connection, &mut buffer).await.unwrap();
                    passed.extend(&buffer[..read]);
                }
            };
            let authorizing = async {
                tokio::task::yield_now().await;
                let _call = peer.calls.begin();
                peer.mark_authenticated();
                std::future::pending::<()>().await;
            };
            tokio::select! {
                biased;
                () = reading => {}
                () = authorizing => {}
            }
            assert!(passed == sent, "in pieces of {size}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_left_after_a_while_and_one_that_reads_is_not() {
        let (mut client, mut connection) = connected(100);
        client.write_all(&[0; PREFACE_BYTES]).await.unwrap();
        while connection.preface.is_some() {
            read(&mut connection, &mut [0; 100]).await.unwrap();
        }
        let mut write = async |bytes: &[u8]| {
            poll_fn(|context| Pin::new(&mut connection).poll_write(context, bytes)).await
        };
        for _ in 0..10 {
            assert_eq!(write(&[0; 100]).await.unwrap(), 100);
            tokio::time::advance(TIMEOUT * 2).await;
            client.read_exact(&mut [0; 100]).await.unwrap();
        }
        assert_eq!(write(&[0; 100]).await.unwrap(), 100);
        let began = Instant::now();
        assert_eq!(write(&[0; 100]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_buffer_has_taken_waits_for_the_client_as_well() {
        let (mut client, stream) = duplex(100);
        let peer = Peer::new(ConnectionLimit::new(1).acquire().unwrap());
        let stream = Box::new(BufStream::new(stream));
        let mut connection = Connection::new(stream, peer, Instant::now() + TIMEOUT, TIMEOUT);
        client.write_all(&[0; PREFACE_BYTES]).await.unwrap();
        while connection.preface.is_some() {
            read(&mut connection, &mut [0; 100]).await.unwrap();
        }
        connection.write_all(&[0; 200]).await.unwrap();
        let mut taken = [0; 200];
        let (flushed, _) = tokio::join!(connection.flush(), client.read_exact(&mut taken));
        flushed.unwrap();
        let idle = tokio::time::timeout(TIMEOUT * 3, read(&mut connection, &mut taken)).await;
        assert!(idle.is_err(), "nothing waits for the client");
        connection.write_all(&[0; 200]).await.unwrap();
        let began = Instant::now();
        assert_eq!(connection.flush().await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), TIMEOUT.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn frames_without_end_end_the_connection() {
        let (mut client, mut connection) = connected(1 << 20);
        client.write_all(&[0; PREFACE]).await.unwrap();
        client.write_all(&frame(2, 0, 1, 5).repeat(1000)).await.unwrap();
        let (mut passed, mut buffer) = (0, [0; 4096]);
        let fault = loop {
            match read(&mut connection, &mut buffer).await {
                Ok(read) => passed += read,
                Err(fault) => break fault,
            }
        };
        assert_eq!(fault.kind(), io::ErrorKind::ConnectionAborted);
        assert!(passed < 1000 * 14);
    }
}
