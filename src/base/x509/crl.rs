//! Certificate revocation lists (CRL, RFC 5280).
//!
//! Which certificates are revoked is for rustls to read. What is looked at here is who issued a CRL, whether the issuer
//! signed it, and when the next one is due.

use tokio_rustls::rustls::pki_types::{self, SignatureVerificationAlgorithm};
use x509_parser::{
    asn1_rs::{Any, BitString, FromDer, Oid},
    certificate::X509Certificate,
    parse_x509_crl,
    revocation_list::CertificateRevocationList,
    x509::{AlgorithmIdentifier, X509Name},
};

use super::{common_names, parse, timestamp};
use crate::domain::time::Timestamp;

/// A certificate authority (CA), which signs certificates and CRLs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Authority<'a>(X509Certificate<'a>);

/// A certificate revocation list.
#[derive(Clone, Debug)]
pub(crate) struct RevocationList<'a> {
    crl: CertificateRevocationList<'a>,
    /// The moment at which the next list is due.
    pub expires: Timestamp,
}

impl<'a> Authority<'a> {
    /// Reads a CA's own certificate (DER).
    pub(crate) fn read(der: &'a [u8]) -> Option<Self> {
        parse(der).map(Self)
    }

    /// The common name.
    pub(crate) fn name(&self) -> String {
        common_name(self.0.subject())
    }
}

impl<'a> RevocationList<'a> {
    /// Reads DER; `None` if it is no CRL, or does not say when the next one is due.
    pub(crate) fn read(der: &'a [u8]) -> Option<Self> {
        let (_, crl) = parse_x509_crl(der).ok()?;
        let expires = timestamp(crl.next_update()?);
        Some(Self { crl, expires })
    }

    /// The issuer's common name.
    pub(crate) fn issuer(&self) -> String {
        common_name(self.crl.issuer())
    }

    /// Whether its issuer has the authority's name.
    pub(crate) fn is_named(&self, authority: &Authority<'_>) -> bool {
        self.crl.issuer().as_raw() == authority.0.subject().as_raw()
    }

    pub(crate) fn has_issuer_of(&self, other: &RevocationList<'_>) -> bool {
        self.crl.issuer().as_raw() == other.crl.issuer().as_raw()
    }

    /// Whether its signature is the authority's, by one of these algorithms.
    pub(crate) fn is_signed_by(
        &self,
        authority: &Authority<'_>,
        algorithms: &[&dyn SignatureVerificationAlgorithm],
    ) -> bool {
        let Self { crl, .. } = self;
        let public_key = authority.0.public_key();
        let (Some(key), Some(signature)) =
            (whole_bytes(&public_key.subject_public_key), whole_bytes(&crl.signature_value))
        else {
            return false;
        };
        // RFC 5280, 5.1.1.2: the algorithm stands once outside of what is signed and once within, and both agree.
        if crl.signature_algorithm != crl.tbs_cert_list.signature {
            return false;
        }
        algorithms.iter().any(|algorithm| {
            is_same(&crl.signature_algorithm, algorithm.signature_alg_id())
                && is_same(&public_key.algorithm, algorithm.public_key_alg_id())
                && algorithm.verify_signature(key, crl.tbs_cert_list.as_ref(), signature).is_ok()
        })
    }
}

fn common_name(name: &X509Name<'_>) -> String {
    let last = common_names(name).filter(|name| !name.is_empty()).last();
    last.unwrap_or("an authority without a common name").to_owned()
}

fn whole_bytes<'a>(bits: &'a BitString<'_>) -> Option<&'a [u8]> {
    (bits.unused_bits == 0).then_some(&*bits.data)
}

