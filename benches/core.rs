//! The pure core: what one request, one seal and one batch cost.
#![allow(missing_docs, clippy::unwrap_used, reason = "benchmarks")]

use std::{hint::black_box, num::NonZeroU64, sync::Arc};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use tallyman::domain::{
    bucket::{Bucket, Carried, Usage},
    deadline::Window,
    identity::Identity,
    outbox::Outbox,
    product::{Aggregate, Dimension},
    quantity::{Rounding, Unit},
    record::{Amounts, Delivery, Record, RecordId},
    seal::{Billed, Occasion, seal},
    time::Hour,
};

const RECORDS: u64 = 10_000;

fn hour() -> Hour {
    Hour::from_index(498_000)
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

fn sealing(criterion: &mut Criterion) {
    let billed = Billed {
        product: "prod".into(),
        customer: "acme".into(),
        identity: Identity::Account { account_id: "123456789012".into() },
        since: None,
    };
    let unit = Unit::new(NonZeroU64::new(1_000_000_000).unwrap(), 3).unwrap();
    let (aggregate, rounding) = (Aggregate::Sum, Rounding::Down);
    let dimension = Dimension { name: "gb_out".into(), aggregate, unit, rounding, tags: false };
    let bucket = Bucket {
        usage: Usage::Sum(123_456_789_012),
        events: 7,
        carried: Carried::from_origin(hour().previous(), 999_999),
        ..Bucket::new(aggregate)
    };
    let occasion = Occasion { hour: hour(), claims_zero: true, is_last: false };
    criterion.bench_function("seal one bucket", |bencher| {
        bencher.iter(|| seal(RecordId(1), occasion, &billed, &dimension, black_box(&bucket)));
    });
}

fn planning(criterion: &mut Criterion) {
    let deadline = Window::AWS.deadline(hour());
    let now = hour().end();
    let full = || {
        let mut outbox = Outbox::default();
        for id in 1..=RECORDS {
            outbox.insert(record(id), Delivery::default(), deadline);
        }
        outbox
    };
    criterion.bench_function("plan and settle 10 000 records", |bencher| {
        bencher.iter_batched(
            full,
            |mut outbox| {
                while let Some(flight) = outbox.take_batch(now) {
                    for entry in &flight.entries {
                        outbox.remove(entry.record.id);
                    }
                    outbox.landed(flight, true);
                }
                assert!(outbox.is_empty());
            },
            BatchSize::LargeInput,
        );
    });
}

criterion_group!(benches, sealing, planning);
criterion_main!(benches);
