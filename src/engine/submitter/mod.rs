//! Sends records to AWS: one submitter for each way to reach it. Those whose calls AWS counts together share a pace.
//!
//! An attempt is on disk before it is made, and its result before it is believed. Should the process die in between,
//! the next one finds records whose outcome is unknown, and sends them again exactly as they are.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::{
    sync::{
        broadcast::{self, error::RecvError},
        watch,
    },
    task::{JoinError, JoinSet},
    time::{Instant, sleep_until},
};
use tracing::{Instrument, Span, error, warn};

use crate::{
    aws::metering::{MeteringService, Response},
    base::{
        clock::Clock,
        metrics,
        sabotage::{Sabotage, is_sabotaged},
        tasks::{Tasks, blocking},
        telemetry::spans,
    },
    domain::{
        billing::{
            answer::{Attempt, Reply, Verdict},
            backoff,
            deadline::Window,
            outbox::{InFlightBatch, Outbox, QueuedRecord},
            record::{Delivery, Record, RecordId},
        },
        product::Catalog,
        time::Timestamp,
    },
    store::{Store, StoreError},
};

use super::{
    billing::{Resumed, Settlement, record_reader::RecordReader},
    committer::{CommitError, Committer, Never, SubmitterEvent},
    trusted_clock::TrustedClock,
};
use rate_limiter::RateLimiter;

mod log;
pub(crate) mod rate_limiter;
#[cfg(test)]
mod tests;
mod unsent_status;

use log::{log_reply, note_settled};

pub use unsent_status::UnsentStatus;
pub(crate) use unsent_status::{LastAnswer, Said};

const LOAD_PAGE: usize = 1000;
/// A few milliseconds of the writer's work.
const GIVE_UP_PAGE: usize = 500;
/// A batch is taken so long before its call goes out. Noting the attempt takes a few milliseconds now and a few dozen
/// then: in this time, that does not shift the beat of the calls, which AWS counts by the second.
const WRITE_AHEAD: Duration = Duration::from_millis(50);
/// Between two calls that only ask AWS for the time; also for a fast clock not less than a second of real time.
const PROBE_PAUSE: Duration = Duration::from_secs(30);
const SHORTEST_PROBE_PAUSE: Duration = Duration::from_secs(1);

/// What a submitter goes by.
#[derive(Clone, Debug)]
pub struct Options {
    /// The codes of the products that it sends for.
    pub products: Vec<Arc<str>>,
    pub catalog: Arc<Catalog>,
    pub window: Window,
    pub rate_limiter: RateLimiter,
    pub concurrency: usize,
}

pub struct Submitter {
    options: Options,
    committer: Committer,
    store: Arc<dyn Store>,
    marketplace: Arc<dyn MeteringService>,
    clock: Clock,
    trusted_clock: TrustedClock,
    unsent_status: UnsentStatus,
    outbox: Outbox,
    loaded: RecordId,
    /// How often in a row AWS has refused a product's set-up.
    setup_faults: BTreeMap<Arc<str>, u32>,
    next_probe: Instant,
    in_flight: JoinSet<Result<Completed, CommitError<Never>>>,
    events: broadcast::Receiver<SubmitterEvent>,
}

enum Completed {
    Call(CompletedCall),
    /// A question for the time, with the reply that told none.
    Time(Option<Reply>),
}

/// A call that has been answered, or not.
struct CompletedCall {
    batch: InFlightBatch,
    reply: Reply,
    sent: Instant,
    took: Duration,
    span: Span,
}

enum Stop {
    Commit(CommitError<Never>),
    Store(StoreError),
}

impl From<CommitError<Never>> for Stop {
    fn from(error: CommitError<Never>) -> Self {
        Self::Commit(error)
    }
}

impl Submitter {
    pub fn new(
        options: Options,
        committer: Committer,
        store: Arc<dyn Store>,
        marketplace: Arc<dyn MeteringService>,
        trusted_clock: TrustedClock,
        unsent_status: UnsentStatus,
    ) -> Self {
        Self {
            options,
            events: committer.events(),
            committer,
            store,
            marketplace,
            clock: trusted_clock.clock(),
            trusted_clock,
            unsent_status,
            outbox: Outbox::default(),
            loaded: RecordId(0),
            setup_faults: BTreeMap::new(),
            next_probe: Instant::now(),
            in_flight: JoinSet::new(),
        }
    }

    /// Starts the submitter's task; `sealed` tells when there are new records.
    pub fn start(mut self, sealed: watch::Receiver<u64>, tasks: &Tasks) {
        let stopping = tasks.stopping();
        tasks.spawn("submitter", async move {
            tokio::pin!(stopping);
            match self.run(sealed, stopping.as_mut()).await {
                Ok(()) => {}
                Err(Stop::Commit(error)) => warn!(%error, "nothing is submitted any more"),
                // Ending the task ends the agent, and the next one reads again: to go on without submitting would be
                // to bill late without a word.
                Err(Stop::Store(error)) => return error!(%error, "pending records cannot be read"),
            }
            stopping.await;
        });
    }

