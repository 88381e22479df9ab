//! The background task: packs events into messages, sends them, takes in the responses, and reconnects when it must.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tonic::{Code, Status};
use tonic_types::StatusExt;
use tracing::{error, info, warn};

use crate::{
    RejectionReason, UsageEvent,
    backoff::pause,
    batch::{Batch, Item},
    connection::Connection,
    error::{DeliveryError, EndReason},
    outbox::{Outbox, Outcome},
    proto::{RecordStreamResponse, Rejection},
    report::{Report, Totals},
    settings::Settings,
};

/// The reason in the `ErrorInfo` of a status: other events were counted under a message's number.
const DIVERGED: &str = "DIVERGED";

/// What the handles ask for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Commands {
    /// The number of recorded events that shall not wait for others to fill their message.
    pub(crate) flush_to: u64,
    pub(crate) stop_by: Option<Instant>,
}

/// What the handles can see.
#[derive(Clone, Debug, Default)]
pub(crate) struct Progress {
    /// The number of events that are on the agent's disk or were rejected, in the order of their recording.
    pub(crate) settled: u64,
    pub(crate) totals: Totals,
    pub(crate) end: Option<DeliveryError>,
}

impl Progress {
    pub(crate) fn undelivered(&self) -> DeliveryError {
        self.end.clone().unwrap_or(DeliveryError { reason: EndReason::ShutDown, sent: 0, unsent: 0 })
    }
}

/// Why a session is over.
enum SessionEnd {
    /// Another connection may succeed.
    Retry(Status),
    Final(EndReason),
}

impl From<Status> for SessionEnd {
    fn from(status: Status) -> Self {
        Self::Retry(status)
    }
}

impl From<EndReason> for SessionEnd {
    fn from(reason: EndReason) -> Self {
        Self::Final(reason)
    }
}

/// A time in which nothing was acknowledged.
struct Outage {
    since: Instant,
    failures: u32,
}

pub(crate) struct Worker {
    settings: Settings,
    queue: mpsc::Receiver<Item>,
    /// Whether more events may come.
    is_open: bool,
    room: Arc<Semaphore>,
    commands: watch::Receiver<Commands>,
    /// Whether a handle is left that can send commands.
    has_handle: bool,
    progress: watch::Sender<Progress>,
    reports: Box<dyn FnMut(Report) + Send>,
    batch: Batch,
    /// When the first event of `batch` has waited for [`Settings::batch_time`].
    batch_due: Instant,
    outbox: Outbox,
    /// The last sign that the agent works on what was sent.
    last_response: Instant,
}

impl Worker {
    pub(crate) fn new(
        settings: Settings,
        queue: mpsc::Receiver<Item>,
        room: Arc<Semaphore>,
        commands: watch::Receiver<Commands>,
        progress: watch::Sender<Progress>,
        reports: Box<dyn FnMut(Report) + Send>,
    ) -> Self {
        let outbox = Outbox::new(settings.producer_id.clone());
        let now = Instant::now();
        Self {
            settings,
            queue,
            is_open: true,
            room,
            commands,
            has_handle: true,
            progress,
            reports,
            batch: Batch::default(),
            batch_due: now,
            outbox,
            last_response: now,
        }
    }

    pub(crate) async fn run(mut self) {
        let commands = self.commands.clone();
        // The delivery may be dropped anywhere: its state is in `self`.
        let reason = tokio::select! {
            reason = self.deliver() => reason,
            () = shutdown_deadline(commands) => EndReason::DeadlinePassed,
        };
        self.end(reason).await;
    }

