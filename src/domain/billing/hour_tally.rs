//! The number of an hour's records in each state.

use super::record::Outcome;

/// An hour's records by state. Every record that was sealed for the hour is in exactly one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct HourTally {
    /// Sealed, and neither accepted nor held yet.
    pub pending: u64,
    pub held: u64,
    pub accepted: u64,
    /// Missed AWS's deadline: a later hour bills it.
    pub rolled_forward: u64,
    /// A person moved it into a later hour.
    pub carried: u64,
    pub written_off: u64,
    /// Claims to zero that AWS was never told.
    pub expired: u64,
}

impl HourTally {
    pub(crate) fn sealed(&mut self) {
        up(&mut self.pending);
    }

    /// A pending record is settled.
    pub(crate) fn not_pending(&mut self) {
        down(&mut self.pending);
    }

    /// A held record is sent again, or decided about.
    pub(crate) fn not_held(&mut self) {
        down(&mut self.held);
    }

    pub(crate) fn settled(&mut self, outcome: &Outcome) {
        up(match outcome {
            Outcome::Accepted { .. } => &mut self.accepted,
            Outcome::Held { .. } => &mut self.held,
            Outcome::RolledForward { .. } => &mut self.rolled_forward,
            Outcome::Expired => &mut self.expired,
            Outcome::Carried { .. } => &mut self.carried,
            Outcome::WrittenOff => &mut self.written_off,
        });
    }

    #[cfg(test)]
    pub(crate) fn records(&self) -> u64 {
        let Self { pending, held, accepted, rolled_forward, carried, written_off, expired } = *self;
        let all = [pending, held, accepted, rolled_forward, carried, written_off, expired];
        all.into_iter().fold(0, u64::saturating_add)
    }
}

fn up(count: &mut u64) {
    *count = count.saturating_add(1);
}

fn down(count: &mut u64) {
    *count = count.saturating_sub(1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{billing::record::HoldReason, time::Hour};

    #[test]
    fn a_record_is_counted_in_one_state_at_a_time() {
        let mut tally = HourTally::default();
        let held = Outcome::Held { reason: HoldReason::Refused, detail: "".into() };
        let into = Hour::FIRST;
        for last in [
            Outcome::Accepted { receipt: "".into(), presumed: true },
            Outcome::RolledForward { into },
            Outcome::Expired,
            Outcome::Carried { into },
            Outcome::WrittenOff,
        ] {
            let before = tally.records();
            tally.sealed();
            tally.settled(&held);
            tally.not_pending();
            assert_eq!((tally.pending, tally.held), (0, 1));
            tally.not_held();
            tally.settled(&last);
            assert_eq!((tally.pending, tally.held, tally.records()), (0, 0, before + 1), "{last:?}");
        }
        let one_each =
            [tally.accepted, tally.rolled_forward, tally.expired, tally.carried, tally.written_off];
        assert_eq!(one_each, [1; 5]);
    }
}
