//! The single writer. Jobs gather while a sync is under way; the next write takes them all, with one sync.
//!
//! A job is answered only once the write that holds its changes is on disk (I3). After a failed write or sync nothing
//! is written any more: what the disk holds is not known, and to sync again would not tell.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot};
use tracing::{Span, error};

use crate::{
    base::{
        clock::Clock,
        tasks::{Panicked, Tasks},
    },
    domain::{
        product::ProductIndex,
        record::{Decision, RecordId, Settled},
        time::{Hour, Timestamp},
    },
    worlds::store::{Batch, Store, StoreError},
};

use super::{
    books::{
        Books, DecideError, PutError, RecordError, Registration, Resumed, SealProgress, Settlement, Tally,
    },
    delta::{Delta, Recorded},
    phase::{Phase, PhaseHandle},
    roster::{Customer, Roster},
};
use writer::Writer;

mod group;
mod syncer;
#[cfg(test)]
mod tests;
mod writer;

/// Jobs that may wait, each a request or a step of other work. Their events are bounded by `max_pending_events`.
const MAX_WAITING_JOBS: usize = 65_536;
/// News that a submitter may leave unread; one that missed some reads the store again.
const MAX_UNREAD_NEWS: usize = 256;

/// What submitters must know of, beside what was sealed. Told by the writer, in the order of the commits: should the
/// one who asked have gone away, it is told all the same.
#[derive(Clone, Debug)]
pub enum News {
    /// Held records are to be sent again.
    Resumed(Arc<Vec<Resumed>>),
    /// A customer's usage ends, and with it the time in which AWS takes its records.
    Closing { product: ProductIndex, customer: Arc<str>, deadline: Timestamp },
}

/// Work on the books, and the sender of its answer, to be called once the changes are on disk.
type Job = Box<dyn FnOnce(&mut Ledger<'_>) -> Result<Answer, StoreError> + Send>;
type Answer = Box<dyn FnOnce() + Send>;

struct Weighed {
    job: Job,
    /// Of the one who asked.
    span: Span,
    /// As many as a job's work is like.
    events: usize,
    readers: Readers,
}

/// Who reads what a job changes in the store, and acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readers {
    /// Only the books: it may be there to be read before it is synced.
    Books,
    /// A submitter, too, that tells AWS: no one reads it before it is on disk.
    Others,
}

/// What a job works on.
pub struct Ledger<'a> {
    pub books: &'a mut Books,
    pub store: &'a dyn Store,
    pub now: Timestamp,
    pub batch: &'a mut Batch,
}

/// Sends jobs to the committer. Cheap to clone.
#[derive(Clone)]
pub struct Committer {
    jobs: mpsc::Sender<Weighed>,
    pending_events: Arc<Semaphore>,
    max_pending_events: usize,
    phase: PhaseHandle,
    status: Arc<Mutex<Status>>,
    roster: Arc<Roster>,
    news: broadcast::Sender<News>,
}

/// The books at a glance, as of the last write.
#[derive(Clone, Debug, Default)]
pub struct Status {
    pub sealed_through: Hour,
    /// When an hour or a closing customer is sealed, or a record of a customer without a subscription tried again.
    pub next_due: Timestamp,
    pub open_buckets: usize,
    /// The oldest hour with usage that is not sealed.
    pub oldest_open: Option<Hour>,
    pub tally: Tally,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommitError {
    #[error("too many events wait for a commit (limits.max_pending_events): send them again in a moment")]
    Full,
    #[error("{0}")]
    Unavailable(Arc<str>),
}

impl Committer {
    /// Starts the committer's task. It ends with `tasks`, after a last write.
    pub fn start(
        books: Books,
        store: Arc<dyn Store>,
        roster: Arc<Roster>,
        clock: Clock,
        max_pending_events: usize,
        phase: PhaseHandle,
        tasks: &Tasks,
    ) -> Self {
        let (jobs, waiting) = mpsc::channel(MAX_WAITING_JOBS);
        let status = Arc::new(Mutex::new(status_of(&books)));
        Writer::start(books, store, clock, phase.clone(), status.clone(), waiting, tasks);
        let pending_events = Arc::new(Semaphore::new(max_pending_events.min(Semaphore::MAX_PERMITS)));
        let (news, _) = broadcast::channel(MAX_UNREAD_NEWS);
        Self { jobs, pending_events, max_pending_events, phase, status, roster, news }
    }