    async fn run(
        &mut self,
        mut sealed: watch::Receiver<u64>,
        mut stopping: std::pin::Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), Stop> {
        self.load().await?;
        let mut place: Option<Instant> = None;
        let mut doubt = self.trusted_clock.watch_doubt();
        loop {
            let (now, are_more_missed) = self.give_up_missed().await?;
            self.publish();
            let may_dispatch = self.in_flight.len() < self.options.concurrency;
            if place.is_none() && may_dispatch && (self.outbox.has_due(now) || self.may_probe()) {
                place = Some(self.options.rate_limiter.reserve(Instant::now() + WRITE_AHEAD));
            }
            let next_event = self.outbox.next_event(now);
            tokio::select! {
                biased;
                () = &mut stopping => break,
                Some(completed) = self.in_flight.join_next() => self.on_completed(completed).await?,
                Ok(()) = sealed.changed() => self.load().await?,
                events = self.events.recv() => self.on_event(events).await?,
                Ok(()) = doubt.changed() => self.outbox.hurry(self.clock.now()),
                () = sleep_until(self.next_probe), if doubt.borrow().is_some() && place.is_none() && self.in_flight.is_empty() => {}
                at = time_to_prepare(place) => {
                    place = None;
                    self.dispatch(at);
                }
                () = self.clock.sleep_until(next_event.unwrap_or(Timestamp::MAX)), if next_event.is_some() => {}
                () = std::future::ready(()), if are_more_missed => {}
            }
        }
        // Calls under way may still be answered; what is not stays on disk as an unknown outcome.
        while let Some(completed) = self.in_flight.join_next().await {
            self.on_completed(completed).await?;
        }
        Ok(())
    }

    /// Takes in records that were sealed since the last time.
    async fn load(&mut self) -> Result<(), Stop> {
        // So that what may go out is among the due as it comes, and not all at once later.
        self.outbox.promote(self.clock.now());
        loop {
            let (store, after) = (self.store.clone(), self.loaded);
            let page = blocking(move || RecordReader::new(&*store).pending_after(after, LOAD_PAGE)).await;
            let page = page.unwrap_or_else(|panic| cannot_read(&panic)).map_err(Stop::Store)?;
            let is_last = page.len() < LOAD_PAGE;
            for (record, delivery) in page {
                self.loaded = record.id;
                self.insert(record, delivery);
            }
            if is_last {
                return Ok(());
            }
        }
    }

    fn insert(&mut self, mut record: Record, delivery: Delivery) {
        if self.options.products.contains(&record.product) {
            let Options { catalog, window, .. } = &self.options;
            let customers = self.committer.customers().read();
            customers.share_texts(catalog, &mut record);
            let deadline = customers.deadline(catalog, *window, &record);
            let standing = customers.standing(catalog, &record);
            drop(customers);
            self.outbox.insert(Arc::new(record), delivery, deadline, standing);
        }
    }

    async fn on_event(&mut self, events: Result<SubmitterEvent, RecvError>) -> Result<(), Stop> {
        match events {
            Ok(SubmitterEvent::Resumed(resumed)) => {
                for (record, delivery) in still_pending(self.store.clone(), resumed).await? {
                    self.insert(record, delivery);
                }
            }
            Ok(SubmitterEvent::Sealed) => self.load().await?,
            Ok(SubmitterEvent::Closing { product, customer, deadline }) => {
                if let Some(product) = self.options.catalog.product(product) {
                    self.outbox.hasten(&product.code, &customer, deadline);
                }
            }
            Err(RecvError::Lagged(_)) => {
                self.loaded = RecordId(0);
                self.load().await?;
            }
            // The committer is part of this submitter, and sends as long as it lives.
            Err(RecvError::Closed) => {}
        }
        Ok(())
    }

    /// Sends the next batch, if there still is one, at `place`.
    fn dispatch(&mut self, place: Instant) {
        let Some(batch) = self.outbox.take_batch(self.clock.now()) else { return self.probe(place) };
        let (committer, marketplace) = (self.committer.clone(), self.marketplace.clone());
        let (clock, trusted_clock) = (self.clock, self.trusted_clock.clone());
        let span = spans::submission(&batch.product(), batch.entries.len());
        let within = span.clone();
        let call = async move {
            let begun =
                |entry: &QueuedRecord| Settlement::Pending(entry.record.id, entry.delivery.attempted());
            committer.settle(batch.entries.iter().map(begun).collect()).await?;
            sleep_until(place).await;
            let sent = Instant::now();
            // The write may have taken its time: nothing goes out past its deadline (I7).
            let is_in_time = batch.entries.iter().all(|entry| clock.now() < entry.deadline);
            let Response { reply, date } = if is_in_time {
                let records = batch.entries.iter().map(record_to_send).collect();
                marketplace.send(records).instrument(spans::call_to_aws(&within)).await
            } else {
                Reply::NotDelivered("a deadline passed before the call".into()).into()
            };
            if let Some(date) = date {
                trusted_clock.observe(date, sent);
            }
            Ok(Completed::Call(CompletedCall { batch, reply, sent, took: sent.elapsed(), span: within }))
        };
        self.in_flight.spawn(call.instrument(span));
    }

