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
    base::{
        clock::Clock,
        metrics,
        sabotage::{Sabotage, is_sabotaged},
        tasks::{Tasks, blocking},
        telemetry::spans,
    },
    domain::{
        answer::{Attempt, Reply, Verdict},
        backoff,
        deadline::Window,
        outbox::{Entry, Flight, Outbox},
        product::Catalog,
        record::{Delivery, Record, RecordId},
        time::Timestamp,
    },
    worlds::{
        marketplace::{Marketplace, Response},
        store::{Store, StoreError, load},
    },
};

use super::{
    books::{Resumed, Settlement},
    committer::{CommitError, Committer, News},
    pace::Pace,
    trusted_clock::TrustedClock,
};

mod board;
mod log;
#[cfg(test)]
mod tests;

use log::{log_reply, note_settled};

pub use board::{LastAnswer, Said, UnsentBoard};

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
    pub pace: Pace,
    pub concurrency: usize,
}

pub struct Submitter {
    options: Options,
    committer: Committer,
    store: Arc<dyn Store>,
    marketplace: Arc<dyn Marketplace>,
    clock: Clock,
    trusted_clock: TrustedClock,
    board: UnsentBoard,
    outbox: Outbox,
    loaded: RecordId,
    /// How often in a row AWS has refused a product's set-up.
    setup_faults: BTreeMap<Arc<str>, u32>,
    next_probe: Instant,
    in_flight: JoinSet<Result<Landing, CommitError>>,
    news: broadcast::Receiver<News>,
}

/// A call that has been answered, or not.
struct Landing {
    flight: Flight,
    reply: Reply,
    sent: Instant,
    took: Duration,
    span: Span,
}

enum Stop {
    Commit(CommitError),
    Store(StoreError),
}

impl From<CommitError> for Stop {
    fn from(error: CommitError) -> Self {
        Self::Commit(error)
    }
}

impl Submitter {
    pub fn new(
        options: Options,
        committer: Committer,
        store: Arc<dyn Store>,
        marketplace: Arc<dyn Marketplace>,
        trusted_clock: TrustedClock,
        board: UnsentBoard,
    ) -> Self {
        Self {
            options,
            news: committer.news(),
            committer,
            store,
            marketplace,
            clock: trusted_clock.clock(),
            trusted_clock,
            board,
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
            let may_fly = self.in_flight.len() < self.options.concurrency;
            if place.is_none() && may_fly && (self.outbox.has_due(now) || self.may_probe()) {
                place = Some(self.options.pace.reserve(Instant::now() + WRITE_AHEAD));
            }
            let next_event = self.outbox.next_event(now);
            tokio::select! {
                biased;
                () = &mut stopping => break,
                Some(landed) = self.in_flight.join_next() => self.land(landed).await?,
                Ok(()) = sealed.changed() => self.load().await?,
                news = self.news.recv() => self.hear(news).await?,
                Ok(()) = doubt.changed() => self.outbox.hurry(self.clock.now()),
                () = sleep_until(self.next_probe), if *doubt.borrow() && place.is_none() && self.in_flight.is_empty() => {}
                at = time_to_prepare(place) => {
                    place = None;
                    self.launch(at);
                }
                () = self.clock.sleep_until(next_event.unwrap_or(Timestamp::MAX)), if next_event.is_some() => {}
                () = std::future::ready(()), if are_more_missed => {}
            }
        }
        // Calls under way may still be answered; what is not stays on disk as an unknown outcome.
        while let Some(landed) = self.in_flight.join_next().await {
            self.land(landed).await?;
        }
        Ok(())
    }

    /// Takes in records that were sealed since the last time.
    async fn load(&mut self) -> Result<(), Stop> {
        // So that what may go out is among the due as it comes, and not all at once later.
        self.outbox.promote(self.clock.now());
        loop {
            let (store, after) = (self.store.clone(), self.loaded);
            let page = blocking(move || load::pending_after(&*store, after, LOAD_PAGE)).await;
            let page = page.unwrap_or_else(|panic| cannot_read(&panic)).map_err(Stop::Store)?;
            let is_last = page.len() < LOAD_PAGE;
            for (record, delivery) in page {
                self.loaded = record.id;
                self.take_in(record, delivery);
            }
            if is_last {
                return Ok(());
            }
        }
    }

