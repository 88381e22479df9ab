//! What asks for a person: what it is, what to type, and where the runbook says more.

use super::{Facts, IMMINENT, Level, NEAR, ProductFacts, SETTLING};
use crate::{
    domain::{billing::record::HoldReason, time::Timestamp},
    engine::{lifecycle::Phase, submitter::Said},
};

/// Something that a person should look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Concern<'a> {
    pub level: Level,
    pub problem: Problem<'a>,
    /// What to type, ready for a shell but for words in capitals.
    pub commands: Vec<String>,
    /// The section of docs/runbook.md that says more.
    pub runbook: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Problem<'a> {
    /// The store has failed for this reason.
    StoreFailed(&'a str),
    /// The store cannot be read for this reason.
    StoreUnreadable(&'a str),
    /// The clock is in doubt for this reason.
    ClockInDoubt(&'a str),
    /// AWS has not told the time since the start, for this reason.
    TimeUntold(&'a str),
    /// So many events were refused for want of room in the last five minutes.
    NoRoom(u64),
    /// A product's records do not reach AWS, or little time is left for them.
    Unsent {
        product: &'a str,
        /// What AWS said last, if that keeps them back.
        obstacle: Option<&'a Said>,
        /// The moment until which AWS takes them.
        deadline: Option<Timestamp>,
    },
    /// Records of a product are held for a person to decide.
    Held {
        product: &'a str,
        reason: HoldReason,
        records: u64,
        /// The moment until which AWS takes the first of them, where nothing but the decision is missing.
        decide_by: Option<Timestamp>,
    },
    /// An hour of so many customers has reached AWS's largest quantity.
    Capped { product: &'a str, dimension: &'a str, customers: u64 },
}

/// All concerns, the worst first.
pub(crate) fn all<'a>(facts: &Facts<'a>) -> Vec<Concern<'a>> {
    let of_agent = [
        store_failed(facts),
        store_unreadable(facts),
        clock_in_doubt(facts),
        time_untold(facts),
        no_room(facts),
    ];
    let mut all: Vec<_> = of_agent.into_iter().flatten().collect();
    for product in facts.products {
        all.extend(unsent(facts.now, product));
        all.extend(product.held.iter().map(|(reason, records)| held(product, *reason, *records)));
        all.extend(
            product.capped.iter().map(|(dimension, customers)| capped(product, dimension, *customers)),
        );
    }
    all.sort_by_key(|concern| std::cmp::Reverse(concern.level));
    all
}

fn store_failed<'a>(facts: &Facts<'a>) -> Option<Concern<'a>> {
    let Phase::Failed(reason) = facts.phase else { return None };
    Some(Concern {
        level: Level::Bad,
        problem: Problem::StoreFailed(reason),
        commands: vec!["tallyman status".to_owned(), "df -h".to_owned()],
        runbook: "TallymanStoreFailed",
    })
}

fn store_unreadable<'a>(facts: &Facts<'a>) -> Option<Concern<'a>> {
    Some(Concern {
        level: Level::Bad,
        problem: Problem::StoreUnreadable(facts.store_fault?),
        commands: vec!["tallyman audit".to_owned()],
        runbook: "TallymanStoreFailed",
    })
}

fn clock_in_doubt<'a>(facts: &Facts<'a>) -> Option<Concern<'a>> {
    Some(Concern {
        level: Level::Bad,
        problem: Problem::ClockInDoubt(facts.clock_fault?),
        commands: vec!["timedatectl".to_owned(), "tallyman status".to_owned()],
        runbook: "TallymanClock",
    })
}

fn time_untold<'a>(facts: &Facts<'a>) -> Option<Concern<'a>> {
    Some(Concern {
        level: Level::Warning,
        problem: Problem::TimeUntold(facts.untold?),
        commands: vec!["tallyman status".to_owned()],
        runbook: "TallymanClockUnconfirmed",
    })
}

fn no_room<'a>(facts: &Facts<'a>) -> Option<Concern<'a>> {
    (facts.refused_events > 0).then(|| Concern {
        level: Level::Warning,
        problem: Problem::NoRoom(facts.refused_events),
        commands: vec!["iostat -x 1 5".to_owned()],
        runbook: "TallymanBackPressure",
    })
}

fn unsent(now: Timestamp, product: &ProductFacts) -> Option<Concern<'_>> {
    let left = product.deadline.map(|deadline| deadline.since(now));
    let is_near = product.waits > SETTLING && left.is_some_and(|left| left < NEAR);
    let obstacle = product.obstacle();
    if obstacle.is_none() && !is_near {
        return None;
    }
    let (level, runbook) = match left {
        Some(left) if left < IMMINENT => (Level::Bad, "TallymanDeadlineImminent"),
        Some(left) if left < NEAR => (Level::Warning, "TallymanDeadlineNear"),
        _ => (Level::Warning, "TallymanNoSuccess"),
    };
    let list = of_product("tallyman records --state pending", &product.code);
    Some(Concern {
        level,
        problem: Problem::Unsent { product: &product.code, obstacle, deadline: product.deadline },
        commands: vec!["tallyman status".to_owned(), list],
        runbook,
    })
}

fn held(product: &ProductFacts, reason: HoldReason, records: u64) -> Concern<'_> {
    let decide_by = product.decide_by.filter(|_| reason == HoldReason::Suspicious);
    let product = &product.code;
    let decide = match reason {
        HoldReason::NotSubscribed
        | HoldReason::Refused
        | HoldReason::Replaced
        | HoldReason::UnknownCustomer => "tallyman held retry ID --reason TEXT --by NAME",
        HoldReason::Missed | HoldReason::NoIdentity => "tallyman held carry ID --reason TEXT --by NAME",
        HoldReason::NotBillable | HoldReason::BeforeSince | HoldReason::Suspicious => {
            "tallyman held write-off ID --reason TEXT --by NAME"
        }
        HoldReason::Conflict | HoldReason::OutcomeUnknown => "tallyman reconcile --cloudtrail trail.json",
    };
    let mut commands = vec![of_product("tallyman held", product), decide.to_owned()];
    let runbook = match reason {
        HoldReason::Conflict => "TallymanConflict",
        HoldReason::Suspicious => {
            commands.insert(1, "tallyman held retry ID --reason TEXT --by NAME".to_owned());
            "TallymanSuspicious"
        }
        _ => "TallymanHeld",
    };
    Concern {
        level: Level::Bad,
        problem: Problem::Held { product, reason, records, decide_by },
        commands,
        runbook,
    }
}

fn capped<'a>(product: &'a ProductFacts, dimension: &'a str, customers: u64) -> Concern<'a> {
    let product = &product.code;
    let of_dimension = format!("--dimension {}", quoted(dimension));
    let adjust = format!("tallyman adjust --customer KEY {of_dimension} --minus N --reason TEXT --by NAME");
    Concern {
        level: Level::Warning,
        problem: Problem::Capped { product, dimension, customers },
        commands: vec![
            of_product(&format!("tallyman records {of_dimension}"), product),
            of_product(&adjust, product),
        ],
        runbook: "TallymanQuantityCapped",
    }
}

/// The command for one product.
fn of_product(command: &str, code: &str) -> String {
    format!("{command} --product {}", quoted(code))
}

/// A name as a shell takes it: one that it could take apart is quoted.
fn quoted(name: &str) -> String {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    if is_plain && !name.is_empty() { name.to_owned() } else { format!("'{}'", name.replace('\'', "'\\''")) }
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
