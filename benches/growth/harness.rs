//! What the parts share: the configuration, an open store with its committer, and usage to count.

use std::{
    collections::VecDeque,
    fmt, fs,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tallyman::internals::{
    Catalog, Clock, Committer, Config, CountError, CountRequest, Counted, CustomerDirectory, CustomerIndex,
    CustomerRef, DimensionIndex, EngineState, Hour, Identity, Lifecycle, NewCustomer, ProductIndex,
    RocksStore, Rules, Store, Tasks, Ticket, Timestamp, TrustedClock, Usage, UsageEntry, claim_format,
    parse_config,
};

/// Customers, each of which uses every dimension.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) customers: u32,
    pub(crate) dimensions: u16,
}

impl Shape {
    /// `100x10`
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (customers, dimensions) = text.split_once('x')?;
        Some(Self { customers: customers.parse().ok()?, dimensions: dimensions.parse().ok()? })
    }

    pub(crate) fn buckets(self) -> u32 {
        self.customers * u32::from(self.dimensions)
    }

    /// The n-th bucket's customer and dimension.
    fn series(self, number: u32) -> (u32, u16) {
        (number / u32::from(self.dimensions), u16::try_from(number % u32::from(self.dimensions)).unwrap())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.customers, self.dimensions)
    }
}

/// Billed in thousands, so that hours leave something to the next one.
pub(crate) fn config_text(shape: Shape, folder: &Path, [grpc, admin]: [&str; 2]) -> String {
    let dimension = |number| format!("[[product.dimension]]\nname = \"dimension_{number}\"\nunit = 1000\n");
    let dimensions = (0..shape.dimensions).map(dimension).collect::<Vec<_>>().concat();
    format!(
        "[agent]\ndata_dir = \"{}\"\n[grpc]\nlisten = \"{grpc}\"\n[admin]\nlisten = \"{admin}\"\n\
         [limits]\nmax_customers = 2000000\nmax_open_buckets = 4000000\n\
         [[product]]\ncode = \"prod-growth\"\nidentity = \"account\"\n{dimensions}",
        folder.display()
    )
}

fn configuration(shape: Shape, folder: &Path) -> Config {
    let text = config_text(shape, folder, ["127.0.0.1:0", "127.0.0.1:0"]);
    parse_config(&text, "growth.toml", std::iter::empty()).unwrap()
}

pub(crate) struct Harness {
    pub(crate) shape: Shape,
    pub(crate) store: Arc<RocksStore>,
    pub(crate) committer: Committer,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) config: Config,
    pub(crate) opening_store: Duration,
    pub(crate) opening_books: Duration,
    _tasks: Tasks,
}

impl Harness {
    pub(crate) fn open(shape: Shape, folder: &Path) -> Self {
        let config = configuration(shape, folder);
        let (clock, catalog) = (Clock::SYSTEM, config.catalog.clone());
        let begun = Instant::now();
        let store = Arc::new(RocksStore::open(&config.agent.data_dir).unwrap());
        let opening_store = begun.elapsed();
        claim_format(&*store, 7).unwrap();
        let (customers, tasks, begun) =
            (Arc::new(CustomerDirectory::default()), Tasks::default(), Instant::now());
        let rules = Rules::new(&config, config.catalog.clone());
        let state = EngineState::open(&*store, rules, customers.clone(), clock.now()).unwrap();
        let opening_books = begun.elapsed();
        let phase = Lifecycle::default();
        let committer = Committer::start(
            state,
            store.clone() as Arc<dyn Store>,
            customers,
            TrustedClock::new(clock),
            1_000_000,
            phase,
            &tasks,
        );
        Self { shape, store, committer, catalog, config, opening_store, opening_books, _tasks: tasks }
    }

    pub(crate) fn hour() -> Hour {
        Hour::containing(Clock::SYSTEM.now())
    }

