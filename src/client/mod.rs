//! A client for applications: records usage events and brings each of them to the agent exactly once.
//!
//! It needs the feature `client` alone, and then compiles neither RocksDB nor the AWS SDK:
//!
//! ```toml
//! tallyman = { path = "...", default-features = false, features = ["client"] }
//! ```
//!
//! ```no_run
//! use std::time::Duration;
//! use tallyman::client::{Client, Report, Settings, UsageEvent};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! // A name that this process keeps over its restarts, and that no other process uses.
//! let settings = Settings::new("127.0.0.1:7450", "exporter-0")?;
//! let client = Client::open(settings, |report| match report {
//!     Report::Rejected { event, message, .. } => eprintln!("not billed: {event:?}: {message}"),
//!     Report::AnswerLost { events } => eprintln!("{} events: rejections unknown", events.len()),
//!     Report::Unacknowledged { events, .. } => eprintln!("{} events: keep them", events.len()),
//!     other => eprintln!("{other:?}"),
//! })?;
//!
//! client
//!     .record(UsageEvent {
//!         customer: "acme".to_owned(),
//!         dimension: "gb_out".to_owned(),
//!         quantity: 5_000_000,
//!         ..UsageEvent::default()
//!     })
//!     .await?;
//!
//! client.flush().await?; // All that was recorded so far is on the agent's disk.
//! client.shutdown(Duration::from_secs(20)).await?; // Or it says how much is not.
//! # Ok(())
//! # }
//! ```
//!
//! **What it does.** [`Client::record`] puts an event into a bounded buffer and waits while that is full;
//! [`Client::try_record`] refuses instead. Events leave in numbered messages over one `RecordStream`. A message that is
//! not answered is sent again under its number, over as many connections as it takes, and the agent counts a number
//! once. After a restart of the application the numbers go on where the agent says.
//!
//! **What it cannot do.** The buffer is memory: what is not acknowledged when the process is killed is lost with it. An
//! application that must not lose it keeps its events itself, gives each an `event_id` of its own, and records again
//! what it has not seen [flushed](Client::flush); inside `hour.dedup_window` the agent counts an id once.
//!
//! **Two processes must not share a producer id.** The one's message would be taken for a repeat of the other's. The
//! client notices and ends, with [`Ended::Shared`].
//!
//! **Rejections** come back in a [`Report`]. When an answer is lost, the agent knows the message by its number and does
//! not repeat its rejections; such events come as [`Report::AnswerLost`]: they count, unless they were rejected. With
//! event ids, to record them once more tells.

mod access;
mod backoff;
mod connection;
mod outbox;
mod report;
mod settings;
mod worker;

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

pub use crate::base::proto::{UsageEvent, rejection::Reason};
pub use access::{Access, AccessError, Address};
pub use report::{Ended, Left, Refused, Report, Totals, Why};
pub use settings::{Settings, SettingsError};

#[cfg(feature = "agent")]
pub(crate) use access::root_cause;
use outbox::Item;
use worker::{Orders, Progress, Worker};

/// More than any event that an agent takes.
const MAX_EVENT_BYTES: usize = 16 << 10;

/// Records usage. Clones share one buffer and one connection.
///
/// When the last clone is dropped, what is in the buffer is still delivered as long as the runtime runs;
/// [`shutdown`](Self::shutdown) waits for it.
#[derive(Clone, Debug)]
pub struct Client {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    intake: mpsc::Sender<Item>,
    /// A permit for each event that is not settled.
    room: Arc<Semaphore>,
    orders: watch::Sender<Orders>,
    progress: watch::Receiver<Progress>,
    /// Events that were put into the intake, or are just about to be.
    recorded: AtomicU64,
    event_ids: bool,
    stamp_time: bool,
}

