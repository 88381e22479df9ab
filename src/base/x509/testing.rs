//! Writes certificates and CRLs for tests, wherever a test wants them: also such as no authority would issue.

use tokio_rustls::rustls::pki_types::alg_id;

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
pub(super) const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
pub(super) const UTF8: u8 = 0x0c;
pub(super) const UTC_TIME: u8 = 0x17;
pub(super) const GENERALIZED_TIME: u8 = 0x18;
pub(super) const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

const COMMON_NAME: [u8; 3] = [0x55, 4, 3];
const ORGANIZATION: [u8; 3] = [0x55, 4, 10];
pub(super) const KEY_USAGE: [u8; 3] = [0x55, 29, 15];
pub(super) const ALTERNATIVE_NAMES: [u8; 3] = [0x55, 29, 17];

/// A value with its tag and length.
pub(super) fn value(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut bytes = vec![tag];
    match u8::try_from(length).unwrap_or(u8::MAX) {
        short @ 0..0x80 => bytes.push(short),
        byte if length < 0x100 => bytes.extend([0x81, byte]),
        _ => bytes.extend([0x82, u8::try_from(length >> 8).unwrap(), u8::try_from(length & 0xff).unwrap()]),
    }
    bytes.extend(content);
    bytes
}

pub(super) fn row(tag: u8, values: &[Vec<u8>]) -> Vec<u8> {
    value(tag, &values.concat())
}

pub(super) fn extension(kind: &[u8], content: &[u8]) -> Vec<u8> {
    let fields = [value(OBJECT_IDENTIFIER, kind), value(BOOLEAN, &[0xff]), value(OCTET_STRING, content)];
    row(SEQUENCE, &fields)
}

/// The parts of a certificate or a CRL that tests vary, each with its tag and length, but for the signature.
#[derive(Debug)]
pub(super) struct Der {
    /// The certificate's subject, or the CRL's issuer.
    pub(super) name: Vec<u8>,
    pub(super) expires: Vec<u8>,
    pub(super) extensions: Vec<Vec<u8>>,
    /// The algorithm's OID and parameters, as they stand beside the signature.
    pub(super) signature_algorithm: Vec<u8>,
    /// How many of the last bits are unused, and the bits.
    pub(super) signature: Vec<u8>,
}

impl Der {
    pub(super) fn of(common_name: &str) -> Self {
        Self {
            name: name(common_name),
            expires: value(UTC_TIME, b"261231235959Z"),
            extensions: Vec::new(),
            signature_algorithm: alg_id::ECDSA_SHA256.to_vec(),
            signature: vec![0, 7, 8],
        }
    }

    pub(super) fn certificate(&self) -> Vec<u8> {
        let Self { name: subject, expires, extensions, .. } = self;
        let key = row(SEQUENCE, &[value(SEQUENCE, &alg_id::ECDSA_P256), value(BIT_STRING, &[0, 5, 6])]);
        let mut fields = vec![
            value(VERSION, &value(INTEGER, &[2])),
            value(INTEGER, &[7]),
            algorithm(),
            name("the authority"),
            row(SEQUENCE, &[begins(), expires.clone()]),
            subject.clone(),
            key,
        ];
        if !extensions.is_empty() {
            fields.push(value(EXTENSIONS, &row(SEQUENCE, extensions)));
        }
        self.signed(row(SEQUENCE, &fields))
    }

    pub(super) fn crl(&self) -> Vec<u8> {
        self.signed(self.crl_to_sign())
    }

    pub(super) fn crl_to_sign(&self) -> Vec<u8> {
        let revoked = row(SEQUENCE, &[value(INTEGER, &[9]), begins()]);
        let fields = [
            value(INTEGER, &[1]),
            algorithm(),
            self.name.clone(),
            begins(),
            self.expires.clone(),
            row(SEQUENCE, &[revoked]),
        ];
        row(SEQUENCE, &fields)
    }

    fn signed(&self, to_sign: Vec<u8>) -> Vec<u8> {
        let algorithm = value(SEQUENCE, &self.signature_algorithm);
        row(SEQUENCE, &[to_sign, algorithm, value(BIT_STRING, &self.signature)])
    }
}

fn name(common_name: &str) -> Vec<u8> {
    subject(&[common_name])
}

/// A company's name with any number of common names.
pub(super) fn subject(common_names: &[&str]) -> Vec<u8> {
    let attribute = |kind: &[u8], text: &str| {
        row(SET, &[row(SEQUENCE, &[value(OBJECT_IDENTIFIER, kind), value(UTF8, text.as_bytes())])])
    };
    let mut attributes = vec![attribute(&ORGANIZATION, "a company")];
    attributes.extend(common_names.iter().map(|name| attribute(&COMMON_NAME, name)));
    row(SEQUENCE, &attributes)
}

fn algorithm() -> Vec<u8> {
    value(SEQUENCE, &alg_id::ECDSA_SHA256)
}

fn begins() -> Vec<u8> {
    value(UTC_TIME, b"260101000000Z")
}
