//! The status page at `/`: made here, without anything from elsewhere, and kept up to date by server-sent events.
//!
//! What it shows is read at most once a moment, however many look at it.

mod advice;
mod chart;
mod html;
mod json;
mod policy;
mod snapshot;
mod strip;
#[cfg(test)]
mod tests;
mod verdict;
mod words;

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{
        HeaderName, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, REFERRER_POLICY, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
        },
    },
    response::{
        Html, IntoResponse, Response,
        sse::{Event, Sse},
    },
    routing::get,
};
use serde_json::{Value, json};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc},
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_stream::wrappers::ReceiverStream;

use super::view::View;
use crate::base::tasks::{Tasks, blocking};
use html::Part;
use snapshot::{Read, Snapshot};

/// Each is sent some kilobytes a second.
const MOST_VIEWERS: usize = 32;
/// How often viewers are told what has changed.
const BEAT: Duration = Duration::from_secs(1);
/// A snapshot that is younger is shown again.
const FRESH: Duration = Duration::from_millis(500);
/// A viewer that takes nothing for so long gives its place to others.
const LONGEST_SILENCE: Duration = Duration::from_secs(20);
/// Longer than a disk takes that answers at all.
const DISK_TIME: Duration = Duration::from_secs(1);
const NO_ANSWER: &str = "the disk does not answer";
/// Updates that wait for one viewer.
const QUEUE: usize = 1;

#[derive(Clone)]
struct Page {
    view: View,
    tasks: Tasks,
    viewers: Arc<Semaphore>,
    latest: Arc<Mutex<Option<Taken>>>,
    /// One reads the store at a time: on a disk that is stuck, they would become ever more.
    reader: Arc<Semaphore>,
}

/// A snapshot, and when it was taken.
type Taken = (Instant, Arc<Snapshot>);

/// `/`, `/api/events` and `/api/summary`. The streams end with `tasks`.
pub(super) fn router(view: View, tasks: Tasks) -> Router {
    let (viewers, reader) = (Arc::new(Semaphore::new(MOST_VIEWERS)), Arc::new(Semaphore::new(1)));
    Router::new()
        .route("/", get(page))
        .route("/api/events", get(events))
        .route("/api/summary", get(summary))
        .with_state(Page { view, tasks, viewers, latest: Arc::default(), reader })
}

async fn page(State(page): State<Page>) -> Response {
    let snapshot = page.snapshot().await;
    (headers(), Html(html::document(&snapshot))).into_response()
}

async fn summary(State(page): State<Page>) -> Response {
    let snapshot = page.snapshot().await;
    Json(json::of(&snapshot)).into_response()
}

async fn events(State(page): State<Page>) -> Response {
    let Ok(place) = page.viewers.clone().try_acquire_owned() else {
        return (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, "10")], "too many look at this page\n")
            .into_response();
    };
    let (updates, stream) = mpsc::channel(QUEUE);
    let tasks = page.tasks.clone();
    tasks.spawn_short(page.tell(updates, place));
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
    /// What there is to see, at most a moment old. Whoever comes while it is read waits for the same one.
    async fn snapshot(&self) -> Arc<Snapshot> {
        let mut latest = self.latest.lock().await;
        if let Some((_, snapshot)) = latest.as_ref().filter(|(taken, _)| taken.elapsed() < FRESH) {
            return snapshot.clone();
        }
        let snapshot = Arc::new(Snapshot::of(&self.view, self.read().await));
        *latest = Some((Instant::now(), snapshot.clone()));
        snapshot
    }

    /// What the store has; a disk that does not answer keeps nobody from the rest.
    async fn read(&self) -> Result<Read, String> {
        let Ok(turn) = self.reader.clone().try_acquire_owned() else { return Err(NO_ANSWER.to_owned()) };
        let view = self.view.clone();
        let reading = blocking(move || {
            let _turn = turn;
            Read::of(&view)
        });
        match timeout(DISK_TIME, reading).await {
            Ok(Ok(read)) => read.map_err(|fault| fault.to_string()),
            Ok(Err(panic)) => Err(panic.to_string()),
            Err(_) => Err(NO_ANSWER.to_owned()),
        }
    }

    /// Tells one viewer of all changes, until it goes, falls asleep, or the agent stops.
    async fn tell(self, updates: mpsc::Sender<Result<Event, Infallible>>, _place: OwnedSemaphorePermit) {
        let (stopping, mut beat) = (self.tasks.stopping(), interval(BEAT));
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let telling = async {
            let mut told = Told::default();
            loop {
                beat.tick().await;
                let snapshot = self.snapshot().await;
                let Ok(event) = Event::default().json_data(told.changes(&snapshot)) else { return };
                match timeout(LONGEST_SILENCE, updates.send(Ok(event))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(_)) | Err(_) => return,
                }
            }
        };
        tokio::select! {
            biased;
            () = stopping => {}
            () = updates.closed() => {}
            () = telling => {}
        }
    }
}

/// What a viewer knows.
#[derive(Default)]
struct Told(Vec<Part>);

impl Told {
    /// The parts that the viewer does not know yet.
    fn changes(&mut self, snapshot: &Snapshot) -> Value {
        let before = std::mem::replace(&mut self.0, html::parts(snapshot));
        let changed: BTreeMap<_, _> =
            self.0.iter().filter(|part| !before.contains(part)).map(|(id, html)| (*id, html)).collect();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "title": html::title(snapshot),
            "parts": changed,
        })
    }
}
