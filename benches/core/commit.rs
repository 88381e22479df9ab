//! What a group of requests costs the writer: it is counted, flushed, and written to a real folder with one sync.

use std::{collections::BTreeMap, hint::black_box, sync::Arc};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use tallyman::internals::{
    Batch, Clock, CountRequest, CustomerDirectory, CustomerIndex, CustomerRef, DimensionIndex, EngineState,
    Hour, Identified, Identity, NewCustomer, ProductIndex, RocksStore, Rules, Store, Timestamp, Usage,
    UsageEntry, WriteTxn, claim_format, parse_config,
};

const CUSTOMERS: u32 = 1000;
/// A group's events come in requests of so many.
const REQUEST: u32 = 1000;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit");
    for (name, has_ids) in [("without ids", false), ("with ids", true)] {
        // Each in a folder of its own, since ids stay.
        let mut harness = Harness::open();
        for events in [1, 100, 10_000] {
            group.throughput(Throughput::Elements(events.into()));
            group.bench_function(BenchmarkId::new(name, events), |bencher| {
                let hour = Hour::containing(harness.now);
                bencher.iter_batched(
                    || requests(events, has_ids, hour),
                    |requests| harness.commit(&requests),
                    BatchSize::LargeInput,
                );
            });
        }
    }
}

struct Harness {
    state: EngineState,
    store: RocksStore,
    now: Timestamp,
    _folder: tempfile::TempDir,
}

impl Harness {
    /// All customers are known, and each has a bucket.
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = "[[product]]\ncode = \"prod\"\nidentity = \"account\"\n[[product.dimension]]\nname = \"requests\"\n";
        let config = parse_config(text, "bench.toml", std::iter::empty()).unwrap();
        let rules = Rules::new(&config, config.catalog.clone());
        let (store, now) = (RocksStore::open(folder.path()).unwrap(), Clock::SYSTEM.now());
        claim_format(&store, 7).unwrap();
        let state = EngineState::open(&store, rules, Arc::new(CustomerDirectory::default()), now).unwrap();
        let mut harness = Self { state, store, now, _folder: folder };
        let hour = Hour::containing(now);
        let entries: Vec<UsageEntry> =
            (0..CUSTOMERS).map(|number| entry(newcomer(number), hour, 1)).collect();
        harness.commit(&[CountRequest { events: entries.len(), entries, ..CountRequest::default() }]);
        harness
    }

    fn commit(&mut self, requests: &[CountRequest]) {
        let mut batch = Batch::default();
        let mut txn =
            WriteTxn { store: &self.store, now: self.now, is_clock_doubted: false, batch: &mut batch };
        for request in requests {
            black_box(self.state.count(request, &mut txn).unwrap());
        }
        self.state.flush(&self.store, &mut batch).unwrap();
        self.store.commit(batch).unwrap();
        self.state.written();
    }
}

/// Requests of random customers, folded as ingest does it.
fn requests(events: u32, has_ids: bool, hour: Hour) -> Vec<CountRequest> {
    let sizes = (0..events).step_by(REQUEST as usize).map(|begun| REQUEST.min(events - begun));
    sizes.map(|events| request(events, has_ids, hour)).collect()
}

fn request(events: u32, has_ids: bool, hour: Hour) -> CountRequest {
    let (mut request, mut places) =
        (CountRequest { events: events as usize, ..CountRequest::default() }, BTreeMap::new());
    for index in 0..events {
        let customer = fastrand::u32(0..CUSTOMERS);
        let place = *places.entry(customer).or_insert_with(|| {
            request.entries.push(entry(CustomerRef::Known(CustomerIndex(customer)), hour, 0));
            request.entries.len() - 1
        });
        if has_ids {
            let entry = u32::try_from(place).unwrap();
            request.identified.push(Identified {
                hash: fastrand::u128(..),
                usage: Usage::Sum(3),
                entry,
                index,
                not_before: Timestamp::MIN,
            });
        } else {
            request.entries[place].add(Usage::Sum(3)).unwrap();
        }
    }
    request
}

fn newcomer(number: u32) -> CustomerRef {
    let key: Arc<str> = format!("{number:012}").into();
    let identity = Identity::Account { account_id: key.clone() };
    CustomerRef::New(Arc::new(NewCustomer { key, identity }))
}

fn entry(customer: CustomerRef, hour: Hour, events: u64) -> UsageEntry {
    UsageEntry {
        product: ProductIndex(0),
        customer,
        dimension: DimensionIndex(0),
        hour,
        earliest: Timestamp::MAX,
        usage: Usage::Sum(events.into()),
        events,
        split: None,
    }
}