    /// Counts one event for each bucket of an hour, whose customers need not be known.
    pub(crate) async fn fill(&self, hour: Hour) {
        let mut waiting = Waiting::default();
        let all: Vec<u32> = (0..self.shape.buckets()).collect();
        for some in all.chunks(1000) {
            let entries = some.iter().map(|number| {
                let (customer, dimension) = self.shape.series(*number);
                entry(new_customer(customer), dimension, hour)
            });
            waiting.add(self.committer.count(request(entries.collect())).await.unwrap()).await;
        }
        waiting.all().await;
    }

    /// Counts so many entries for random open buckets; returns what one takes.
    pub(crate) async fn count(&self, hour: Hour, deltas: u32) -> Duration {
        const SIZE: u32 = 500;
        let (begun, mut waiting) = (Instant::now(), Waiting::default());
        for _ in 0..deltas {
            let request = self.some_usage(hour, SIZE);
            waiting.add(self.committer.count(request).await.unwrap()).await;
        }
        waiting.all().await;
        begun.elapsed() / (deltas * SIZE)
    }

    pub(crate) fn some_usage(&self, hour: Hour, entries: u32) -> CountRequest {
        let some = (0..entries).map(|_| {
            let (customer, dimension) = self.shape.series(fastrand::u32(0..self.shape.buckets()));
            entry(CustomerRef::Known(CustomerIndex(customer)), dimension, hour)
        });
        request(some.collect())
    }

    /// Counts a little again and again while `work` is under way; returns how long the answers took.
    pub(crate) async fn probe_while<T>(&self, hour: Hour, work: impl Future<Output = T>) -> (T, Latencies) {
        let mut latencies = Latencies::default();
        let probe = async {
            loop {
                let begun = Instant::now();
                let ticket = self.committer.count(self.some_usage(hour, 10)).await.unwrap();
                ticket.answer().await.unwrap();
                latencies.0.push(begun.elapsed());
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let done = tokio::select! {
            done = work => done,
            () = probe => unreachable!(),
        };
        (done, latencies)
    }
}

#[derive(Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    /// The 99th percentile and the longest, in milliseconds.
    pub(crate) fn p99_and_max(mut self) -> [f64; 2] {
        self.0.sort_unstable();
        let at = |share: usize| self.0.get((self.0.len() * share / 100).min(self.0.len().saturating_sub(1)));
        [99, 100].map(|share| at(share).copied().unwrap_or_default().as_secs_f64() * 1e3)
    }
}

/// Requests under way, a few at a time.
#[derive(Default)]
struct Waiting(VecDeque<Ticket<Counted, CountError>>);

impl Waiting {
    async fn add(&mut self, ticket: Ticket<Counted, CountError>) {
        self.0.push_back(ticket);
        if self.0.len() > 16 {
            answered(self.0.pop_front().unwrap()).await;
        }
    }

    async fn all(self) {
        for ticket in self.0 {
            answered(ticket).await;
        }
    }
}

async fn answered(ticket: Ticket<Counted, CountError>) {
    let recorded = ticket.answer().await.unwrap();
    assert!(recorded.refused_entries.is_empty(), "{recorded:?}");
}

fn new_customer(number: u32) -> CustomerRef {
    // They come in no order.
    let shuffled = u64::from(number) * 7_919_777 % 100_000_000_003;
    let account: Arc<str> = format!("{shuffled:012}").into();
    let identity = Identity::Account { account_id: account.clone() };
    CustomerRef::New(Arc::new(NewCustomer { key: account, identity }))
}

fn entry(customer: CustomerRef, dimension: u16, hour: Hour) -> UsageEntry {
    UsageEntry {
        product: ProductIndex(0),
        customer,
        dimension: DimensionIndex(dimension),
        hour,
        earliest: Timestamp::MAX,
        usage: Usage::Sum(1500),
        events: 1,
        split: None,
    }
}

fn request(entries: Vec<UsageEntry>) -> CountRequest {
    CountRequest { events: entries.len(), entries, ..CountRequest::default() }
}

/// Resident memory of a process.
pub(crate) fn mebibytes(process: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}