    /// Runs sessions until everything is delivered and nothing more can come, or no retry can succeed.
    async fn deliver(&mut self) -> EndReason {
        let mut outage: Option<Outage> = None;
        while self.wait_for_work().await {
            let settled = self.progress.borrow().settled;
            let status = match self.run_session().await {
                Ok(()) => return EndReason::ShutDown,
                Err(SessionEnd::Final(reason)) => return reason,
                Err(SessionEnd::Retry(status)) => status,
            };
            if let Some(reason) = self.end_by_refusal(&status) {
                return reason;
            }
            if !self.has_work() {
                outage = None;
                continue;
            }
            if is_permanent(&status) {
                return EndReason::Refused(status.message().to_owned());
            }
            let has_progressed = self.progress.borrow().settled > settled;
            let ongoing = outage.take().filter(|_| !has_progressed);
            if ongoing.is_none() {
                warn!(code = ?status.code(), fault = status.message(), "usage waits for the agent");
            }
            let now = Instant::now();
            let Outage { since, failures } = ongoing.unwrap_or(Outage { since: now, failures: 0 });
            let after = self.settings.give_up_after;
            if now - since >= after {
                return EndReason::GaveUp { after, last_error: status.message().to_owned() };
            }
            let failures = failures.saturating_add(1);
            sleep(pause(failures, &status).min(self.time_left(since))).await;
            outage = Some(Outage { since, failures });
        }
        EndReason::ShutDown
    }

    /// The end that the agent has put to this producer, whether or not there is something to send. To connect again would
    /// put an end to the other process's stream, which would connect again in turn.
    fn end_by_refusal(&self, status: &Status) -> Option<EndReason> {
        let reason = status.get_details_error_info().map(|info| info.reason);
        match (status.code(), reason.as_deref()) {
            (Code::Aborted, _) => Some(self.outbox.producer_id_in_use()),
            (Code::FailedPrecondition, Some(DIVERGED)) => {
                let producer_id = self.settings.producer_id.clone();
                Some(EndReason::Diverged { producer_id, why: status.message().to_owned() })
            }
            _ => None,
        }
    }

    /// The time until the last retry of an outage.
    fn time_left(&self, since: Instant) -> Duration {
        (since + self.settings.give_up_after).saturating_duration_since(Instant::now())
    }

    fn has_work(&self) -> bool {
        !self.outbox.is_empty() || !self.batch.is_empty()
    }

    /// Waits for something to send. Returns `false` if nothing more can come.
    async fn wait_for_work(&mut self) -> bool {
        while !self.has_work() && self.is_open {
            tokio::select! {
                item = self.queue.recv() => self.fill_batch(item),
                changed = self.commands.changed(), if self.has_handle => self.on_command(changed.is_ok()),
            }
        }
        self.has_work()
    }

    /// Uses one connection until everything is delivered or the connection breaks.
    async fn run_session(&mut self) -> Result<(), SessionEnd> {
        let (mut connection, durable) = Connection::open(&self.settings, self.outbox.handshake()).await?;
        for message in self.outbox.resume(durable)? {
            connection.send(message)?;
        }
        self.last_response = Instant::now();
        while self.is_open || self.has_work() {
            // Before the wait: a flush may have come while there was no connection.
            if self.may_send() && self.is_urgent() {
                self.send(&connection)?;
            }
            let response_due = self.last_response + self.settings.response_timeout;
            tokio::select! {
                response = connection.response() => self.on_response(response?)?,
                item = self.queue.recv(), if self.has_room() => self.fill_batch(item),
                () = sleep_until(self.batch_due), if self.may_send() => self.send(&connection)?,
                () = sleep_until(response_due), if !self.outbox.is_empty() => {
                    return Err(Status::unavailable("the agent does not answer in time").into());
                }
                changed = self.commands.changed(), if self.has_handle => self.on_command(changed.is_ok()),
            }
        }
        Ok(())
    }

    /// Whether the batch can take another event, should one come.
    fn has_room(&self) -> bool {
        self.is_open && !self.batch.is_full(&self.settings)
    }

    fn may_send(&self) -> bool {
        !self.batch.is_empty() && self.outbox.len() < self.settings.in_flight
    }

    /// Whether the batch shall not wait for more events.
    fn is_urgent(&self) -> bool {
        let before_batch = self.progress.borrow().settled + self.outbox.events() as u64;
        !self.has_room() || self.commands.borrow().flush_to > before_batch
    }

    fn send(&mut self, connection: &Connection) -> Result<(), Status> {
        if self.outbox.is_empty() {
            self.last_response = Instant::now();
        }
        connection.send(self.outbox.push(self.batch.take()))
    }

