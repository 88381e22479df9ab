//! The client's task: forms messages, sends them, takes the answers, and connects again when it must.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::{Instant, sleep, sleep_until},
};
use tonic::{Code, Status};
use tracing::{error, info, warn};

use super::{
    Reason,
    backoff::pause,
    connection::Connection,
    outbox::{Forming, Item, Outbox, Settled},
    report::{Ended, Left, Report, Totals},
    settings::Settings,
};
use crate::base::proto::{RecordStreamResponse, Rejection, UsageEvent};

/// What the handles ask for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Orders {
    /// So many events shall not wait for others to fill their message.
    pub(super) flush_to: u64,
    pub(super) stop_by: Option<Instant>,
}

/// What the handles are told.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    /// Events that are on the agent's disk or were rejected, in the order in which they were recorded.
    pub(super) settled: u64,
    pub(super) totals: Totals,
    pub(super) end: Option<Left>,
}

impl Progress {
    pub(super) fn left(&self) -> Left {
        self.end.clone().unwrap_or(Left { why: Ended::ShutDown, sent: 0, unsent: 0 })
    }
}

/// Why an exchange is over.
enum Break {
    /// Another connection may do.
    Status(Status),
    End(Ended),
}

impl From<Status> for Break {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<Ended> for Break {
    fn from(end: Ended) -> Self {
        Self::End(end)
    }
}

/// Nothing has got through since then.
struct Trouble {
    since: Instant,
    failures: u32,
}

pub(super) struct Worker {
    settings: Settings,
    intake: mpsc::Receiver<Item>,
    /// Whether more may come.
    is_open: bool,
    room: Arc<Semaphore>,
    orders: watch::Receiver<Orders>,
    has_owner: bool,
    progress: watch::Sender<Progress>,
    reports: Box<dyn FnMut(Report) + Send>,
    forming: Forming,
    /// When the first event of `forming` has waited long enough.
    due: Instant,
    outbox: Outbox,
    /// The last sign that the agent works on what was sent.
    heard: Instant,
}

impl Worker {
    pub(super) fn new(
        settings: Settings,
        intake: mpsc::Receiver<Item>,
        room: Arc<Semaphore>,
        orders: watch::Receiver<Orders>,
        progress: watch::Sender<Progress>,
        reports: Box<dyn FnMut(Report) + Send>,
    ) -> Self {
        let (outbox, now) = (Outbox::new(settings.producer_id.clone()), Instant::now());
        Self {
            settings,
            intake,
            is_open: true,
            room,
            orders,
            has_owner: true,
            progress,
            reports,
            forming: Forming::default(),
            due: now,
            outbox,
            heard: now,
        }
    }

    pub(super) async fn run(mut self) {
        let orders = self.orders.clone();
        // Whatever the first is in the midst of, its state is in `self`.
        let why = tokio::select! {
            why = self.deliver() => why,
            () = deadline(orders) => Ended::Deadline,
        };
        self.end(why).await;
    }

    /// Until all is delivered and nothing more can come, or there is no hope.
    async fn deliver(&mut self) -> Ended {
        let mut trouble: Option<Trouble> = None;
        while self.wait_for_work().await {
            let settled = self.progress.borrow().settled;
            let status = match self.exchange().await {
                Ok(()) => return Ended::ShutDown,
                Err(Break::End(why)) => return why,
                Err(Break::Status(status)) => status,
            };
            let got_on = self.progress.borrow().settled > settled;
            if !self.has_work() {
                trouble = None;
                continue;
            }
            if is_for_ever(&status) {
                return Ended::NotTaken(status.message().to_owned());
            }
            let now = Instant::now();
            let known = trouble.take().filter(|_| !got_on);
            if known.is_none() {
                warn!(code = ?status.code(), fault = status.message(), "usage waits for the agent");
            }
            let known = known.unwrap_or(Trouble { since: now, failures: 0 });
            if now - known.since >= self.settings.give_up_after {
                return Ended::GaveUp(self.settings.give_up_after, status.message().to_owned());
            }
            let failures = known.failures.saturating_add(1);
            sleep(pause(failures, &status).min(self.time_left(known.since))).await;
            trouble = Some(Trouble { failures, ..known });
        }
        Ended::ShutDown
    }

    /// A last try is made when the time is over.
    fn time_left(&self, since: Instant) -> Duration {
        (since + self.settings.give_up_after).saturating_duration_since(Instant::now())
    }

    fn has_work(&self) -> bool {
        !self.outbox.is_empty() || !self.forming.is_empty()
    }

    /// Whether there is any, once that is known.
    async fn wait_for_work(&mut self) -> bool {
        while !self.has_work() && self.is_open {
            tokio::select! {
                item = self.intake.recv() => self.take_in(item),
                changed = self.orders.changed(), if self.has_owner => self.note_orders(changed.is_ok()),
            }
        }
        self.has_work()
    }

