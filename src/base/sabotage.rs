//! Faults that a test builds in, one at a time, to see that the simulation catches them.
//!
//! The switch exists in the library's own tests only: in whatever is shipped, [`is_sabotaged`] is a constant.

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sabotage {
    /// Answers before what it answers for is on disk (against I3).
    AnswerBeforeSync,
    /// Counts an event and does not note its id (against I4).
    ForgetMarker,
    /// Lets any client go on with a producer's numbers (against I4): what the rightful one sends is acknowledged and not counted.
    LendProducer,
    /// Makes a record anew when it is sent again (against I2).
    RecomputeOnRetry,
    /// Drops what a seal leaves below a step (against I1).
    DropCarry,
    /// Seals and sends an hour when it has hardly begun (against I7 and I8).
    SendBeforeSeal,
}

#[cfg(not(test))]
pub const fn is_sabotaged(_: Sabotage) -> bool {
    false
}

#[cfg(test)]
pub(crate) use switch::{is_sabotaged, sabotage};

#[cfg(test)]
mod switch {
    use std::cell::Cell;

    use super::Sabotage;

    thread_local! {
        static SABOTAGE: Cell<Option<Sabotage>> = const { Cell::new(None) };
    }

    pub(crate) fn is_sabotaged(by: Sabotage) -> bool {
        SABOTAGE.get() == Some(by)
    }

    /// For this thread, until it is set again.
    pub(crate) fn sabotage(by: Option<Sabotage>) {
        SABOTAGE.set(by);
    }
}
