//! The agent, put together as `app` does it.

use std::{sync::Arc, time::Duration};

use super::{disk::Disk, marketplace::SimulatedMarketplace, plan::CODE, world::World};
use crate::{
    base::tasks::Tasks,
    domain::time::Timestamp,
    work::{
        books::Books,
        committer::{CommitError, Committer},
        pace::Pace,
        phase::{Phase, PhaseHandle},
        roster::Roster,
        sealer,
        submitter::{Options, Submitter, UnsentBoard},
        trusted_clock::TrustedClock,
    },
    worlds::store::Store,
};

const DRAIN_CALLS: Duration = Duration::from_secs(20);
const LAST_COMMIT: Duration = Duration::from_secs(10);

/// A process from its start to its end.
pub(super) struct Agent {
    pub(super) committer: Committer,
    pub(super) clock: TrustedClock,
    phase: PhaseHandle,
    started: Timestamp,
    writer: Tasks,
    workers: Tasks,
}

impl Agent {
    /// Opens the books; the error is the disk's.
    pub(super) fn open(world: &World, disk: Arc<Disk>) -> Result<Self, String> {
        let (phase, roster) = (PhaseHandle::default(), Arc::new(Roster::default()));
        let (clock, started) = (TrustedClock::new(world.clock), world.clock.now());
        let books = Books::open(&*disk, world.rules.clone(), roster.clone(), started);
        let books = books.map_err(|fault| fault.to_string())?;
        let (writer, workers) = (Tasks::default(), Tasks::default());
        let committer = Committer::start(books, disk, roster, world.clock, 1000, phase.clone(), &writer);
        Ok(Self { committer, clock, phase, started, writer, workers })
    }

    /// Starts what works beside the committer.
    pub(super) async fn work(&self, world: &Arc<World>, disk: Arc<Disk>) -> Result<(), CommitError> {
        while self.committer.seal(self.started).await?.more {}
        let sealed = sealer::start(self.committer.clone(), self.clock.clone(), &self.workers);
        let options = Options {
            products: vec![CODE.into()],
            catalog: world.rules.catalog.clone(),
            window: world.rules.window,
            pace: Pace::new(10.0),
            concurrency: 4,
        };
        let marketplace = Arc::new(SimulatedMarketplace(world.clone()));
        let (committer, clock) = (self.committer.clone(), self.clock.clone());
        let store: Arc<dyn Store> = disk;
        Submitter::new(options, committer, store, marketplace, clock, UnsentBoard::default())
            .start(sealed, &self.workers);
        self.phase.serve();
        Ok(())
    }

    /// Resolves once the disk has failed.
    pub(super) async fn disk_failed(&self) {
        let mut phase = self.phase.watch();
        drop(phase.wait_for(|phase| matches!(phase, Phase::Failed(_))).await);
    }

    /// Resolves once a task has panicked, or has ended too early.
    pub(super) async fn task_failed(&self) {
        tokio::select! {
            biased;
            () = self.writer.failed() => {}
            () = self.workers.failed() => {}
        }
    }

    /// Ends in order, as far as AWS lets it.
    pub(super) async fn stop(self) {
        self.phase.stop();
        self.workers.stop(DRAIN_CALLS).await;
        self.writer.stop(LAST_COMMIT).await;
        self.kill().await;
    }

    /// Ends where it stands.
    pub(super) async fn kill(self) {
        self.workers.kill().await;
        self.writer.kill().await;
    }
}
