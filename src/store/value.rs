//! How values are laid out: one version byte, then mostly a protobuf message.
//!
//! Within a version, fields may be added under new numbers, with a meaning for their absence that old values keep.

use prost::Message;

/// The version that this code writes, and the only one that it reads.
pub(super) const VERSION: u8 = 1;

/// The value of a row.
pub trait Value: Sized {
    fn encode(&self) -> Vec<u8>;
    /// The error says what about the bytes makes no sense.
    fn decode(bytes: &[u8]) -> Result<Self, String>;
}

/// A type that is laid out as a protobuf message.
pub(crate) trait Protobuf: Sized {
    type Stored: Message + Default;

    fn to_stored(&self) -> Self::Stored;
    /// The error says what about the value makes no sense.
    fn from_stored(stored: Self::Stored) -> Result<Self, String>;
}

impl<P: Protobuf> Value for P {
    fn encode(&self) -> Vec<u8> {
        let stored = self.to_stored();
        let mut bytes = Vec::with_capacity(1 + stored.encoded_len());
        bytes.push(VERSION);
        stored.encode_raw(&mut bytes);
        bytes
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let stored = P::Stored::decode(unversioned(bytes)?).map_err(|error| error.to_string())?;
        Self::from_stored(stored)
    }
}

/// A row that says all by being there.
impl Value for () {
    fn encode(&self) -> Vec<u8> {
        vec![VERSION]
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        unversioned(bytes).map(|_| ())
    }
}

/// The bytes after the version, if it is the known one.
pub(super) fn unversioned(bytes: &[u8]) -> Result<&[u8], String> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => Ok(rest),
        Some((version, _)) => Err(format!("its version is {version}, not {VERSION}")),
        None => Err("it is empty".to_owned()),
    }
}