    /// Hands a request's usage over; refuses it when too much waits already. The ticket tells when it is on disk.
    pub async fn record(&self, delta: Delta) -> Result<Ticket<Result<Recorded, RecordError>>, CommitError> {
        let permits = self.permits(&delta);
        let permit =
            self.pending_events.clone().try_acquire_many_owned(permits).map_err(|_| CommitError::Full)?;
        self.count(delta, permit).await
    }

    /// As [`record`](Self::record), but waits for room: a stream is slowed down rather than refused.
    pub async fn record_patiently(
        &self,
        delta: Delta,
    ) -> Result<Ticket<Result<Recorded, RecordError>>, CommitError> {
        let permits = self.permits(&delta);
        let permit = self.pending_events.clone().acquire_many_owned(permits).await;
        self.count(delta, permit.map_err(|_| self.unavailable())?).await
    }

    fn permits(&self, delta: &Delta) -> u32 {
        u32::try_from(delta.events.clamp(1, self.max_pending_events)).unwrap_or(u32::MAX)
    }

    async fn count(
        &self,
        delta: Delta,
        permit: OwnedSemaphorePermit,
    ) -> Result<Ticket<Result<Recorded, RecordError>>, CommitError> {
        let events = delta.events;
        let count = move |ledger: &mut Ledger<'_>| {
            let recorded = ledger.books.record(&delta, ledger.store, ledger.now, ledger.batch);
            drop(permit);
            match recorded {
                Err(RecordError::Store(fault)) => Err(fault),
                answer => Ok(answer),
            }
        };
        self.hand_over(events, Readers::Books, count, |_| {}).await
    }

    /// A stream producer's last durable sequence, for a client that may know it.
    pub async fn last_sequence(
        &self,
        producer: Arc<str>,
        client: Option<Arc<str>>,
    ) -> Result<Result<u64, RecordError>, CommitError> {
        let ask = move |ledger: &mut Ledger<'_>| Ok(ledger.books.last_sequence(&producer, client.as_deref()));
        self.hand_over(1, Readers::Books, ask, |_| {}).await?.answer().await
    }

    /// Adds customers, or changes those with the same keys; stops at the first that cannot be.
    pub async fn put_customers(
        &self,
        customers: Vec<Registration>,
    ) -> Result<Result<(), PutError>, CommitError> {
        self.submit(move |ledger| {
            let mut customers = customers.into_iter();
            Ok(customers.try_for_each(|customer| ledger.books.put_customer(customer, ledger.batch).map(drop)))
        })
        .await
    }

