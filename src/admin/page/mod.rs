//! The status page at `/`, and the same as JSON at `/api/summary`.
//!
//! The server makes the whole page, and the page loads nothing from elsewhere. Server-sent events keep it up to date:
//!
//! ```text
//!   snapshot    reads what there is to show, at most twice a second however many viewers there are
//!   parts       turns a snapshot into the parts of the page, and `document` into a whole page
//!   page.js     puts the parts that have changed in place of the old ones
//! ```

mod chart;
mod document;
mod format;
mod hour_strip;
mod json;
mod parts;
mod policy;
mod snapshot;
#[cfg(test)]
mod tests;
mod viewers;
mod wording;

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{
        HeaderName,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS},
    },
    response::{
        Html, IntoResponse, Response,
        sse::{Event, Sse},
    },
    routing::get,
};
use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, Semaphore, mpsc},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

use crate::{
    api::agent_handle::AgentHandle,
    base::tasks::{Tasks, blocking},
};
use parts::Part;
use snapshot::{Snapshot, StoreRead};
use viewers::{Viewer, Viewers};

/// How often viewers are sent what has changed.
const UPDATE_INTERVAL: Duration = Duration::from_secs(1);
/// A snapshot that is younger is shown again.
const MAX_AGE: Duration = Duration::from_millis(500);
/// A viewer that takes nothing for so long is dropped, so that others can look.
const SEND_TIMEOUT: Duration = Duration::from_secs(20);
/// How long the store is waited for: longer than a disk takes that answers at all.
const DISK_TIMEOUT: Duration = Duration::from_secs(1);
const DISK_SILENT: &str = "the disk does not answer";
/// How many updates may wait for a viewer.
const QUEUE: usize = 1;

#[derive(Clone)]
struct Page {
    agent: AgentHandle,
    tasks: Tasks,
    viewers: Viewers,
    latest: Arc<Mutex<Option<Taken>>>,
    /// Lets one request read the store at a time. On a disk that is stuck, readers would become ever more.
    reader: Arc<Semaphore>,
}

/// A snapshot, and when it was taken.
type Taken = (Instant, Arc<Snapshot>);

/// `/`, `/api/events` and `/api/summary`. The streams end with `tasks`.
pub(super) fn router(agent: AgentHandle, tasks: Tasks) -> Router {
    let reader = Arc::new(Semaphore::new(1));
    Router::new()
        .route("/", get(page))
        .route("/api/events", get(events))
        .route("/api/summary", get(summary))
        .with_state(Page { agent, tasks, viewers: Viewers::default(), latest: Arc::default(), reader })
}

async fn page(State(page): State<Page>) -> Response {
    let snapshot = page.snapshot().await;
    (headers(), Html(document::document(&snapshot))).into_response()
}

async fn summary(State(page): State<Page>) -> Response {
    let snapshot = page.snapshot().await;
    Json(json::of(&snapshot)).into_response()
}

async fn events(State(page): State<Page>) -> Response {
    let viewer = page.viewers.admit();
    let (updates, stream) = mpsc::channel(QUEUE);
    let tasks = page.tasks.clone();
    tasks.spawn_short(page.send_updates(updates, viewer));
    ([(CACHE_CONTROL, "no-store")], Sse::new(ReceiverStream::new(stream))).into_response()
}

fn headers() -> [(HeaderName, &'static str); 5] {
    [
        (CONTENT_SECURITY_POLICY, policy::policy()),
        (CACHE_CONTROL, "no-store"),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ]
}

impl Page {
    /// The latest snapshot. Whoever comes while one is made waits for it.
    async fn snapshot(&self) -> Arc<Snapshot> {
        let mut latest = self.latest.lock().await;
        if let Some((_, snapshot)) = latest.as_ref().filter(|(taken, _)| taken.elapsed() < MAX_AGE) {
            return snapshot.clone();
        }
        let snapshot = Arc::new(Snapshot::of(&self.agent, self.read().await));
        *latest = Some((Instant::now(), snapshot.clone()));
        snapshot
    }

    /// Reads the store. If its disk does not answer, the page shows everything else.
    async fn read(&self) -> Result<StoreRead, String> {
        let Ok(permit) = self.reader.clone().try_acquire_owned() else { return Err(DISK_SILENT.to_owned()) };
        let agent = self.agent.clone();
        let reading = blocking(move || {
            let _permit = permit;
            StoreRead::of(&agent)
        });
        match timeout(DISK_TIMEOUT, reading).await {
            Ok(Ok(read)) => read.map_err(|fault| fault.to_string()),
            Ok(Err(panic)) => Err(panic.to_string()),
            Err(_) => Err(DISK_SILENT.to_owned()),
        }
    }

    /// Sends a viewer what changes, until it goes, takes nothing any more, makes room, or the agent stops.
    async fn send_updates(self, updates: mpsc::Sender<Result<Event, Infallible>>, viewer: Viewer) {
        let stopping = self.tasks.stopping();
        let mut ticks = interval(UPDATE_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let sending = async {
            let mut sent = SentParts::default();
            loop {
                ticks.tick().await;
                let snapshot = self.snapshot().await;
                let Ok(event) = Event::default().json_data(sent.update(&snapshot)) else { return };
                viewer.set_behind(updates.capacity() == 0);
                match timeout(SEND_TIMEOUT, updates.send(Ok(event))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) | Err(_) => return,
                }
            }
        };
        tokio::select! {
            biased;
            () = stopping => {}
            () = updates.closed() => {}
            () = viewer.left() => {}
            () = sending => {}
        }
    }
}

/// The parts that a viewer has.
#[derive(Default)]
struct SentParts(Vec<Part>);

impl SentParts {
    /// The message that brings the viewer up to date: the parts that have changed.
    fn update(&mut self, snapshot: &Snapshot) -> Value {
        let before = std::mem::replace(&mut self.0, parts::all(snapshot));
        let changed: BTreeMap<_, _> =
            self.0.iter().filter(|part| !before.contains(part)).map(|(id, html)| (*id, html)).collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "title": document::title(snapshot),
            "parts": changed,
        })
    }
}
