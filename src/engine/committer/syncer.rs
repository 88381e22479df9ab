//! Syncs what the writer has written, and completes its commands, while the writer goes on.

use std::sync::{Arc, Mutex};

use tokio::{
    sync::{broadcast, mpsc, oneshot},
    time::Instant,
};
use tracing::Span;

use crate::{
    base::{
        metrics,
        tasks::{Tasks, in_place},
        telemetry::spans,
    },
    engine::lifecycle::Lifecycle,
    store::{Store, StoreError},
};

use super::{Status, SubmitterEvent, commands::Completion, fail, lock, panicked};

/// A group that is in the store; to be completed once it is synced.
pub(super) struct CommittedGroup {
    pub(super) completions: Vec<Completion>,
    pub(super) events: usize,
    pub(super) started: Instant,
    pub(super) span: Span,
    pub(super) status: Status,
}

/// What the writer and the syncer share.
#[derive(Clone)]
pub(super) struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(super) lifecycle: Lifecycle,
    pub(super) status: Arc<Mutex<Status>>,
    pub(super) events: broadcast::Sender<SubmitterEvent>,
}

impl Shared {
    /// Completes the commands of a group that is on disk.
    pub(super) fn complete(&self, group: CommittedGroup) {
        let CommittedGroup { completions, events, started, span, status } = group;
        spans::note_group(&span, completions.len(), events);
        metrics::committed(events, started.elapsed(), status.open_buckets);
        *lock(&self.status) = status;
        for completion in completions {
            completion.complete(&self.events);
        }
    }

    pub(super) async fn sync_and_complete(&self, group: CommittedGroup) -> Result<(), StoreError> {
        let sync = || spans::sync(&group.span).in_scope(|| self.store.sync());
        let synced = in_place(sync).await.unwrap_or_else(|panic| Err(panicked(&panic)));
        // Before the completions are dropped, so that those who wait learn the reason.
        synced.inspect_err(|fault| fail(&self.lifecycle, fault))?;
        self.complete(group);
        Ok(())
    }
}

/// Hands groups to a thread that syncs them, one at a time.
pub(super) struct Syncer {
    groups: mpsc::Sender<(CommittedGroup, oneshot::Sender<Result<(), StoreError>>)>,
    under_way: Option<oneshot::Receiver<Result<(), StoreError>>>,
}

impl Syncer {
    pub(super) fn start(shared: Shared, tasks: &Tasks) -> Self {
        let (groups, mut written) = mpsc::channel(1);
        tasks.spawn_on_thread("syncer", async move {
            while let Some((group, done)) = written.recv().await {
                let synced: Result<(), StoreError> = shared.sync_and_complete(group).await;
                // A writer that has gone needs no answer.
                drop(oneshot::Sender::send(done, synced));
            }
        });
        Self { groups, under_way: None }
    }

    /// Hands a written group over to be synced. To be called while [`idle`](Self::idle).
    pub(super) async fn hand_over(&mut self, group: CommittedGroup) -> Result<(), StoreError> {
        let (done, under_way) = oneshot::channel();
        self.under_way = Some(under_way);
        self.groups.send((group, done)).await.map_err(|_| gone())
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
