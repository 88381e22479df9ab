//! Load that knows what was acknowledged, and the bill that must come of it, to the unit.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use fastrand::Rng;
use tallyman::internals::Sandbox;
use tallyman_client::proto::{
    RecordRequest, RecordStreamRequest, Summary, UsageEvent, usage_service_client::UsageServiceClient,
};
use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};
use tokio_stream::StreamExt;

use super::{
    agent::Home,
    events::{ACME, GLOBEX, Sums, billed_micros, event},
    eventually_within,
};

/// After which an answer is not waited for any more.
const PATIENCE: Duration = Duration::from_secs(5);
/// Messages of the stream that may wait while no agent is there to take them.
const MOST_WAITING: usize = 400;
/// Several applications at once, of both kinds that may send again: by event ids, and by numbered messages.
pub(crate) struct Load {
    done: Arc<AtomicBool>,
    acknowledged: Acknowledged,
    applications: JoinSet<()>,
}

impl Load {
    pub(crate) fn start(home: &Arc<Home>) -> Self {
        let (done, acknowledged) = (Arc::new(AtomicBool::new(false)), Acknowledged::default());
        let mut applications = JoinSet::new();
        for name in ["a", "b"] {
            let (home, done, acknowledged) = (home.clone(), done.clone(), acknowledged.clone());
            applications.spawn(async move { resend_by_id(&home, name, &done, &acknowledged).await });
        }
        let (home, stream_done, streamed) = (home.clone(), done.clone(), acknowledged.clone());
        applications.spawn(async move { resume_by_sequence(&home, &stream_done, &streamed).await });
        Self { done, acknowledged, applications }
    }

    /// How many events were acknowledged so far.
    pub(crate) fn events(&self) -> u64 {
        self.acknowledged.0.lock().unwrap().events
    }

    /// Ends once everything that was begun is acknowledged.
    pub(crate) async fn stop(mut self) -> Acknowledgements {
        self.done.store(true, Ordering::Relaxed);
        while let Some(ended) = self.applications.join_next().await {
            ended.unwrap();
        }
        self.acknowledged.0.lock().unwrap().clone()
    }
}

/// Waits until AWS has all but what is less than one step of it.
pub(crate) async fn all_billed(home: &Home, bound: Duration) -> Summary {
    eventually_within(bound, "everything is sealed and sent", async || {
        let summary = home.summary().await?;
        let product = &summary.products[0];
        // Only the remainder below one step of gb_out may still be open.
        let whole = |name: &str| product.dimensions.iter().any(|d| d.name == name && d.open != "0");
        let waits = product.records_unsent > 0 || whole("requests") || whole("calls");
        let small = product.dimensions.iter().all(|d| d.open.parse::<u64>().unwrap() < 2 * 1000);
        (!waits && small).then_some(summary)
    })
    .await
}

/// What the agent has acknowledged.
#[derive(Clone, Default)]
struct Acknowledged(Arc<Mutex<Acknowledgements>>);

#[derive(Clone, Default)]
pub(crate) struct Acknowledgements {
    events: u64,
    /// In base units.
    sums: Sums,
}

impl Acknowledgements {
    /// Holds the bill against it, to the unit; returns what was found, in words.
    pub(crate) fn hold_against(&self, summary: &Summary, sandbox: &Sandbox) -> String {
        assert_eq!(summary.products[0].records_held, 0, "nothing is held");
        let carried = unbilled(&self.sums, &billed_micros(sandbox));
        let dimensions = summary.products[0].dimensions.iter();
        let open = dimensions.map(|d| d.open.parse::<u128>().unwrap()).sum::<u128>();
        assert_eq!(open, carried, "what is carried is what is missing from the bill");
        format!(
            "{} events acknowledged, {} base units; {} records billed; {carried} base units still open",
            self.events,
            self.sums.values().sum::<u128>(),
            sandbox.billed().len(),
        )
    }
}

impl Acknowledged {
    fn note(&self, events: &[UsageEvent]) {
        let mut acknowledged = self.0.lock().unwrap();
        acknowledged.events += events.len() as u64;
        for event in events {
            let amount = if event.dimension == "calls" { 1 } else { u128::from(event.quantity) };
            let series = (event.customer.clone(), event.dimension.clone());
            *acknowledged.sums.entry(series).or_default() += amount;
        }
    }
}