    /// Asks AWS for the time at `place`, if it is time to: while the clock is in doubt and nothing is due, no call with
    /// records would ever tell.
    fn probe(&mut self, place: Instant) {
        if !self.may_probe() {
            return;
        }
        let pause = PROBE_PAUSE.div_f64(self.clock.speed()).clamp(SHORTEST_PROBE_PAUSE, PROBE_PAUSE);
        self.next_probe = Instant::now() + pause;
        let (marketplace, trusted_clock) = (self.marketplace.clone(), self.trusted_clock.clone());
        self.in_flight.spawn(async move {
            sleep_until(place).await;
            let sent = Instant::now();
            let Response { reply, date } = marketplace.time().await;
            if let Some(date) = date {
                trusted_clock.observe(date, sent);
            }
            Ok(Completed::Time(date.is_none().then_some(reply)))
        });
    }

    fn may_probe(&self) -> bool {
        self.in_flight.is_empty() && self.next_probe <= Instant::now() && self.trusted_clock.now().is_none()
    }

    async fn on_completed(
        &mut self,
        completed: Result<Result<Completed, CommitError<Never>>, JoinError>,
    ) -> Result<(), Stop> {
        match completed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))? {
            Completed::Call(call) => self.settle(call).await,
            Completed::Time(reply) => {
                if let Some(reply) = reply {
                    self.note_silence(&reply);
                }
                Ok(())
            }
        }
    }

    /// AWS has told no time: what it said instead, or what kept it from answering, is told once until that changes.
    fn note_silence(&self, reply: &Reply) {
        let said = Said::of(reply, &[]);
        for product in &self.options.products {
            let before = self.unsent_status.last_answer(product);
            if before.is_none_or(|before| before.said != said) {
                warn!(%product, reply = ?said, "AWS tells no time: no hour is sealed until it does");
            }
            let (at, took, records) = (self.clock.now(), Duration::ZERO, 0);
            self.unsent_status.note(product, LastAnswer { at, took, records, said: said.clone() });
        }
    }

    /// Settles a batch by AWS's reply: on disk first, then in the outbox.
    async fn settle(&mut self, call: CompletedCall) -> Result<(), Stop> {
        let CompletedCall { batch, reply, sent, took, span } = call;
        let product = batch.product();
        spans::note_reply(&span, &reply);
        self.adapt(&product, &reply, sent);
        metrics::submitted(&product, &reply, took);
        log_reply(&product, &reply, &batch.entries);
        let verdicts = self.judge(&batch.entries, &reply);
        let (at, records, said) = (self.clock.now(), batch.entries.len(), Said::of(&reply, &verdicts));
        self.unsent_status.note(&product, LastAnswer { at, took, records, said });
        let settlements =
            batch.entries.iter().zip(&verdicts).map(|(entry, verdict)| settlement(entry, verdict));
        for settled in self.committer.settle(settlements.collect()).instrument(span).await? {
            note_settled(&settled);
        }
        self.take_in(batch, verdicts, &reply);
        Ok(())
    }

    /// Lets the outbox follow what is on disk.
    fn take_in(&mut self, batch: InFlightBatch, verdicts: Vec<Verdict>, reply: &Reply) {
        let mut isolated = Vec::new();
        for (QueuedRecord { record, standing: before, .. }, verdict) in batch.entries.iter().zip(verdicts) {
            match verdict {
                Verdict::Settle(outcome) => {
                    self.outbox.remove(record.id);
                    if let Some(standing) = outcome.standing().filter(|standing| standing != before) {
                        self.outbox.set_standing(&record.product, &record.customer, standing);
                    }
                }
                Verdict::Missed(_) => drop(self.outbox.remove(record.id)),
                Verdict::Retry(delivery) => self.outbox.put_back(record.id, delivery),
                Verdict::Isolate(delivery) => isolated.push((record.id, delivery)),
            }
        }
        if let Some(culprit) = reply.culprit().filter(|_| !isolated.is_empty()) {
            self.outbox.isolate(&batch, isolated, culprit);
        }
        self.outbox.complete(batch, reply);
    }

    fn judge(&self, entries: &[QueuedRecord], reply: &Reply) -> Vec<Verdict> {
        // One backoff for the batch, so that it comes back as one call.
        let (now, random) = (self.clock.now(), fastrand::u32(..));
        let trusted = self.trusted_clock.now();
        let records = || entries.iter().map(|entry| &*entry.record);
        let alone = reply.culprit().is_some_and(|culprit| culprit.is_found(records()));
        let judge = |entry: &QueuedRecord| {
            let attempt = Attempt {
                slot: &entry.record.slot(),
                before: &entry.delivery,
                alone,
                may_be_late: trusted.is_some_and(|now| entry.record.timestamp <= now),
                deadline: entry.deadline,
                now,
                random,
            };
            attempt.judge(reply)
        };
        entries.iter().map(judge).collect()
    }

    /// Lets the pace follow AWS's replies.
    fn adapt(&mut self, product: &Arc<str>, reply: &Reply, sent: Instant) {
        match reply {
            Reply::Throttled => self.options.rate_limiter.throttled(sent),
            Reply::Answered(_) => {
                self.options.rate_limiter.answered(sent);
                self.setup_faults.remove(product);
            }
            Reply::Setup(_) => {
                let faults = self.setup_faults.entry(product.clone()).or_default();
                *faults = faults.saturating_add(1);
                let pause = backoff::delay(*faults, fastrand::u32(..));
                self.outbox.pause(product, self.clock.now().plus(pause));
            }
            Reply::NotDelivered(_)
            | Reply::Lost(_)
            | Reply::BadRecord(_)
            | Reply::TooOld(_)
            | Reply::UnknownIdentity(..) => {}
        }
    }

    /// Ends some of the records whose deadline has passed: rolled forward, held, or, if zero, expired. Returns the moment
    /// of the look, and whether there are more. A clock in doubt ends nothing.
    async fn give_up_missed(&mut self) -> Result<(Timestamp, bool), Stop> {
        let Some(now) = self.trusted_clock.now() else { return Ok((self.clock.now(), false)) };
        let missed = self.outbox.missed(now, GIVE_UP_PAGE);
        if missed.is_empty() {
            return Ok((now, false));
        }
        let settlement =
            |entry: &QueuedRecord| Settlement::Missed(entry.record.clone(), entry.delivery.clone());
        for settled in self.committer.settle(missed.iter().map(settlement).collect()).await? {
            note_settled(&settled);
        }
        for entry in &missed {
            self.outbox.remove(entry.record.id);
        }
        Ok((now, missed.len() == GIVE_UP_PAGE))
    }

    fn publish(&self) {
        for product in &self.options.products {
            self.unsent_status.put(product, self.outbox.unsent(product));
        }
    }
}

