//! The single writer. Commands gather while a sync is under way; the next write takes them all, with one sync.
//!
//! A command is answered only once the write that holds its changes is on disk (I3). After a failed write or sync
//! nothing is written any more: what the disk holds is not known, and to sync again would not tell.

mod commands;
mod group;
mod syncer;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use thiserror::Error;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc, oneshot};
use tracing::Span;

use crate::{
    base::{
        metrics,
        tasks::{Panicked, Tasks},
    },
    domain::{
        billing::record::{Decision, RecordId, Settled},
        destination::AllowedMove,
        product::ProductIndex,
        time::{Hour, Timestamp},
    },
    store::{Store, StoreError},
};

use super::{
    billing::{
        AdjustError, AdjustRequest, Adjusted, DecideError, PutError, Registration, Resumed, SealProgress,
        Settlement,
    },
    counting::{
        CountError,
        request::{CountRequest, Counted},
        streams::ProducerStream,
    },
    customers::{Customer, CustomerDirectory},
    lifecycle::{Lifecycle, Phase},
    moves::{MoveError, MoveOrder},
    state::EngineState,
    trusted_clock::TrustedClock,
    watermark::Watermarks,
};
use commands::{Ask, Command, Notice};
use syncer::Shared;
use writer::Writer;

pub(crate) use super::state::Status;

/// Commands that may wait, each a request or a step of other work. Their events are bounded by `max_pending_events`.
const MAX_WAITING_COMMANDS: usize = 65_536;
/// Events that a submitter may leave unread; one that missed some reads the store again.
const MAX_UNREAD_EVENTS: usize = 256;

/// What submitters must know of, beside what was sealed. Told by the writer, in the order of the commits.
#[derive(Clone, Debug)]
pub enum SubmitterEvent {
    /// Held records are to be sent again.
    Resumed(Arc<Vec<Resumed>>),
    /// Records were sealed outside of the seal of an hour.
    Sealed,
    /// A customer's usage ends, and with it the time in which AWS takes its records.
    Closing { product: ProductIndex, customer: Arc<str>, deadline: Timestamp },
}

/// A command on its way to the writer.
struct Envelope {
    command: Command,
    /// The span of whoever asks.
    span: Span,
    /// The number of events that the command's work is like.
    events: usize,
    /// The events' share of what may wait, given back once they are counted.
    room: Option<OwnedSemaphorePermit>,
    readers: Readers,
}

/// Who reads what a command changes in the store, and acts on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Readers {
    /// Only the engine's own state: it may be there to be read before it is synced.
    State,
    /// A submitter, too, that tells AWS: no one reads it before it is on disk.
    Others,
}

/// Sends commands to the writer. Cheap to clone.
#[derive(Clone)]
pub struct Committer {
    commands: mpsc::Sender<Envelope>,
    pending_events: Arc<Semaphore>,
    max_pending_events: usize,
    lifecycle: Lifecycle,
    status: Arc<Mutex<Status>>,
    customers: Arc<CustomerDirectory>,
    events: broadcast::Sender<SubmitterEvent>,
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum CommitError<E> {
    #[error("too many events wait for a commit (limits.max_pending_events): send them again in a moment")]
    Full,
    #[error("{0}")]
    Unavailable(Arc<str>),
    /// The command itself is refused, and has changed nothing.
    #[error(transparent)]
    Refused(E),
}

impl<E> CommitError<E> {
    /// The refusal, or else why the command was not carried out at all.
    pub fn refusal(self) -> Result<E, CommitError<Never>> {
        match self {
            Self::Full => Err(CommitError::Full),
            Self::Unavailable(why) => Err(CommitError::Unavailable(why)),
            Self::Refused(refusal) => Ok(refusal),
        }
    }
}

/// The error of a command that is never refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Never {}

impl Committer {
    /// Starts the writer's threads. They end with `tasks`, after a last write.
    pub fn start(
        state: EngineState,
        store: Arc<dyn Store>,
        customers: Arc<CustomerDirectory>,
        clock: TrustedClock,
        max_pending_events: usize,
        lifecycle: Lifecycle,
        tasks: &Tasks,
    ) -> Self {
        let (commands, waiting) = mpsc::channel(MAX_WAITING_COMMANDS);
        let status = Arc::new(Mutex::new(state.status()));
        let (events, _) = broadcast::channel(MAX_UNREAD_EVENTS);
        let shared =
            Shared { store, lifecycle: lifecycle.clone(), status: status.clone(), events: events.clone() };
        Writer::start(state, clock, shared, waiting, tasks);
        let pending_events = Arc::new(Semaphore::new(max_pending_events.min(Semaphore::MAX_PERMITS)));
        Self { commands, pending_events, max_pending_events, lifecycle, status, customers, events }
    }

