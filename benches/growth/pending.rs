//! Opens what a kill left, and works on its pending records.

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tallyman::internals::{
    Answers, Clock, Outbox, Outcome, RateLimiter, Record, RecordId, RecordReader, Reply, ScriptedMetering,
    Settlement, Standing, Store, Submitter, SubmitterOptions as Options, Tasks, TrustedClock, UnsentStatus,
    Window,
};
use tokio::sync::watch;

use crate::{
    harness::{Harness, Shape, mebibytes},
    tell,
};

pub(crate) async fn run(shape: Shape, folder: &Path) {
    let harness = Harness::open(shape, folder);
    tell("store_s", harness.opening_store.as_secs_f64());
    tell("books_s", harness.opening_books.as_secs_f64());
    submit(&harness).await;
    let records = plan(&harness);
    settle(&harness, records).await;
    tell("pending", 1.0);
}

/// How the submitter disturbs: it takes all in, and sends at AWS's pace.
async fn submit(harness: &Harness) {
    let (tasks, before) = (Tasks::default(), mebibytes("self"));
    let (_sealed, sealed) = watch::channel(0);
    let options = Options {
        products: harness.catalog.products().map(|(_, product)| product.code.clone()).collect(),
        catalog: harness.catalog.clone(),
        window: Window::AWS,
        rate_limiter: RateLimiter::new(10.0),
        concurrency: 4,
    };
    let (store, clock) = (harness.store.clone() as Arc<dyn Store>, TrustedClock::new(Clock::SYSTEM));
    let marketplace = Arc::new(ScriptedMetering::new(ScriptedMetering::accept));
    let board = UnsentStatus::default();
    Submitter::new(options, harness.committer.clone(), store, marketplace, clock, board)
        .start(sealed, &tasks);
    let ((), latencies) =
        harness.probe_while(Harness::hour().next(), tokio::time::sleep(Duration::from_secs(10))).await;
    let [p99, longest] = latencies.p99_and_max();
    tell("busy_p99_ms", p99);
    tell("busy_max_ms", longest);
    let bytes = (mebibytes("self") - before) * f64::from(1 << 20);
    tell("record_bytes", bytes / f64::from(harness.shape.buckets()));
    assert!(tasks.stop(Duration::from_secs(20)).await);
}

/// Puts all pending records into batches, in memory.
fn plan(harness: &Harness) -> Vec<Vec<Arc<Record>>> {
    let (mut pending, begun) = (Vec::new(), Instant::now());
    let records = RecordReader::new(&*harness.store);
    for (record, delivery) in records.pending_after(RecordId(0), usize::MAX).unwrap() {
        pending.push((Arc::new(record), delivery));
    }
    let count = u32::try_from(pending.len()).unwrap().max(1);
    let tell_each = |name, begun: Instant| tell(name, begun.elapsed().as_secs_f64() * 1e6 / f64::from(count));
    tell_each("load_us", begun);
    let (mut outbox, now, begun) = (Outbox::default(), Clock::SYSTEM.now(), Instant::now());
    for (record, delivery) in pending {
        let deadline = Window::AWS.deadline(record.hour);
        outbox.insert(record, delivery, deadline, Standing::Verified);
    }
    tell_each("insert_us", begun);
    let (mut batches, begun) = (Vec::new(), Instant::now());
    while let Some(in_flight) = outbox.take_batch(now) {
        let batch: Vec<_> = in_flight.entries.iter().map(|entry| entry.record.clone()).collect();
        for record in &batch {
            outbox.remove(record.id);
        }
        outbox.complete(in_flight, &Reply::Answered(Answers::default()));
        batches.push(batch);
    }
    tell_each("plan_us", begun);
    batches
}

/// Settles them through the committer, many batches at once.
async fn settle(harness: &Harness, batches: Vec<Vec<Arc<Record>>>) {
    let count: usize = batches.iter().map(Vec::len).sum();
    let done = |record: Arc<Record>| {
        let outcome = Outcome::Accepted { receipt: "receipt".into(), presumed: false };
        Settlement::Done(record, 1, outcome)
    };
    let begun = Instant::now();
    let settling = async {
        let mut batches = batches.into_iter();
        loop {
            let some: Vec<_> = batches
                .by_ref()
                .take(16)
                .map(|batch| harness.committer.settle(batch.into_iter().map(done).collect()))
                .collect();
            if some.is_empty() {
                return;
            }
            for settled in futures(some).await {
                assert!(!settled.unwrap().is_empty());
            }
        }
    };
    let ((), latencies) = harness.probe_while(Harness::hour().next(), settling).await;
    tell("settle_us", begun.elapsed().as_secs_f64() * 1e6 / (count.max(1) as f64));
    tell("settle_max_ms", latencies.p99_and_max()[1]);
}

/// Runs all of them at once.
async fn futures<T: Send + 'static>(all: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut all: Vec<_> = all.into_iter().map(|one| Box::pin(tokio::task::unconstrained(one))).collect();
    let mut done = Vec::with_capacity(all.len());
    std::future::poll_fn(|context| {
        all.retain_mut(|one| match one.as_mut().poll(context) {
            std::task::Poll::Ready(value) => {
                done.push(value);
                false
            }
            std::task::Poll::Pending => true,
        });
        if all.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    done
}
