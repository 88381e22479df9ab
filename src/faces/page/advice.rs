//! What asks for a person: what it is, what to type, and where the runbook says more.

use super::{
    snapshot::{ProductLine, Snapshot},
    verdict::{IMMINENT, Level, NEAR, SETTLING},
    words::{clock_time, count, records, span},
};
use crate::{
    domain::record::HoldReason,
    work::{phase::Phase, submitter::Said},
};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Advice {
    pub(super) level: Level,
    pub(super) title: String,
    pub(super) why: String,
    pub(super) commands: Vec<String>,
    /// A section of docs/runbook.md.
    pub(super) runbook: &'static str,
}

/// All that there is, the worst first.
pub(super) fn all(snapshot: &Snapshot) -> Vec<Advice> {
    let mut all: Vec<_> = [failed(snapshot), unread(snapshot), clock(snapshot), no_room(snapshot)]
        .into_iter()
        .flatten()
        .collect();
    for product in &snapshot.products {
        all.extend(unsent(snapshot, product));
        let held = |(reason, records): &(HoldReason, u64)| held(product, *reason, *records);
        all.extend(product.held.iter().map(held));
    }
    all.sort_by_key(|advice| std::cmp::Reverse(advice.level));
    all
}

fn failed(snapshot: &Snapshot) -> Option<Advice> {
    let Phase::Failed(reason) = &snapshot.phase else { return None };
    Some(Advice {
        level: Level::Bad,
        title: "The store has failed".to_owned(),
        why: format!(
            "{reason}. Nothing is written any more until the cause is mended and the agent started again."
        ),
        commands: vec!["tallyman status".to_owned(), "df -h".to_owned()],
        runbook: "TallymanStoreFailed",
    })
}

fn unread(snapshot: &Snapshot) -> Option<Advice> {
    let fault = snapshot.unread.as_ref()?;
    Some(Advice {
        level: Level::Bad,
        title: "The store cannot be read".to_owned(),
        why: format!("{fault}. The hours and the held records below are missing for it."),
        commands: vec!["tallyman audit".to_owned()],
        runbook: "TallymanStoreFailed",
    })
}

fn clock(snapshot: &Snapshot) -> Option<Advice> {
    let fault = Some(&snapshot.summary.clock_fault).filter(|fault| !fault.is_empty())?;
    Some(Advice {
        level: Level::Bad,
        title: "The clock is in doubt".to_owned(),
        why: format!("{fault}."),
        commands: vec!["timedatectl".to_owned(), "tallyman status".to_owned()],
        runbook: "TallymanClock",
    })
}

fn no_room(snapshot: &Snapshot) -> Option<Advice> {
    let refused: u64 = snapshot.beats.iter().map(|beat| beat.refused).sum();
    (refused > 0).then(|| Advice {
        level: Level::Warning,
        title: "Usage comes faster than the disk takes it".to_owned(),
        why: format!(
            "{} found no room in the last five minutes. Nothing is lost as long as applications send them again.",
            count(refused, "event")
        ),
        commands: vec!["iostat -x 1 5".to_owned()],
        runbook: "TallymanBackPressure",
    })
}

/// Why a product's records do not go out, or how little time they have.
fn unsent(snapshot: &Snapshot, product: &ProductLine) -> Option<Advice> {
    let left = product.deadline.map(|deadline| deadline.since(snapshot.now));
    let is_near = product.waits > SETTLING && left.is_some_and(|left| left < NEAR);
    let fault =
        product.last_answer.as_ref().filter(|_| product.unsent > 0).and_then(|last| fault(&last.said));
    if fault.is_none() && !is_near {
        return None;
    }
    let code = &product.code;
    let (what, detail) = fault.unwrap_or(("is late", String::new()));
    let until = product.deadline.zip(left).map(|(deadline, left)| {
        format!("AWS takes what waits until {}, {} from now.", clock_time(deadline, snapshot.now), span(left))
    });
    let (level, runbook) = match left {
        Some(left) if left < IMMINENT => (Level::Bad, "TallymanDeadlineImminent"),
        Some(left) if left < NEAR => (Level::Warning, "TallymanDeadlineNear"),
        _ => (Level::Warning, "TallymanNoSuccess"),
    };
    Some(Advice {
        level,
        title: format!("{code} {what}"),
        why: [detail, until.unwrap_or_default()].join(" ").trim().to_owned(),
        commands: vec!["tallyman status".to_owned(), of_product("tallyman records --state pending", code)],
        runbook,
    })
}

