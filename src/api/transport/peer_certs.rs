//! The client certificates of open connections, checked again for as long as the connections last.
//!
//! A handshake verifies a certificate once. Here it is verified again when the client CA or the CRL has changed, and
//! when a certificate of the chain has expired. If it fails, the connection's certificate counts as revoked: no further
//! call is authorized on the connection, its streams end after what they have handed over is answered, and after a
//! grace period the connection is closed.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, Weak,
    atomic::{AtomicU64, Ordering},
};

use tokio_rustls::rustls::{
    pki_types::{CertificateDer, UnixTime},
    server::danger::ClientCertVerifier,
};
use tokio_util::sync::CancellationToken;

use crate::base::x509;

/// Pause between two checks of a chain in which a certificate has expired. To verify signatures each second would cost
/// too much.
const RECHECK_INTERVAL: u64 = 60;

/// The certificate chain of one client: its own certificate first.
#[derive(Debug)]
pub(in crate::api) struct PeerCerts {
    chain: Vec<CertificateDer<'static>>,
    /// The next check without a change of CA or CRL is due after this time, in seconds since the Unix epoch. At first
    /// it is when the first certificate of the chain expires.
    recheck_after: AtomicU64,
    /// Cancelled once the verifier in force rejects the chain: it is revoked or expired, or its authority is not
    /// trusted.
    pub(super) revoked: CancellationToken,
}

impl PeerCerts {
    pub(super) fn new(chain: &[CertificateDer<'_>]) -> Self {
        let chain: Vec<_> = chain.iter().cloned().map(CertificateDer::into_owned).collect();
        let expires = chain.iter().filter_map(|der| x509::Certificate::read(der));
        let expires = expires.map(|read| u64::try_from(read.expires.seconds()).unwrap_or_default()).min();
        let recheck_after = AtomicU64::new(expires.unwrap_or(u64::MAX));
        Self { chain, recheck_after, revoked: CancellationToken::new() }
    }

    /// Verifies the chain again, and revokes it if it fails. Returns whether this call has revoked it.
    pub(super) fn recheck(&self, verifier: &dyn ClientCertVerifier, now: UnixTime) -> bool {
        let Some((leaf, rest)) = self.chain.split_first() else { return false };
        let is_valid = verifier.verify_client_cert(leaf, rest, now).is_ok();
        if is_valid && self.is_recheck_due(now) {
            // The expired certificate is one that the chain does not need. Another may expire later.
            self.recheck_after.store(now.as_secs() + RECHECK_INTERVAL, Ordering::Relaxed);
        }
        let is_newly_revoked = !is_valid && !self.revoked.is_cancelled();
        if is_newly_revoked {
            self.revoked.cancel();
        }
        is_newly_revoked
    }

    fn is_recheck_due(&self, now: UnixTime) -> bool {
        self.recheck_after.load(Ordering::Relaxed) < now.as_secs()
    }
}

/// The certificate chains of all open connections.
#[derive(Debug, Default)]
pub(super) struct PeerCertRegistry(Mutex<Vec<Weak<PeerCerts>>>);

impl PeerCertRegistry {
    pub(super) fn register(&self, certs: &Arc<PeerCerts>) {
        let mut all = self.lock();
        // Closed connections are removed before the list would grow, so that it stays within twice the open ones.
        if all.len() == all.capacity() {
            all.retain(|certs| certs.strong_count() > 0);
        }
        all.push(Arc::downgrade(certs));
    }

    /// Verifies all chains again if CA or CRL have changed, else those with an expired certificate. Returns how many of
    /// them this call has revoked.
    pub(super) fn recheck(
        &self,
        verifier: &dyn ClientCertVerifier,
        has_verifier_changed: bool,
        now: UnixTime,
    ) -> usize {
        // The lock is released first: to verify signatures takes time, and new connections register meanwhile.
        let all: Vec<_> = self.lock().iter().filter_map(Weak::upgrade).collect();
        let due = all.iter().filter(|certs| has_verifier_changed || certs.is_recheck_due(now));
        due.filter(|certs| !certs.revoked.is_cancelled() && certs.recheck(verifier, now)).count()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<PeerCerts>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use tokio_rustls::rustls::{
        DigitallySignedStruct, DistinguishedName, Error, SignatureScheme,
        client::danger::HandshakeSignatureValid, server::danger::ClientCertVerified,
    };

    use super::*;

    /// A verifier that accepts the certificates with these first bytes.
    #[derive(Debug)]
    struct AcceptsOnly(&'static [u8]);

    impl ClientCertVerifier for AcceptsOnly {
        fn root_hint_subjects(&self) -> &[DistinguishedName] {
            &[]
        }

        fn verify_client_cert(
            &self,
            leaf: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: UnixTime,
        ) -> Result<ClientCertVerified, Error> {
            let is_accepted = self.0.contains(&leaf[0]);
            is_accepted.then(ClientCertVerified::assertion).ok_or(Error::General("no".to_owned()))
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            unreachable!("no handshake takes place")
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            unreachable!("no handshake takes place")
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            Vec::new()
        }
    }

    fn certs(first: u8, expires: u64) -> Arc<PeerCerts> {
        let chain = [CertificateDer::from(vec![first])];
        Arc::new(PeerCerts { recheck_after: expires.into(), ..PeerCerts::new(&chain) })
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
    }

    #[test]
    fn after_a_change_chains_that_are_not_accepted_are_revoked() {
        let registry = PeerCertRegistry::default();
        let all = [certs(1, 100), certs(2, 100)];
        for certs in &all {
            registry.register(certs);
        }
        assert_eq!(registry.recheck(&AcceptsOnly(&[1]), false, at(5)), 0, "nothing has changed");
        assert_eq!(registry.recheck(&AcceptsOnly(&[1]), true, at(5)), 1);
        assert_eq!(all.each_ref().map(|certs| certs.revoked.is_cancelled()), [false, true]);
        assert_eq!(registry.recheck(&AcceptsOnly(&[]), true, at(6)), 1, "each is revoked once");
    }

    #[test]
    fn an_expired_chain_is_checked_without_a_change() {
        let registry = PeerCertRegistry::default();
        let all = [certs(1, 100), certs(1, 200)];
        for certs in &all {
            registry.register(certs);
        }
        assert_eq!(registry.recheck(&AcceptsOnly(&[]), false, at(100)), 0, "its last second");
        assert_eq!(
            registry.recheck(&AcceptsOnly(&[1]), false, at(101)),
            0,
            "it is valid without the expired certificate"
        );
        assert_eq!(registry.recheck(&AcceptsOnly(&[]), false, at(161)), 0, "it is not checked each second");
        assert_eq!(registry.recheck(&AcceptsOnly(&[]), false, at(162)), 1);
        assert!(all[0].revoked.is_cancelled() && !all[1].revoked.is_cancelled());
    }

    #[test]
    fn closed_connections_are_forgotten() {
        let registry = PeerCertRegistry::default();
        let stays = certs(1, 100);
        registry.register(&stays);
        for _ in 0..10_000 {
            registry.register(&certs(2, 100));
        }
        assert!(registry.lock().capacity() < 100);
        assert_eq!(registry.recheck(&AcceptsOnly(&[]), true, at(1)), 1);
    }
}
