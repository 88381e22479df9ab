//! Whether the agent takes usage, for everyone to see.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    Starting,
    Serving,
    Stopping,
    /// Nothing may be written any more. Only a restart helps, once the cause is mended.
    Failed(Arc<str>),
}

/// The agent's phase. It never leaves `Failed`, and leaves `Stopping` only for that.
#[derive(Clone, Debug)]
pub struct Lifecycle {
    phase: watch::Sender<Phase>,
    /// Cancelled at a failure that the next start does not find any more.
    restart: CancellationToken,
}

impl Default for Lifecycle {
    fn default() -> Self {
        Self { phase: watch::Sender::new(Phase::Starting), restart: CancellationToken::new() }
    }
}

impl Lifecycle {
    pub fn get(&self) -> Phase {
        self.phase.borrow().clone()
    }

    pub fn is_serving(&self) -> bool {
        *self.phase.borrow() == Phase::Serving
    }

    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    pub fn serve(&self) {
        self.change(|phase| *phase == Phase::Starting, Phase::Serving);
    }

    pub fn stop(&self) {
        self.change(|phase| matches!(phase, Phase::Starting | Phase::Serving), Phase::Stopping);
    }

    /// The first reason stays.
    pub fn fail(&self, reason: &str) {
        self.change(|phase| !matches!(phase, Phase::Failed(_)), Phase::Failed(reason.into()));
    }

    /// Asks for a restart, without a person: nothing else is needed to go on.
    pub fn request_restart(&self) {
        self.restart.cancel();
    }

    pub fn wants_restart(&self) -> bool {
        self.restart.is_cancelled()
    }

    /// Resolves once a restart is asked for.
    pub async fn restart_requested(&self) {
        self.restart.cancelled().await;
    }

    fn change(&self, from: impl Fn(&Phase) -> bool, to: Phase) {
        self.phase.send_if_modified(|phase| {
            let changes = from(phase);
            if changes {
                *phase = to;
            }
            changes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_final_and_keeps_its_first_reason() {
        let phase = Lifecycle::default();
        phase.serve();
        assert!(phase.is_serving());
        phase.fail("disk full");
        phase.fail("later");
        phase.serve();
        phase.stop();
        assert_eq!(phase.get(), Phase::Failed("disk full".into()));
    }
}
