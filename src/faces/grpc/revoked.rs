//! Lists of the certificates that their authorities have withdrawn (PEM), judged before they are put in force.
//!
//! What would shut everyone out, or let in whoever is on a list, is a fault of the file and is told when it is read:
//! a connection that is refused tells its client alone.

use tokio_rustls::rustls::{
    crypto::ring,
    pki_types::{AlgorithmIdentifier, CertificateDer, CertificateRevocationListDer, pem::PemObject},
};

use crate::{
    base::x509::{Authority, RevocationList},
    domain::time::Timestamp,
};

/// Of the authorities of clients.
#[derive(Debug, Default)]
pub(super) struct Lists {
    pub(super) all: Vec<CertificateRevocationListDer<'static>>,
    /// When the first of them shall be replaced.
    pub(super) expire: Option<Timestamp>,
}

impl Lists {
    pub(super) fn read(pem: &[u8], authorities: &[CertificateDer<'_>]) -> Result<Self, String> {
        let all: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem).collect();
        let all = all.map_err(|fault| fault.to_string())?;
        if all.is_empty() {
            return Err("there is no list in the file".to_owned());
        }
        let read: Option<Vec<_>> = all.iter().map(|der| RevocationList::read(der)).collect();
        let read = read.ok_or("a list cannot be read, or does not say until when it is good")?;
        judge(&read, authorities)?;
        let expire = read.iter().map(|list| list.expires).min();
        Ok(Self { all, expire })
    }
}

fn judge(lists: &[RevocationList<'_>], authorities: &[CertificateDer<'_>]) -> Result<(), String> {
    let authorities: Vec<_> = authorities.iter().filter_map(|der| Authority::read(der)).collect();
    for (place, list) in lists.iter().enumerate() {
        let name = list.issuer();
        // rustls looks into the first one alone.
        if lists.iter().take(place).any(|other| other.has_issuer_of(list)) {
            return Err(format!("there are two lists of `{name}`: leave the newer one"));
        }
        let mut named = authorities.iter().filter(|authority| list.is_named(authority)).peekable();
        if named.peek().is_some() && !named.any(|authority| is_signed_by(list, authority)) {
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

fn is_signed_by(list: &RevocationList<'_>, authority: &Authority<'_>) -> bool {
    let is = |algorithm: AlgorithmIdentifier, found: &[u8]| *algorithm == *found;
    let known = ring::default_provider().signature_verification_algorithms.all;
    known.iter().any(|algorithm| {
        is(algorithm.signature_alg_id(), list.signature_algorithm)
            && is(algorithm.public_key_alg_id(), authority.key_algorithm)
            && algorithm.verify_signature(authority.key, list.signed, list.signature).is_ok()
    })
}
