//! Records become batches, and are settled.

use std::sync::Arc;

use criterion::{BatchSize, Criterion};
use tallyman::internals::{
    Amounts, Answers, Delivery, Identity, Outbox, Record, RecordId, Reply, Standing, Window,
};

use crate::hour;

const RECORDS: u64 = 10_000;

pub(crate) fn bench(criterion: &mut Criterion) {
    let deadline = Window::AWS.deadline(hour());
    let now = hour().end();
    let full = || {
        let mut outbox = Outbox::default();
        for id in 1..=RECORDS {
            outbox.insert(record(id), Delivery::default(), deadline, Standing::Verified);
        }
        outbox
    };
    criterion.bench_function("plan and settle 10 000 records", |bencher| {
        bencher.iter_batched(
            full,
            |mut outbox| {
                while let Some(batch) = outbox.take_batch(now) {
                    for entry in &batch.entries {
                        outbox.remove(entry.record.id);
                    }
                    outbox.complete(batch, &Reply::Answered(Answers::default()));
                }
                assert!(outbox.is_empty());
            },
            BatchSize::LargeInput,
        );
    });
}

fn record(id: u64) -> Arc<Record> {
    Arc::new(Record {
        id: RecordId(id),
        product: "prod".into(),
        customer: format!("customer-{id}").into(),
        dimension: "requests".into(),
        identity: Identity::Account { account_id: format!("{id:012}").into() },
        hour: hour(),
        timestamp: hour().start(),
        quantity: "5".parse().unwrap(),
        decimal: false,
        allocations: Vec::new(),
        amounts: Amounts { usage: 5, events: 1, billed: 5, ..Amounts::default() },
    })
}
