//! Tasks with names, that stop together, and whose failure is noticed.

use std::{future::Future, time::Duration};

use tokio::time::timeout;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::error;

/// The background tasks of one agent.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failed: CancellationToken,
}

impl Tasks {
    /// Runs `task` until it ends. It is expected to end only after [`stopping`](Self::stopping); should it end sooner
    /// or panic, [`failed`](Self::failed) tells.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let (stop, failed) = (self.stop.clone(), self.failed.clone());
        let running = tokio::spawn(self.tracker.track_future(task));
        self.tracker.spawn(async move {
            let ended = running.await;
            if let Err(fault) = ended {
                error!(task = name, %fault, "task panicked");
                failed.cancel();
            } else if !stop.is_cancelled() {
                error!(task = name, "task ended too early");
                failed.cancel();
            }
        });
    }

    /// Runs a task that ends on its own, such as the answering of one stream.
    pub fn spawn_short(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tracker.spawn(task);
    }

    /// Resolves once the tasks shall end.
    pub fn stopping(&self) -> impl Future<Output = ()> + Send + 'static {
        self.stop.clone().cancelled_owned()
    }

    /// Resolves once a task has failed.
    pub async fn failed(&self) {
        self.failed.cancelled().await;
    }

    /// Asks all tasks to end and waits for them; says whether they did within `bound`.
    pub async fn stop(&self, bound: Duration) -> bool {
        self.stop.cancel();
        self.tracker.close();
        timeout(bound, self.tracker.wait()).await.is_ok()
    }
}