    /// Moves the queue into the batch, until the one is empty or the other full. `None` says that the queue is closed.
    fn fill_batch(&mut self, first: Option<Item>) {
        self.is_open = first.is_some();
        if self.batch.is_empty() {
            self.batch_due = Instant::now() + self.settings.batch_time;
        }
        let mut next = first;
        while let Some(item) = next {
            self.batch.push(item);
            next = if self.has_room() { self.queue.try_recv().ok() } else { None };
        }
    }

    fn on_command(&mut self, has_handle: bool) {
        self.has_handle = has_handle;
        if self.commands.borrow_and_update().stop_by.is_some() {
            self.queue.close();
        }
    }

    fn on_response(&mut self, response: RecordStreamResponse) -> Result<(), EndReason> {
        self.last_response = Instant::now();
        match self.outbox.acknowledge(response)? {
            Some(Outcome::Acknowledged { items, response }) => self.acknowledged(items, response),
            Some(Outcome::ResponseLost { items }) => self.response_lost(items),
            None => warn!("the agent has answered a message that was not sent"),
        }
        Ok(())
    }

    fn acknowledged(&mut self, items: Vec<Item>, response: RecordStreamResponse) {
        let (number, rejected) = (items.len() as u64, response.rejected.len() as u64);
        let mut items: Vec<_> = items.into_iter().map(Some).collect();
        for rejection in response.rejected {
            let item = usize::try_from(rejection.index).ok().and_then(|index| items.get_mut(index)?.take());
            if let Some(item) = item {
                self.reject(item, rejection);
            } else {
                error!(index = rejection.index, "the agent rejects an event that was not sent");
            }
        }
        self.progress.send_modify(|progress| {
            progress.settled += number;
            let totals = &mut progress.totals;
            totals.accepted += response.accepted;
            totals.duplicates += response.duplicates;
            totals.rejected += rejected;
            totals.late += response.late;
            totals.untagged += response.untagged;
            totals.not_billable += response.not_billable;
        });
    }

    fn reject(&mut self, item: Item, rejection: Rejection) {
        let reason = RejectionReason::try_from(rejection.reason).unwrap_or_default();
        let event = Box::new(item.event);
        (self.reports)(Report::Rejected { event, reason, message: rejection.message });
    }

    fn response_lost(&mut self, items: Vec<Item>) {
        if items.is_empty() {
            return;
        }
        let events = events(items);
        let number = events.len() as u64;
        (self.reports)(Report::ResponseLost { events });
        self.progress.send_modify(|progress| {
            progress.settled += number;
            progress.totals.responses_lost += number;
        });
    }

    async fn end(mut self, reason: EndReason) {
        self.room.close();
        self.queue.close();
        let (sent, mut unsent) = (events(self.outbox.drain()), events(self.batch.take()));
        while let Some(item) = self.queue.recv().await {
            unsent.push(item.event);
        }
        let end = DeliveryError { reason, sent: sent.len() as u64, unsent: unsent.len() as u64 };
        if end.is_nothing() {
            info!("the client has ended: {}", end.reason);
        } else {
            error!(sent = end.sent, unsent = end.unsent, "usage is not acknowledged: {}", end.reason);
        }
        for (events, sent) in [(sent, true), (unsent, false)] {
            if !events.is_empty() {
                (self.reports)(Report::Unacknowledged { events, sent });
            }
        }
        self.progress.send_modify(|progress| progress.end = Some(end));
    }
}

fn events(items: Vec<Item>) -> Vec<UsageEvent> {
    items.into_iter().map(|item| item.event).collect()
}

/// Whether no retry can succeed: the request is wrong or not allowed, its number cannot be taken, or there is no tallyman.
fn is_permanent(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::InvalidArgument | Code::PermissionDenied | Code::FailedPrecondition | Code::Unimplemented
    )
}

/// Resolves when the deadline of a shutdown has passed.
async fn shutdown_deadline(mut commands: watch::Receiver<Commands>) {
    let mut stop_by = None;
    loop {
        tokio::select! {
            () = reached(stop_by) => return,
            changed = commands.changed() => match changed {
                Ok(()) => stop_by = commands.borrow_and_update().stop_by,
                Err(_) => return reached(stop_by).await,
            },
        }
    }
}

/// Resolves at the moment; without a moment, never.
async fn reached(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
