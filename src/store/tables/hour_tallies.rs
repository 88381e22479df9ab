//! The tally of each of the last hours.

use prost::Message;

use crate::{
    domain::{billing::hour_tally::HourTally, time::Hour},
    store::{TableId, table::Table, value::Protobuf},
};

pub(crate) struct HourTallyRows;

impl Table for HourTallyRows {
    const ID: TableId = TableId::Meta;
    const PREFIX: &'static str = "hour/";
    const WHAT: &'static str = "tally of an hour";
    type Key<'k> = Hour;
    type Value = HourTally;
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct StoredHourTally {
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

impl Protobuf for HourTally {
    type Stored = StoredHourTally;

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