impl Client {
    /// Begins, inside a tokio runtime. It connects when there is something to send. `reports` is called by the client's
    /// task with all that needs a person or a program; it must neither block nor panic.
    pub fn open(
        settings: Settings,
        reports: impl FnMut(Report) + Send + 'static,
    ) -> Result<Self, SettingsError> {
        settings.check()?;
        let (intake, items) = mpsc::channel(settings.buffer);
        let room = Arc::new(Semaphore::new(settings.buffer));
        let (orders, ordered) = watch::channel(Orders::default());
        let (told, progress) = watch::channel(Progress::default());
        let (event_ids, stamp_time) = (settings.event_ids, settings.stamp_time);
        let worker = Worker::new(settings, items, room.clone(), ordered, told, Box::new(reports));
        #[expect(clippy::disallowed_methods, reason = "it ends with its client, which learns of its end")]
        tokio::spawn(worker.run());
        let recorded = AtomicU64::new(0);
        let shared = Shared { intake, room, orders, progress, recorded, event_ids, stamp_time };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Puts an event into the buffer; waits while that is full. To drop the future before it is ready records nothing.
    pub async fn record(&self, event: UsageEvent) -> Result<(), Refused> {
        match self.shared.room.clone().acquire_owned().await {
            Ok(room) => self.shared.put(event, room),
            Err(_) => Err(Refused::new(event, Why::Closed)),
        }
    }

    /// Puts an event into the buffer, or gives it back at once.
    pub fn try_record(&self, event: UsageEvent) -> Result<(), Refused> {
        match self.shared.room.clone().try_acquire_owned() {
            Ok(room) => self.shared.put(event, room),
            Err(TryAcquireError::NoPermits) => Err(Refused::new(event, Why::Full)),
            Err(TryAcquireError::Closed) => Err(Refused::new(event, Why::Closed)),
        }
    }

    /// Waits until all that was recorded before is on the agent's disk or reported. It waits for an agent that is away, up
    /// to [`Settings::give_up_after`]; a `tokio::time::timeout` around it does no harm.
    pub async fn flush(&self) -> Result<(), Left> {
        let target = self.shared.recorded.load(Ordering::Acquire);
        self.shared.orders.send_modify(|orders| orders.flush_to = orders.flush_to.max(target));
        let mut progress = self.shared.progress.clone();
        let is_over = |progress: &Progress| progress.settled >= target || progress.end.is_some();
        match progress.wait_for(is_over).await {
            Ok(progress) if progress.settled >= target => Ok(()),
            Ok(progress) => Err(progress.left()),
            Err(_) => Err(self.vanished()),
        }
    }

    /// Takes no more events, delivers what is there, and ends; after `deadline` with what is left then. What is left
    /// also goes to [`Report::Unacknowledged`], event by event.
    pub async fn shutdown(&self, deadline: Duration) -> Result<(), Left> {
        self.shared.room.close();
        let stop_by = Instant::now() + deadline;
        self.shared.orders.send_modify(|orders| {
            orders.stop_by = Some(orders.stop_by.map_or(stop_by, |other| other.min(stop_by)));
        });
        let mut progress = self.shared.progress.clone();
        match progress.wait_for(|progress| progress.end.is_some()).await {
            Ok(progress) if progress.left().is_nothing() => Ok(()),
            Ok(progress) => Err(progress.left()),
            Err(_) => Err(self.vanished()),
        }
    }

    /// How many events were recorded and are neither on the agent's disk nor reported.
    pub fn unacknowledged(&self) -> u64 {
        let settled = self.shared.progress.borrow().settled;
        self.shared.recorded.load(Ordering::Acquire).saturating_sub(settled)
    }

    /// What has become of the events so far.
    pub fn totals(&self) -> Totals {
        self.shared.progress.borrow().totals
    }

    /// The task is gone without a word: its runtime has ended, or the reports' function has panicked.
    fn vanished(&self) -> Left {
        Left { why: Ended::Vanished, sent: self.unacknowledged(), unsent: 0 }
    }
}

impl Shared {
    fn put(&self, mut event: UsageEvent, room: OwnedSemaphorePermit) -> Result<(), Refused> {
        if self.event_ids && event.event_id.is_empty() {
            event.event_id = uuid::Uuid::new_v4().simple().to_string();
        }
        if self.stamp_time && event.time_unix_nano == 0 {
            event.time_unix_nano = now_unix_nano();
        }
        let bytes = event.encoded_len();
        if bytes > MAX_EVENT_BYTES {
            return Err(Refused::new(event, Why::TooLarge));
        }
        // Before the event is there for the task to settle: who flushes waits rather for one too many.
        self.recorded.fetch_add(1, Ordering::AcqRel);
        self.intake.try_send(Item::new(event, bytes, room)).map_err(|refused| {
            self.recorded.fetch_sub(1, Ordering::AcqRel);
            // It has a place for each permit, so it is not full.
            Refused::new(refused.into_inner().event, Why::Closed)
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "an application's usage happens in real time")]
fn now_unix_nano() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or_default()
}
