//! What a finding means for the bill, and what to do. The runbook and docs/finance.md say the same; a test compares them.

use crate::domain::reconcile::{Difference, Finding, LineState};

pub(super) fn advice(difference: &Difference<'_>) -> &'static str {
    let state = difference.ours.map(|line| &line.state);
    match difference.finding {
        Finding::AcceptedTwice => "AWS accepted the slot under a second receipt, and may bill it twice",
        Finding::NotAcceptedHere => of_unaccepted(state),
        Finding::Conflict => of_conflict(state),
        Finding::NotInLedger => "AWS accepted it from someone else, or the ledger has lost it",
        Finding::DifferentQuantity => {
            "AWS bills another quantity than the ledger has, and takes no correction: find out who sent it"
        }
        Finding::DifferentSlot => "the receipt is that of another customer, dimension or hour at AWS",
        Finding::DifferentReceipt => {
            "AWS accepted the slot under another receipt: someone else may have sent it"
        }
        Finding::NotInCloudTrail => {
            "accepted here, but not in these files: are they all there, of every region?"
        }
        Finding::NotInCloudTrailYet => {
            "accepted less than 15 minutes ago, which CloudTrail may take to show it: look again"
        }
    }
}

/// AWS has the record's own quantity.
const fn of_unaccepted(state: Option<&LineState>) -> &'static str {
    match state {
        Some(LineState::RolledForward | LineState::Carried) => {
            "AWS has billed it, and its usage went to a later hour, too: it is billed twice"
        }
        Some(LineState::Held { .. }) => {
            "AWS has billed it: do not carry it; retry it, or write it off once its deadline has passed"
        }
        Some(LineState::WrittenOff) => "AWS has billed what a person gave up",
        Some(LineState::Expired) => "AWS has a zero that expired here: nothing is at stake",
        Some(LineState::Pending | LineState::Accepted { .. }) | None => {
            "AWS has it; the next attempt settles it"
        }
    }
}

/// AWS has the quantity of another reporter. It keeps the first one, so the record's own was not billed.
const fn of_conflict(state: Option<&LineState>) -> &'static str {
    match state {
        Some(LineState::Held { .. }) => HELD_IN_CONFLICT,
        Some(LineState::RolledForward | LineState::Carried) => {
            "AWS keeps what another reporter sent, and this usage went to a later hour: it is billed twice only if the \
             other amount contains it"
        }
        Some(LineState::WrittenOff) => {
            "AWS keeps what another reporter sent, and this usage was written off: nothing is left to decide"
        }
        Some(LineState::Expired) => {
            "AWS keeps what another reporter sent; here it was a zero, so nothing is unbilled: find and stop the other"
        }
        Some(LineState::Pending | LineState::Accepted { .. }) | None => {
            "AWS keeps what another reporter sent: find and stop it; the record will be held as a conflict"
        }
    }
}

const HELD_IN_CONFLICT: &str = "AWS keeps what another reporter sent, and this usage is not billed. Find and stop the \
                                other reporter. If its amount contains this usage, write the record off; if it does \
                                not, carry it";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runbook_says_of_a_conflict_what_reconcile_says() {
        let runbook = include_str!("../../../docs/runbook.md");
        let (_, section) = runbook.split_once("\n## TallymanConflict\n").unwrap();
        let section = section.split("\n## ").next().unwrap();
        let words = section.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains(HELD_IN_CONFLICT), "{HELD_IN_CONFLICT}\n\nis not in\n\n{words}");
        assert!(!words.contains("held retry"), "{words}");
    }
}