/// Waits until it is time to prepare the call that goes out at `place`; without a place, for ever.
async fn time_to_prepare(place: Option<Instant>) -> Instant {
    let Some(place) = place else { return std::future::pending().await };
    sleep_until(place - WRITE_AHEAD).await;
    place
}

/// Which of the resumed records are pending, and what has been tried for them by now: the events may be old. A load may have
/// brought a record before it, and its end may be on disk; to end it twice would be to carry its usage twice. And an
/// answer may have been lost since: to forget that would be to carry what AWS may have billed.
async fn still_pending(store: Arc<dyn Store>, resumed: Arc<Vec<Resumed>>) -> Result<Vec<Resumed>, Stop> {
    let read = blocking(move || {
        let mut pending = Vec::with_capacity(resumed.len());
        for (record, _) in resumed.iter() {
            if let Some(delivery) = RecordReader::new(&*store).delivery(record.id)? {
                pending.push((record.clone(), delivery));
            }
        }
        Ok(pending)
    });
    read.await.unwrap_or_else(|panic| cannot_read(&panic)).map_err(Stop::Store)
}

fn cannot_read<T>(panic: &JoinError) -> Result<T, StoreError> {
    Err(StoreError::Engine { action: "read from", message: panic.to_string() })
}

fn record_to_send(entry: &QueuedRecord) -> Arc<Record> {
    if is_sabotaged(Sabotage::RecomputeOnRetry) && entry.delivery.attempts > 0 {
        let timestamp = entry.record.timestamp.plus(Duration::from_secs(1));
        return Arc::new(Record { timestamp, ..Record::clone(&entry.record) });
    }
    entry.record.clone()
}

fn settlement(entry: &QueuedRecord, verdict: &Verdict) -> Settlement {
    let attempts = entry.delivery.attempts.saturating_add(1);
    match verdict {
        Verdict::Settle(outcome) => Settlement::Done(entry.record.clone(), attempts, outcome.clone()),
        Verdict::Missed(delivery) => Settlement::Missed(entry.record.clone(), delivery.clone()),
        Verdict::Retry(delivery) | Verdict::Isolate(delivery) => {
            Settlement::Pending(entry.record.id, Delivery::clone(delivery))
        }
    }
}
