//! Requests of 1000 events: what prost's decoding costs, and what decoding and folding in place costs.
//!
//! The customers are drawn at random, so that most of what a request counts is counted once in it, and the requests
//! take turns, so that none lies in the nearest cache.
#![allow(missing_docs, clippy::unwrap_used, reason = "benchmarks")]

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fastrand::Rng;
use prost::Message;
use tallyman::internals::{
    Aggregate, Catalog, Customer, CustomerState, CustomerTable as CustomerDirectory, Dimension, Hasher, Hour,
    Identity, IdentityMode, Product, ProductIndex, QuantityLimits, Rounding, TimeBounds, Timestamp, Unit,
    ValidationContext, Watermarks, fold_message, fold_request, raw,
};
use tallyman_client::proto::{RecordRequest, RecordStreamRequest, UsageEvent};

const EVENTS: u64 = 1000;
const REQUESTS: usize = 32;
/// As many as are registered, and as many as a request draws from.
const CUSTOMERS: u64 = 1000;
const FEW: u64 = 100;

fn catalog() -> Catalog {
    let dimension = Dimension {
        name: "requests".into(),
        aggregate: Aggregate::Sum,
        unit: Unit::default(),
        rounding: Rounding::Down,
        tags: false,
        limits: QuantityLimits::default(),
    };
    Catalog::new(vec![Product {
        code: "prod".into(),
        identity: IdentityMode::Account,
        former: None,
        open: true,
        zero_records: true,
        review: Duration::ZERO,
        dimensions: vec![dimension],
    }])
}

fn customers() -> CustomerDirectory {
    let mut customers = CustomerDirectory::default();
    for number in 0..CUSTOMERS {
        let key = format!("{number:012}");
        let identity = Identity::Account { account_id: key.as_str().into() };
        let state = CustomerState::new(identity, None, Hour::FIRST);
        customers.put(Customer { product: ProductIndex(0), key: key.into(), state }).unwrap();
    }
    customers
}

fn requests(customers: u64, has_ids: bool) -> Vec<Vec<u8>> {
    let mut random = Rng::with_seed(7);
    let mut event = || UsageEvent {
        customer: format!("{:012}", random.u64(..customers)),
        dimension: "requests".to_owned(),
        quantity: random.u64(1..1000),
        event_id: if has_ids { format!("{:032x}", random.u128(..)) } else { String::new() },
        ..UsageEvent::default()
    };
    let mut request = || RecordRequest { events: (0..EVENTS).map(|_| event()).collect() }.encode_to_vec();
    (0..REQUESTS).map(|_| request()).collect()
}

fn folding(criterion: &mut Criterion) {
    let (catalog, customers, hasher) = (catalog(), customers(), Hasher::new(7));
    let bounds = TimeBounds { max_age: Duration::from_hours(24), max_future: Duration::from_mins(5) };
    let now = Timestamp::from_seconds(1_793_620_800);
    let watermarks = Watermarks::all(Hour::FIRST);
    let context = ValidationContext {
        catalog: &catalog,
        customers: &customers,
        range: bounds.around(now),
        watermarks: &watermarks,
        now,
        hasher,
        permission: None,
    };
    for (customers, has_ids) in [(FEW, false), (FEW, true), (CUSTOMERS, false), (CUSTOMERS, true)] {
        let ids = if has_ids { "with ids" } else { "without ids" };
        let mut group = criterion.benchmark_group(format!("1000 events of {customers} customers, {ids}"));
        group.throughput(Throughput::Elements(EVENTS));
        let requests = requests(customers, has_ids);
        let mut turn = requests.iter().cycle();
        group.bench_function("prost decodes", |bencher| {
            bencher.iter(|| RecordRequest::decode(&**turn.next().unwrap()).unwrap());
        });
        let raw: Vec<_> = requests.iter().cloned().map(raw::RecordRequest::from).collect();
        let mut turn = raw.iter().cycle();
        group.bench_function("decoded and folded in place", |bencher| {
            bencher.iter(|| fold_request(context, turn.next().unwrap()).unwrap());
        });
        let as_message = |request: &Vec<u8>| {
            let events = RecordRequest::decode(&**request).unwrap().events;
            let message = RecordStreamRequest { sequence: 1, events, ..RecordStreamRequest::default() };
            raw::RecordStreamRequest::from(message.encode_to_vec())
        };
        let messages: Vec<_> = requests.iter().map(as_message).collect();
        let mut turn = messages.iter().cycle();
        group.bench_function("the same as a stream's message, with its digest", |bencher| {
            bencher.iter(|| fold_message(context, turn.next().unwrap()).unwrap());
        });
        group.finish();
    }
}

criterion_group!(benches, folding);
criterion_main!(benches);