    /// One connection, until all is delivered or it breaks.
    async fn exchange(&mut self) -> Result<(), Break> {
        let (mut connection, durable) = Connection::open(&self.settings, self.outbox.greeting()).await?;
        let (lost, again) = self.outbox.greeted(durable)?;
        self.answer_lost(lost);
        for message in again {
            connection.send(message)?;
        }
        self.heard = Instant::now();
        while self.is_open || self.has_work() {
            // Before the wait: what makes it urgent may have come while there was no connection.
            if self.may_send() && self.is_urgent() {
                self.send(&connection)?;
            }
            tokio::select! {
                answer = connection.answer() => self.answered(answer?)?,
                item = self.intake.recv(), if self.takes_in() => self.take_in(item),
                () = sleep_until(self.due), if self.may_send() => self.send(&connection)?,
                () = sleep_until(self.heard + self.settings.answer_timeout), if !self.outbox.is_empty() => {
                    return Err(Status::unavailable("the agent does not answer in time").into());
                }
                changed = self.orders.changed(), if self.has_owner => self.note_orders(changed.is_ok()),
            }
        }
        Ok(())
    }

    fn takes_in(&self) -> bool {
        self.is_open && !self.forming.is_full(&self.settings)
    }

    fn may_send(&self) -> bool {
        !self.forming.is_empty() && self.outbox.len() < self.settings.in_flight
    }

    /// Whether what is there shall not wait for more.
    fn is_urgent(&self) -> bool {
        let before = self.progress.borrow().settled + self.outbox.events() as u64;
        !self.takes_in() || self.orders.borrow().flush_to > before
    }

    fn send(&mut self, connection: &Connection) -> Result<(), Status> {
        if self.outbox.is_empty() {
            self.heard = Instant::now();
        }
        connection.send(self.outbox.send(self.forming.take()))
    }

    /// Takes what is there, up to a message.
    fn take_in(&mut self, first: Option<Item>) {
        self.is_open = first.is_some();
        if self.forming.is_empty() {
            self.due = Instant::now() + self.settings.batch_time;
        }
        let mut next = first;
        while let Some(item) = next {
            self.forming.push(item);
            next = if self.takes_in() { self.intake.try_recv().ok() } else { None };
        }
    }

    fn note_orders(&mut self, has_owner: bool) {
        self.has_owner = has_owner;
        if self.orders.borrow_and_update().stop_by.is_some() {
            self.intake.close();
        }
    }

    fn answered(&mut self, answer: RecordStreamResponse) -> Result<(), Ended> {
        self.heard = Instant::now();
        match self.outbox.answered(answer)? {
            Some(Settled::Answered { items, answer }) => self.settle(items, answer),
            Some(Settled::AnswerLost { items }) => self.answer_lost(items),
            None => warn!("the agent has answered a message that was not sent"),
        }
        Ok(())
    }

    fn settle(&mut self, items: Vec<Item>, answer: RecordStreamResponse) {
        let (number, rejected) = (items.len() as u64, answer.rejected.len() as u64);
        let mut items: Vec<_> = items.into_iter().map(Some).collect();
        for rejection in answer.rejected {
            let place = usize::try_from(rejection.index).ok().and_then(|index| items.get_mut(index)?.take());
            if let Some(item) = place {
                self.reject(item, rejection);
            } else {
                error!(index = rejection.index, "the agent rejects an event that was not sent");
            }
        }
        self.progress.send_modify(|progress| {
            progress.settled += number;
            let totals = &mut progress.totals;
            totals.accepted += answer.accepted;
            totals.duplicates += answer.duplicates;
            totals.rejected += rejected;
            totals.late += answer.late;
            totals.untagged += answer.untagged;
        });
    }

    fn reject(&mut self, item: Item, rejection: Rejection) {
        let reason = Reason::try_from(rejection.reason).unwrap_or_default();
        let event = Box::new(item.event);
        (self.reports)(Report::Rejected { event, reason, message: rejection.message });
    }

    fn answer_lost(&mut self, items: Vec<Item>) {
        if items.is_empty() {
            return;
        }
        let events = events(items);
        let number = events.len() as u64;
        (self.reports)(Report::AnswerLost { events });
        self.progress.send_modify(|progress| {
            progress.settled += number;
            progress.totals.answers_lost += number;
        });
    }

    async fn end(mut self, why: Ended) {
        self.room.close();
        self.intake.close();
        let (sent, mut unsent) = (events(self.outbox.give_up()), events(self.forming.take()));
        while let Some(item) = self.intake.recv().await {
            unsent.push(item.event);
        }
        let left = Left { why, sent: sent.len() as u64, unsent: unsent.len() as u64 };
        if left.is_nothing() {
            info!("the client has ended: {}", left.why);
        } else {
            error!(sent = left.sent, unsent = left.unsent, "usage is not acknowledged: {}", left.why);
        }
        for (events, sent) in [(sent, true), (unsent, false)] {
            if !events.is_empty() {
                (self.reports)(Report::Unacknowledged { events, sent });
            }
        }
        self.progress.send_modify(|progress| progress.end = Some(left));
    }
}

fn events(items: Vec<Item>) -> Vec<UsageEvent> {
    items.into_iter().map(|item| item.event).collect()
}

/// What no other try will mend: the request is wrong, the producer is another's, or there is no tallyman.
fn is_for_ever(status: &Status) -> bool {
    matches!(status.code(), Code::InvalidArgument | Code::PermissionDenied | Code::Unimplemented)
}

/// Resolves once a shutdown's time is over.
async fn deadline(mut orders: watch::Receiver<Orders>) {
    let mut stop_by = None;
    loop {
        tokio::select! {
            () = until(stop_by) => return,
            changed = orders.changed() => match changed {
                Ok(()) => stop_by = orders.borrow_and_update().stop_by,
                Err(_) => return until(stop_by).await,
            },
        }
    }
}

/// For ever, without a moment.
async fn until(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}
