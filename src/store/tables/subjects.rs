//! The subjects that open buckets have counted.

use crate::{
    domain::time::Hour,
    store::{TableId, table::Table},
};

pub(crate) struct SubjectRows;

impl Table for SubjectRows {
    const ID: TableId = TableId::Subjects;
    const WHAT: &'static str = "subject";
    /// The hour, and the hash of product, customer, dimension and subject.
    type Key<'k> = (Hour, u128);
    type Value = ();
}
