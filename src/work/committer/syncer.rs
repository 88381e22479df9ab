//! Syncs what the writer has written, and answers for it, while the writer goes on.

use std::sync::{Arc, Mutex};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use tracing::Span;

use crate::{
    base::{
        metrics,
        tasks::{Tasks, in_place},
        telemetry::spans,
    },
    work::phase::PhaseHandle,
    worlds::store::{Store, StoreError},
};

use super::{Answer, Status, lock, panicked, reason};

/// What is to be told of a group once it is on disk.
pub(super) struct Tidings {
    pub(super) answers: Vec<Answer>,
    pub(super) events: usize,
    pub(super) started: Instant,
    pub(super) span: Span,
    pub(super) status: Status,
}

/// Tells of groups.
#[derive(Clone)]
pub(super) struct Teller {
    pub(super) store: Arc<dyn Store>,
    pub(super) phase: PhaseHandle,
    pub(super) status: Arc<Mutex<Status>>,
}

impl Teller {
    /// Of a group that is on disk.
    pub(super) fn tell(&self, tidings: Tidings) {
        let Tidings { answers, events, started, span, status } = tidings;
        spans::note_group(&span, answers.len(), events);
        metrics::committed(events, started.elapsed(), status.open_buckets);
        *lock(&self.status) = status;
        for answer in answers {
            answer();
        }
    }

    pub(super) async fn sync_and_tell(&self, tidings: Tidings) -> Result<(), StoreError> {
        let sync = || spans::sync(&tidings.span).in_scope(|| self.store.sync());
        let synced = in_place(sync).await.unwrap_or_else(|panic| Err(panicked(&panic)));
        // Before the answers are dropped, so that those who wait learn the reason.
        synced.inspect_err(|fault| self.phase.fail(&reason(fault)))?;
        self.tell(tidings);
        Ok(())
    }
}

/// Hands groups to a thread that syncs them, one at a time.
pub(super) struct Syncer {
    groups: mpsc::Sender<(Tidings, oneshot::Sender<Result<(), StoreError>>)>,
    under_way: Option<oneshot::Receiver<Result<(), StoreError>>>,
}

impl Syncer {
    pub(super) fn start(teller: Teller, tasks: &Tasks) -> Self {
        let (groups, mut written) = mpsc::channel(1);
        tasks.spawn_on_thread("syncer", async move {
            while let Some((tidings, done)) = written.recv().await {
                let synced: Result<(), StoreError> = teller.sync_and_tell(tidings).await;
                // A writer that has gone needs no answer.
                drop(oneshot::Sender::send(done, synced));
            }
        });
        Self { groups, under_way: None }
    }

    /// To be called while [`idle`](Self::idle).
    pub(super) async fn hand_over(&mut self, tidings: Tidings) -> Result<(), StoreError> {
        let (done, under_way) = oneshot::channel();
        self.under_way = Some(under_way);
        self.groups.send((tidings, done)).await.map_err(|_| gone())
    }

    /// Resolves once all that was handed over is on disk. May be dropped and asked again.
    pub(super) async fn idle(&mut self) -> Result<(), StoreError> {
        let Some(under_way) = &mut self.under_way else { return Ok(()) };
        let synced = under_way.await.unwrap_or_else(|_| Err(gone()));
        self.under_way = None;
        synced
    }
}

fn gone() -> StoreError {
    StoreError::Engine { action: "write to", message: "the thread that syncs has ended".to_owned() }
}
