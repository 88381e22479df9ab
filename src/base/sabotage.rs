//! Faults that a test builds in, one at a time, to see that the simulation catches them.
//!
//! The switch exists in the library's own tests only: in whatever is shipped, [`is_sabotaged`] is a constant.

/// What is broken on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sabotage {
    /// Answers before what it answers for is on disk (against I3).
    AnswerBeforeSync,
    /// Counts an event and forgets its dedup key (against I4).
    ForgetDedupKey,
    /// Takes producers of two clients for one, since they have one name (against I4): each uses up numbers of the other.
    LendProducer,
    /// Takes other events under a number that has counted for a repeat (against I4): they are acknowledged and not
    /// counted.
    TakeDivergedForRepeat,
    /// Makes a record anew when it is sent again (against I2).
    RecomputeOnRetry,
    /// Drops what a seal leaves below a step (against I1).
    DropCarry,
    /// Seals and sends an hour when it has hardly begun (against I7 and I8).
    SendBeforeSeal,
    /// Lowers what is open and forgets the line in the journal (against I2).
    ForgetAdjustment,
    /// Believes the clock before AWS has told the time (against I7).
    SealBeforeTold,
}

#[cfg(not(test))]
pub(crate) const fn is_sabotaged(_: Sabotage) -> bool {
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

    /// Sets the sabotage of this thread, until it is set again.
    pub(crate) fn sabotage(by: Option<Sabotage>) {
        SABOTAGE.set(by);
    }
}
