//! What must be true of the ledger as a whole.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    hash::{DefaultHasher, Hash, Hasher},
    ops::RangeInclusive,
};

use super::{Fault, Invariant, Location, signed};
use crate::domain::{
    billing::record::{Record, RecordId},
    time::Hour,
};

/// What is outstanding of each customer and dimension against what is found of it: under way, held, and carried in
/// open buckets (I1). Series are named by a key that the caller chooses.
#[derive(Debug, Default)]
pub(crate) struct Balances(HashMap<Box<[u8]>, Balance>);

#[derive(Clone, Copy, Debug, Default)]
struct Balance {
    outstanding: i128,
    found: i128,
}

impl Balances {
    pub(crate) fn outstanding(&mut self, series: &[u8], amount: i128) {
        let balance = self.balance(series);
        balance.outstanding = balance.outstanding.saturating_add(amount);
    }

    pub(crate) fn found(&mut self, series: &[u8], amount: u128) {
        if amount > 0 {
            let balance = self.balance(series);
            balance.found = balance.found.saturating_add(signed(amount));
        }
    }

    fn balance(&mut self, series: &[u8]) -> &mut Balance {
        self.0.entry(series.into()).or_default()
    }

    /// The series that do not add up, with what they lack.
    pub(crate) fn faults(&self) -> impl Iterator<Item = (&[u8], i128)> {
        self.0.iter().filter_map(|(series, Balance { outstanding, found })| {
            let missing = outstanding.saturating_sub(*found);
            (missing != 0).then_some((&**series, missing))
        })
    }
}

/// Whether all that was acknowledged is somewhere (I1), by what the application and the books say of one series.
#[cfg(test)]
pub(crate) fn conserved(place: &Location, acknowledged: u128, found: u128) -> Option<Fault> {
    (found < acknowledged).then(|| Fault {
        invariant: Invariant::Conservation,
        place: place.clone(),
        amount: signed(acknowledged).saturating_sub(signed(found)),
        what: "usage was lost".to_owned(),
    })
}

/// Whether what has just been acknowledged is on disk (I3).
#[cfg(test)]
pub(crate) fn durable(place: &Location, acknowledged: u128, on_disk: u128) -> Option<Fault> {
    conserved(place, acknowledged, on_disk).map(|lost| Fault {
        invariant: Invariant::Durable,
        what: "usage was acknowledged, and is not on disk".to_owned(),
        ..lost
    })
}

/// Whether nothing was counted twice (I4), by what the application has offered at most.
#[cfg(test)]
pub(crate) fn once(place: &Location, offered: u128, counted: u128) -> Option<Fault> {
    (counted > offered).then(|| Fault {
        invariant: Invariant::Once,
        place: place.clone(),
        amount: signed(offered).saturating_sub(signed(counted)),
        what: "more usage is counted than there was".to_owned(),
    })
}

/// Whether every record is somewhere, and in one place only (I5). Takes records in the order of their numbers.
#[derive(Debug)]
pub(crate) struct RecordSequence {
    /// Receipts up to this record may have been dropped.
    dropped_through: RecordId,
    last: RecordId,
}

impl RecordSequence {
    pub(crate) const fn new(dropped_through: RecordId) -> Self {
        Self { dropped_through, last: dropped_through }
    }

    pub(crate) fn next(&mut self, id: RecordId) -> Option<Fault> {
        if id <= self.dropped_through {
            return None;
        }
        let expected = RecordId(self.last.0.saturating_add(1));
        let fault = match id {
            id if id < expected => Some(lost_track(id, "a record is in two places")),
            id if id > expected => Some(missing(expected.0..=id.0.saturating_sub(1))),
            _ => None,
        };
        self.last = self.last.max(id);
        fault
    }

    /// There are no more; `next_record` is the number of the next one to be sealed.
    pub(crate) fn end(&mut self, next_record: RecordId) -> Option<Fault> {
        let last = next_record.0.saturating_sub(1);
        if self.last.0 > last {
            return Some(lost_track(self.last, "a record has a number that is yet to be given"));
        }
        let first_missing = self.last.0.saturating_add(1);
        (first_missing <= last).then(|| missing(first_missing..=last))
    }
}

fn missing(numbers: RangeInclusive<u64>) -> Fault {
    let (first, last) = (*numbers.start(), *numbers.end());
    let what = if first == last {
        "a record is gone".to_owned()
    } else {
        format!("the records up to {last} are gone")
    };
    lost_track(RecordId(first), &what)
}

fn lost_track(id: RecordId, what: &str) -> Fault {
    Fault {
        invariant: Invariant::OnlyKnownExits,
        place: Location::number(id),
        amount: 0,
        what: what.to_owned(),
    }
}

/// Whether each slot has one record (I6). Beyond a bound the oldest hours are forgotten: records of one hour are sealed
/// close to each other.
#[derive(Debug, Default)]
pub(crate) struct Slots {
    by_hour: BTreeMap<Hour, HashMap<u128, RecordId>>,
    taken: usize,
}

/// In some 12 MB. An hour is remembered as a whole all the same.
const MAX_SLOTS: usize = if cfg!(test) { 100 } else { 1 << 18 };

