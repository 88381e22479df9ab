//! The invariants over a store as it is on disk, whatever was seen of its commits.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Series,
    ledger::{Place, amount},
    plan::CODE,
    world::World,
};
use crate::{
    domain::billing::record::{Record, RecordId, Settled},
    engine::{
        audit::{Known, audit},
        billing::record_reader::RecordReader,
        state::Status,
    },
    store::{MemoryStore, ReadTable, tables::buckets::Buckets},
    testing::sample::hour_faults,
};

/// Adds up what the store holds (I1), looks for records that changed (I2) or share a slot (I6), and audits it as an
/// operator would.
pub(super) fn check_invariants(store: &MemoryStore, world: &World) {
    let ledger = world.ledger();
    let mut placed: BTreeMap<Series, u128> = BTreeMap::new();
    let mut put = |series, amount| *placed.entry(series).or_default() += amount;
    store
        .each(Buckets, |key, bucket| {
            let series = Series::named(key.customer, key.dimension, world.catalog());
            let adds_up = series.dimension(world.catalog()).aggregate.adds_up();
            put(series, if adds_up { bucket.total() } else { bucket.carried.total() });
            Ok(())
        })
        .unwrap();
    let mut slots = BTreeSet::new();
    for (record, place) in all_records(store) {
        assert_eq!(&*record.product, CODE);
        put(Series::named(&record.customer, &record.dimension, world.catalog()), amount(&record, &place));
        if !ledger.has(&record, &place) || !slots.insert(record.slot()) {
            world.trace.fault(format!("I2, I6: the store has {record:?}, which is not what was committed"));
        }
    }
    let committed: BTreeMap<Series, u128> = ledger.placed().filter(|(_, amount)| *amount > 0).collect();
    placed.retain(|_, amount| *amount > 0);
    if slots.len() != ledger.records() || placed != committed {
        world.trace.fault("I1: the store does not hold what was committed");
    }
    let report = audit(store, Known::default(), &mut |_| true).unwrap();
    world.trace.faults(report.faults);
}

/// What operators are told of the state is what is on disk.
pub(super) fn check_tally(store: &MemoryStore, status: &Status, world: &World) {
    let mut open = 0;
    store
        .each(Buckets, |_, bucket| {
            open += bucket.total();
            Ok(())
        })
        .unwrap();
    let records = RecordReader::new(store);
    let held = records.held(RecordId(0), usize::MAX).unwrap();
    let held_units: u128 = held.iter().map(Settled::amount).sum();
    let pending = records.pending_after(RecordId(0), usize::MAX).unwrap().len();
    let on_disk = (open, held.len() as u64, held_units, pending as u64);
    let told = (
        status.open_units.values().sum(),
        status.tally.held_records.values().sum(),
        status.tally.held_units.values().sum(),
        status.tally.pending_records.values().sum(),
    );
    for fault in hour_faults(store) {
        world.trace.fault(format!("the tally of an hour differs: {fault}"));
    }
    if on_disk != told {
        world.trace.fault(format!("the tally says {told:?}, and on disk are {on_disk:?}"));
    }
}

fn all_records(store: &MemoryStore) -> Vec<(Record, Place)> {
    // Table by table: a record that is in two of them must not look like one.
    let records = RecordReader::new(store);
    let pending = records.pending_after(RecordId(0), usize::MAX).unwrap().into_iter();
    let held = records.held(RecordId(0), usize::MAX).unwrap();
    let settled = records.settled(RecordId(0), usize::MAX).unwrap();
    let settled = settled.into_iter().chain(held);
    pending
        .map(|(record, _)| (record, Place::Pending))
        .chain(settled.map(|settled| {
            let place = Place::of(&settled);
            (settled.record, place)
        }))
        .collect()
}
