//! Seals each hour in time.

use tokio::sync::watch;
use tracing::{info, warn};

use crate::base::{clock::Clock, tasks::Tasks};

use super::committer::{CommitError, Committer};

/// Starts the sealer's task. The receiver tells when there are new records.
pub fn start(committer: Committer, clock: Clock, tasks: &Tasks) -> watch::Receiver<u64> {
    let (sealed, receiver) = watch::channel(0);
    let stopping = tasks.stopping();
    tasks.spawn("sealer", async move {
        tokio::select! {
            () = stopping => {}
            end = seal_for_ever(&committer, clock, &sealed) => {
                if let Err(error) = end {
                    warn!(%error, "no hour is sealed any more");
                }
                // The committer's failure is known to all; this task only waits for the end.
                std::future::pending::<()>().await;
            }
        }
    });
    receiver
}

async fn seal_for_ever(
    committer: &Committer,
    clock: Clock,
    sealed: &watch::Sender<u64>,
) -> Result<(), CommitError> {
    loop {
        let progress = committer.seal().await?;
        if progress.records > 0 {
            sealed.send_modify(|records| *records += u64::from(progress.records));
        }
        if progress.hours > 0 {
            info!(sealed_through = %committer.sealed_through(), records = progress.records, "sealed");
            while committer.drop_expired().await? {}
        }
        if !progress.more {
            clock.sleep_until(committer.status().next_seal).await;
        }
    }
}
