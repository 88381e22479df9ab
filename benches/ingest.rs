//! A request of 1000 events: what prost's decoding costs, and what decoding and folding in place costs.
#![allow(missing_docs, clippy::unwrap_used, reason = "benchmarks")]

use std::{hint::black_box, time::Duration};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use prost::Message;
use tallyman::{
    base::proto::{RecordRequest, UsageEvent, raw},
    domain::{
        customer::Standing,
        identity::{Identity, IdentityMode},
        product::{Aggregate, Catalog, Dimension, Product, ProductIndex},
        quantity::{Rounding, Unit},
        time::{Hour, Timestamp},
        usage::TimeBounds,
    },
    faces::ingest::{Desk, Hasher, fold_request},
    work::roster::{Customer, Inner as Roster},
};

const EVENTS: u64 = 1000;
const CUSTOMERS: u64 = 100;

fn catalog() -> Catalog {
    let dimension = Dimension {
        name: "requests".into(),
        aggregate: Aggregate::Sum,
        unit: Unit::default(),
        rounding: Rounding::Down,
        tags: false,
    };
    Catalog::new(vec![Product {
        code: "prod".into(),
        identity: IdentityMode::Account,
        former: None,
        open: true,
        zero_records: true,
        dimensions: vec![dimension],
    }])
}

fn roster() -> Roster {
    let mut roster = Roster::default();
    for number in 0..CUSTOMERS {
        let key = format!("{number:012}");
        let identity = Identity::Account { account_id: key.as_str().into() };
        let standing = Standing::new(identity, None, Hour::FIRST);
        roster.put(Customer { product: ProductIndex(0), key: key.into(), standing }).unwrap();
    }
    roster
}

fn request(has_ids: bool) -> Vec<u8> {
    let event = |number: u64| UsageEvent {
        customer: format!("{:012}", number % CUSTOMERS),
        dimension: "requests".to_owned(),
        quantity: 1 + number,
        event_id: if has_ids { format!("{number:032x}") } else { String::new() },
        ..UsageEvent::default()
    };
    RecordRequest { events: (0..EVENTS).map(event).collect() }.encode_to_vec()
}

fn folding(criterion: &mut Criterion) {
    let (catalog, roster, hasher) = (catalog(), roster(), Hasher::new(7));
    let bounds = TimeBounds { max_age: Duration::from_hours(24), max_future: Duration::from_mins(5) };
    let range = bounds.around(Timestamp::from_seconds(1_793_620_800));
    let desk = Desk { catalog: &catalog, roster: &roster, range, hasher };
    let mut group = criterion.benchmark_group("1000 events");
    group.throughput(Throughput::Elements(EVENTS));
    for (has_ids, name) in [(false, "without ids"), (true, "with ids")] {
        let bytes = request(has_ids);
        group.bench_function(format!("prost decodes, {name}"), |bencher| {
            bencher.iter(|| RecordRequest::decode(black_box(&*bytes)).unwrap());
        });
        let raw = raw::RecordRequest::from(bytes);
        group.bench_function(format!("decoded and folded in place, {name}"), |bencher| {
            bencher.iter(|| fold_request(desk, black_box(&raw)).unwrap());
        });
    }
    group.finish();
}

criterion_group!(benches, folding);
criterion_main!(benches);