/// What keeps AWS from taking records, and what it said.
fn fault(said: &Said) -> Option<(&'static str, String)> {
    match said {
        Said::Setup(text) => Some((
            "is refused by AWS",
            format!("Credentials, permissions or the product code: \u{201c}{text}\u{201d}."),
        )),
        Said::NotDelivered(text) => {
            Some(("does not reach AWS", format!("\u{201c}{text}\u{201d}. It is tried again by itself.")))
        }
        Said::Lost(text) => {
            Some(("gets no answer from AWS", format!("\u{201c}{text}\u{201d}. It is tried again by itself.")))
        }
        Said::Throttled => Some(("is slowed down by AWS", "Too many calls of this account.".to_owned())),
        Said::Answered { .. } | Said::RefusedRecord => None,
    }
}

fn held(product: &ProductLine, reason: HoldReason, held: u64) -> Advice {
    let (why, runbook) = match reason {
        HoldReason::NotSubscribed => (
            "AWS knows no subscription of the customer. It is tried again by itself until the deadline; if the \
             subscription has ended, close the customer and write the rest off.",
            "TallymanHeld",
        ),
        HoldReason::Conflict => (
            "AWS has another amount for the hour, and it is not from this agent. Find and stop the other reporter \
             first, then decide.",
            "TallymanConflict",
        ),
        HoldReason::Refused => (
            "AWS refuses the record itself. Mend what it names, then retry before the deadline or carry after it.",
            "TallymanHeld",
        ),
        HoldReason::NotBillable => (
            "Used after the customer's last hour. Write it off, or reopen the customer and carry.",
            "TallymanHeld",
        ),
        HoldReason::NoIdentity => {
            ("Register the customer under the product's new identity, then carry.", "TallymanHeld")
        }
        HoldReason::Missed => ("It is past its deadline: carry it into the current hour.", "TallymanHeld"),
        HoldReason::OutcomeUnknown => (
            "AWS may have billed it. Compare with CloudTrail first; if it was billed, write it off, else carry.",
            "TallymanHeld",
        ),
    };
    let mut commands = vec![of_product("tallyman held", &product.code)];
    commands.push(match reason {
        HoldReason::NotSubscribed | HoldReason::Refused => "tallyman held retry ID --reason TEXT".to_owned(),
        HoldReason::Missed | HoldReason::NoIdentity => "tallyman held carry ID --reason TEXT".to_owned(),
        HoldReason::NotBillable => "tallyman held write-off ID --reason TEXT".to_owned(),
        HoldReason::Conflict | HoldReason::OutcomeUnknown => {
            "tallyman reconcile --cloudtrail trail.json".to_owned()
        }
    });
    Advice {
        level: Level::Bad,
        title: format!(
            "{} of {} {} held as {}",
            records(held),
            product.code,
            if held == 1 { "is" } else { "are" },
            reason.name()
        ),
        why: why.to_owned(),
        commands,
        runbook,
    }
}

/// A code that a shell could take apart is quoted.
fn of_product(command: &str, code: &str) -> String {
    let is_plain = code.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if is_plain && !code.is_empty() {
        format!("{command} --product {code}")
    } else {
        format!("{command} --product '{}'", code.replace('\'', "'\\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_can_be_copied_into_a_shell() {
        assert_eq!(of_product("tallyman held", "prod-1"), "tallyman held --product prod-1");
        assert_eq!(of_product("tallyman held", "a; rm b"), "tallyman held --product 'a; rm b'");
        assert_eq!(of_product("x", "it's"), "x --product 'it'\\''s'");
    }
}
