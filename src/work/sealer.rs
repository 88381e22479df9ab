//! Seals each hour in time, and wakes the records that wait for a subscription.

use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use crate::base::{clock::Clock, tasks::Tasks};

use super::committer::{CommitError, Committer};

/// Real time that may pass before what is due is looked at again.
const LONGEST_NAP: Duration = Duration::from_millis(500);

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
        committer.retry_slowly().await?;
        if !progress.more {
            sleep_until_due(committer, clock).await;
        }
    }
}

/// What is due, and when, changes with what happens: a customer closes, a record is refused.
async fn sleep_until_due(committer: &Committer, clock: Clock) {
    loop {
        let (now, due) = (clock.now(), committer.next_due());
        if due <= now {
            return;
        }
        clock.sleep_until(due.min(now.plus(LONGEST_NAP.mul_f64(clock.speed())))).await;
    }
}
