//! What is outstanding of each customer and dimension, in base units. What is zero has no row.

use crate::store::{TableId, key::SeriesKey, table::Table};

pub(crate) struct OutstandingRows;

impl Table for OutstandingRows {
    const ID: TableId = TableId::Outstanding;
    const WHAT: &'static str = "amount that is outstanding";
    type Key<'k> = SeriesKey<'k>;
    type Value = i128;
}
