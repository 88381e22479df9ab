//! The usual hours of customers and dimensions. There are rows of dimensions with `hold_above_usual` only.

use prost::Message;

use super::numbers::{StoredAmount, amount};
use crate::{
    domain::{billing::usual::UsualHours, time::Hour},
    store::{TableId, key::SeriesKey, table::Table, value::Protobuf},
};

pub(crate) struct UsualHoursRows;

impl Table for UsualHoursRows {
    const ID: TableId = TableId::UsualHours;
    const WHAT: &'static str = "usual hour";
    type Key<'k> = SeriesKey<'k>;
    type Value = UsualHours;
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StoredUsualHours {
    #[prost(uint32, tag = "1")]
    first: u32,
    #[prost(message, repeated, tag = "2")]
    days: Vec<StoredDay>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct StoredDay {
    /// Days since 1970-01-01.
    #[prost(uint32, tag = "1")]
    day: u32,
    #[prost(message, optional, tag = "2")]
    highest: Option<StoredAmount>,
}

impl Protobuf for UsualHours {
    type Stored = StoredUsualHours;

    fn to_stored(&self) -> StoredUsualHours {
        let day = |(day, highest): &(u32, u128)| StoredDay { day: *day, highest: Some((*highest).into()) };
        StoredUsualHours { first: self.first.index(), days: self.days.iter().map(day).collect() }
    }

    fn from_stored(stored: StoredUsualHours) -> Result<Self, String> {
        let days: Vec<_> = stored.days.into_iter().map(|day| (day.day, amount(day.highest))).collect();
        if !days.is_sorted_by(|(a, _), (b, _)| a < b) {
            return Err("its days are not in order".to_owned());
        }
        Ok(Self { first: Hour::from_index(stored.first), days })
    }
}