/// Whether a certificate's or CRL's algorithm is one that rustls knows. rustls gives its identifiers as the OID and the
/// parameters, without the sequence around them.
fn is_same(found: &AlgorithmIdentifier<'_>, known: pki_types::AlgorithmIdentifier) -> bool {
    let Ok((parameters, oid)) = Oid::from_der(&known) else { return false };
    let is_parameters = match &found.parameters {
        None => parameters.is_empty(),
        Some(found) => Any::from_der(parameters).is_ok_and(|(_, known)| *found == known),
    };
    found.algorithm == oid && is_parameters
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio_rustls::rustls::{
        crypto::ring,
        pki_types::{AlgorithmIdentifier as Identifier, InvalidSignature, alg_id},
    };

    use super::{
        super::testing::{Der, SEQUENCE, value},
        *,
    };

    /// Takes every signature, and remembers what it was asked: the key, the message and the signature.
    #[derive(Debug, Default)]
    struct Asked {
        parts: Mutex<Option<[Vec<u8>; 3]>>,
        signature_algorithm: Option<Identifier>,
    }

    impl SignatureVerificationAlgorithm for Asked {
        fn verify_signature(
            &self,
            key: &[u8],
            message: &[u8],
            signature: &[u8],
        ) -> Result<(), InvalidSignature> {
            *self.parts.lock().unwrap() = Some([key, message, signature].map(<[u8]>::to_vec));
            Ok(())
        }

        fn public_key_alg_id(&self) -> Identifier {
            alg_id::ECDSA_P256
        }

        fn signature_alg_id(&self) -> Identifier {
            self.signature_algorithm.unwrap_or(alg_id::ECDSA_SHA256)
        }
    }

    #[test]
    fn a_crl_tells_its_issuer_and_when_the_next_one_is_due() {
        let (crl, ours, other) =
            (Der::of("ours").crl(), Der::of("ours").certificate(), Der::of("other").certificate());
        let read = RevocationList::read(&crl).unwrap();
        assert_eq!(read.expires.to_string(), "2026-12-31T23:59:59Z");
        let [ours, other] = [&ours, &other].map(|der| Authority::read(der).unwrap());
        assert!(read.is_named(&ours) && !read.is_named(&other));
        assert_eq!((ours.name(), read.issuer()), ("ours".to_owned(), "ours".to_owned()));
        let of_other = Der::of("other").crl();
        assert!(!read.has_issuer_of(&RevocationList::read(&of_other).unwrap()) && read.has_issuer_of(&read));
    }

    #[test]
    fn a_crl_that_does_not_say_when_the_next_one_is_due_is_not_taken() {
        assert!(RevocationList::read(&Der { expires: Vec::new(), ..Der::of("ours") }.crl()).is_none());
    }

    #[test]
    fn the_signature_is_checked_over_the_bytes_as_they_came() {
        let (parts, asked) = (Der::of("ours"), Asked::default());
        let (crl, authority) = (parts.crl(), parts.certificate());
        let (read, authority) = (RevocationList::read(&crl).unwrap(), Authority::read(&authority).unwrap());
        assert!(read.is_signed_by(&authority, &[&asked]));
        let [key, message, signature] = asked.parts.lock().unwrap().take().unwrap();
        assert_eq!((key, message, signature), (vec![5, 6], parts.crl_to_sign(), vec![7, 8]));
    }

    #[test]
    fn bits_that_are_no_whole_bytes_are_no_signature() {
        let parts = Der { signature: vec![4, 7, 0xf0], ..Der::of("ours") };
        let (crl, authority) = (parts.crl(), Der::of("ours").certificate());
        let (read, authority) = (RevocationList::read(&crl).unwrap(), Authority::read(&authority).unwrap());
        assert!(!read.is_signed_by(&authority, &[&Asked::default()]));
    }

    #[test]
    fn an_algorithm_that_the_signed_part_does_not_name_signs_nothing() {
        let parts = Der { signature_algorithm: alg_id::ECDSA_SHA384.to_vec(), ..Der::of("ours") };
        let (crl, authority) = (parts.crl(), Der::of("ours").certificate());
        let (read, authority) = (RevocationList::read(&crl).unwrap(), Authority::read(&authority).unwrap());
        let asked = Asked { signature_algorithm: Some(alg_id::ECDSA_SHA384), ..Asked::default() };
        assert!(!read.is_signed_by(&authority, &[&asked]));
    }

    #[test]
    fn an_algorithm_is_itself_and_no_other() {
        let known = ring::default_provider().signature_verification_algorithms.all;
        let identifiers =
            || known.iter().flat_map(|known| [known.signature_alg_id(), known.public_key_alg_id()]);
        for written in identifiers() {
            let der = value(SEQUENCE, &written);
            let (_, read) = AlgorithmIdentifier::from_der(&der).unwrap();
            for known in identifiers() {
                assert_eq!(is_same(&read, known), *written == *known, "{written:?} {known:?}");
            }
        }
    }

    #[test]
    fn what_is_cut_short_is_no_crl_and_no_authority() {
        let (crl, authority) = (Der::of("ours").crl(), Der::of("ours").certificate());
        assert!(RevocationList::read(&crl).is_some() && Authority::read(&authority).is_some());
        assert!((0..crl.len()).all(|length| RevocationList::read(&crl[..length]).is_none()));
        assert!((0..authority.len()).all(|length| Authority::read(&authority[..length]).is_none()));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, at: usize, byte: u8) {
            let read = |crl: &[u8], authority: &[u8]| {
                let (crl, authority) = (RevocationList::read(crl), Authority::read(authority));
                if let (Some(crl), Some(authority)) = (&crl, &authority) {
                    crl.is_signed_by(authority, ring::default_provider().signature_verification_algorithms.all);
                    let _ = (crl.is_named(authority), crl.issuer(), authority.name());
                }
            };
            read(&bytes, &bytes);
            let (crl, authority) = (Der::of("ours").crl(), Der::of("ours").certificate());
            let altered = |whole: &[u8]| {
                let mut altered = whole.to_vec();
                altered[at % whole.len()] = byte;
                altered
            };
            read(&altered(&crl), &authority);
            read(&crl, &altered(&authority));
        }
    }
}
