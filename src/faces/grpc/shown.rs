//! The certificates that connections have shown, looked at again as soon as it is not certain any more that they would
//! be taken: when what they are held against has changed, and when one of them ends.
//!
//! A connection whose certificate would not be taken is withdrawn: no further call passes on it, its streams end with
//! what they have handed over, and after a moment it is closed.

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

/// A client's certificate, and those that lead from it to an authority.
#[derive(Debug)]
pub(super) struct Shown {
    chain: Vec<CertificateDer<'static>>,
    /// When it is to be looked at again though nothing has changed, in seconds since the Unix epoch: when the first of
    /// them has ended.
    look_after: AtomicU64,
    pub(super) withdrawn: CancellationToken,
}

impl Shown {
    pub(super) fn new(chain: &[CertificateDer<'_>]) -> Self {
        let chain: Vec<_> = chain.iter().cloned().map(CertificateDer::into_owned).collect();
        let expires = chain.iter().filter_map(|der| x509::Certificate::read(der));
        let expires = expires.map(|read| u64::try_from(read.expires.seconds()).unwrap_or_default()).min();
        let look_after = AtomicU64::new(expires.unwrap_or(u64::MAX));
        Self { chain, look_after, withdrawn: CancellationToken::new() }
    }

    /// Whether it is withdrawn by this look.
    pub(super) fn look(&self, verifier: &dyn ClientCertVerifier, now: UnixTime) -> bool {
        let Some((leaf, rest)) = self.chain.split_first() else { return false };
        let is_taken = verifier.verify_client_cert(leaf, rest, now).is_ok();
        if is_taken && self.is_due(now) {
            // One that has ended is not needed; another may be.
            self.look_after.store(now.as_secs() + PAUSE, Ordering::Relaxed);
        }
        let is_news = !is_taken && !self.withdrawn.is_cancelled();
        if is_news {
            self.withdrawn.cancel();
        }
        is_news
    }

    fn is_due(&self, now: UnixTime) -> bool {
        self.look_after.load(Ordering::Relaxed) < now.as_secs()
    }
}

/// Between two looks at a chain in which something has ended. To check signatures each second would take too long.
const PAUSE: u64 = 60;

/// Those of all connections that are there.
#[derive(Debug, Default)]
pub(super) struct Shelf(Mutex<Vec<Weak<Shown>>>);

impl Shelf {
    pub(super) fn put(&self, shown: &Arc<Shown>) {
        let mut all = self.lock();
        // So that it grows with the connections that are there, and not with those that were.
        if all.len() == all.capacity() {
            all.retain(|shown| shown.strong_count() > 0);
        }
        all.push(Arc::downgrade(shown));
    }

    /// Looks at all of them if what they are held against has changed, else at those that end. Returns how many are
    /// withdrawn.
    pub(super) fn look(&self, verifier: &dyn ClientCertVerifier, has_changed: bool, now: UnixTime) -> usize {
        // Without the lock: to check signatures takes time, and connections come in meanwhile.
        let all: Vec<_> = self.lock().iter().filter_map(Weak::upgrade).collect();
        let doubtful = all.iter().filter(|shown| has_changed || shown.is_due(now));
        doubtful.filter(|shown| !shown.withdrawn.is_cancelled() && shown.look(verifier, now)).count()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Weak<Shown>>> {
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

    /// Takes the certificates with these first bytes.
    #[derive(Debug)]
    struct Takes(&'static [u8]);

    impl ClientCertVerifier for Takes {
        fn root_hint_subjects(&self) -> &[DistinguishedName] {
            &[]
        }

        fn verify_client_cert(
            &self,
            leaf: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: UnixTime,
        ) -> Result<ClientCertVerified, Error> {
            let is_taken = self.0.contains(&leaf[0]);
            is_taken.then(ClientCertVerified::assertion).ok_or(Error::General("no".to_owned()))
        }

        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            unreachable!("no one shakes hands")
        }

        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            unreachable!("no one shakes hands")
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            Vec::new()
        }
    }

    fn shown(first: u8, expires: u64) -> Arc<Shown> {
        let chain = [CertificateDer::from(vec![first])];
        Arc::new(Shown { look_after: expires.into(), ..Shown::new(&chain) })
    }

    fn at(seconds: u64) -> UnixTime {
        UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
    }

    #[test]
    fn after_a_change_those_are_withdrawn_that_would_not_be_taken() {
        let shelf = Shelf::default();
        let all = [shown(1, 100), shown(2, 100)];
        for shown in &all {
            shelf.put(shown);
        }
        assert_eq!(shelf.look(&Takes(&[1]), false, at(5)), 0, "nothing has changed");
        assert_eq!(shelf.look(&Takes(&[1]), true, at(5)), 1);
        assert_eq!(all.each_ref().map(|shown| shown.withdrawn.is_cancelled()), [false, true]);
        assert_eq!(shelf.look(&Takes(&[]), true, at(6)), 1, "each is told once");
    }

    #[test]
    fn what_ends_is_looked_at_without_a_change() {
        let shelf = Shelf::default();
        let all = [shown(1, 100), shown(1, 200)];
        for shown in &all {
            shelf.put(shown);
        }
        assert_eq!(shelf.look(&Takes(&[]), false, at(100)), 0, "its last second");
        assert_eq!(shelf.look(&Takes(&[1]), false, at(101)), 0, "it is taken without what has ended");
        assert_eq!(shelf.look(&Takes(&[]), false, at(161)), 0, "which is not looked at each second");
        assert_eq!(shelf.look(&Takes(&[]), false, at(162)), 1);
        assert!(all[0].withdrawn.is_cancelled() && !all[1].withdrawn.is_cancelled());
    }

    #[test]
    fn connections_that_were_are_forgotten() {
        let shelf = Shelf::default();
        let stays = shown(1, 100);
        shelf.put(&stays);
        for _ in 0..10_000 {
            shelf.put(&shown(2, 100));
        }
        assert!(shelf.lock().capacity() < 100);
        assert_eq!(shelf.look(&Takes(&[]), true, at(1)), 1);
    }
}
