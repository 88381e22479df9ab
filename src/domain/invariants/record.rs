//! What must be true of a record by itself, and of a call.

use super::{Fault, Invariant, Location, signed};
use crate::domain::billing::record::{Amounts, Record, Settled};
#[cfg(test)]
use crate::domain::{billing::batch::Batch, time::Timestamp};

/// AWS's limit for one record.
const MAX_ALLOCATIONS: usize = 2500;

/// Whether a record adds up (I1), as do its allocations (I10), and stays within AWS's limits (I9).
pub(crate) fn record(record: &Record) -> Vec<Fault> {
    let fault = |invariant, amount, what: &str| Fault {
        invariant,
        place: Location::from(record),
        amount,
        what: what.to_owned(),
    };
    let Amounts { usage, carried_in, billed, carried_out, rounded, .. } = &record.amounts;
    let into = signed(usage.saturating_add(carried_in.total())).saturating_add(*rounded);
    let out = signed(billed.saturating_add(*carried_out));
    let mut faults = Vec::new();
    if into != out {
        let missing = into.saturating_sub(out);
        faults.push(fault(Invariant::Conservation, missing, "a record's amounts do not add up"));
    }
    let parts = record.allocations.iter();
    let (micros, parts) = parts.fold((0_u64, 0_u128), |(micros, sum), part| {
        (micros.saturating_add(part.quantity.micros()), sum.saturating_add(part.billed))
    });
    if !record.allocations.is_empty() && (micros, parts) != (record.quantity.micros(), *billed) {
        let missing = signed(*billed).saturating_sub(signed(parts));
        faults.push(fault(
            Invariant::WholeAllocations,
            missing,
            "a record's allocations do not add up to it",
        ));
    }
    if (*billed == 0) != record.quantity.is_zero() {
        faults.push(fault(Invariant::Conservation, signed(*billed), "a quantity is not what is billed"));
    }
    if record.allocations.len() > MAX_ALLOCATIONS {
        faults.push(fault(Invariant::Bounded, 0, "a record has more allocations than AWS takes"));
    }
    faults
}

/// Whether a settled record withholds all that it leaves, or nothing of it (I1).
pub(crate) fn withheld(settled: &Settled) -> Option<Fault> {
    let (left, withheld) = (settled.record.amounts.carried_out, settled.withheld.origins.total());
    let is_whole = withheld == 0 || withheld == left;
    let is_tagged_within = settled.withheld.tagged.total() <= withheld;
    (!is_whole || !is_tagged_within).then(|| Fault {
        invariant: Invariant::Conservation,
        place: Location::from(&settled.record),
        amount: signed(left).saturating_sub(signed(withheld)),
        what: "a record withholds another amount than it leaves".to_owned(),
    })
}

/// Whether a record is what it was (I2).
#[cfg(test)]
pub(crate) fn unchanged(before: &Record, after: &Record) -> Option<Fault> {
    let change = signed(before.amounts.billed).saturating_sub(signed(after.amounts.billed));
    (before != after).then(|| Fault {
        invariant: Invariant::Frozen,
        place: Location::from(after),
        amount: change,
        what: "a record has changed".to_owned(),
    })
}

/// Whether records may share a call: one product, one kind of identity, no slot twice, within AWS's limits (I6).
#[cfg(test)]
pub(crate) fn call<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<Fault> {
    let mut batch = Batch::default();
    let misfits = records.into_iter().filter(|record| !batch.admit(record));
    let fault = |record: &Record| Fault {
        invariant: Invariant::OneSlot,
        place: Location::from(record),
        amount: signed(record.amounts.billed),
        what: "a record is in a call that it may not be in".to_owned(),
    };
    misfits.map(fault).collect()
}

/// Whether a record that is sealed or sent at `now` is of an hour that is over (I7). Only that of a closing customer need
/// not be.
#[cfg(test)]
pub(crate) fn after_its_hour(record: &Record, now: Timestamp) -> Option<Fault> {
    (now < record.hour.end()).then(|| out_of_window(record, "a record of an hour that is not over"))
}

/// Whether a record that is sent at `now` is in time (I7).
#[cfg(test)]
pub(crate) fn before_its_deadline(record: &Record, deadline: Timestamp, now: Timestamp) -> Option<Fault> {
    (now >= deadline).then(|| out_of_window(record, "a record was sent past its deadline"))
}

