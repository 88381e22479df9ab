//! The server's TLS configuration: its own certificate, and which client certificates it accepts.

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

use super::crl::RevocationLists;
use crate::{
    base::{metrics, x509},
    domain::time::Timestamp,
};

/// A TLS configuration, made of one state of the files of `grpc.tls`. A change of the files makes a new one.
pub(super) struct Tls {
    pub(super) config: Arc<ServerConfig>,
    /// Verifier of client certificates. `None` if clients need none.
    pub(super) verifier: Option<Arc<dyn ClientCertVerifier>>,
    /// The certificates whose expiry is reported, by the key of their file.
    certificates: Vec<(&'static str, x509::Certificate)>,
    /// When the first of the revocation lists should be replaced.
    crl_next_update: Option<Timestamp>,
    is_overdue_crl_logged: AtomicBool,
}

/// What `client_ca` and `client_crl` make.
struct ClientAuth {
    verifier: Arc<dyn ClientCertVerifier>,
    /// The authority's certificate that expires last.
    ca: Option<x509::Certificate>,
    crl_next_update: Option<Timestamp>,
}

impl Tls {
    /// Takes the contents of `cert` and `key`, then of `client_ca` if clients need a certificate, then of `client_crl`
    /// if there is one.
    pub(super) fn from_pem(files: &[Vec<u8>]) -> Result<Self, String> {
        let (Some(chain), Some(key)) = (files.first(), files.get(1)) else {
            return Err("there must be a certificate and a key".to_owned());
        };
        let chain = certificates(chain).map_err(|fault| format!("the certificate: {fault}"))?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|fault| format!("the key: {fault}"))?;
        let mut expiring: Vec<_> = leaf(&chain).map(|leaf| ("cert", leaf)).into_iter().collect();
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|fault| fault.to_string())?;
        let client_ca = files.get(2);
        let client_auth = client_ca.map(|pem| ClientAuth::from_pem(pem, files.get(3))).transpose()?;
        let (mut verifier, mut crl_next_update) = (None, None);
        let builder = match client_auth {
            None => builder.with_no_client_auth(),
            Some(client_auth) => {
                expiring.extend(client_auth.ca.map(|ca| ("client_ca", ca)));
                verifier = Some(client_auth.verifier.clone());
                crl_next_update = client_auth.crl_next_update;
                builder.with_client_cert_verifier(client_auth.verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|fault| fault.to_string())?;
        config.alpn_protocols.push(b"h2".to_vec());
        if verifier.is_some() {
            // No session resumption: a resumed session shows no certificate, which may have been revoked since.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self {
            config: config.into(),
            verifier,
            certificates: expiring,
            crl_next_update,
            is_overdue_crl_logged: AtomicBool::new(false),
        })
    }

    /// Sets the metrics that tell when certificates and revocation lists expire.
    pub(super) fn report_expiry(&self) {
        for (file, certificate) in &self.certificates {
            metrics::certificate_expires(file, certificate.expires);
        }
        if let Some(next_update) = self.crl_next_update {
            metrics::crl_expires(next_update);
        }
    }

    /// Logs once that a revocation list is past its next update. The list stays in force: what it revokes stays
    /// revoked, and to refuse every client instead would lose usage because a job did not run.
    pub(super) fn log_overdue_crl(&self, now: UnixTime) {
        let is_overdue = |at: Timestamp| u64::try_from(at.seconds()).unwrap_or_default() <= now.as_secs();
        if self.crl_next_update.is_some_and(is_overdue)
            && !self.is_overdue_crl_logged.swap(true, Ordering::Relaxed)
        {
            let expired = self.crl_next_update.map(|at| at.to_string());
            error!(
                expired,
                "grpc.tls.client_crl should have been replaced: what was revoked since then is not known"
            );
        }
    }
}

impl ClientAuth {
    fn from_pem(client_ca: &[u8], client_crl: Option<&Vec<u8>>) -> Result<Self, String> {
        let authorities = certificates(client_ca).map_err(|fault| format!("the client_ca: {fault}"))?;
        // While an authority is replaced, the file holds the old one and the new one.
        let read = authorities.iter().filter_map(|der| x509::Certificate::read(der));
        let ca = read.max_by_key(|read| read.expires);
        let crl = client_crl
            .map_or_else(|| Ok(RevocationLists::default()), |pem| RevocationLists::read(pem, &authorities));
        let crl = crl.map_err(|fault| format!("the client_crl: {fault}"))?;
        let crl_next_update = crl.next_update;
        Ok(Self { verifier: client_verifier(authorities, crl)?, ca, crl_next_update })
    }
}

fn client_verifier(
    authorities: Vec<CertificateDer<'static>>,
    crl: RevocationLists,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(authorities);
    // With lists, rustls refuses a certificate if it, or one between it and the authority, is of an issuer without a
    // list. By default it does not enforce the next update of a list, as `log_overdue_crl` wants it.
    let verifier =
        WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::new(ring::default_provider()))
            .with_crls(crl.lists)
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
