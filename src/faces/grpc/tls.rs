//! What TLS is made of: the agent's certificate, and whose certificates of clients are taken.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use tokio_rustls::rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{
        NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier,
    },
};
use tracing::error;

use super::revoked::Lists;
use crate::{
    base::{metrics, x509},
    domain::time::Timestamp,
};

/// Made of files as they are at the moment.
pub(super) struct Tls {
    pub(super) config: Arc<ServerConfig>,
    /// Where clients must show a certificate.
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
    expires: Vec<(&'static str, x509::Certificate)>,
    /// When the first of the lists of withdrawn certificates shall be replaced.
    lists_expire: Option<Timestamp>,
    is_told: AtomicBool,
}

impl Tls {
    /// From a certificate with its chain and its key; and if clients must have a certificate, their authorities, and what
    /// these have withdrawn.
    pub(super) fn make(files: &[Vec<u8>]) -> Result<Self, String> {
        let (Some(chain), Some(key)) = (files.first(), files.get(1)) else {
            return Err("there must be a certificate and a key".to_owned());
        };
        let chain = certificates(chain).map_err(|fault| format!("the certificate: {fault}"))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|fault| format!("the key: {fault}"))?;
        let mut expires: Vec<_> = leaf(&chain).map(|leaf| ("cert", leaf)).into_iter().collect();
        let provider = Arc::new(ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|fault| fault.to_string())?;
        let (mut verifier, mut lists_expire) = (None, None);
        let builder = match files.get(2) {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let authorities = certificates(pem).map_err(|fault| format!("the client_ca: {fault}"))?;
                // Of several, the old and the new one say, the last to end counts.
                let read = authorities.iter().filter_map(|der| x509::Certificate::read(der));
                expires.extend(read.max_by_key(|read| read.expires).map(|last| ("client_ca", last)));
                let lists =
                    files.get(3).map_or_else(|| Ok(Lists::default()), |pem| Lists::read(pem, &authorities));
                let lists = lists.map_err(|fault| format!("the client_crl: {fault}"))?;
                lists_expire = lists.expire;
                let made = verify_with(authorities, lists)?;
                verifier = Some(made.clone());
                builder.with_client_cert_verifier(made)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|fault| fault.to_string())?;
        config.alpn_protocols.push(b"h2".to_vec());
        if verifier.is_some() {
            // A session that goes on is not asked for its certificate again, which may have been withdrawn.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self { config: config.into(), verifier, expires, lists_expire, is_told: AtomicBool::new(false) })
    }

    /// Shows until when all of it is good.
    pub(super) fn note(&self) {
        for (file, certificate) in &self.expires {
            metrics::certificate_expires(file, certificate.expires);
        }
        if let Some(expire) = self.lists_expire {
            metrics::crl_expires(expire);
        }
    }

    /// Says once that a list is older than it should be. It stays in force: what it withdraws stays withdrawn, and to let
    /// nobody in any more would lose usage for a job that did not run.
    pub(super) fn note_old_lists(&self, now: UnixTime) {
        let is_old = |expire: Timestamp| u64::try_from(expire.seconds()).unwrap_or_default() <= now.as_secs();
        if self.lists_expire.is_some_and(is_old) && !self.is_told.swap(true, Ordering::Relaxed) {
            let expired = self.lists_expire.map(|expire| expire.to_string());
            error!(
                expired,
                "grpc.tls.client_crl should have been replaced: what is withdrawn since then is not known"
            );
        }
    }
}

fn verify_with(
    authorities: Vec<CertificateDer<'static>>,
    lists: Lists,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities);
    // With lists, each certificate from the client's up to the authority's must be one of an issuer who has a list. That
    // a list is old is not for the door to judge.
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::new(ring::default_provider()))
            .with_crls(lists.all)
            .build();
    verifier.map_err(|fault| {
        let file =
            if matches!(fault, VerifierBuilderError::InvalidCrl(_)) { "client_crl" } else { "client_ca" };
        format!("the {file}: {fault}")
    })
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let certificates = read.map_err(|fault| fault.to_string())?;
    if certificates.is_empty() { Err("there is none in the file".to_owned()) } else { Ok(certificates) }
}

fn leaf(chain: &[CertificateDer<'_>]) -> Option<x509::Certificate> {
    chain.first().and_then(|der| x509::Certificate::read(der))
}