#[cfg(test)]
fn out_of_window(record: &Record, what: &str) -> Fault {
    Fault {
        invariant: Invariant::InTheWindow,
        place: Location::from(record),
        amount: signed(record.amounts.billed),
        what: what.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        billing::record::{Allocation, Outcome, tests::sample},
        usage::{
            bucket::{Carried, Carry},
            quantity::Quantity,
            tags::tests::tag_set,
        },
    };

    fn found(faults: &[Fault]) -> Vec<(Invariant, i128)> {
        faults.iter().map(|fault| (fault.invariant, fault.amount)).collect()
    }

    #[test]
    fn a_record_that_adds_up_has_no_fault() {
        assert_eq!(record(&sample(1)), []);
        let mut last = sample(1);
        last.amounts.rounded = 2;
        last.amounts.usage = 3;
        assert_eq!(record(&last), []);
    }

    #[test]
    fn what_a_record_lacks_or_has_too_much_is_told() {
        let mut lossy = sample(1);
        lossy.amounts.usage = 12;
        assert_eq!(found(&record(&lossy)), [(Invariant::Conservation, 7)]);
        lossy.amounts.usage = 1;
        assert_eq!(found(&record(&lossy)), [(Invariant::Conservation, -4)]);
    }

    #[test]
    fn a_record_withholds_all_that_it_leaves_or_nothing() {
        let mut record = sample(1);
        (record.amounts.usage, record.amounts.carried_out) = (12, 7);
        let holding = |origins: u128, tagged: u128| {
            let mut carry = Carry { origins: Carried::from_origin(record.hour, origins), ..Carry::default() };
            if tagged > 0 {
                carry.tagged.add(&tag_set(&[("team", "a")]), tagged);
            }
            let (outcome, at) = (Outcome::WrittenOff, Timestamp::MIN);
            withheld(&Settled { record: record.clone(), attempts: 0, outcome, at, withheld: carry })
        };
        assert_eq!((holding(0, 0), holding(7, 0), holding(7, 7)), (None, None, None));
        assert_eq!(holding(5, 0).unwrap().amount, 2);
        assert!(holding(7, 8).is_some(), "more is tagged than there is");
    }

    #[test]
    fn allocations_must_add_up_to_their_record() {
        let mut split = sample(1);
        let part =
            |quantity: &str, billed| Allocation { tags: None, quantity: quantity.parse().unwrap(), billed };
        split.allocations = vec![part("2", 2), part("3", 3)];
        assert_eq!(record(&split), []);
        split.allocations[1] = part("2", 2);
        assert_eq!(found(&record(&split)), [(Invariant::WholeAllocations, 1)]);
        split.allocations[1] = part("3", 2);
        assert_eq!(found(&record(&split)), [(Invariant::WholeAllocations, 1)]);
    }

    #[test]
    fn a_record_has_no_more_allocations_than_aws_takes() {
        let mut split = sample(1);
        let part = Allocation { tags: None, quantity: "0.001".parse().unwrap(), billed: 1 };
        for parts in [MAX_ALLOCATIONS, MAX_ALLOCATIONS + 1] {
            split.allocations = vec![part.clone(); parts];
            split.amounts = Amounts { usage: parts as u128, billed: parts as u128, ..Amounts::default() };
            split.quantity = Quantity::from_micros(parts as u64 * 1000).unwrap();
            let faults = found(&record(&split));
            assert_eq!(faults.contains(&(Invariant::Bounded, 0)), parts > MAX_ALLOCATIONS, "{faults:?}");
        }
    }

    #[test]
    fn a_quantity_stands_for_what_is_billed() {
        let mut silent = sample(1);
        silent.quantity = "0".parse().unwrap();
        assert_eq!(found(&record(&silent)), [(Invariant::Conservation, 5)]);
    }

    #[test]
    fn any_change_of_a_record_is_a_fault() {
        assert_eq!(unchanged(&sample(1), &sample(1)), None);
        let mut other = sample(1);
        other.timestamp = other.hour.end();
        let fault = unchanged(&sample(1), &other).unwrap();
        assert_eq!(
            fault.place,
            Location {
                hour: Some(other.hour),
                record: Some(other.id),
                ..Location::series("prod", "acme", "requests")
            }
        );
        let less = Record { amounts: Amounts { billed: 3, ..sample(1).amounts }, ..sample(1) };
        assert_eq!(unchanged(&sample(1), &less).unwrap().amount, 2);
    }

    #[test]
    fn a_call_takes_no_slot_twice_and_one_product() {
        let other_hour = Record { hour: sample(1).hour.next(), ..sample(2) };
        assert_eq!(call([&sample(1), &other_hour]), []);
        assert_eq!(call([&sample(1), &sample(2)]).len(), 1);
        assert_eq!(call([&sample(1), &Record { product: "other".into(), ..other_hour }]).len(), 1);
    }

    #[test]
    fn a_record_is_sent_after_its_hour_and_before_its_deadline() {
        let record = sample(1);
        let (start, end) = (record.hour.start(), record.hour.end());
        assert_eq!((after_its_hour(&record, end), before_its_deadline(&record, end, start)), (None, None));
        assert!(after_its_hour(&record, start).is_some());
        assert!(before_its_deadline(&record, end, end).is_some());
    }
}
