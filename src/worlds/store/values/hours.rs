//! What became of an hour's records.

use prost::Message;

use super::Value;
use crate::domain::hours::HourTally;

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct StoredHourTally {
    #[prost(uint64, tag = "1")]
    pending: u64,
    #[prost(uint64, tag = "2")]
    held: u64,
    #[prost(uint64, tag = "3")]
    accepted: u64,
    #[prost(uint64, tag = "4")]
    rolled_forward: u64,
    #[prost(uint64, tag = "5")]
    carried: u64,
    #[prost(uint64, tag = "6")]
    written_off: u64,
    #[prost(uint64, tag = "7")]
    expired: u64,
}

impl Value for HourTally {
    type Stored = StoredHourTally;
    const WHAT: &'static str = "tally of an hour";

    fn to_stored(&self) -> StoredHourTally {
        let Self { pending, held, accepted, rolled_forward, carried, written_off, expired } = *self;
        StoredHourTally { pending, held, accepted, rolled_forward, carried, written_off, expired }
    }

    fn from_stored(stored: StoredHourTally) -> Result<Self, String> {
        let StoredHourTally { pending, held, accepted, rolled_forward, carried, written_off, expired } =
            stored;
        Ok(Self { pending, held, accepted, rolled_forward, carried, written_off, expired })
    }
}