    /// Hands a request's usage over; refuses it when too much waits already. The ticket tells when it is on disk.
    pub async fn count(
        &self,
        request: CountRequest,
    ) -> Result<Ticket<Counted, CountError>, CommitError<CountError>> {
        let permits = self.permits(&request);
        let room =
            self.pending_events.clone().try_acquire_many_owned(permits).map_err(|_| CommitError::Full)?;
        self.count_in(room, request).await
    }

    /// As [`count`](Self::count), but waits for room: a stream is slowed down rather than refused.
    pub async fn count_patiently(
        &self,
        request: CountRequest,
    ) -> Result<Ticket<Counted, CountError>, CommitError<CountError>> {
        let permits = self.permits(&request);
        let room = self.pending_events.clone().acquire_many_owned(permits).await;
        self.count_in(room.map_err(|_| self.unavailable())?, request).await
    }

    fn permits(&self, request: &CountRequest) -> u32 {
        u32::try_from(request.events.clamp(1, self.max_pending_events)).unwrap_or(u32::MAX)
    }

    async fn count_in(
        &self,
        room: OwnedSemaphorePermit,
        request: CountRequest,
    ) -> Result<Ticket<Counted, CountError>, CommitError<CountError>> {
        let events = request.events;
        let (ask, ticket) = self.ask(request);
        let command = Command::Count(ask);
        let span = Span::current();
        self.send(Envelope { command, span, events, room: Some(room), readers: Readers::State }).await?;
        Ok(ticket)
    }

    /// Opens a stream before its first message: of its producer's streams only this one counts from now on. Returns the
    /// producer's last durable sequence.
    pub async fn open_stream(&self, stream: Arc<ProducerStream>) -> Result<u64, CommitError<Never>> {
        self.carry_out(stream, Command::OpenStream, Readers::State).await
    }

    /// Adds customers, or changes those with the same keys; stops at the first that cannot be.
    pub async fn put_customers(&self, customers: Vec<Registration>) -> Result<(), CommitError<PutError>> {
        self.carry_out(customers, Command::PutCustomers, Readers::Others).await
    }

    /// Ends a customer's usage; `noticed` is when AWS said so. `None` if there is no such customer.
    pub async fn close_customer(
        &self,
        product: ProductIndex,
        key: Arc<str>,
        noticed: Timestamp,
    ) -> Result<Option<Customer>, CommitError<Never>> {
        let notice = Notice { product, key, noticed };
        self.carry_out(notice, Command::CloseCustomer, Readers::Others).await
    }

    /// Writes down a person's decision about held records, and carries it out: for all of them or for none.
    pub async fn decide(
        &self,
        ids: BTreeSet<RecordId>,
        decision: Decision,
    ) -> Result<(), CommitError<DecideError>> {
        self.carry_out((ids, decision), Command::Decide, Readers::Others).await.map(drop)
    }

    /// Writes down a person's word that a product may move to another destination.
    pub(crate) async fn allow_move(&self, order: MoveOrder) -> Result<AllowedMove, CommitError<MoveError>> {
        self.carry_out(order, Command::AllowMove, Readers::State).await
    }

    /// Takes from open hours what a person wants to be gone: all of it or nothing, and once under one id.
    pub(crate) async fn adjust(&self, request: AdjustRequest) -> Result<Adjusted, CommitError<AdjustError>> {
        self.carry_out(request, Command::Adjust, Readers::Others).await
    }

    /// Tries held records of customers without a subscription again, if any are due.
    pub async fn retry_slowly(&self) -> Result<(), CommitError<Never>> {
        self.carry_out((), Command::RetrySlowly, Readers::Others).await.map(drop)
    }