fn some_events(rng: &mut Rng, prefix: &str) -> Vec<UsageEvent> {
    let count = rng.usize(1..40);
    let one = |index| {
        let customer = if rng.bool() { ACME } else { GLOBEX };
        let dimension = ["requests", "calls", "gb_out"][rng.usize(0..3)];
        let id = if prefix.is_empty() { String::new() } else { format!("{prefix}-{index}") };
        event(customer, dimension, rng.u64(1..5_000), &id)
    };
    (0..count).map(one).collect()
}

/// Sends batches with event ids, each until it is acknowledged.
async fn resend_by_id(home: &Home, name: &str, done: &AtomicBool, acknowledged: &Acknowledged) {
    let mut rng = Rng::new();
    let mut batch = 0;
    while !done.load(Ordering::Relaxed) {
        batch += 1;
        let events = some_events(&mut rng, &format!("{name}-{batch}"));
        while send_once(home, &events).await.is_none() {
            sleep(Duration::from_millis(20)).await;
        }
        acknowledged.note(&events);
        sleep(Duration::from_millis(rng.u64(0..10))).await;
    }
}

/// `None` if there was no answer: the batch may be on disk or not.
async fn send_once(home: &Home, events: &[UsageEvent]) -> Option<()> {
    let mut client = UsageServiceClient::new(home.channel().await?);
    let request = RecordRequest { events: events.to_vec() };
    let answer = timeout(PATIENCE, client.record(request)).await.ok()?.ok()?;
    assert_eq!(answer.into_inner().rejected, []);
    Some(())
}

/// Streams messages without event ids; after each break it resumes where the agent says.
async fn resume_by_sequence(home: &Home, done: &AtomicBool, acknowledged: &Acknowledged) {
    let mut rng = Rng::new();
    let mut messages: Vec<Vec<UsageEvent>> = Vec::new();
    let mut durable = 0;
    while !done.load(Ordering::Relaxed) || durable < messages.len() {
        if !done.load(Ordering::Relaxed) && messages.len() < durable + MOST_WAITING {
            messages.extend((0..20).map(|_| some_events(&mut rng, "")));
        }
        if let Some(reached) = stream(home, &messages).await {
            assert!(reached >= durable, "the durable sequence went back from {durable} to {reached}");
            messages[durable..reached]
                .iter_mut()
                .for_each(|events| acknowledged.note(&std::mem::take(events)));
            durable = reached;
        }
        sleep(Duration::from_millis(10)).await;
    }
}

/// Sends what is not durable yet; returns the last durable sequence that it was told.
async fn stream(home: &Home, messages: &[Vec<UsageEvent>]) -> Option<usize> {
    let mut client = UsageServiceClient::new(home.channel().await?);
    let (sender, requests) = tokio::sync::mpsc::channel(64);
    let hello = RecordStreamRequest { producer_id: "streamer".to_owned(), ..RecordStreamRequest::default() };
    sender.send(hello).await.ok()?;
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut answers = timeout(PATIENCE, client.record_stream(requests)).await.ok()?.ok()?.into_inner();
    let first = timeout(PATIENCE, answers.next()).await.ok()??.ok()?;
    let mut durable = usize::try_from(first.durable_sequence).unwrap();
    let start = durable;
    for (index, events) in messages.iter().enumerate().skip(start) {
        let message =
            RecordStreamRequest { sequence: index as u64 + 1, events: events.clone(), ..Default::default() };
        if sender.send(message).await.is_err() {
            break;
        }
    }
    drop(sender);
    while let Ok(Some(Ok(answer))) = timeout(PATIENCE, answers.next()).await {
        assert_eq!(answer.rejected, []);
        durable = usize::try_from(answer.durable_sequence).unwrap();
    }
    Some(durable)
}

/// Holds the bill against what was acknowledged; returns the base units that are left below one step.
fn unbilled(acknowledged: &Sums, billed: &Sums) -> u128 {
    assert!(acknowledged.values().all(|sum| *sum > 0) && acknowledged.len() == 6, "{acknowledged:?}");
    let mut carried = 0;
    for (series, sum) in acknowledged {
        let micros = billed.get(series).copied().unwrap_or_default();
        if series.1 == "gb_out" {
            // A unit is a million base units, and AWS is told three places: steps of a thousand.
            assert!(micros <= *sum && sum - micros < 1000, "{series:?}: {sum} acknowledged, {micros} billed");
            carried += sum - micros;
        } else {
            assert_eq!(micros, sum * 1_000_000, "{series:?}");
        }
    }
    carried
}