impl Slots {
    pub(crate) fn next(&mut self, record: &Record) -> Option<Fault> {
        let slots = self.by_hour.entry(record.hour).or_default();
        let fault = match slots.entry(slot_hash(record)) {
            Entry::Vacant(slot) => {
                slot.insert(record.id);
                self.taken = self.taken.saturating_add(1);
                None
            }
            Entry::Occupied(taken) => Some(Fault {
                invariant: Invariant::OneSlot,
                place: Location::from(record),
                amount: signed(record.amounts.billed).saturating_neg(),
                what: format!("record {} has the same slot", taken.get()),
            }),
        };
        while self.taken > MAX_SLOTS && self.by_hour.len() > 1 {
            let oldest = self.by_hour.pop_first();
            self.taken = self.taken.saturating_sub(oldest.map_or(0, |(_, slots)| slots.len()));
        }
        fault
    }
}

/// 128 bits, so that two slots of an hour are never taken for one.
fn slot_hash(record: &Record) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, &record.product, &record.identity, &record.dimension).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64_u32 | half(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::billing::record::tests::sample;

    #[test]
    fn what_is_outstanding_must_be_found() {
        let mut balances = Balances::default();
        balances.outstanding(b"a", 10);
        balances.found(b"a", 7);
        balances.found(b"a", 3);
        balances.outstanding(b"b", 5);
        balances.found(b"c", 2);
        let mut faults: Vec<_> = balances.faults().collect();
        faults.sort_unstable();
        assert_eq!(faults, [(&b"b"[..], 5), (&b"c"[..], -2)]);
    }

    #[test]
    fn what_was_acknowledged_is_there_and_no_more_than_was_offered() {
        let place = Location::series("p", "c", "d");
        assert_eq!((durable(&place, 5, 5), once(&place, 7, 7)), (None, None));
        let lost = [conserved(&place, 5, 3), durable(&place, 5, 3)].map(Option::unwrap);
        assert_ne!(lost[0].what, lost[1].what);
        assert_eq!(
            lost.map(|fault| (fault.invariant, fault.amount)),
            [(Invariant::Conservation, 2), (Invariant::Durable, 2)]
        );
        assert_eq!(once(&place, 7, 8).unwrap().amount, -1);
    }

    fn faults(numbers: &mut RecordSequence, ids: &[u64]) -> Vec<String> {
        ids.iter().filter_map(|id| numbers.next(RecordId(*id))).map(|fault| fault.to_string()).collect()
    }

    #[test]
    fn every_record_is_in_one_place() {
        let mut numbers = RecordSequence::new(RecordId(0));
        assert_eq!(faults(&mut numbers, &[1, 2, 3]), Vec::<String>::new());
        assert_eq!(numbers.end(RecordId(4)), None);
        assert_eq!(faults(&mut numbers, &[3, 4]), ["I5: a record is in two places, record 3"]);
        assert_eq!(
            faults(&mut numbers, &[6, 9]),
            ["I5: a record is gone, record 5", "I5: the records up to 8 are gone, record 7"]
        );
        assert_eq!(numbers.end(RecordId(10)), None);
        assert_eq!(
            numbers.end(RecordId(12)).unwrap().to_string(),
            "I5: the records up to 11 are gone, record 10"
        );
        assert!(numbers.end(RecordId(9)).unwrap().what.contains("yet to be given"));
    }

    #[test]
    fn what_was_dropped_for_its_age_is_not_missing() {
        let mut numbers = RecordSequence::new(RecordId(7));
        assert_eq!(faults(&mut numbers, &[3, 8, 9]), Vec::<String>::new(), "3 is still held");
        assert_eq!(numbers.end(RecordId(10)), None);
        assert_eq!(RecordSequence::new(RecordId(7)).end(RecordId(8)), None);
    }

    #[test]
    fn a_slot_is_taken_once() {
        let mut slots = Slots::default();
        assert_eq!(slots.next(&sample(1)), None);
        let next_hour = Record { hour: sample(1).hour.next(), ..sample(2) };
        assert_eq!(slots.next(&next_hour), None);
        assert_eq!(slots.next(&Record { product: "other".into(), ..sample(3) }), None);
        let fault = slots.next(&sample(4)).unwrap();
        assert!(fault.to_string().starts_with("I6: record 1 has the same slot"), "{fault}");
    }

    #[test]
    fn slots_of_long_ago_are_forgotten() {
        let mut slots = Slots::default();
        for hour in 0..500 {
            assert_eq!(slots.next(&Record { hour: Hour::from_index(hour), ..sample(1) }), None);
        }
        assert_eq!((slots.by_hour.len(), slots.taken), (MAX_SLOTS, MAX_SLOTS));
        let newest = Record { hour: Hour::from_index(499), ..sample(2) };
        assert!(slots.next(&newest).is_some(), "the newest are known");
    }

    #[test]
    fn an_hour_is_remembered_as_a_whole() {
        let mut slots = Slots::default();
        let of = |number: usize| Record { dimension: number.to_string().into(), ..sample(1) };
        assert!((0..2 * MAX_SLOTS).all(|number| slots.next(&of(number)).is_none()));
        assert!(slots.next(&of(0)).is_some());
    }
}