    /// Does a step of sealing, if anything is due at `now`. The caller has made sure by the seal gate that it is that
    /// late: what is sealed can never be opened again.
    pub async fn seal(&self, now: Timestamp) -> Result<SealProgress, CommitError<Never>> {
        self.carry_out(now, Command::Seal, Readers::Others).await
    }

    /// Does a step of the seal that an earlier process has begun, if one has.
    pub async fn finish_seal(&self) -> Result<SealProgress, CommitError<Never>> {
        self.carry_out((), Command::FinishSeal, Readers::Others).await
    }

    /// Drops some of what has expired by `now`; says whether there is more.
    pub async fn drop_expired(&self, now: Timestamp) -> Result<bool, CommitError<Never>> {
        self.carry_out(now, Command::DropExpired, Readers::Others).await
    }

    /// Writes down what became of records; returns those that are settled now.
    pub async fn settle(&self, settlements: Vec<Settlement>) -> Result<Vec<Settled>, CommitError<Never>> {
        self.carry_out(settlements, Command::Settle, Readers::Others).await
    }

    /// What submitters must know of, from now on.
    pub fn events(&self) -> broadcast::Receiver<SubmitterEvent> {
        self.events.subscribe()
    }

    pub fn status(&self) -> Status {
        lock(&self.status).clone()
    }

    /// When the sealer has something to do.
    pub fn next_due(&self) -> Timestamp {
        lock(&self.status).next_due
    }

    pub fn sealed_through(&self) -> Hour {
        lock(&self.status).watermarks.lowest()
    }

    /// Up to which hours usage is sealed.
    pub(crate) fn watermarks(&self) -> Watermarks {
        lock(&self.status).watermarks.clone()
    }

    pub fn customers(&self) -> &CustomerDirectory {
        &self.customers
    }

    /// Has a command carried out, and resolves once its changes are on disk.
    async fn carry_out<Q, T, E>(
        &self,
        question: Q,
        command: impl FnOnce(Ask<Q, T, E>) -> Command,
        readers: Readers,
    ) -> Result<T, CommitError<E>> {
        let (ask, ticket) = self.ask(question);
        let command = command(ask);
        self.send(Envelope { command, span: Span::current(), events: 1, room: None, readers }).await?;
        ticket.answer().await
    }

    fn ask<Q, T, E>(&self, question: Q) -> (Ask<Q, T, E>, Ticket<T, E>) {
        let (reply, answer) = oneshot::channel();
        (Ask { question, reply }, Ticket { answer, committer: self.clone() })
    }

    async fn send<E>(&self, envelope: Envelope) -> Result<(), CommitError<E>> {
        self.commands.send(envelope).await.map_err(|_| self.unavailable())
    }

    fn unavailable<E>(&self) -> CommitError<E> {
        CommitError::Unavailable(match self.lifecycle.get() {
            Phase::Failed(reason) => reason,
            Phase::Starting | Phase::Serving | Phase::Stopping => "the agent is stopping".into(),
        })
    }
}

/// Stands for a command that was handed over.
pub struct Ticket<T, E> {
    answer: oneshot::Receiver<Result<T, E>>,
    committer: Committer,
}

impl<T, E> Ticket<T, E> {
    /// Resolves once the command's changes are on disk.
    pub async fn answer(self) -> Result<T, CommitError<E>> {
        // A sender dropped without an answer means that the write did not succeed.
        let answer = self.answer.await.map_err(|_| self.committer.unavailable())?;
        answer.map_err(CommitError::Refused)
    }
}

fn announce(events: &broadcast::Sender<SubmitterEvent>, event: SubmitterEvent) {
    // No one may be listening yet: whoever comes later reads the store.
    drop(events.send(event));
}

fn lock(status: &Mutex<Status>) -> MutexGuard<'_, Status> {
    status.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Ends all writing, and has it seen before anyone is refused. What a restart mends by itself asks for one.
fn fail(lifecycle: &Lifecycle, fault: &StoreError) {
    metrics::store_failed();
    lifecycle.fail(&reason(fault));
    if fault.is_mended_by_restart() {
        lifecycle.request_restart();
    }
}

fn reason(fault: &StoreError) -> String {
    format!("the store has failed and takes nothing more until a restart: {fault}")
}

fn panicked(panic: &Panicked) -> StoreError {
    StoreError::Engine { action: "write to", message: format!("a command panicked: {panic}") }
}
