//! What the agent itself reads from a certificate: whose it is, and until when it is valid.
//!
//! To check certificates is rustls's part. What is read here has passed its check, or is the agent's own.

mod crl;
#[cfg(test)]
mod testing;

use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, parse_x509_certificate, time::ASN1Time,
    x509::X509Name,
};

use crate::domain::time::Timestamp;

pub(crate) use crl::{Authority, RevocationList};

/// The names in a certificate, and its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Certificate {
    /// The DNS names and URIs among the subject's alternative names; for a certificate without alternative names of any
    /// kind its common name, if it has one alone.
    pub names: Vec<CertificateName>,
    pub expires: Timestamp,
}

/// A name by which a certificate says whose it is. An authority may check one kind and not the other, so that a text of
/// one kind is not the same name as of the other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum CertificateName {
    /// A DNS name, or a common name where that counts.
    Dns(String),
    Uri(String),
}

impl CertificateName {
    /// The kind that a configured name is of: a URI has a colon behind its scheme, and a DNS name has none.
    pub(crate) fn configured(name: &str) -> Self {
        if name.contains(':') { Self::Uri(name.to_owned()) } else { Self::Dns(name.to_owned()) }
    }

    fn is_empty(&self) -> bool {
        let (Self::Dns(name) | Self::Uri(name)) = self;
        name.is_empty()
    }
}

impl Certificate {
    /// Reads DER; `None` if it is no certificate.
    pub(crate) fn read(der: &[u8]) -> Option<Self> {
        let certificate = parse(der)?;
        let names = names(&certificate).into_iter().filter(|name| !name.is_empty()).collect();
        Some(Self { names, expires: timestamp(certificate.validity().not_after) })
    }
}

fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    parse_x509_certificate(der).ok().map(|(_, certificate)| certificate)
}

fn common_names<'a>(name: &'a X509Name<'_>) -> impl Iterator<Item = &'a str> {
    name.iter_common_name().filter_map(|attribute| attribute.as_str().ok())
}

/// Alternative names that cannot be read, or stand there twice, name nobody; the certificate still ends when it says.
fn names(certificate: &X509Certificate<'_>) -> Vec<CertificateName> {
    match certificate.subject_alternative_name() {
        Ok(Some(extension)) => extension.value.general_names.iter().filter_map(alternative_name).collect(),
        Ok(None) => only_common_name(certificate.subject()).into_iter().collect(),
        Err(_) => Vec::new(),
    }
}

fn alternative_name(name: &GeneralName<'_>) -> Option<CertificateName> {
    match name {
        GeneralName::DNSName(name) => Some(CertificateName::Dns((*name).to_owned())),
        GeneralName::URI(name) => Some(CertificateName::Uri((*name).to_owned())),
        _ => None,
    }
}

/// Of several, nobody knows which one the authority meant.
fn only_common_name(subject: &X509Name<'_>) -> Option<CertificateName> {
    let mut names = subject.iter_common_name();
    let name = names.next()?.as_str().ok()?;
    names.next().is_none().then(|| CertificateName::Dns(name.to_owned()))
}

fn timestamp(time: ASN1Time) -> Timestamp {
    Timestamp::from_seconds(time.timestamp())
}

#[cfg(test)]
mod tests {
    use super::{
        testing::{ALTERNATIVE_NAMES, Der, GENERALIZED_TIME, KEY_USAGE, UTC_TIME, row, value},
        *,
    };

    const DNS_NAME: u8 = 0x82;
    const URI: u8 = 0x86;
    const IP_ADDRESS: u8 = 0x87;

    fn certificate(expires: &[u8], alternatives: &[Vec<u8>]) -> Vec<u8> {
        let names = testing::extension(&ALTERNATIVE_NAMES, &row(testing::SEQUENCE, alternatives));
        let usage = testing::extension(&KEY_USAGE, &value(testing::BIT_STRING, &[5, 0xa0]));
        Der { expires: value(UTC_TIME, expires), extensions: vec![usage, names], ..Der::of("app") }
            .certificate()
    }