    /// Ends a customer's usage; `noticed` is when AWS said so. `None` if there is no such customer.
    pub async fn close_customer(
        &self,
        product: ProductIndex,
        key: Arc<str>,
        noticed: Timestamp,
    ) -> Result<Option<Customer>, CommitError> {
        let news = self.news.clone();
        let close = move |ledger: &mut Ledger<'_>| {
            Ok(ledger.books.close_customer(product, &key, noticed, ledger.batch))
        };
        let announce_closing = move |closed: &Option<Customer>| {
            if let Some(customer) = closed
                && let Some(deadline) = customer.standing.deadline()
            {
                announce(&news, News::Closing { product, customer: customer.key.clone(), deadline });
            }
        };
        self.hand_over(1, Readers::Others, close, announce_closing).await?.answer().await
    }

    /// Writes down a person's decision about held records, and carries it out: for all of them or for none.
    pub async fn decide(
        &self,
        ids: BTreeSet<RecordId>,
        decision: Decision,
    ) -> Result<Result<(), DecideError>, CommitError> {
        let news = self.news.clone();
        let decide = move |ledger: &mut Ledger<'_>| match ledger.books.decide(
            &ids,
            &decision,
            ledger.store,
            ledger.batch,
        ) {
            Err(DecideError::Store(fault)) => Err(fault),
            answer => Ok(answer),
        };
        let announce_decided = move |decided: &Result<Vec<Resumed>, DecideError>| {
            if let Ok(resumed) = decided {
                announce_resumed(&news, resumed);
            }
        };
        let decided = self.hand_over(1, Readers::Others, decide, announce_decided).await?.answer().await?;
        Ok(decided.map(drop))
    }

    /// Tries held records of customers without a subscription again, if any are due.
    pub async fn retry_slowly(&self) -> Result<(), CommitError> {
        let news = self.news.clone();
        let retry =
            |ledger: &mut Ledger<'_>| ledger.books.retry_slowly(ledger.store, ledger.now, ledger.batch);
        let announce_retried = move |resumed: &Vec<Resumed>| announce_resumed(&news, resumed);
        self.hand_over(1, Readers::Others, retry, announce_retried).await?.answer().await?;
        Ok(())
    }

    pub fn news(&self) -> broadcast::Receiver<News> {
        self.news.subscribe()
    }

    /// Does a step of sealing, if anything is due at `now`. The caller has made sure that it is that late: what is
    /// sealed can never be opened again.
    pub async fn seal(&self, now: Timestamp) -> Result<SealProgress, CommitError> {
        self.submit(move |ledger| Ok(ledger.books.seal_step(now, ledger.batch))).await
    }

    /// Drops some of what has expired by `now`; says whether there is more. Housekeeping that fails stops nothing.
    pub async fn drop_expired(&self, now: Timestamp) -> Result<bool, CommitError> {
        self.submit(move |ledger| {
            let more = ledger.books.drop_expired(ledger.store, now, ledger.batch);
            Ok(more.unwrap_or_else(|fault| {
                error!(%fault, "old receipts cannot be dropped");
                false
            }))
        })
        .await
    }

    /// Writes down what became of records; returns those that are settled now.
    pub async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>, CommitError> {
        self.submit(move |ledger| {
            let Ledger { books, store, now, batch } = ledger;
            let settle = |settlement| books.settle(settlement, *store, *now, batch).transpose();
            settlements.iter().filter_map(settle).collect()
        })
        .await
    }

    pub fn status(&self) -> Status {
        lock(&self.status).clone()
    }

    /// When the sealer has something to do.
    pub fn next_due(&self) -> Timestamp {
        lock(&self.status).next_due
    }

    pub fn sealed_through(&self) -> Hour {
        lock(&self.status).sealed_through
    }

    pub fn roster(&self) -> &Roster {
        &self.roster
    }

    async fn submit<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Ledger<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, CommitError> {
        self.hand_over(1, Readers::Others, work, |_| {}).await?.answer().await
    }

    async fn hand_over<T: Send + 'static>(
        &self,
        events: usize,
        readers: Readers,
        work: impl FnOnce(&mut Ledger<'_>) -> Result<T, StoreError> + Send + 'static,
        announce: impl FnOnce(&T) + Send + 'static,
    ) -> Result<Ticket<T>, CommitError> {
        let (sender, answer) = oneshot::channel();
        let phase = self.phase.clone();
        let job: Job = Box::new(move |ledger| {
            // Before its sender is dropped, so that the one who asked learns the reason.
            let value = work(ledger).inspect_err(|fault| phase.fail(&reason(fault)))?;
            // The receiver may be gone, with its client: what was asked is done all the same, and announced.
            Ok(Box::new(move || {
                announce(&value);
                drop(sender.send(value));
            }))
        });
        self.jobs
            .send(Weighed { job, span: Span::current(), events, readers })
            .await
            .map_err(|_| self.unavailable())?;
        Ok(Ticket { answer, committer: self.clone() })
    }

    fn unavailable(&self) -> CommitError {
        CommitError::Unavailable(match self.phase.get() {
            Phase::Failed(reason) => reason,
            Phase::Starting | Phase::Serving | Phase::Stopping => "the agent is stopping".into(),
        })
    }
}

/// Stands for a job that was handed over.
pub struct Ticket<T> {
    answer: oneshot::Receiver<T>,
    committer: Committer,
}

impl<T> Ticket<T> {
    /// Resolves once the job's changes are on disk.
    pub async fn answer(self) -> Result<T, CommitError> {
        // A sender dropped without an answer means that the write did not succeed.
        self.answer.await.map_err(|_| self.committer.unavailable())
    }
}

fn announce_resumed(news: &broadcast::Sender<News>, resumed: &[Resumed]) {
    if !resumed.is_empty() {
        announce(news, News::Resumed(Arc::new(resumed.to_vec())));
    }
}

fn announce(news: &broadcast::Sender<News>, what: News) {
    // No one may be listening yet: whoever comes later reads the store.
    drop(news.send(what));
}

fn status_of(books: &Books) -> Status {
    Status {
        sealed_through: books.watermark(),
        next_due: books.next_seal().min(books.next_slow_retry()),
        open_buckets: books.open_buckets(),
        oldest_open: books.oldest_open(),
        tally: books.tally().clone(),
    }
}

fn lock(status: &Mutex<Status>) -> MutexGuard<'_, Status> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

fn reason(fault: &StoreError) -> String {
    format!("the store has failed and takes nothing more until a restart: {fault}")
}

fn panicked(panic: &Panicked) -> StoreError {
    StoreError::Engine { action: "write to", message: format!("a job panicked: {panic}") }
}
