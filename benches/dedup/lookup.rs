//! How ids are keys of RocksDB's, and how they are looked up: many at once, by `multi_get`.

use rocksdb::{ColumnFamily, DB, ReadOptions};

/// Where the generation of an id is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// In the value: one look-up whatever there is, but a generation cannot go without its neighbours being rewritten.
    Hash,
    /// In front of the hash: a look-up for each generation.
    Prefix,
    /// In the name of a column family: a look-up for each generation.
    Family,
}

pub(crate) struct Key {
    /// The generation, then the hash.
    bytes: [u8; 20],
    first: usize,
}

/// The one table, where generations have none of their own.
pub(crate) const TABLE: &str = "ids";

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[self.first..]
    }
}

impl Layout {
    pub(crate) fn named(name: &str) -> Option<Self> {
        match name {
            "hash" => Some(Self::Hash),
            "prefix" => Some(Self::Prefix),
            "family" => Some(Self::Family),
            _ => None,
        }
    }

    pub(crate) fn key_bytes(self) -> usize {
        if self == Self::Prefix { 20 } else { 16 }
    }

    pub(crate) fn key(self, generation: u32, hash: u128) -> Key {
        let mut bytes = [0; 20];
        bytes[..4].copy_from_slice(&generation.to_be_bytes());
        bytes[4..].copy_from_slice(&hash.to_be_bytes());
        Key { bytes, first: 20 - self.key_bytes() }
    }

    pub(crate) fn value(self, generation: u32) -> Vec<u8> {
        if self == Self::Hash { generation.to_be_bytes().to_vec() } else { Vec::new() }
    }

    /// The name of the table of a generation.
    pub(crate) fn table(self, generation: u32) -> String {
        if self == Self::Family { format!("{TABLE}-{generation}") } else { TABLE.to_owned() }
    }

    /// Which of the hashes, which are sorted, are in one of the generations.
    pub(crate) fn known(self, db: &DB, generations: &[u32], hashes: &[u128]) -> Vec<bool> {
        let mut known = vec![false; hashes.len()];
        let mut unknown: Vec<usize> = (0..hashes.len()).collect();
        let searched =
            if self == Self::Hash { &generations[..generations.len().min(1)] } else { generations };
        let options = ReadOptions::default();
        for generation in searched.iter().rev() {
            let keys: Vec<Key> = unknown.iter().map(|at| self.key(*generation, hashes[*at])).collect();
            let family = family(db, &self.table(*generation));
            let found = db.batched_multi_get_cf_opt(family, &keys, true, &options);
            for (at, found) in unknown.iter().zip(found) {
                known[*at] = found.unwrap().is_some();
            }
            unknown.retain(|at| !known[*at]);
        }
        known
    }
}

pub(crate) fn family<'a>(db: &'a DB, name: &str) -> &'a ColumnFamily {
    db.cf_handle(name).unwrap()
}

/// The tables of ids that are there, and their generations.
pub(crate) fn shape(db: &DB, tables: &[String]) -> String {
    let levels = tables.iter().map(|table| {
        let stats = db.property_value_cf(family(db, table), "rocksdb.levelstats").unwrap().unwrap();
        let levels = stats.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let level: u32 = words.next()?.parse().ok()?;
            let files: u32 = words.next()?.parse().ok()?;
            (files > 0).then(|| format!("L{level}:{files}"))
        });
        levels.collect::<Vec<_>>().join(" ")
    });
    levels.collect::<Vec<_>>().join(", ")
}