    #[test]
    fn the_subjects_names_and_the_end_are_read() {
        let uri = format!("spiffe://example.org/{}", "x".repeat(200));
        let alternatives = [
            value(DNS_NAME, b"app.example.org"),
            value(IP_ADDRESS, &[127, 0, 0, 1]),
            value(DNS_NAME, b"\xff"),
            value(DNS_NAME, b""),
            value(URI, uri.as_bytes()),
        ];
        let read = Certificate::read(&certificate(b"261231235959Z", &alternatives)).unwrap();
        let names = [CertificateName::Dns("app.example.org".to_owned()), CertificateName::Uri(uri)];
        assert_eq!(read.names, names, "the common name does not count beside them");
        assert_eq!(read.expires.to_string(), "2026-12-31T23:59:59Z");
    }

    #[test]
    fn alternative_names_that_cannot_be_read_name_nobody() {
        let names = |content: &[u8]| testing::extension(&ALTERNATIVE_NAMES, content);
        let good = names(&row(testing::SEQUENCE, &[value(DNS_NAME, b"app.example.org")]));
        for extensions in [vec![names(&[1, 2, 3])], vec![good.clone(), good]] {
            let read = Certificate::read(&Der { extensions, ..Der::of("app") }.certificate()).unwrap();
            assert_eq!(read.names, []);
        }
    }

    #[test]
    fn a_common_name_counts_where_there_are_no_alternative_names_of_any_kind() {
        let names = |extensions| {
            Certificate::read(&Der { extensions, ..Der::of("app") }.certificate()).unwrap().names
        };
        assert_eq!(names(vec![]), [CertificateName::Dns("app".to_owned())]);
        let address = row(testing::SEQUENCE, &[value(IP_ADDRESS, &[127, 0, 0, 1])]);
        assert_eq!(names(vec![testing::extension(&ALTERNATIVE_NAMES, &address)]), []);
        assert_eq!(names(vec![testing::extension(&ALTERNATIVE_NAMES, &row(testing::SEQUENCE, &[]))]), []);
    }

    #[test]
    fn of_several_common_names_none_counts() {
        for names in [&["evil", "operator"][..], &["app", "app"], &[]] {
            let der = Der { name: testing::subject(names), ..Der::of("app") };
            assert_eq!(Certificate::read(&der.certificate()).unwrap().names, [], "{names:?}");
        }
    }

    #[test]
    fn a_configured_name_is_a_uri_if_it_has_a_scheme() {
        let dns = |name: &str| CertificateName::Dns(name.to_owned());
        let uri = |name: &str| CertificateName::Uri(name.to_owned());
        assert_eq!(CertificateName::configured("app.example.org"), dns("app.example.org"));
        assert_eq!(CertificateName::configured("spiffe://x/app"), uri("spiffe://x/app"));
        assert_eq!(CertificateName::configured("urn:x"), uri("urn:x"));
    }

    #[test]
    fn what_is_cut_short_is_no_certificate() {
        let whole = certificate(b"261231235959Z", &[value(DNS_NAME, b"app")]);
        for length in 0..whole.len() {
            assert_eq!(Certificate::read(&whole[..length]), None, "{length}");
        }
    }

    #[test]
    fn years_have_two_digits_or_four() {
        let read = |tag, text: &[u8]| {
            let expires = value(tag, text);
            Certificate::read(&Der { expires, ..Der::of("app") }.certificate()).map(|read| read.expires)
        };
        let good = [
            (UTC_TIME, &b"491231235959Z"[..], "2049-12-31T23:59:59Z"),
            (UTC_TIME, b"500101000000Z", "1950-01-01T00:00:00Z"),
            (GENERALIZED_TIME, b"20500101000000Z", "2050-01-01T00:00:00Z"),
        ];
        for (tag, text, expected) in good {
            assert_eq!(read(tag, text).unwrap().to_string(), expected);
        }
        // RFC 5280: the certificate has no end that is known.
        assert!(read(GENERALIZED_TIME, b"99991231235959Z").is_some());
        for (tag, text) in
            [(UTC_TIME, &b"26123123595"[..]), (testing::UTF8, b"261231235959Z"), (UTC_TIME, b"aaZ")]
        {
            assert_eq!(read(tag, text), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, at: usize, byte: u8) {
            drop(Certificate::read(&bytes));
            let mut altered = certificate(b"261231235959Z", &[value(DNS_NAME, b"app")]);
            let place = at % altered.len();
            altered[place] = byte;
            drop(Certificate::read(&altered));
        }
    }
}
