//! The writer's thread.
//!
//! ```text
//! jobs -> worked through into a group -(the one before is on disk)-> written -> synced -> answered
//!                                                                              '--- syncer ---'
//! ```
//!
//! While the syncer waits for the disk, the writer works through the next group's jobs. It writes them only after that:
//! so a group's answers never tell of another one's changes that are not on disk.

use std::{
    pin::{Pin, pin},
    sync::{Arc, Mutex},
};

use tokio::sync::mpsc;
use tracing::error;

use crate::{
    base::{
        clock::Clock,
        metrics,
        tasks::{Tasks, in_place},
    },
    work::{books::Books, phase::PhaseHandle},
    worlds::store::{Store, StoreError},
};

use super::{
    Status, Weighed,
    group::{Group, Written},
    panicked, reason, status_of,
    syncer::{Syncer, Teller, Tidings},
};

pub(super) struct Writer {
    books: Books,
    clock: Clock,
    teller: Teller,
    syncer: Syncer,
}

impl Writer {
    /// Ends with `tasks`, after a last write.
    pub(super) fn start(
        books: Books,
        store: Arc<dyn Store>,
        clock: Clock,
        phase: PhaseHandle,
        status: Arc<Mutex<Status>>,
        jobs: mpsc::Receiver<Weighed>,
        tasks: &Tasks,
    ) {
        let teller = Teller { store, phase, status };
        let writer = Self { books, clock, syncer: Syncer::start(teller.clone(), tasks), teller };
        tasks.spawn_on_thread("committer", writer.run(jobs, tasks.stopping()));
    }

    async fn run(mut self, mut jobs: mpsc::Receiver<Weighed>, stopping: impl Future<Output = ()>) {
        if let Err(fault) = self.write_groups(&mut jobs, pin!(stopping)).await {
            self.fail(&fault, &mut jobs).await;
        }
    }

    /// Ends when `stopping` does and everything is on disk.
    async fn write_groups(
        &mut self,
        jobs: &mut mpsc::Receiver<Weighed>,
        mut stopping: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), StoreError> {
        let mut closed = false;
        loop {
            let first = tokio::select! {
                biased;
                () = &mut stopping, if !closed => {
                    closed = true;
                    jobs.close();
                    continue;
                }
                job = jobs.recv() => job,
            };
            let Some(first) = first else { return self.syncer.idle().await };
            let group = self.gather(first, jobs).await?;
            self.write(group, jobs).await?;
        }
    }

    /// Works through what waits, and what comes in until the group before is on disk.
    async fn gather(
        &mut self,
        first: Weighed,
        jobs: &mut mpsc::Receiver<Weighed>,
    ) -> Result<Group, StoreError> {
        let (mut group, mut next) = (Group::new(), Some(first));
        while let Some(first) = next {
            self.take_in(&mut group, first, jobs).await?;
            next = tokio::select! {
                biased;
                idle = self.syncer.idle() => idle.map(|()| None)?,
                job = jobs.recv(), if !group.is_full() => job,
            };
        }
        self.syncer.idle().await?;
        Ok(group)
    }

    /// Works through a job and those that wait behind it now: more may come in all the while.
    async fn take_in(
        &mut self,
        group: &mut Group,
        first: Weighed,
        jobs: &mut mpsc::Receiver<Weighed>,
    ) -> Result<(), StoreError> {
        let clock = self.clock;
        self.work(|books, store| {
            let mut waiting = jobs.len();
            group.take_in(first, books, store, clock.now())?;
            while waiting > 0 && !group.is_full() {
                let Ok(job) = jobs.try_recv() else { break };
                group.take_in(job, books, store, clock.now())?;
                waiting -= 1;
            }
            Ok(())
        })
        .await
    }

    async fn write(&mut self, mut group: Group, jobs: &mpsc::Receiver<Weighed>) -> Result<(), StoreError> {
        let written = self.work(|books, store| group.write(books, store)).await?;
        let Group { answers, events, started, span, .. } = group;
        let tidings = Tidings { answers, events, started, span, status: status_of(&self.books) };
        match written {
            Written::Synced => {
                self.teller.tell(tidings);
                Ok(())
            }
            // With nothing else to do, to sync here is sooner done.
            Written::Unsynced if jobs.is_empty() => self.teller.sync_and_tell(tidings).await,
            // The job that waits sees to it that the writer soon asks how the sync has ended.
            Written::Unsynced => self.syncer.hand_over(tidings).await,
        }
    }

    /// Blocks the thread, which is the writer's own.
    async fn work<T>(
        &mut self,
        work: impl FnOnce(&mut Books, &dyn Store) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let done = in_place(|| work(&mut self.books, &*self.teller.store))
            .await
            .unwrap_or_else(|panic| Err(panicked(&panic)));
        // Before the jobs are dropped, so that those who wait learn the reason.
        done.inspect_err(|fault| self.teller.phase.fail(&reason(fault)))
    }

    /// Stops for good. The waiting jobs are dropped, which tells their senders.
    async fn fail(&self, fault: &StoreError, jobs: &mut mpsc::Receiver<Weighed>) {
        error!(%fault, "the store has failed: no usage is taken until a restart");
        self.teller.phase.fail(&reason(fault));
        metrics::store_failed();
        jobs.close();
        while jobs.recv().await.is_some() {}
    }
}
