//! What must always be true, as functions: the simulation, the tests and `tallyman audit` check the same ones.
//!
//! Each takes facts and returns the faults that it finds. I3 and I4 speak of what applications were told, so only who
//! knows that can check them; the others can be checked over what is on disk.

mod ledger;
mod open;
mod record;

use std::fmt;

use super::{
    record::{Record, RecordId},
    time::Hour,
};

pub use ledger::{Balances, Numbers, Slots, conserved, durable, once};
pub use open::{OpenBucket, Watermarks, within};
pub use record::{after_its_hour, before_its_deadline, call, record, unchanged};

/// The invariants of ARCHITECTURE.md, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Invariant {
    /// What was acknowledged is accepted, under way, open, held or written off.
    Conservation,
    /// A sealed record never changes.
    Frozen,
    /// Nothing is acknowledged before it is on disk.
    Durable,
    /// An event counts once.
    Once,
    /// A record leaves only by acceptance or by a decision.
    NoExitButTwo,
    /// A customer, dimension and hour is one record.
    OneSlot,
    /// Nothing is sealed before its time or sent past its deadline.
    InTheWindow,
    /// A sealed hour takes no more usage.
    ZeroIsAClaim,
    /// Everything stays within its limit.
    Bounded,
}

impl Invariant {
    pub const ALL: [Self; 9] = [
        Self::Conservation,
        Self::Frozen,
        Self::Durable,
        Self::Once,
        Self::NoExitButTwo,
        Self::OneSlot,
        Self::InTheWindow,
        Self::ZeroIsAClaim,
        Self::Bounded,
    ];
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let number = Self::ALL.iter().zip(1..).find(|(invariant, _)| *invariant == self);
        write!(f, "I{}", number.map_or(0, |(_, number)| number))
    }
}

/// Something that is not as it must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub invariant: Invariant,
    pub place: Place,
    /// The base units that are at stake: what is missing, or, below zero, what is too much.
    pub amount: i128,
    /// What is wrong, in words.
    pub what: String,
}

/// Where something is wrong, as far as that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub product: String,
    pub customer: String,
    pub dimension: String,
    pub hour: Option<Hour>,
    pub record: Option<RecordId>,
}

impl Place {
    pub fn series(product: &str, customer: &str, dimension: &str) -> Self {
        Self {
            product: product.to_owned(),
            customer: customer.to_owned(),
            dimension: dimension.to_owned(),
            ..Self::default()
        }
    }

    pub fn number(record: RecordId) -> Self {
        Self { record: Some(record), ..Self::default() }
    }
}

impl From<&Record> for Place {
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
        let Place { product, customer, dimension, hour, record } = &self.place;
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
        let place = Place { hour: Some(Hour::from_index(0)), ..Place::series("p", "acme", "gb") };
        let fault = Fault { invariant: Invariant::OneSlot, place, amount: -3, what: "twice".to_owned() };
        assert_eq!(
            fault.to_string(),
            "I6: twice, product p, customer acme, dimension gb, hour 1970-01-01T00:00:00Z, -3 base units"
        );
        let numbers: Vec<String> = Invariant::ALL.iter().map(ToString::to_string).collect();
        assert_eq!(numbers.join(" "), "I1 I2 I3 I4 I5 I6 I7 I8 I9");
    }
}
