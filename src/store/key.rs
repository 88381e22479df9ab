//! How keys are laid out. Numbers are big-endian, so that the order of bytes is the order that scans want.
//!
//! Products, customers and dimensions are names rather than numbers, so that a store can be read without its
//! configuration, and a configuration may be reordered.

use crate::domain::{billing::record::RecordId, time::Hour};

/// A key of a table, or what of it follows the table's prefix.
pub trait Key<'k>: Sized {
    fn write(&self, bytes: &mut Vec<u8>);
    /// `None` if the bytes are no such key. What is read has only one way to be written.
    fn read(bytes: &'k [u8]) -> Option<Self>;
}

/// A part of a key that says itself where it ends.
pub(crate) trait KeyPart<'k>: Sized {
    fn write(&self, bytes: &mut Vec<u8>);
    /// The part, and the bytes after it.
    fn split(bytes: &'k [u8]) -> Option<(Self, &'k [u8])>;
}

/// A number of a fixed width, which is a whole key or a part of one.
pub(crate) trait FixedWidth: Copy {
    fn write(self, bytes: &mut Vec<u8>);
    fn split(bytes: &[u8]) -> Option<(Self, &[u8])>;
}

macro_rules! big_endian {
    ($($number:ty),*) => {$(
        impl FixedWidth for $number {
            fn write(self, bytes: &mut Vec<u8>) {
                bytes.extend(self.to_be_bytes());
            }

            fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
                bytes.split_first_chunk().map(|(number, rest)| (Self::from_be_bytes(*number), rest))
            }
        }
    )*};
}

big_endian!(u8, u32, u64, u128);

impl FixedWidth for Hour {
    fn write(self, bytes: &mut Vec<u8>) {
        FixedWidth::write(self.index(), bytes);
    }

    fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        <u32 as FixedWidth>::split(bytes).map(|(index, rest)| (Self::from_index(index), rest))
    }
}

impl FixedWidth for RecordId {
    fn write(self, bytes: &mut Vec<u8>) {
        FixedWidth::write(self.0, bytes);
    }

    fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        <u64 as FixedWidth>::split(bytes).map(|(number, rest)| (Self(number), rest))
    }
}

impl<F: FixedWidth> KeyPart<'_> for F {
    fn write(&self, bytes: &mut Vec<u8>) {
        FixedWidth::write(*self, bytes);
    }

    fn split(bytes: &[u8]) -> Option<(Self, &[u8])> {
        <F as FixedWidth>::split(bytes)
    }
}

impl<F: FixedWidth> Key<'_> for F {
    fn write(&self, bytes: &mut Vec<u8>) {
        FixedWidth::write(*self, bytes);
    }

    fn read(bytes: &[u8]) -> Option<Self> {
        <F as FixedWidth>::split(bytes).filter(|(_, rest)| rest.is_empty()).map(|(number, _)| number)
    }
}

/// A text with its length before it. Texts are at most 255 bytes: the configuration and the ingest see to that.
impl<'k> KeyPart<'k> for &'k str {
    fn write(&self, bytes: &mut Vec<u8>) {
        debug_assert!(u8::try_from(self.len()).is_ok(), "text too long for a key");
        bytes.push(u8::try_from(self.len()).unwrap_or(u8::MAX));
        bytes.extend(self.as_bytes());
    }

    fn split(bytes: &'k [u8]) -> Option<(Self, &'k [u8])> {
        let (length, rest) = bytes.split_first()?;
        let (text, rest) = rest.split_at_checked(usize::from(*length))?;
        Some((std::str::from_utf8(text).ok()?, rest))
    }
}

/// A text to the end of the key.
impl<'k> Key<'k> for &'k str {
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.as_bytes());
    }

    fn read(bytes: &'k [u8]) -> Option<Self> {
        std::str::from_utf8(bytes).ok()
    }
}

/// The only row of its kind.
impl Key<'_> for () {
    fn write(&self, _: &mut Vec<u8>) {}

    fn read(bytes: &[u8]) -> Option<Self> {
        bytes.is_empty().then_some(())
    }
}

/// A part, and the rest of the key.
impl<'k, A: KeyPart<'k>, B: Key<'k>> Key<'k> for (A, B) {
    fn write(&self, bytes: &mut Vec<u8>) {
        self.0.write(bytes);
        self.1.write(bytes);
    }

    fn read(bytes: &'k [u8]) -> Option<Self> {
        let (part, rest) = A::split(bytes)?;
        Some((part, B::read(rest)?))
    }
}

/// A customer's dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SeriesKey<'k> {
    pub product: &'k str,
    pub customer: &'k str,
    pub dimension: &'k str,
}

impl<'k> Key<'k> for SeriesKey<'k> {
    fn write(&self, bytes: &mut Vec<u8>) {
        let Self { product, customer, dimension } = *self;
        Key::write(&(product, (customer, dimension)), bytes);
    }

    fn read(bytes: &'k [u8]) -> Option<Self> {
        let (product, (customer, dimension)) = Key::read(bytes)?;
        Some(Self { product, customer, dimension })
    }
}

/// A bucket of a customer's dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BucketKey<'k> {
    pub hour: Hour,
    pub product: &'k str,
    pub customer: &'k str,
    pub dimension: &'k str,
}

impl<'k> BucketKey<'k> {
    pub(crate) fn series(&self) -> SeriesKey<'k> {
        let Self { product, customer, dimension, .. } = *self;
        SeriesKey { product, customer, dimension }
    }
}

impl<'k> Key<'k> for BucketKey<'k> {
    fn write(&self, bytes: &mut Vec<u8>) {
        Key::write(&(self.hour, self.series()), bytes);
    }

    fn read(bytes: &'k [u8]) -> Option<Self> {
        let (hour, SeriesKey { product, customer, dimension }) = Key::read(bytes)?;
        Some(Self { hour, product, customer, dimension })
    }
}
