//! Certificate revocation lists (RFC 5280, PEM) of the authorities in `client_ca`, validated before they come into
//! force.
//!
//! A list that would refuse every client, or accept a revoked certificate, is reported as a fault of the file when the
//! file is read. At a handshake the refused client alone would see it.

use tokio_rustls::rustls::{
    crypto::ring,
    pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject},
};

use crate::{
    base::x509::{Authority, RevocationList},
    domain::time::Timestamp,
};

/// The content of `client_crl`: one list of each authority in `client_ca`.
#[derive(Debug, Default)]
pub(super) struct RevocationLists {
    pub(super) lists: Vec<CertificateRevocationListDer<'static>>,
    /// The earliest time at which one of the lists should be replaced. `None` without lists.
    pub(super) next_update: Option<Timestamp>,
}

impl RevocationLists {
    pub(super) fn read(pem: &[u8], authorities: &[CertificateDer<'_>]) -> Result<Self, String> {
        let lists: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
        let lists = lists.map_err(|fault| fault.to_string())?;
        if lists.is_empty() {
            return Err("there is no list in the file".to_owned());
        }
        let read: Option<Vec<_>> = lists.iter().map(|der| RevocationList::read(der)).collect();
        let read = read.ok_or("a list cannot be read, or does not say until when it is good")?;
        validate(&read, authorities)?;
        let next_update = read.iter().map(|list| list.expires).min();
        Ok(Self { lists, next_update })
    }
}

/// Checks that each authority has exactly one list, and has signed it.
fn validate(lists: &[RevocationList<'_>], authorities: &[CertificateDer<'_>]) -> Result<(), String> {
    let authorities: Vec<_> = authorities.iter().filter_map(|der| Authority::read(der)).collect();
    let algorithms = ring::default_provider().signature_verification_algorithms.all;
    for (index, list) in lists.iter().enumerate() {
        let name = list.issuer();
        // Of two lists of one issuer rustls would read the first and ignore the other.
        if lists.iter().take(index).any(|other| other.has_issuer_of(list)) {
            return Err(format!("there are two lists of `{name}`: leave the newer one"));
        }
        let mut named = authorities.iter().filter(|authority| list.is_named(authority)).peekable();
        if named.peek().is_some() && !named.any(|authority| list.is_signed_by(authority, algorithms)) {
            return Err(format!("the list of `{name}` is not signed by it"));
        }
    }
    let without = authorities.iter().find(|authority| !lists.iter().any(|list| list.is_named(authority)));
    match without {
        Some(authority) => Err(format!(
            "there is no list of `{}`, which is in client_ca: all that it has signed would be refused",
            authority.name()
        )),
        None => Ok(()),
    }
}
