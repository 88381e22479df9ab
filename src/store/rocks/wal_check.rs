//! Tells a log that a crash cut short from a damaged one, before RocksDB reads it.
//!
//! RocksDB takes an entry that claims to go on behind the end of its file for one that was being written when the
//! process died, and drops it with all that follows, without a word. So one flipped bit in a length would drop events
//! that were acknowledged; other bits make it skip the rest of a block, or read for ever. But the two can be told
//! apart: a cut leaves the beginning of one entry, and nothing behind it.
//!
//! A log, be it a write-ahead log or a manifest, is a row of blocks of 32 KiB, and a block a row of entries:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | CRC-32C of type and payload, masked, little-endian |
//! | 2 | the payload's length, little-endian |
//! | 1 | type: 1 a whole batch; 2, 3, 4 the first, a middle and the last part of one |
//! | ... | payload |
//!
//! No entry crosses the end of a block; what has no room for a header there is left out.

use std::{
    fs::{self, File},
    io::{self, Read},
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use tracing::warn;

use super::{StoreError, damaged, io_error};

const BLOCK: usize = 32 * 1024;
const HEADER: usize = 7;
const TYPES: RangeInclusive<u8> = 1..=4;

/// What a log turns out to be, with the offset at which its whole entries end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Log {
    Whole,
    /// The last write did not reach the disk, and thus was never acknowledged.
    Cut(usize),
    Damaged(usize),
}

/// Refuses a folder of RocksDB's with a damaged log.
pub(super) fn check(folder: &Path) -> Result<(), StoreError> {
    for path in logs(folder)? {
        let log = File::open(&path).and_then(examine).map_err(|source| io_error("read", &path, source))?;
        match log {
            Log::Whole => {}
            Log::Cut(offset) => {
                let file = path.display();
                warn!(%file, offset, "a write that was cut short is dropped: it was never acknowledged");
            }
            Log::Damaged(offset) => {
                let message = format!("{} is damaged at byte {offset}", path.display());
                return Err(damaged("open", message));
            }
        }
    }
    Ok(())
}

/// The write-ahead logs and the manifest in force.
fn logs(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(Vec::new()) };
    let mut logs = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| io_error("read", folder, source))?.path();
        if path.extension().is_some_and(|extension| extension == "log") {
            logs.push(path);
        }
    }
    // If there is none, or if it names a file that is not there, RocksDB will say so.
    let manifest = fs::read_to_string(folder.join("CURRENT")).unwrap_or_default();
    let manifest = folder.join(manifest.trim_end());
    if manifest.is_file() {
        logs.push(manifest);
    }
    Ok(logs)
}

pub(super) fn examine(mut log: impl Read) -> io::Result<Log> {
    let (mut block, mut start) = (Vec::with_capacity(BLOCK), 0);
    loop {
        block.clear();
        log.by_ref().take(BLOCK as u64).read_to_end(&mut block)?;
        let end = whole_entries(&block);
        let rest = &block[end..];
        if !rest.is_empty() {
            let is_cut = if is_zero(rest) {
                // Room that a file system gave, and that was never written.
                is_all_zero(log)?
            } else {
                block.len() < BLOCK && is_cut(rest, BLOCK - end)
            };
            return Ok(if is_cut { Log::Cut(start + end) } else { Log::Damaged(start + end) });
        }
        if block.len() < BLOCK {
            return Ok(Log::Whole);
        }
        start += BLOCK;
    }
}

/// Where the block's whole entries end: at its own end, unless it is cut or damaged.
fn whole_entries(block: &[u8]) -> usize {
    let mut end = 0;
    while end + HEADER <= BLOCK {
        let Some(length) = whole_entry(&block[end..]) else { return end };
        end += length;
    }
    block.len()
}

/// The length of the entry that `bytes` begins with, if it is whole.
fn whole_entry(bytes: &[u8]) -> Option<usize> {
    let header = Header::read(bytes)?;
    let body = bytes.get(HEADER - 1..header.length)?;
    (TYPES.contains(&header.kind) && header.checksum == checksum(body)).then_some(header.length)
}

/// Whether `rest`, the last bytes of a log, can be the beginning of an entry, where `room` is left in the block.
fn is_cut(rest: &[u8], room: usize) -> bool {
    let Some(header) = Header::read(rest) else { return true };
    let is_beginning = TYPES.contains(&header.kind) && (rest.len() + 1..=room).contains(&header.length);
    // Were it whole but for its length, its checksum would be that of what there is.
    let has_false_length = header.checksum == checksum(&rest[HEADER - 1..]);
    is_beginning && !has_false_length && (1..rest.len()).all(|at| whole_entry(&rest[at..]).is_none())
}

struct Header {
    checksum: u32,
    /// The length of the entry, header included.
    length: usize,
    kind: u8,
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Self> {
        let [a, b, c, d, low, high, kind] = *bytes.first_chunk::<HEADER>()?;
        let length = HEADER + usize::from(u16::from_le_bytes([low, high]));
        Some(Self { checksum: u32::from_le_bytes([a, b, c, d]), length, kind })
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn is_all_zero(mut log: impl Read) -> io::Result<bool> {
    let mut block = Vec::with_capacity(BLOCK);
    loop {
        block.clear();
        if log.by_ref().take(BLOCK as u64).read_to_end(&mut block)? == 0 {
            return Ok(true);
        }
        if !is_zero(&block) {
            return Ok(false);
        }
    }
}

/// CRC-32C, rotated and shifted as RocksDB does, since checksums of checksums are weak.
fn checksum(bytes: &[u8]) -> u32 {
    const MASK: u32 = 0xa282_ead8;
    let step = |sum: u32, byte: &u8| (sum >> 8) ^ CRC_32C[usize::from(sum.to_le_bytes()[0] ^ byte)];
    let sum = !bytes.iter().fold(u32::MAX, step);
    sum.rotate_right(15).wrapping_add(MASK)
}

const CRC_32C: [u32; 256] = {
    /// Castagnoli's polynomial, reflected.
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let (mut table, mut index) = ([0; 256], 0);
    while index < 256 {
        let (mut sum, mut bit) = (index, 0);
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ POLYNOMIAL } else { sum >> 1 };
            bit += 1;
        }
        table[index as usize] = sum;
        index += 1;
    }
    table
};
