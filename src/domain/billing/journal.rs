//! The journal: what happened to records, line by line.
//!
//! Each line carries the hash of the line before, and of the rows that it is about. Whoever removes or alters a line or
//! a row leaves a chain that does not fit, unless all that follows is forged as well; and then its end is another one
//! than the end that was noted down elsewhere.

use std::{fmt, str::FromStr};

use super::record::RecordId;
use crate::domain::time::Timestamp;

/// A SHA-256 hash.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no hash: it has 64 hexadecimal digits");
        let mut digest = Self::default();
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        if pairs.len() != digest.0.len() || !rest.is_empty() {
            return Err(wrong());
        }
        for (byte, pair) in digest.0.iter_mut().zip(pairs) {
            let digits = str::from_utf8(pair).ok().filter(|digits| !digits.starts_with('+'));
            *byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()).ok_or_else(wrong)?;
        }
        Ok(digest)
    }
}

/// The first half of a SHA-256 hash: enough for one row among those that one line is about.
pub(crate) type ShortDigest = [u8; 16];

/// Lines are numbered from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct JournalLine {
    pub at: Timestamp,
    /// The hash of the line before; zeros for the first.
    pub previous: Digest,
    pub entry: JournalEvent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum JournalEvent {
    /// The journal begins. Records before `next` were sealed without it.
    Opened { next: RecordId },
    /// Records were sealed, from `first` on; `rows` has the hash of each.
    Sealed { first: RecordId, rows: Vec<ShortDigest> },
    /// A record was accepted, held, moved on or written off; `row` is the hash of its row.
    Settled { record: RecordId, row: Digest },
    /// A held record is to be sent again.
    Resumed { record: RecordId },
    /// A person decided about a record, not for the first time unless `number` is 0.
    Decided { record: RecordId, number: u32, row: Digest },
    /// A person took usage from open hours; `row` is the hash of the adjustment's row.
    Adjusted { number: u64, row: Digest },
    /// A person has allowed a product's unbilled usage another destination.
    MoveAllowed { number: u64, row: Digest },
    /// What had been kept for long enough was dropped: receipts of records up to `through`, and lines before
    /// `first_line`, which are all from before `before`.
    Dropped { through: RecordId, first_line: u64, before: Timestamp },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_shown_and_read_in_hexadecimal() {
        let mut digest = Digest::default();
        digest.0[0] = 0xa0;
        digest.0[31] = 0x0f;
        let text = format!("a0{}0f", "0".repeat(60));
        assert_eq!(digest.to_string(), text);
        assert_eq!(text.parse(), Ok(digest));
        for wrong in ["", "a0", &text[2..], &format!("+{}", &text[1..]), &"ü".repeat(32)] {
            assert!(wrong.parse::<Digest>().is_err(), "{wrong}");
        }
    }
}
