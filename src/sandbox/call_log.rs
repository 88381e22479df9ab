//! The latest calls: when each came in, and how it was answered.

use std::{collections::VecDeque, time::Duration};

use crate::domain::time::Timestamp;

/// When so many calls are kept, each new one takes the place of the oldest.
const KEPT: usize = 10_000;

/// One call to AWS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedCall {
    /// When the call came in, by the sandbox's clock.
    pub at: Timestamp,
    /// Real time since the sandbox started.
    pub real: Duration,
    /// The exception's name, or `Answered`.
    pub result: &'static str,
    /// Whether its answer did not go out.
    pub is_lost: bool,
}

#[derive(Debug, Default)]
pub(super) struct CallLog(VecDeque<LoggedCall>);

impl CallLog {
    pub(super) fn push(&mut self, call: LoggedCall) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(call);
    }

    /// The oldest first.
    pub(super) fn calls(&self) -> Vec<LoggedCall> {
        self.0.iter().cloned().collect()
    }
}
