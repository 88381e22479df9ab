//! Lists of certificates that their authority has withdrawn. Which ones these are is for rustls to read; here it is
//! looked at whose a list is, whether that authority has signed it, and until when it is good.

use super::{
    common_names,
    der::{BITS, Der, INTEGER, SEQUENCE, VERSION, time},
};
use crate::domain::time::Timestamp;

/// One who signs certificates and lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    name: &'a [u8],
    pub key_algorithm: &'a [u8],
    pub key: &'a [u8],
}

/// A certificate revocation list (RFC 5280).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevocationList<'a> {
    issuer: &'a [u8],
    /// When there shall be a newer one.
    pub expires: Timestamp,
    /// What the signature is over.
    pub signed: &'a [u8],
    pub signature_algorithm: &'a [u8],
    pub signature: &'a [u8],
}

impl<'a> Authority<'a> {
    /// Reads an authority's own certificate.
    pub fn read(der: &'a [u8]) -> Option<Self> {
        let mut to_sign = Der(Der(der).child(SEQUENCE)?).inner(SEQUENCE)?;
        to_sign.skip_if(VERSION);
        to_sign.skip(INTEGER)?;
        for _ in ["how it is signed", "by whom", "when it is good"] {
            to_sign.skip(SEQUENCE)?;
        }
        let name = to_sign.child(SEQUENCE)?;
        let mut key = to_sign.inner(SEQUENCE)?;
        Some(Self { name, key_algorithm: key.child(SEQUENCE)?, key: bits(key)? })
    }

    /// What people call it.
    pub fn name(&self) -> String {
        common_name(self.name)
    }
}

impl<'a> RevocationList<'a> {
    /// Reads DER; `None` if it is no list, or does not say how long it is good.
    pub fn read(der: &'a [u8]) -> Option<Self> {
        let mut list = Der(Der(der).child(SEQUENCE)?);
        let signed = list.whole(SEQUENCE)?;
        let (signature_algorithm, signature) = (list.child(SEQUENCE)?, bits(list)?);
        let mut to_sign = Der(signed).inner(SEQUENCE)?;
        to_sign.skip_if(INTEGER);
        to_sign.skip(SEQUENCE)?; // how it is signed, again
        let issuer = to_sign.child(SEQUENCE)?;
        to_sign.next()?; // since when it is good
        let expires = time(to_sign.next()?)?;
        Some(Self { issuer, expires, signed, signature_algorithm, signature })
    }

    /// What people call who has made it.
    pub fn issuer(&self) -> String {
        common_name(self.issuer)
    }

    /// Whether it bears the authority's name.
    pub fn is_named(&self, authority: &Authority<'_>) -> bool {
        self.issuer == authority.name
    }

    pub fn has_issuer_of(&self, other: &RevocationList<'_>) -> bool {
        self.issuer == other.issuer
    }
}

fn common_name(name: &[u8]) -> String {
    let mut names = Vec::new();
    common_names(Der(name), &mut names);
    names.pop().unwrap_or_else(|| "an authority without a common name".to_owned())
}

/// The next value, whole bytes of bits.
fn bits(mut row: Der<'_>) -> Option<&[u8]> {
    row.child(BITS)?.strip_prefix(&[0])
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            der::{OBJECT, SET, UTC_TIME, UTF8},
            tests::{row, value},
        },
        *,
    };

    fn name(text: &str) -> Vec<u8> {
        let attribute = [value(OBJECT, &[0x55, 4, 3]), value(UTF8, text.as_bytes())];
        row(SEQUENCE, &[row(SET, &[row(SEQUENCE, &attribute)])])
    }

    fn algorithm() -> Vec<u8> {
        row(SEQUENCE, &[value(OBJECT, &[1, 2])])
    }

    fn to_sign(issuer: &str) -> Vec<u8> {
        let times = [b"260101000000Z", b"261231235959Z"].map(|text| value(UTC_TIME, text));
        row(SEQUENCE, &[vec![vec![INTEGER, 1, 1], algorithm(), name(issuer)], times.to_vec()].concat())
    }

    fn list(issuer: &str) -> Vec<u8> {
        row(SEQUENCE, &[to_sign(issuer), algorithm(), value(BITS, &[0, 7, 8])])
    }

    fn authority(subject: &str) -> Vec<u8> {
        let key = row(SEQUENCE, &[algorithm(), value(BITS, &[0, 5, 6])]);
        let number = value(INTEGER, &[7]);
        let fields = [number, algorithm(), name("someone"), row(SEQUENCE, &[]), name(subject), key];
        row(SEQUENCE, &[row(SEQUENCE, &fields), algorithm(), value(BITS, &[0, 7, 8])])
    }

    #[test]
    fn a_list_says_whose_it_is_and_how_long_it_is_good() {
        let (bytes, ours, other) = (list("ours"), authority("ours"), authority("mine"));
        let read = RevocationList::read(&bytes).unwrap();
        assert_eq!(read.expires.to_string(), "2026-12-31T23:59:59Z");
        assert_eq!((read.signed, read.signature), (&to_sign("ours")[..], &[7, 8][..]));
        let [ours, other] = [&ours, &other].map(|der| Authority::read(der).unwrap());
        assert!(read.is_named(&ours) && !read.is_named(&other));
        assert_eq!((ours.name().as_str(), ours.key), ("ours", &[5, 6][..]));
        assert_eq!(ours.key_algorithm, read.signature_algorithm, "what stands inside");
    }

    #[test]
    fn what_is_cut_short_is_no_list_and_no_authority() {
        for (whole, is_list) in [(list("ours"), true), (authority("ours"), false)] {
            for length in 0..whole.len() {
                let cut = &whole[..length];
                let is_read = if is_list {
                    RevocationList::read(cut).is_some()
                } else {
                    Authority::read(cut).is_some()
                };
                assert!(!is_read, "{length}");
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, at: usize, byte: u8) {
            let _ = (RevocationList::read(&bytes), Authority::read(&bytes));
            for mut altered in [list("ours"), authority("ours")] {
                let place = at % altered.len();
                altered[place] = byte;
                let _ = (RevocationList::read(&altered), Authority::read(&altered));
            }
        }
    }
}
