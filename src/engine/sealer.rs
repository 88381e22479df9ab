//! Seals each hour in time, and wakes the records that wait for a subscription.

use std::time::Duration;

use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    base::{clock::Clock, tasks::Tasks, telemetry::spans},
    domain::time::Timestamp,
};

use super::{
    committer::{CommitError, Committer, Never},
    seal_gate::SealGate,
};

/// Real time that may pass before what is due is looked at again: it changes with what happens. A customer closes, a
/// record is refused.
const LONGEST_NAP: Duration = Duration::from_millis(500);

/// Starts the sealer's task. The receiver tells when there are new records.
pub(crate) fn start(
    committer: Committer,
    gate: SealGate,
    clock: Clock,
    tasks: &Tasks,
) -> watch::Receiver<u64> {
    let (sealed, receiver) = watch::channel(0);
    let stopping = tasks.stopping();
    tasks.spawn("sealer", async move {
        tokio::select! {
            biased;
            () = stopping => {}
            end = seal_for_ever(&committer, &gate, clock, &sealed) => {
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
    gate: &SealGate,
    clock: Clock,
    sealed: &watch::Sender<u64>,
) -> Result<(), CommitError<Never>> {
    loop {
        let nap = clock.stride(LONGEST_NAP);
        let soon = clock.now().plus(nap.mul_f64(clock.speed()));
        let now = gate.wait_until(committer.next_due().min(soon)).await;
        if committer.next_due() <= now {
            seal_due(committer, now, sealed).await?;
        }
    }
}

/// Seals all that is due at `now`: one moment decides, also should the clock jump meanwhile.
async fn seal_due(
    committer: &Committer,
    now: Timestamp,
    sealed: &watch::Sender<u64>,
) -> Result<(), CommitError<Never>> {
    // Without a span of its own for each step: there may be thousands.
    let span = spans::seal();
    let (mut hours, mut records) = (0, 0);
    loop {
        let progress = committer.seal(now).await?;
        hours += u64::from(progress.hours);
        records += u64::from(progress.records);
        spans::note_sealed(&span, hours, records);
        if progress.records > 0 {
            sealed.send_modify(|records| *records += u64::from(progress.records));
        }
        if progress.hours > 0 {
            info!(sealed_through = %committer.sealed_through(), records = progress.records, "sealed");
            while committer.drop_expired(now).await? {}
        }
        committer.retry_slowly().await?;
        if !progress.more {
            return Ok(());
        }
    }
}
