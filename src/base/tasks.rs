//! Tasks with names, that stop together, and whose failure is noticed.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    thread,
    time::Duration,
};

use thiserror::Error;
use tokio::{
    runtime::Handle,
    task::{JoinError, spawn_blocking},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::error;

/// The background tasks of one agent.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    stop: CancellationToken,
    failed: CancellationToken,
    #[cfg(test)]
    running: std::sync::Arc<std::sync::Mutex<Vec<tokio::task::AbortHandle>>>,
}

impl Tasks {
    /// Runs `task` until it ends. It is expected to end only after [`stopping`](Self::stopping); should it end sooner
    /// or panic, [`failed`](Self::failed) tells.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that spawns")]
    pub fn spawn(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let running = tokio::spawn(self.tracker.track_future(task));
        #[cfg(test)]
        if let Ok(mut all) = self.running.lock() {
            all.push(running.abort_handle());
        }
        let (stop, failed) = (self.stop.clone(), self.failed.clone());
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

    /// Runs `task` on a thread of its own, which it may block: see [`in_place`]. It may end at any time: a thread that
    /// waited for [`stopping`](Self::stopping) would hold up the end of a runtime that nobody stops. Should it panic,
    /// [`failed`](Self::failed) tells.
    pub fn spawn_on_thread(&self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        #[cfg(test)]
        if simulated::is_on() {
            let stopping = self.stopping();
            return self.spawn(name, async {
                task.await;
                stopping.await;
            });
        }
        let runtime = Handle::current();
        let running = self.tracker.spawn_blocking(move || runtime.block_on(task));
        let failed = self.failed.clone();
        self.tracker.spawn(async move {
            if let Err(fault) = running.await {
                error!(task = name, %fault, "task panicked");
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

    /// Ends all tasks where they stand, as the end of the process would.
    #[cfg(test)]
    pub(crate) async fn kill(&self) {
        if let Ok(mut running) = self.running.lock() {
            running.drain(..).for_each(|task| task.abort());
        }
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Does two pieces of work at the same time, the first on a thread of its own. Its panic is the caller's.
pub(crate) fn side_by_side<A: Send, B>(
    first: impl FnOnce() -> A + Send,
    second: impl FnOnce() -> B,
) -> (A, B) {
    // A thread has random numbers of its own, which no seed of a simulation reaches.
    #[cfg(test)]
    if simulated::is_on() {
        return (first(), second());
    }
    thread::scope(|scope| {
        let first = scope.spawn(first);
        let second = second();
        (first.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), second)
    })
}

/// Runs work that blocks its thread where that holds nobody up.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, JoinError> {
    #[cfg(test)]
    if simulated::is_on() {
        return Ok(simulated::blocking(work).await);
    }
    spawn_blocking(work).await
}

/// Runs work that blocks the thread of its own that a task has.
pub(crate) async fn in_place<T>(work: impl FnOnce() -> T) -> Result<T, Panicked> {
    #[cfg(test)]
    if simulated::is_on() {
        return Ok(simulated::blocking(work).await);
    }
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| {
        let words = panic.downcast_ref::<&str>().map(ToString::to_string);
        Panicked(words.or_else(|| panic.downcast_ref().cloned()).unwrap_or_default())
    })
}

/// Work that panicked, with its words.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Panicked(String);

/// A simulation has one thread, so that each run of it goes the same way.
#[cfg(test)]
pub(crate) mod simulated {
    use std::{cell::Cell, time::Duration};

    use tokio::time::sleep;

    thread_local! {
        static IS_ON: Cell<bool> = const { Cell::new(false) };
    }

    pub(crate) fn switch(on: bool) {
        IS_ON.set(on);
    }

    pub(super) fn is_on() -> bool {
        IS_ON.get()
    }

    /// Takes some simulated time before the work and after it, in which the process may die.
    pub(super) async fn blocking<T>(work: impl FnOnce() -> T) -> T {
        sleep(Duration::from_millis(fastrand::u64(0..8))).await;
        let done = work();
        sleep(Duration::from_millis(fastrand::u64(1..4))).await;
        done
    }
}
