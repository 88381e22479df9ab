//! The revocation of what a call was authenticated by: the certificate of its connection, or its token.

use std::pin::Pin;

use tokio_util::sync::CancellationToken;
use tonic::Status;

/// Signals that end the authentication of one call. A call that needs no authentication has none.
#[derive(Debug, Default)]
pub(super) struct Revocation {
    /// Cancelled once the certificate of the connection is revoked.
    pub(super) certificate: Option<CancellationToken>,
    /// Cancelled once the call's token is revoked.
    pub(super) token: Option<CancellationToken>,
}

/// Resolves at the revocation, with the status that the client is told.
pub(super) type Revoked = Pin<Box<dyn Future<Output = Status> + Send>>;

impl Revocation {
    /// Fails if the certificate or the token is revoked already.
    pub(super) fn check(&self) -> Result<(), Status> {
        let is_cancelled =
            |signal: Option<&CancellationToken>| signal.is_some_and(CancellationToken::is_cancelled);
        if is_cancelled(self.certificate.as_ref()) {
            Err(certificate_revoked())
        } else if is_cancelled(self.token.as_ref()) {
            Err(token_revoked())
        } else {
            Ok(())
        }
    }

    /// `None` if there is nothing to revoke.
    pub(super) fn wait(self) -> Option<Revoked> {
        let Self { certificate, token } = self;
        if certificate.is_none() && token.is_none() {
            return None;
        }
        Some(Box::pin(async move {
            tokio::select! {
                () = cancelled(certificate) => certificate_revoked(),
                () = cancelled(token) => token_revoked(),
            }
        }))
    }
}

async fn cancelled(signal: Option<CancellationToken>) {
    match signal {
        Some(signal) => signal.cancelled().await,
        None => std::future::pending().await,
    }
}

/// `UNAVAILABLE`, so that clients connect again: they may have a new certificate by now.
fn certificate_revoked() -> Status {
    Status::unavailable(
        "the certificate of this connection is revoked, expired or no longer trusted: connect again with a valid one",
    )
}

fn token_revoked() -> Status {
    Status::unauthenticated("the token of this call has been revoked")
}