    fn take_in(&mut self, mut record: Record, delivery: Delivery) {
        if self.options.products.contains(&record.product) {
            let Options { catalog, window, .. } = &self.options;
            let roster = self.committer.roster().read();
            roster.share_texts(catalog, &mut record);
            let deadline = roster.deadline(catalog, *window, &record);
            drop(roster);
            self.outbox.insert(Arc::new(record), delivery, deadline);
        }
    }

    async fn hear(&mut self, news: Result<News, RecvError>) -> Result<(), Stop> {
        match news {
            Ok(News::Resumed(resumed)) => {
                for (record, delivery) in still_pending(self.store.clone(), resumed).await? {
                    self.take_in(record, delivery);
                }
            }
            Ok(News::Closing { product, customer, deadline }) => {
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
    fn launch(&mut self, place: Instant) {
        let Some(flight) = self.outbox.take_batch(self.clock.now()).or_else(|| self.probe()) else { return };
        let (committer, marketplace) = (self.committer.clone(), self.marketplace.clone());
        let (clock, trusted_clock) = (self.clock, self.trusted_clock.clone());
        let span = spans::submission(&flight.product(), flight.entries.len());
        let within = span.clone();
        let fly = async move {
            let begun = |entry: &Entry| Settlement::Pending(entry.record.id, entry.delivery.attempted());
            committer.settle(flight.entries.iter().map(begun).collect()).await?;
            sleep_until(place).await;
            let sent = Instant::now();
            // The write may have taken its time: nothing goes out past its deadline (I7).
            let is_in_time = flight.entries.iter().all(|entry| clock.now() < entry.deadline);
            let Response { reply, date } = if is_in_time {
                let records = flight.entries.iter().map(record_to_send).collect();
                marketplace.send(records).instrument(spans::call_to_aws(&within)).await
            } else {
                Reply::NotDelivered("a deadline passed before the call".into()).into()
            };
            if let Some(date) = date {
                trusted_clock.observe(date, sent);
            }
            Ok(Landing { flight, reply, sent, took: sent.elapsed(), span: within })
        };
        self.in_flight.spawn(fly.instrument(span));
    }

    /// A call without records, for the `Date` of its answer: while the clock is in doubt and nothing is due, no other
    /// call would ever explain its jump.
    fn probe(&mut self) -> Option<Flight> {
        self.may_probe().then(|| {
            let pause = PROBE_PAUSE.div_f64(self.clock.speed()).clamp(SHORTEST_PROBE_PAUSE, PROBE_PAUSE);
            self.next_probe = Instant::now() + pause;
            Flight::default()
        })
    }

    fn may_probe(&self) -> bool {
        self.in_flight.is_empty() && self.next_probe <= Instant::now() && self.trusted_clock.now().is_none()
    }

    /// Settles a batch by AWS's reply: on disk first, then in the outbox.
    async fn land(&mut self, landed: Result<Result<Landing, CommitError>, JoinError>) -> Result<(), Stop> {
        let landing = landed.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()))?;
        let Landing { flight, reply, sent, took, span } = landing;
        // A probe has told the time, if it was answered; whatever else its answer says is of no use.
        if flight.entries.is_empty() {
            return Ok(());
        }
        let product = flight.product();
        spans::note_reply(&span, &reply);
        self.adapt(&product, &reply, sent);
        metrics::submitted(&product, &reply, took);
        log_reply(&product, &reply, &flight.entries);
        let verdicts = self.judge(&flight.entries, &reply);
        let (at, records, said) = (self.clock.now(), flight.entries.len(), Said::of(&reply, &verdicts));
        self.board.note(&product, LastAnswer { at, took, records, said });
        let settlements =
            flight.entries.iter().zip(&verdicts).map(|(entry, verdict)| settlement(entry, verdict));
        for settled in self.committer.settle(settlements.collect()).instrument(span).await? {
            note_settled(&settled);
        }
        let mut isolated = Vec::new();
        for (entry, verdict) in flight.entries.iter().zip(verdicts) {
            match verdict {
                Verdict::Settle(_) | Verdict::Missed(_) => drop(self.outbox.remove(entry.record.id)),
                Verdict::Retry(delivery) => self.outbox.put_back(entry.record.id, delivery),
                Verdict::Isolate(delivery) => isolated.push((entry.record.id, delivery)),
            }
        }
        if !isolated.is_empty() {
            self.outbox.isolate(isolated);
        }
        self.outbox.landed(flight, matches!(reply, Reply::Answered(_)));
        Ok(())
    }

    fn judge(&self, entries: &[Entry], reply: &Reply) -> Vec<Verdict> {
        // One backoff for the batch, so that it comes back as one call.
        let (now, random) = (self.clock.now(), fastrand::u32(..));
        let trusted = self.trusted_clock.now();
        let judge = |entry: &Entry| {
            let attempt = Attempt {
                slot: &entry.record.slot(),
                before: &entry.delivery,
                alone: entries.len() == 1,
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
            Reply::Throttled => self.options.pace.throttled(sent),
            Reply::Answered(_) => {
                self.options.pace.answered(sent);
                self.setup_faults.remove(product);
            }
            Reply::Setup(_) => {
                let faults = self.setup_faults.entry(product.clone()).or_default();
                *faults = faults.saturating_add(1);
                let pause = backoff::delay(*faults, fastrand::u32(..));
                self.outbox.pause(product, self.clock.now().plus(pause));
            }
            Reply::NotDelivered(_) | Reply::Lost(_) | Reply::BadRecord(_) | Reply::TooOld(_) => {}
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
        let settlement = |entry: &Entry| Settlement::Missed(entry.record.clone(), entry.delivery.clone());
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
            self.board.put(product, self.outbox.unsent(product));
        }
    }
}

/// Waits until it is time to prepare the call that goes out at `place`; without a place, for ever.
async fn time_to_prepare(place: Option<Instant>) -> Instant {
    let Some(place) = place else { return std::future::pending().await };
    sleep_until(place - WRITE_AHEAD).await;
    place
}

/// Which of the resumed records are pending, and what has been tried for them by now: the news may be old. A load may have
/// brought a record before it, and its end may be on disk; to end it twice would be to carry its usage twice. And an
/// answer may have been lost since: to forget that would be to carry what AWS may have billed.
async fn still_pending(store: Arc<dyn Store>, resumed: Arc<Vec<Resumed>>) -> Result<Vec<Resumed>, Stop> {
    let read = blocking(move || {
        let mut pending = Vec::with_capacity(resumed.len());
        for (record, _) in resumed.iter() {
            if let Some(delivery) = load::delivery(&*store, record.id)? {
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

fn record_to_send(entry: &Entry) -> Arc<Record> {
    if is_sabotaged(Sabotage::RecomputeOnRetry) && entry.delivery.attempts > 0 {
        let timestamp = entry.record.timestamp.plus(Duration::from_secs(1));
        return Arc::new(Record { timestamp, ..Record::clone(&entry.record) });
    }
    entry.record.clone()
}

fn settlement(entry: &Entry, verdict: &Verdict) -> Settlement {
    let attempts = entry.delivery.attempts.saturating_add(1);
    match verdict {
        Verdict::Settle(outcome) => Settlement::Done(entry.record.clone(), attempts, outcome.clone()),
        Verdict::Missed(delivery) => Settlement::Missed(entry.record.clone(), delivery.clone()),
        Verdict::Retry(delivery) | Verdict::Isolate(delivery) => {
            Settlement::Pending(entry.record.id, Delivery::clone(delivery))
        }
    }
}
