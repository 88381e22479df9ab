//! The journal's lines, and what is held against them.

use prost::Message;

use super::{StoredAmount, Value};
use crate::domain::{
    journal::{Digest, Entry, Line, ShortDigest},
    record::RecordId,
    time::Timestamp,
};

#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredLine {
    #[prost(int64, tag = "1")]
    at_millis: i64,
    #[prost(bytes = "vec", tag = "2")]
    previous: Vec<u8>,
    /// 1 opened, 2 sealed, 3 settled, 4 resumed, 5 decided, 6 dropped.
    #[prost(uint32, tag = "3")]
    entry: u32,
    /// The record; of several the first; the next one to be sealed; the last one that was dropped.
    #[prost(uint64, tag = "4")]
    record: u64,
    /// The hash of the row, or, one after the other, those of all rows.
    #[prost(bytes = "vec", tag = "5")]
    digests: Vec<u8>,
    #[prost(uint32, tag = "6")]
    number: u32,
    #[prost(uint64, tag = "7")]
    first_line: u64,
    #[prost(int64, tag = "8")]
    before_millis: i64,
}

impl Value for Line {
    type Stored = StoredLine;
    const WHAT: &'static str = "journal line";

    fn to_stored(&self) -> StoredLine {
        let stored = |entry, record: RecordId| StoredLine {
            at_millis: self.at.millis(),
            previous: self.previous.0.to_vec(),
            entry,
            record: record.0,
            ..StoredLine::default()
        };
        match &self.entry {
            Entry::Opened { next } => stored(1, *next),
            Entry::Sealed { first, rows } => StoredLine { digests: rows.concat(), ..stored(2, *first) },
            Entry::Settled { record, row } => StoredLine { digests: row.0.to_vec(), ..stored(3, *record) },
            Entry::Resumed { record } => stored(4, *record),
            Entry::Decided { record, number, row } => {
                StoredLine { digests: row.0.to_vec(), number: *number, ..stored(5, *record) }
            }
            Entry::Dropped { through, first_line, before } => {
                StoredLine { first_line: *first_line, before_millis: before.millis(), ..stored(6, *through) }
            }
        }
    }

    fn from_stored(stored: StoredLine) -> Result<Self, String> {
        let record = RecordId(stored.record);
        let entry = match stored.entry {
            1 => Entry::Opened { next: record },
            2 => Entry::Sealed { first: record, rows: short_digests(&stored.digests)? },
            3 => Entry::Settled { record, row: digest(&stored.digests)? },
            4 => Entry::Resumed { record },
            5 => Entry::Decided { record, number: stored.number, row: digest(&stored.digests)? },
            6 => {
                let before = Timestamp::from_millis(stored.before_millis);
                Entry::Dropped { through: record, first_line: stored.first_line, before }
            }
            other => return Err(format!("unknown entry {other}")),
        };
        let at = Timestamp::from_millis(stored.at_millis);
        Ok(Self { at, previous: digest(&stored.previous)?, entry })
    }
}

fn digest(bytes: &[u8]) -> Result<Digest, String> {
    bytes.try_into().map(Digest).map_err(|_| format!("a hash has {} bytes", bytes.len()))
}

fn short_digests(bytes: &[u8]) -> Result<Vec<ShortDigest>, String> {
    let (digests, rest) = bytes.as_chunks();
    if rest.is_empty() { Ok(digests.to_vec()) } else { Err(format!("{} bytes of hashes", bytes.len())) }
}

/// How far the journal goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct JournalHead {
    /// How many lines there have been.
    pub lines: u64,
    /// The hash of the last line.
    pub last: Digest,
    /// The first line that is kept.
    pub first_line: u64,
    /// The last record whose receipt may have been dropped, or that was sealed before there was a journal.
    pub dropped_through: RecordId,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct StoredJournalHead {
    #[prost(uint64, tag = "1")]
    lines: u64,
    #[prost(bytes = "vec", tag = "2")]
    last: Vec<u8>,
    #[prost(uint64, tag = "3")]
    first_line: u64,
    #[prost(uint64, tag = "4")]
    dropped_through: u64,
}

impl Value for JournalHead {
    type Stored = StoredJournalHead;
    const WHAT: &'static str = "end of the journal";

    fn to_stored(&self) -> StoredJournalHead {
        StoredJournalHead {
            lines: self.lines,
            last: self.last.0.to_vec(),
            first_line: self.first_line,
            dropped_through: self.dropped_through.0,
        }
    }

    fn from_stored(stored: StoredJournalHead) -> Result<Self, String> {
        Ok(Self {
            lines: stored.lines,
            last: digest(&stored.last)?,
            first_line: stored.first_line,
            dropped_through: RecordId(stored.dropped_through),
        })
    }
}

/// An amount that may be below zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignedAmount(pub i128);

impl Value for SignedAmount {
    type Stored = StoredAmount;
    const WHAT: &'static str = "amount";

    fn to_stored(&self) -> StoredAmount {
        self.0.cast_unsigned().into()
    }

    fn from_stored(stored: StoredAmount) -> Result<Self, String> {
        Ok(Self(u128::from(stored).cast_signed()))
    }
}
