//! Whether the agent takes usage, for everyone to see.

use std::sync::Arc;

use tokio::sync::watch;

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
pub struct PhaseHandle(watch::Sender<Phase>);

impl Default for PhaseHandle {
    fn default() -> Self {
        Self(watch::Sender::new(Phase::Starting))
    }
}

impl PhaseHandle {
    pub fn get(&self) -> Phase {
        self.0.borrow().clone()
    }

    pub fn is_serving(&self) -> bool {
        *self.0.borrow() == Phase::Serving
    }

    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.0.subscribe()
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

    fn change(&self, from: impl Fn(&Phase) -> bool, to: Phase) {
        self.0.send_if_modified(|phase| {
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
        let phase = PhaseHandle::default();
        phase.serve();
        assert!(phase.is_serving());
        phase.fail("disk full");
        phase.fail("later");
        phase.serve();
        phase.stop();
        assert_eq!(phase.get(), Phase::Failed("disk full".into()));
    }
}
