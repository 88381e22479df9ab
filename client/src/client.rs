//! The handle of an application.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use prost::Message;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, watch},
    time::Instant,
};

use crate::{
    UsageEvent,
    batch::Item,
    error::{DeliveryError, EndReason, RecordError, RecordErrorKind},
    report::{Report, Totals},
    settings::{MAX_EVENT_BYTES, Settings, SettingsError},
    worker::{Commands, Progress, Worker},
};

/// Records usage events. Clones share one buffer and one connection.
///
/// When the last clone is dropped, the events in the buffer are still delivered as long as the runtime runs;
/// [`shutdown`](Self::shutdown) waits for them.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: mpsc::Sender<Item>,
    /// A permit for each event in the buffer: recorded, and neither acknowledged nor reported.
    room: Arc<Semaphore>,
    commands: watch::Sender<Commands>,
    progress: watch::Receiver<Progress>,
    /// The number of events that were put into the queue, or are just about to be.
    recorded: AtomicU64,
    event_ids: bool,
    stamp_time: bool,
}

impl Client {
    /// Starts a client, with a background task on the current tokio runtime. It connects when there is something to send.
    ///
    /// `reports` is called by the background task with each [`Report`]. It must neither block nor panic.
    ///
    /// # Errors
    ///
    /// If a setting is out of range, or a file of the credentials cannot be used. An agent that cannot be reached is no
    /// error: the events wait for it.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn open(
        settings: Settings,
        reports: impl FnMut(Report) + Send + 'static,
    ) -> Result<Self, SettingsError> {
        settings.check()?;
        let (queue, items) = mpsc::channel(settings.buffer);
        let room = Arc::new(Semaphore::new(settings.buffer));
        let (commands, commanded) = watch::channel(Commands::default());
        let (published, progress) = watch::channel(Progress::default());
        let (event_ids, stamp_time) = (settings.event_ids, settings.stamp_time);
        let worker = Worker::new(settings, items, room.clone(), commanded, published, Box::new(reports));
        #[expect(clippy::disallowed_methods, reason = "it ends with its client, which learns of its end")]
        tokio::spawn(worker.run());
        let recorded = AtomicU64::new(0);
        let shared = Shared { queue, room, commands, progress, recorded, event_ids, stamp_time };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Puts an event into the buffer, and waits while the buffer is full. Dropping the future before it is ready records
    /// nothing.
    ///
    /// # Errors
    ///
    /// [`RecordErrorKind::Closed`] or [`RecordErrorKind::TooLarge`], with the event.
    pub async fn record(&self, event: UsageEvent) -> Result<(), RecordError> {
        match self.shared.room.clone().acquire_owned().await {
            Ok(permit) => self.shared.put(event, permit),
            Err(_) => Err(RecordError::new(event, RecordErrorKind::Closed)),
        }
    }

    /// Puts an event into the buffer, without waiting.
    ///
    /// # Errors
    ///
    /// [`RecordErrorKind::BufferFull`], [`RecordErrorKind::Closed`] or [`RecordErrorKind::TooLarge`], with the event.
    pub fn try_record(&self, event: UsageEvent) -> Result<(), RecordError> {
        match self.shared.room.clone().try_acquire_owned() {
            Ok(permit) => self.shared.put(event, permit),
            Err(TryAcquireError::NoPermits) => Err(RecordError::new(event, RecordErrorKind::BufferFull)),
            Err(TryAcquireError::Closed) => Err(RecordError::new(event, RecordErrorKind::Closed)),
        }
    }

    /// Waits until every event recorded before is on the agent's disk or was reported.
    ///
    /// It waits for an agent that cannot be reached, up to [`Settings::give_up_after`]. It may be wrapped in a
    /// `tokio::time::timeout`: dropping the future changes nothing.
    ///
    /// # Errors
    ///
    /// If the client has ended before.
    pub async fn flush(&self) -> Result<(), DeliveryError> {
        let target = self.shared.recorded.load(Ordering::Acquire);
        self.shared.commands.send_modify(|commands| commands.flush_to = commands.flush_to.max(target));
        let mut progress = self.shared.progress.clone();
        let is_over = |progress: &Progress| progress.settled >= target || progress.end.is_some();
        match progress.wait_for(is_over).await {
            Ok(progress) if progress.settled >= target => Ok(()),
            Ok(progress) => Err(progress.undelivered()),
            Err(_) => Err(self.task_gone()),
        }
    }

    /// Takes no more events, delivers those in the buffer, and ends; at the latest after `deadline`.
    ///
    /// # Errors
    ///
    /// If events were not acknowledged. They are also in [`Report::Unacknowledged`].
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), DeliveryError> {
        self.shared.room.close();
        let stop_by = Instant::now() + deadline;
        self.shared.commands.send_modify(|commands| {
            commands.stop_by = Some(commands.stop_by.map_or(stop_by, |other| other.min(stop_by)));
        });
        let mut progress = self.shared.progress.clone();
        match progress.wait_for(|progress| progress.end.is_some()).await {
            Ok(progress) if progress.undelivered().is_nothing() => Ok(()),
            Ok(progress) => Err(progress.undelivered()),
            Err(_) => Err(self.task_gone()),
        }
    }

    /// The number of events that were recorded and are neither on the agent's disk nor reported.
    pub fn unacknowledged(&self) -> u64 {
        let settled = self.shared.progress.borrow().settled;
        self.shared.recorded.load(Ordering::Acquire).saturating_sub(settled)
    }

    /// Why the client has ended, if it has: it was shut down, or could not go on.
    pub fn ended(&self) -> Option<DeliveryError> {
        self.shared.progress.borrow().end.clone()
    }

    /// The number of events so far, by outcome.
    pub fn totals(&self) -> Totals {
        self.shared.progress.borrow().totals
    }

    fn task_gone(&self) -> DeliveryError {
        DeliveryError { reason: EndReason::TaskGone, sent: self.unacknowledged(), unsent: 0 }
    }
}

impl Shared {
    fn put(&self, mut event: UsageEvent, permit: OwnedSemaphorePermit) -> Result<(), RecordError> {
        if self.event_ids && event.event_id.is_empty() {
            event.event_id = uuid::Uuid::new_v4().simple().to_string();
        }
        if self.stamp_time && event.time_unix_nano == 0 {
            event.time_unix_nano = now_unix_nano();
        }
        let bytes = event.encoded_len();
        if bytes > MAX_EVENT_BYTES {
            return Err(RecordError::new(event, RecordErrorKind::TooLarge));
        }
        // Before the worker can settle the event: a flush had better wait for one event too many than for one too few.
        self.recorded.fetch_add(1, Ordering::AcqRel);
        self.queue.try_send(Item::new(event, bytes, permit)).map_err(|refused| {
            self.recorded.fetch_sub(1, Ordering::AcqRel);
            // The queue has a slot for each permit, so it is not full.
            RecordError::new(refused.into_inner().event, RecordErrorKind::Closed)
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "an application's usage happens in real time")]
fn now_unix_nano() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or_default()
}
