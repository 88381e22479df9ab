//! What a group of requests costs the writer: it is counted, flushed, and written to a real folder with one sync.

use std::{collections::BTreeMap, hint::black_box, sync::Arc};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use tallyman::{
    base::{clock::Clock, config},
    domain::{
        bucket::Usage,
        identity::Identity,
        product::{DimensionIndex, ProductIndex},
        time::{Hour, Timestamp},
    },
    work::{
        books::{Books, Rules},
        delta::{CustomerRef, Delta, Entry, Identified, Newcomer},
        roster::{CustomerIndex, Roster},
    },
    worlds::store::{Batch, RocksStore, Store, load},
};

const CUSTOMERS: u32 = 1000;
/// A group's events come in requests of so many.
const REQUEST: u32 = 1000;

pub(crate) fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit");
    for (name, has_ids) in [("without ids", false), ("with ids", true)] {
        // Each in a folder of its own, since ids stay.
        let mut desk = Desk::open();
        for events in [1, 100, 10_000] {
            group.throughput(Throughput::Elements(events.into()));
            group.bench_function(BenchmarkId::new(name, events), |bencher| {
                let hour = Hour::containing(desk.now);
                bencher.iter_batched(
                    || requests(events, has_ids, hour),
                    |requests| desk.commit(&requests),
                    BatchSize::LargeInput,
                );
            });
        }
    }
}

struct Desk {
    books: Books,
    store: RocksStore,
    now: Timestamp,
    _folder: tempfile::TempDir,
}

impl Desk {
    /// All customers are known, and each has a bucket.
    fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let text = "[[product]]\ncode = \"prod\"\nidentity = \"account\"\n[[product.dimension]]\nname = \"requests\"\n";
        let config = config::parse(text, "bench.toml", std::iter::empty()).unwrap();
        let rules = Rules::new(&config, config.catalog.clone());
        let (store, now) = (RocksStore::open(folder.path()).unwrap(), Clock::SYSTEM.now());
        load::claim_format(&store, 7).unwrap();
        let books = Books::open(&store, rules, Arc::new(Roster::default()), now).unwrap();
        let mut desk = Self { books, store, now, _folder: folder };
        let hour = Hour::containing(now);
        let entries: Vec<Entry> = (0..CUSTOMERS).map(|number| entry(newcomer(number), hour, 1)).collect();
        desk.commit(&[Delta { events: entries.len(), entries, ..Delta::default() }]);
        desk
    }

    fn commit(&mut self, requests: &[Delta]) {
        let mut batch = Batch::default();
        for request in requests {
            black_box(self.books.record(request, &self.store, self.now, &mut batch).unwrap());
        }
        self.books.flush(&self.store, &mut batch).unwrap();
        self.store.commit(batch).unwrap();
        self.books.written();
    }
}

/// Requests of random customers, folded as ingest does it.
fn requests(events: u32, has_ids: bool, hour: Hour) -> Vec<Delta> {
    let sizes = (0..events).step_by(REQUEST as usize).map(|begun| REQUEST.min(events - begun));
    sizes.map(|events| request(events, has_ids, hour)).collect()
}

fn request(events: u32, has_ids: bool, hour: Hour) -> Delta {
    let (mut delta, mut places) = (Delta { events: events as usize, ..Delta::default() }, BTreeMap::new());
    for index in 0..events {
        let customer = fastrand::u32(0..CUSTOMERS);
        let place = *places.entry(customer).or_insert_with(|| {
            delta.entries.push(entry(CustomerRef::Known(CustomerIndex(customer)), hour, 0));
            delta.entries.len() - 1
        });
        if has_ids {
            let entry = u32::try_from(place).unwrap();
            delta.identified.push(Identified {
                hash: fastrand::u128(..),
                usage: Usage::Sum(3),
                entry,
                index,
            });
        } else {
            delta.entries[place].add(Usage::Sum(3)).unwrap();
        }
    }
    delta
}

fn newcomer(number: u32) -> CustomerRef {
    let key: Arc<str> = format!("{number:012}").into();
    let identity = Identity::Account { account_id: key.clone() };
    CustomerRef::New(Arc::new(Newcomer { key, identity }))
}

fn entry(customer: CustomerRef, hour: Hour, events: u64) -> Entry {
    Entry {
        product: ProductIndex(0),
        customer,
        dimension: DimensionIndex(0),
        hour,
        usage: Usage::Sum(events.into()),
        events,
        apart: None,
    }
}
