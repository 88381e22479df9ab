//! The journal's lines, and where it ends.

use prost::Message;

use crate::{
    domain::{
        billing::{
            journal::{Digest, JournalEvent, JournalLine, ShortDigest},
            record::RecordId,
        },
        time::Timestamp,
    },
    store::{TableId, table::Table, value::Protobuf},
};

pub(crate) struct JournalLines;

impl Table for JournalLines {
    const ID: TableId = TableId::Journal;
    const WHAT: &'static str = "journal line";
    /// The line's number.
    type Key<'k> = u64;
    type Value = JournalLine;
}

/// There is none before the first start.
pub(crate) struct JournalEnd;

impl Table for JournalEnd {
    const ID: TableId = TableId::Meta;
    const PREFIX: &'static str = "journal";
    const WHAT: &'static str = "end of the journal";
    type Key<'k> = ();
    type Value = JournalHead;
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StoredLine {
    #[prost(int64, tag = "1")]
    at_millis: i64,
    #[prost(bytes = "vec", tag = "2")]
    previous: Vec<u8>,
    /// 1 opened, 2 sealed, 3 settled, 4 resumed, 5 decided, 6 dropped, 7 move allowed, 8 adjusted.
    #[prost(uint32, tag = "3")]
    entry: u32,
    /// The record; of several the first; the next one to be sealed; the last one that was dropped; the number of a
    /// move or of an adjustment.
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

impl Protobuf for JournalLine {
    type Stored = StoredLine;

    fn to_stored(&self) -> StoredLine {
        let stored = |entry, record: RecordId| StoredLine {
            at_millis: self.at.millis(),
            previous: self.previous.0.to_vec(),
            entry,
            record: record.0,
            ..StoredLine::default()
        };
        match &self.entry {
            JournalEvent::Opened { next } => stored(1, *next),
            JournalEvent::Sealed { first, rows } => {
                StoredLine { digests: rows.concat(), ..stored(2, *first) }
            }
            JournalEvent::Settled { record, row } => {
                StoredLine { digests: row.0.to_vec(), ..stored(3, *record) }
            }
            JournalEvent::Resumed { record } => stored(4, *record),
            JournalEvent::Decided { record, number, row } => {
                StoredLine { digests: row.0.to_vec(), number: *number, ..stored(5, *record) }
            }
            JournalEvent::Dropped { through, first_line, before } => {
                StoredLine { first_line: *first_line, before_millis: before.millis(), ..stored(6, *through) }
            }
            JournalEvent::MoveAllowed { number, row } => {
                StoredLine { digests: row.0.to_vec(), ..stored(7, RecordId(*number)) }
            }
            JournalEvent::Adjusted { number, row } => {
                StoredLine { digests: row.0.to_vec(), ..stored(8, RecordId(*number)) }
            }
        }
    }

    fn from_stored(stored: StoredLine) -> Result<Self, String> {
        let record = RecordId(stored.record);
        let entry = match stored.entry {
            1 => JournalEvent::Opened { next: record },
            2 => JournalEvent::Sealed { first: record, rows: short_digests(&stored.digests)? },
            3 => JournalEvent::Settled { record, row: digest(&stored.digests)? },
            4 => JournalEvent::Resumed { record },
            5 => JournalEvent::Decided { record, number: stored.number, row: digest(&stored.digests)? },
            6 => {
                let before = Timestamp::from_millis(stored.before_millis);
                JournalEvent::Dropped { through: record, first_line: stored.first_line, before }
            }
            7 => JournalEvent::MoveAllowed { number: stored.record, row: digest(&stored.digests)? },
            8 => JournalEvent::Adjusted { number: stored.record, row: digest(&stored.digests)? },
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
pub(crate) struct JournalHead {
    /// How many lines there have been.
    pub lines: u64,
    /// The hash of the last line.
    pub last: Digest,
    /// The first line that is kept.
    pub first_line: u64,
    /// The last record whose receipt may have been dropped.
    pub dropped_through: RecordId,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StoredJournalHead {
    #[prost(uint64, tag = "1")]
    lines: u64,
    #[prost(bytes = "vec", tag = "2")]
    last: Vec<u8>,
    #[prost(uint64, tag = "3")]
    first_line: u64,
    #[prost(uint64, tag = "4")]
    dropped_through: u64,
}

impl Protobuf for JournalHead {
    type Stored = StoredJournalHead;

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
