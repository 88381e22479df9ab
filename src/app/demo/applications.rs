//! Sample applications: they report usage as the README tells, and keep count of what was acknowledged.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use tokio::time::{sleep, timeout};
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};

use crate::{
    base::{
        clock::Clock,
        config::Config,
        proto::{RecordRequest, UsageEvent, usage_service_client::UsageServiceClient},
        tasks::Tasks,
    },
    domain::time::Timestamp,
};

const APPLICATIONS: usize = 4;
const ACCOUNTS: [&str; 3] = ["123456789012", "210987654321", "555566667777"];
/// Real time between two batches of one application.
const PAUSE: Duration = Duration::from_millis(20);
const RETRY_PAUSE: Duration = Duration::from_millis(50);

/// (product, customer, dimension)
pub(super) type Series = (String, String, String);

/// What the agent has acknowledged.
#[derive(Clone, Debug, Default)]
pub(super) struct Acknowledged {
    /// The usage of each series, in base units.
    pub(super) units: BTreeMap<Series, u128>,
    pub(super) events: u64,
    pub(super) resent: u64,
}

#[derive(Clone)]
pub(super) struct Applications {
    shared: Arc<Shared>,
}

struct Shared {
    acknowledged: Mutex<Acknowledged>,
    running: AtomicUsize,
}

impl Applications {
    pub(super) fn start(config: &Config, clock: Clock, end: Timestamp, seed: u64, tasks: &Tasks) -> Self {
        let running = AtomicUsize::new(APPLICATIONS);
        let applications = Self { shared: Arc::new(Shared { acknowledged: Mutex::default(), running }) };
        for number in 0..APPLICATIONS {
            let application = Application {
                name: format!("app-{number}"),
                rng: Rng::with_seed(seed.wrapping_add(number as u64)),
                address: config.grpc.listen.to_string(),
                clock,
                client: None,
                shared: applications.shared.clone(),
                sent: 0,
            };
            tasks.spawn_short(application.run(end));
        }
        applications
    }

    pub(super) fn acknowledged(&self) -> Acknowledged {
        self.shared.acknowledged.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn are_done(&self) -> bool {
        self.shared.running.load(Ordering::Acquire) == 0
    }
}

struct Application {
    name: String,
    rng: Rng,
    address: String,
    clock: Clock,
    client: Option<UsageServiceClient<Channel>>,
    shared: Arc<Shared>,
    sent: u64,
}

impl Application {
    async fn run(mut self, end: Timestamp) {
        // The last minute is left for answers, so that no event belongs to an hour that the demo does not wait for.
        while self.clock.now() < end.minus(Duration::from_mins(1)) {
            let events = self.make_events();
            self.deliver(events).await;
            sleep(PAUSE).await;
        }
        self.shared.running.fetch_sub(1, Ordering::Release);
    }

    fn make_events(&mut self) -> Vec<UsageEvent> {
        let count = self.rng.usize(1..=50);
        (0..count).map(|_| self.make_event()).collect()
    }

    /// Each event gets its id once, however often it is sent.
    fn make_event(&mut self) -> UsageEvent {
        self.sent += 1;
        let (product, customer, dimension, most) = match self.rng.u8(0..10) {
            0..4 => ("analytics", ACCOUNTS[self.rng.usize(0..3)], "requests", 500),
            4..6 => ("analytics", ACCOUNTS[self.rng.usize(0..3)], "gb_out", 70_000_000),
            6..8 => ("analytics", ACCOUNTS[self.rng.usize(0..3)], "exports", 1),
            8 => ("search", "globex", "queries", 90),
            _ => ("search", "initech", "queries", 90),
        };
        // Now and then an event comes late, some so late that its hour has been sealed.
        let late = if self.rng.u8(..) < 10 { self.rng.u64(1..5400) } else { 0 };
        let time = self.clock.now().minus(Duration::from_secs(late));
        UsageEvent {
            product: product.to_owned(),
            customer: customer.to_owned(),
            dimension: dimension.to_owned(),
            quantity: self.rng.u64(1..=most),
            time_unix_nano: u64::try_from(time.millis()).unwrap_or_default() * 1_000_000,
            event_id: format!("{}-{}", self.name, self.sent),
            ..UsageEvent::default()
        }
    }

    /// Sends until the agent acknowledges; sometimes once more than that.
    async fn deliver(&mut self, events: Vec<UsageEvent>) {
        let mut calls = 0;
        loop {
            calls += 1;
            // An answer that is not waited for is lost, as far as this application can tell.
            let patience =
                if self.rng.u8(..) < 8 { Duration::from_micros(500) } else { Duration::from_secs(5) };
            let answer = timeout(patience, self.send(events.clone())).await;
            if let Ok(Some(rejected)) = answer {
                self.note(&events, &rejected, calls);
                break;
            }
            if answer.is_ok() {
                self.client = None;
                sleep(RETRY_PAUSE).await;
            }
        }
        if self.rng.u8(..) < 16 {
            self.send(events).await;
        }
    }

    /// The indices of rejected events; `None` if there was no answer.
    async fn send(&mut self, events: Vec<UsageEvent>) -> Option<Vec<u32>> {
        if self.client.is_none() {
            let channel = Endpoint::from_shared(self.address.clone()).ok()?.connect().await.ok()?;
            self.client = Some(UsageServiceClient::new(channel));
        }
        let answer = self.client.as_mut()?.record(Request::new(RecordRequest { events })).await.ok()?;
        Some(answer.into_inner().rejected.iter().map(|rejection| rejection.index).collect())
    }

    fn note(&self, events: &[UsageEvent], rejected: &[u32], calls: u64) {
        let mut acknowledged = self.shared.acknowledged.lock().unwrap_or_else(PoisonError::into_inner);
        acknowledged.resent += (calls - 1) * events.len() as u64;
        for (event, _) in events.iter().zip(0_u32..).filter(|(_, index)| !rejected.contains(index)) {
            let series = (event.product.clone(), event.customer.clone(), event.dimension.clone());
            let amount = if event.dimension == "exports" { 1 } else { u128::from(event.quantity) };
            *acknowledged.units.entry(series).or_default() += amount;
            acknowledged.events += 1;
        }
    }
}
