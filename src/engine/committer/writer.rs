//! The writer's thread.
//!
//! ```text
//! commands -> applied into a group -(the one before is on disk)-> written -> synced -> completed
//!                                                                            '--- syncer ---'
//! ```
//!
//! While the syncer waits for the disk, the writer applies the next group's commands. It writes their changes only after
//! that: so a group's answers never tell of another one's changes that are not on disk.

use std::pin::{Pin, pin};

use tokio::sync::mpsc;
use tracing::error;

use crate::{
    base::tasks::{Tasks, in_place},
    engine::{lifecycle::Lifecycle, state::EngineState, trusted_clock::TrustedClock},
    store::{Store, StoreError},
};

use super::{
    Envelope, fail,
    group::{Group, Written},
    panicked,
    syncer::{CommittedGroup, Shared, Syncer},
};

pub(super) struct Writer {
    state: EngineState,
    clock: TrustedClock,
    shared: Shared,
    syncer: Syncer,
}

impl Writer {
    /// Ends with `tasks`, after a last write.
    pub(super) fn start(
        state: EngineState,
        clock: TrustedClock,
        shared: Shared,
        commands: mpsc::Receiver<Envelope>,
        tasks: &Tasks,
    ) {
        let syncer = Syncer::start(shared.clone(), tasks);
        let writer = Self { state, clock, shared, syncer };
        tasks.spawn_on_thread("committer", writer.run(commands, tasks.stopping()));
    }

    async fn run(mut self, mut commands: mpsc::Receiver<Envelope>, stopping: impl Future<Output = ()>) {
        if let Err(fault) = self.write_groups(&mut commands, pin!(stopping)).await {
            self.fail(&fault, &mut commands).await;
        }
    }

    /// Ends when `stopping` does and everything is on disk.
    async fn write_groups(
        &mut self,
        commands: &mut mpsc::Receiver<Envelope>,
        mut stopping: Pin<&mut impl Future<Output = ()>>,
    ) -> Result<(), StoreError> {
        let mut closed = false;
        loop {
            let first = tokio::select! {
                biased;
                () = &mut stopping, if !closed => {
                    closed = true;
                    commands.close();
                    continue;
                }
                command = commands.recv() => command,
            };
            let Some(first) = first else { return self.syncer.idle().await };
            let group = self.gather(first, commands).await?;
            self.write(group, commands).await?;
        }
    }

    /// Applies what waits, and what comes in until the group before is on disk.
    async fn gather(
        &mut self,
        first: Envelope,
        commands: &mut mpsc::Receiver<Envelope>,
    ) -> Result<Group, StoreError> {
        let mut group = Group::new();
        let mut next = Some(first);
        while let Some(first) = next {
            self.apply_waiting(&mut group, first, commands).await?;
            next = tokio::select! {
                biased;
                idle = self.syncer.idle() => idle.map(|()| None)?,
                command = commands.recv(), if !group.is_full() => command,
            };
        }
        self.syncer.idle().await?;
        Ok(group)
    }

    /// Applies a command and those that wait behind it now: more may come in all the while.
    async fn apply_waiting(
        &mut self,
        group: &mut Group,
        first: Envelope,
        commands: &mut mpsc::Receiver<Envelope>,
    ) -> Result<(), StoreError> {
        let clock = self.clock.clone();
        self.work(|state, store, lifecycle| {
            let mut waiting = commands.len();
            group.apply(first, state, store, clock.best(), lifecycle)?;
            while waiting > 0 && !group.is_full() {
                let Ok(command) = commands.try_recv() else { break };
                group.apply(command, state, store, clock.best(), lifecycle)?;
                waiting -= 1;
            }
            Ok(())
        })
        .await
    }

    async fn write(
        &mut self,
        mut group: Group,
        commands: &mpsc::Receiver<Envelope>,
    ) -> Result<(), StoreError> {
        let submitters = self.shared.events.clone();
        let written = self.work(|state, store, _| group.write(state, store, &submitters)).await?;
        let Group { completions, events, started, span, .. } = group;
        let group = CommittedGroup { completions, events, started, span, status: self.state.status() };
        match written {
            Written::Synced => {
                self.shared.complete(group);
                Ok(())
            }
            // With nothing else to do, to sync here is sooner done.
            Written::Unsynced if commands.is_empty() => self.shared.sync_and_complete(group).await,
            // The command that waits sees to it that the writer soon asks how the sync has ended.
            Written::Unsynced => self.syncer.hand_over(group).await,
        }
    }

    /// Blocks the thread, which is the writer's own.
    async fn work<T>(
        &mut self,
        work: impl FnOnce(&mut EngineState, &dyn Store, &Lifecycle) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let Shared { store, lifecycle, .. } = &self.shared;
        let done = in_place(|| work(&mut self.state, &**store, lifecycle))
            .await
            .unwrap_or_else(|panic| Err(panicked(&panic)));
        // Before the commands are dropped, so that those who wait learn the reason.
        done.inspect_err(|fault| fail(lifecycle, fault))
    }

    /// Stops for good. The waiting commands are dropped, which tells their senders.
    async fn fail(&self, fault: &StoreError, commands: &mut mpsc::Receiver<Envelope>) {
        error!(%fault, "the store has failed: no usage is taken until a restart");
        fail(&self.shared.lifecycle, fault);
        commands.close();
        while commands.recv().await.is_some() {}
    }
}
