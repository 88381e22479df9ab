//! Keys and values of all tables, their bytes on disk, and reads over two tables.

mod golden;
mod keys;
mod values;

use crate::{
    domain::billing::record::{Delivery, RecordId, tests::sample},
    store::{
        Batch, MemoryStore, Store,
        tables::{deliveries::Deliveries, records::Records},
    },
};

#[test]
fn only_a_pending_record_has_a_delivery_and_it_is_the_one_on_disk() {
    let (store, id) = (MemoryStore::default(), RecordId(7));
    let attempted = Delivery::default().attempted();
    let mut batch = Batch::default();
    batch.put(Deliveries, id, &attempted);
    store.commit(batch).unwrap();
    assert_eq!(Records::delivery(&store, id).unwrap(), None, "it is not pending");
    let mut batch = Batch::default();
    batch.put(Records, id, &sample(7));
    store.commit(batch).unwrap();
    assert_eq!(Records::delivery(&store, id).unwrap(), Some(attempted));
}

#[test]
fn pending_records_come_with_what_was_tried_for_each() {
    let (store, mut batch) = (MemoryStore::default(), Batch::default());
    let tried = Delivery::default().attempted();
    for id in 1..=9 {
        batch.put(Records, RecordId(id), &sample(id));
        if id % 3 == 0 {
            batch.put(Deliveries, RecordId(id), &tried);
        }
    }
    // Whatever lies there without a record.
    for id in [0, 10, 11] {
        batch.put(Deliveries, RecordId(id), &tried);
    }
    store.commit(batch).unwrap();
    let page = Records::after(&store, RecordId(1), 7).unwrap();
    let tried: Vec<_> = page.iter().map(|(record, tried)| (record.id.0, tried.attempts)).collect();
    assert_eq!(tried, [(2, 0), (3, 1), (4, 0), (5, 0), (6, 1), (7, 0), (8, 0)]);
    assert_eq!(Records::after(&store, RecordId(9), 7).unwrap(), []);
    assert_eq!(Records::by_product(&store).unwrap(), [("prod".to_owned(), 9)].into());
}
