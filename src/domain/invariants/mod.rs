//! What must always be true, as functions: the simulation, the tests and `tallyman audit` check the same ones.
//!
//! `record` is about one record, `open` about open buckets, sealed hours and limits, `ledger` about all records together.
//!
//! Each takes facts and returns the faults that it finds. I3 and I4 speak of what applications were told, so only who
//! knows that can check them; the others can be checked over what is on disk.

mod adjustment;
mod ledger;
mod open;
mod record;

use std::fmt;

use super::{
    billing::record::{Record, RecordId},
    time::Hour,
};

pub(crate) use adjustment::adjustment;
pub(crate) use ledger::{Balances, RecordSequence, Slots};
#[cfg(test)]
pub(crate) use ledger::{conserved, durable, once};
pub(crate) use open::{OpenBucket, SealedHours, SealedUpTo, within};
#[cfg(test)]
pub(crate) use record::{after_its_hour, before_its_deadline, call, unchanged};
pub(crate) use record::{record, withheld};

/// The invariants of ARCHITECTURE.md, by their numbers there. What applications were told, only tests know.
#[cfg_attr(not(test), expect(dead_code, reason = "I3 and I4 are for tests to check"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Invariant {
    /// What was acknowledged is accepted, under way, open, held or written off.
    Conservation = 1,
    /// A sealed record never changes.
    Frozen = 2,
    /// Nothing is acknowledged before it is on disk.
    Durable = 3,
    /// An event counts once.
    Once = 4,
    /// A record leaves only by acceptance, by moving to a later hour, or by a person's decision.
    OnlyKnownExits = 5,
    /// A customer, dimension and hour is one record.
    OneSlot = 6,
    /// Nothing is sealed before its time or sent past its deadline.
    InTheWindow = 7,
    /// A zero is claimed at the seal and never earlier; from then on the hour takes no usage.
    ZeroIsAClaim = 8,
    /// Everything stays within its limit.
    Bounded = 9,
    /// A record's allocations add up to it exactly.
    WholeAllocations = 10,
}

impl Invariant {
    /// The number on the page.
    #[expect(clippy::as_conversions, reason = "the variant's own number")]
    const fn number(self) -> u8 {
        self as u8
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I{}", self.number())
    }
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub invariant: Invariant,
    pub place: Location,
    /// The base units that are at stake: what is missing, or, below zero, what is too much.
    pub amount: i128,
    /// What is wrong, in words.
    pub what: String,
}

/// Where something is wrong, as far as that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Location {
    pub product: String,
    pub customer: String,
    pub dimension: String,
    pub hour: Option<Hour>,
    pub record: Option<RecordId>,
}

impl Location {
    pub(crate) fn series(product: &str, customer: &str, dimension: &str) -> Self {
        Self {
            product: product.to_owned(),
            customer: customer.to_owned(),
            dimension: dimension.to_owned(),
            ..Self::default()
        }
    }

    pub(crate) fn number(record: RecordId) -> Self {
        Self { record: Some(record), ..Self::default() }
    }
}

impl From<&Record> for Location {
    fn from(record: &Record) -> Self {
        Self {
            hour: Some(record.hour),
            record: Some(record.id),
            ..Self::series(&record.product, &record.customer, &record.dimension)
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Location { product, customer, dimension, hour, record } = &self.place;
        write!(f, "{}: {}", self.invariant, self.what)?;
        for (name, value) in [("product", product), ("customer", customer), ("dimension", dimension)] {
            if !value.is_empty() {
                write!(f, ", {name} {value}")?;
            }
        }
        if let Some(hour) = hour {
            write!(f, ", hour {hour}")?;
        }
        if let Some(record) = record {
            write!(f, ", record {record}")?;
        }
        if self.amount != 0 {
            write!(f, ", {} base units", self.amount)?;
        }
        Ok(())
    }
}

/// An amount as the difference that it makes.
fn signed(amount: u128) -> i128 {
    i128::try_from(amount).unwrap_or(i128::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_names_its_invariant_its_place_and_what_is_at_stake() {
        let place = Location { hour: Some(Hour::from_index(0)), ..Location::series("p", "acme", "gb") };
        let fault = Fault { invariant: Invariant::OneSlot, place, amount: -3, what: "twice".to_owned() };
        assert_eq!(
            fault.to_string(),
            "I6: twice, product p, customer acme, dimension gb, hour 1970-01-01T00:00:00Z, -3 base units"
        );
        let numbers = [Invariant::Conservation, Invariant::ZeroIsAClaim, Invariant::WholeAllocations];
        assert_eq!(numbers.map(|invariant| invariant.to_string()), ["I1", "I8", "I10"]);
    }
}
