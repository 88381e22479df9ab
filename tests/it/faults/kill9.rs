//! SIGKILL at random moments under load, faults at AWS's side, and a bill that is exact to the unit.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use fastrand::Rng;
use tallyman::{
    base::proto::{RecordRequest, RecordStreamRequest, UsageEvent, usage_service_client::UsageServiceClient},
    faces::sandbox::Faults,
};
use tokio::time::{sleep, timeout};
use tokio_stream::StreamExt;

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home},
    events::{ACME, GLOBEX, Sums, billed_micros, event},
    eventually, fast_clock, sandbox,
};

/// Unless `TALLYMAN_KILLS` says otherwise.
const KILLS: u32 = 20;
/// Messages of the stream that may wait while no agent is there to take them.
const MOST_WAITING: usize = 400;
/// An hour passes in two seconds.
const SPEED: f64 = 1800.0;

/// What the agent has acknowledged.
#[derive(Clone, Default)]
struct Acknowledged(Arc<Mutex<Acknowledgements>>);

#[derive(Clone, Default)]
struct Acknowledgements {
    events: u64,
    /// In base units.
    sums: Sums,
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

fn kills() -> u32 {
    std::env::var("TALLYMAN_KILLS")
        .map_or(KILLS, |number| number.parse().expect("TALLYMAN_KILLS is a number"))
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
    let answer = timeout(Duration::from_secs(5), client.record(request)).await.ok()?.ok()?;
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
    let hello = RecordStreamRequest { producer_id: "kill9".to_owned(), ..RecordStreamRequest::default() };
    sender.send(hello).await.ok()?;
    let requests = tokio_stream::wrappers::ReceiverStream::new(requests);
    let mut answers = client.record_stream(requests).await.ok()?.into_inner();
    let mut durable = usize::try_from(answers.next().await?.ok()?.durable_sequence).unwrap();
    let start = durable;
    for (index, events) in messages.iter().enumerate().skip(start) {
        let message =
            RecordStreamRequest { sequence: index as u64 + 1, events: events.clone(), ..Default::default() };
        if sender.send(message).await.is_err() {
            break;
        }
    }
    drop(sender);
    while let Some(Ok(answer)) = answers.next().await {
        assert_eq!(answer.rejected, []);
        durable = usize::try_from(answer.durable_sequence).unwrap();
    }
    Some(durable)
}

/// `make kill9 KILLS=200` lets it kill as often, and shows what it prints.
#[tokio::test(flavor = "multi_thread")]
async fn kill9_under_load_leaves_the_bill_exact() {
    let (clock, kills, started) = (fast_clock(SPEED), kills(), Instant::now());
    let faults = Faults {
        throttle: 0.1,
        error: 0.1,
        lose_reply: 0.15,
        unprocessed: 0.1,
        latency: Duration::from_millis(5),
        ..Faults::default()
    };
    let (sandbox, _tasks) = sandbox(clock, faults).await;
    let mut home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    home.set("SUBMISSION__REQUESTS_PER_SECOND", "100");
    let home = Arc::new(home);

    let (done, acknowledged) = (Arc::new(AtomicBool::new(false)), Acknowledged::default());
    let mut load = tokio::task::JoinSet::new();
    for name in ["a", "b"] {
        let (home, done, acknowledged) = (home.clone(), done.clone(), acknowledged.clone());
        load.spawn(async move { resend_by_id(&home, name, &done, &acknowledged).await });
    }
    let (for_stream, stream_done, streamed) = (home.clone(), done.clone(), acknowledged.clone());
    load.spawn(async move { resume_by_sequence(&for_stream, &stream_done, &streamed).await });

    for _ in 0..kills {
        let agent = home.start().await;
        sleep(Duration::from_millis(fastrand::u64(0..900))).await;
        agent.kill();
    }
    let agent = home.start().await;
    sleep(Duration::from_millis(500)).await;
    done.store(true, Ordering::Relaxed);
    while let Some(ended) = load.join_next().await {
        ended.unwrap();
    }
    let summary = eventually("everything is sealed and sent", async || {
        let summary = home.summary().await?;
        let product = &summary.products[0];
        // Only the remainder below one step of gb_out may still be open.
        let whole = |name: &str| product.dimensions.iter().any(|d| d.name == name && d.open != "0");
        let waits = product.records_unsent > 0 || whole("requests") || whole("calls");
        let small = product.dimensions.iter().all(|d| d.open.parse::<u64>().unwrap() < 2 * 1000);
        (!waits && small).then_some(summary)
    })
    .await;
    assert_eq!(summary.products[0].records_held, 0, "{}", home.log());
    assert!(agent.terminate().await.success(), "{}", home.log());

    let Acknowledgements { events, sums: acknowledged } = acknowledged.0.lock().unwrap().clone();
    let carried = unbilled(&acknowledged, &billed_micros(&sandbox));
    let open = summary.products[0].dimensions.iter().map(|d| d.open.parse::<u128>().unwrap()).sum::<u128>();
    assert_eq!(open, carried, "what is carried is what is missing from the bill");
    eprintln!(
        "{kills} kills in {:.0} s: {events} events acknowledged, {} base units; {} records billed; {carried} base \
         units still open",
        started.elapsed().as_secs_f64(),
        acknowledged.values().sum::<u128>(),
        sandbox.billed().len(),
    );
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
