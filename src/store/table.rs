//! Typed rows over the store's bytes.

use std::marker::PhantomData;

use super::{Batch, Change, Rows, StoreError, TableId, key::Key, value::Value};

/// A kind of row: where it is kept, and what its key and value are.
pub trait Table {
    const ID: TableId;
    /// The start of its keys, where kinds of rows share a table.
    const PREFIX: &'static str = "";
    /// The name of a row in errors.
    const WHAT: &'static str;
    type Key<'k>: Key<'k>;
    type Value: Value;

    fn encode_key(key: Self::Key<'_>) -> Vec<u8> {
        const USUAL: usize = 64;
        let mut bytes = Vec::with_capacity(USUAL);
        bytes.extend(Self::PREFIX.as_bytes());
        key.write(&mut bytes);
        bytes
    }

    fn decode_key(bytes: &[u8]) -> Result<Self::Key<'_>, StoreError> {
        let key = bytes.strip_prefix(Self::PREFIX.as_bytes()).and_then(Key::read);
        key.ok_or_else(|| unreadable::<Self>("its key makes no sense".to_owned()))
    }

    fn decode(bytes: &[u8]) -> Result<Self::Value, StoreError> {
        Value::decode(bytes).map_err(unreadable::<Self>)
    }
}

pub(super) fn unreadable<T: Table + ?Sized>(why: String) -> StoreError {
    StoreError::Unreadable { what: T::WHAT, why }
}

/// A value of a table as it is on disk.
#[derive(Debug)]
pub struct Encoded<T>(Vec<u8>, PhantomData<T>);

impl<T: Table> Encoded<T> {
    pub(crate) fn of(value: &T::Value) -> Self {
        Self(value.encode(), PhantomData)
    }

    pub(super) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes, PhantomData)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Batch {
    pub fn put<T: Table>(&mut self, table: T, key: T::Key<'_>, value: &T::Value) {
        self.put_encoded(table, key, Encoded::of(value));
    }

    pub fn put_encoded<T: Table>(&mut self, _: T, key: T::Key<'_>, value: Encoded<T>) {
        self.changes.push(Change::Put(T::ID, T::encode_key(key), value.0));
    }

    pub fn delete<T: Table>(&mut self, _: T, key: T::Key<'_>) {
        self.changes.push(Change::Delete(T::ID, T::encode_key(key)));
    }

    /// Deletes everything from the first key up to but not including the second.
    pub fn delete_range<T: Table>(&mut self, _: T, from: T::Key<'_>, to: T::Key<'_>) {
        self.changes.push(Change::DeleteRange(T::ID, T::encode_key(from), T::encode_key(to)));
    }

    /// Gives up rows that no one reads any more, from the first key to the second, both included. Once the batch is on
    /// disk, the store frees what it can without writing; the others stay as they are, and come up in scans.
    pub fn discard<T: Table>(&mut self, _: T, from: T::Key<'_>, through: T::Key<'_>) {
        self.changes.push(Change::Discard(T::ID, T::encode_key(from), T::encode_key(through)));
    }
}

/// Typed reading.
pub trait ReadTable: Rows {
    fn find<T: Table>(&self, _: T, key: T::Key<'_>) -> Result<Option<T::Value>, StoreError> {
        self.get(T::ID, &T::encode_key(key))?.map(|bytes| T::decode(&bytes)).transpose()
    }

    fn has<T: Table>(&self, _: T, key: T::Key<'_>) -> Result<bool, StoreError> {
        Ok(self.get(T::ID, &T::encode_key(key))?.is_some())
    }

    /// Reads all rows in the order of their keys.
    fn each<T: Table>(
        &self,
        _: T,
        mut each: impl FnMut(T::Key<'_>, T::Value) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        self.visit(T::ID, T::PREFIX.as_bytes(), &mut |key, value| {
            if key.starts_with(T::PREFIX.as_bytes()) {
                each(T::decode_key(key)?, T::decode(value)?)
            } else {
                Ok(())
            }
        })
    }

    /// All rows, for tables whose keys borrow nothing.
    fn all<T, K>(&self, table: T) -> Result<Vec<(K, T::Value)>, StoreError>
    where
        T: for<'k> Table<Key<'k> = K>,
    {
        let mut rows = Vec::new();
        self.each(table, |key, value| {
            rows.push((key, value));
            Ok(())
        })?;
        Ok(rows)
    }

    /// Reads at most `limit` rows in the order of their keys, from `from` on, `from` included.
    fn page<T: Table, R>(
        &self,
        _: T,
        from: T::Key<'_>,
        limit: usize,
        mut row: impl FnMut(T::Key<'_>, T::Value) -> R,
    ) -> Result<Vec<R>, StoreError> {
        let rows = self.scan(T::ID, &T::encode_key(from), limit)?;
        let own = rows.iter().take_while(|(key, _)| key.starts_with(T::PREFIX.as_bytes()));
        own.map(|(key, value)| Ok(row(T::decode_key(key)?, T::decode(value)?))).collect()
    }
}

impl<R: Rows + ?Sized> ReadTable for R {}
