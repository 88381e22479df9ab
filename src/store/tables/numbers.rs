//! Numbers as values. All are laid out as one of 128 bits, in two halves.

use prost::Message;

use crate::{domain::billing::record::RecordId, store::value::Protobuf};

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct StoredAmount {
    #[prost(uint64, tag = "1")]
    low: u64,
    #[prost(uint64, tag = "2")]
    high: u64,
}

impl From<u128> for StoredAmount {
    #[expect(clippy::cast_possible_truncation, reason = "the two halves of the number")]
    fn from(amount: u128) -> Self {
        Self { low: amount as u64, high: (amount >> 64) as u64 }
    }
}

impl From<StoredAmount> for u128 {
    fn from(stored: StoredAmount) -> Self {
        (Self::from(stored.high) << 64) | Self::from(stored.low)
    }
}

/// An amount that is absent is zero.
pub(super) fn amount(stored: Option<StoredAmount>) -> u128 {
    stored.unwrap_or_default().into()
}

impl Protobuf for u128 {
    type Stored = StoredAmount;

    fn to_stored(&self) -> StoredAmount {
        (*self).into()
    }

    fn from_stored(stored: StoredAmount) -> Result<Self, String> {
        Ok(stored.into())
    }
}

/// A signed one has the bits of its two's complement.
impl Protobuf for i128 {
    type Stored = StoredAmount;

    fn to_stored(&self) -> StoredAmount {
        self.cast_unsigned().into()
    }

    fn from_stored(stored: StoredAmount) -> Result<Self, String> {
        Ok(u128::from(stored).cast_signed())
    }
}

impl Protobuf for u64 {
    type Stored = StoredAmount;

    fn to_stored(&self) -> StoredAmount {
        u128::from(*self).into()
    }

    fn from_stored(stored: StoredAmount) -> Result<Self, String> {
        u128::from(stored).try_into().map_err(|_| TOO_LARGE.to_owned())
    }
}

impl Protobuf for u32 {
    type Stored = StoredAmount;

    fn to_stored(&self) -> StoredAmount {
        u128::from(*self).into()
    }

    fn from_stored(stored: StoredAmount) -> Result<Self, String> {
        u128::from(stored).try_into().map_err(|_| TOO_LARGE.to_owned())
    }
}

/// Anything but zero is true.
impl Protobuf for bool {
    type Stored = StoredAmount;

    fn to_stored(&self) -> StoredAmount {
        u128::from(*self).into()
    }

    fn from_stored(stored: StoredAmount) -> Result<Self, String> {
        Ok(u128::from(stored) != 0)
    }
}

impl Protobuf for RecordId {
    type Stored = StoredAmount;

    fn to_stored(&self) -> StoredAmount {
        self.0.to_stored()
    }

    fn from_stored(stored: StoredAmount) -> Result<Self, String> {
        u64::from_stored(stored).map(Self)
    }
}

const TOO_LARGE: &str = "it is too large";
