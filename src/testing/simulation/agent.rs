//! The agent, put together as `app` does it.

use std::{sync::Arc, time::Duration};

use super::{aws_calls::SimulatedMarketplace, disk::Disk, plan::CODE, world::World};
use crate::{
    base::tasks::Tasks,
    engine::{
        committer::{CommitError, Committer, Never},
        customers::CustomerDirectory,
        lifecycle::{Lifecycle, Phase},
        seal_gate::SealGate,
        sealer,
        state::EngineState,
        submitter::{Options, Submitter, UnsentStatus, rate_limiter::RateLimiter},
        trusted_clock::TrustedClock,
    },
    store::Store,
};

const DRAIN_CALLS: Duration = Duration::from_secs(20);
const LAST_COMMIT: Duration = Duration::from_secs(10);

/// A process from its start to its end.
pub(super) struct Agent {
    pub(super) committer: Committer,
    pub(super) clock: TrustedClock,
    lifecycle: Lifecycle,
    writer: Tasks,
    workers: Tasks,
}

impl Agent {
    /// Opens the state; the error is the disk's.
    pub(super) fn open(world: &World, disk: Arc<Disk>) -> Result<Self, String> {
        let (lifecycle, customers) = (Lifecycle::default(), Arc::new(CustomerDirectory::default()));
        let clock = TrustedClock::new(world.clock);
        let state = EngineState::open(&*disk, world.rules.clone(), customers.clone(), world.clock.now());
        let state = state.map_err(|fault| fault.to_string())?;
        let (writer, workers) = (Tasks::default(), Tasks::default());
        let committer =
            Committer::start(state, disk, customers, clock.clone(), 1000, lifecycle.clone(), &writer);
        Ok(Self { committer, clock, lifecycle, writer, workers })
    }

    /// Starts what works beside the committer.
    pub(super) async fn work(&self, world: &Arc<World>, disk: Arc<Disk>) -> Result<(), CommitError<Never>> {
        while self.committer.finish_seal().await?.more {}
        let gate = SealGate::new(self.clock.clone());
        let sealed = sealer::start(self.committer.clone(), gate, self.clock.clock(), &self.workers);
        let options = Options {
            products: vec![CODE.into()],
            catalog: world.rules.catalog.clone(),
            window: world.rules.window,
            rate_limiter: RateLimiter::new(10.0),
            concurrency: 4,
        };
        let marketplace = Arc::new(SimulatedMarketplace(world.clone()));
        let (committer, clock) = (self.committer.clone(), self.clock.clone());
        let store: Arc<dyn Store> = disk;
        Submitter::new(options, committer, store, marketplace, clock, UnsentStatus::default())
            .start(sealed, &self.workers);
        self.lifecycle.serve();
        Ok(())
    }

    /// Resolves once the disk has failed.
    pub(super) async fn disk_failed(&self) {
        let mut phase = self.lifecycle.watch();
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
        self.lifecycle.stop();
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
