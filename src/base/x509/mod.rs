//! The little that is read from a certificate: whose it is, and until when it is good.
//!
//! Signatures are for rustls to check; what is read here has passed it, or is the agent's own.

mod der;
mod lists;

use crate::domain::time::Timestamp;
use der::{
    BOOLEAN, DNS_NAME, Der, EXTENSIONS, IA5, INTEGER, OBJECT, OCTETS, PRINTABLE, SEQUENCE, SET, URI, UTF8,
    VERSION, time,
};

pub use lists::{Authority, RevocationList};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The subject's common name, and the DNS names and URIs among its alternative names.
    pub names: Vec<String>,
    pub expires: Timestamp,
}

impl Certificate {
    /// Reads DER; `None` if it is no certificate.
    pub fn read(der: &[u8]) -> Option<Self> {
        let mut to_sign = Der(Der(der).child(SEQUENCE)?).inner(SEQUENCE)?;
        to_sign.skip_if(VERSION);
        to_sign.skip(INTEGER)?; // its number
        to_sign.skip(SEQUENCE)?; // how it is signed
        to_sign.skip(SEQUENCE)?; // by whom
        let mut validity = to_sign.inner(SEQUENCE)?;
        validity.next()?;
        let expires = time(validity.next()?)?;
        let mut names = Vec::new();
        common_names(to_sign.inner(SEQUENCE)?, &mut names)?;
        to_sign.skip(SEQUENCE)?; // its key
        while let Some((tag, content)) = to_sign.next() {
            if tag == EXTENSIONS {
                alternative_names(Der(content).inner(SEQUENCE)?, &mut names)?;
            }
        }
        Some(Self { names, expires })
    }
}

const COMMON_NAME: &[u8] = &[0x55, 4, 3];
const ALTERNATIVE_NAMES: &[u8] = &[0x55, 29, 17];

fn common_names(mut subject: Der<'_>, names: &mut Vec<String>) -> Option<()> {
    while let Some(mut attributes) = subject.inner(SET) {
        while let Some(mut attribute) = attributes.inner(SEQUENCE) {
            let (kind, (tag, value)) = (attribute.child(OBJECT)?, attribute.next()?);
            if kind == COMMON_NAME && [UTF8, PRINTABLE, IA5].contains(&tag) {
                names.extend(text(value));
            }
        }
    }
    Some(())
}

fn alternative_names(mut extensions: Der<'_>, names: &mut Vec<String>) -> Option<()> {
    while let Some(mut extension) = extensions.inner(SEQUENCE) {
        let kind = extension.child(OBJECT)?;
        extension.skip_if(BOOLEAN);
        let mut content = extension.inner(OCTETS)?;
        if kind != ALTERNATIVE_NAMES {
            continue;
        }
        let mut alternatives = content.inner(SEQUENCE)?;
        while let Some((tag, value)) = alternatives.next() {
            if [DNS_NAME, URI].contains(&tag) {
                names.extend(text(value));
            }
        }
    }
    Some(())
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok().filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::{
        der::{GENERALIZED_TIME, UTC_TIME},
        *,
    };

    /// A value with its tag and length.
    pub(super) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
        let length = content.len();
        let mut bytes = vec![tag];
        if length < 0x80 {
            bytes.push(u8::try_from(length).unwrap());
        } else {
            bytes.extend([0x82, u8::try_from(length >> 8).unwrap(), u8::try_from(length & 0xff).unwrap()]);
        }
        bytes.extend(content);
        bytes
    }

    pub(super) fn row(tag: u8, values: &[Vec<u8>]) -> Vec<u8> {
        value(tag, &values.concat())
    }

    fn certificate(expires: &[u8], common_name: &str, alternatives: &[Vec<u8>]) -> Vec<u8> {
        let attribute = |kind: &[u8], name: &str| {
            row(SET, &[row(SEQUENCE, &[value(OBJECT, kind), value(UTF8, name.as_bytes())])])
        };
        let validity = [value(UTC_TIME, b"260101000000Z"), value(UTC_TIME, expires)];
        let names =
            row(SEQUENCE, &[value(OBJECT, ALTERNATIVE_NAMES), value(OCTETS, &row(SEQUENCE, alternatives))]);
        let usage =
            row(SEQUENCE, &[value(OBJECT, &[0x55, 29, 15]), value(BOOLEAN, &[0xff]), value(OCTETS, &[3])]);
        let to_sign = row(
            SEQUENCE,
            &[
                value(VERSION, &value(INTEGER, &[2])),
                value(INTEGER, &[7]),
                row(SEQUENCE, &[]),
                row(SEQUENCE, &[attribute(COMMON_NAME, "the authority")]),
                row(SEQUENCE, &validity),
                row(SEQUENCE, &[attribute(&[0x55, 4, 10], "a company"), attribute(COMMON_NAME, common_name)]),
                row(SEQUENCE, &[]),
                value(EXTENSIONS, &row(SEQUENCE, &[usage, names])),
            ],
        );
        row(SEQUENCE, &[to_sign, row(SEQUENCE, &[])])
    }

    #[test]
    fn the_subjects_names_and_the_end_are_read() {
        let uri = format!("spiffe://example.org/{}", "x".repeat(200));
        let alternatives =
            [value(DNS_NAME, b"app.example.org"), value(0x87, &[127, 0, 0, 1]), value(URI, uri.as_bytes())];
        let read = Certificate::read(&certificate(b"261231235959Z", "app", &alternatives)).unwrap();
        assert_eq!(read.names, ["app".to_owned(), "app.example.org".to_owned(), uri]);
        assert_eq!(read.expires.to_string(), "2026-12-31T23:59:59Z");
    }

    #[test]
    fn what_is_cut_short_is_no_certificate() {
        let whole = certificate(b"261231235959Z", "app", &[value(DNS_NAME, b"app")]);
        for length in 0..whole.len() {
            assert_eq!(Certificate::read(&whole[..length]), None, "{length}");
        }
    }

    #[test]
    fn years_have_two_digits_or_four() {
        let read = |tag, text: &[u8]| time((tag, text)).map(|time| time.to_string());
        assert_eq!(read(UTC_TIME, b"491231235959Z").unwrap(), "2049-12-31T23:59:59Z");
        assert_eq!(read(GENERALIZED_TIME, b"20500101000000Z").unwrap(), "2050-01-01T00:00:00Z");
        for (tag, text) in [(UTC_TIME, &b"26123123595"[..]), (UTF8, b"261231235959Z"), (UTC_TIME, b"aaZ")] {
            assert_eq!(read(tag, text), None);
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, at: usize, byte: u8) {
            drop(Certificate::read(&bytes));
            let mut altered = certificate(b"261231235959Z", "app", &[value(DNS_NAME, b"app")]);
            let place = at % altered.len();
            altered[place] = byte;
            drop(Certificate::read(&altered));
        }
    }
}
