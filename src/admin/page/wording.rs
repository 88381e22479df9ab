//! The health of the agent in words.

use super::format::{clock_time, count, records, span};
use crate::{
    domain::{billing::record::HoldReason, time::Timestamp},
    engine::{
        health::{Health, Reason, RecentHours, ShortAnswer, Waiting, concern::Problem},
        submitter::Said,
    },
};

pub(super) const fn answer(answer: ShortAnswer) -> &'static str {
    match answer {
        ShortAnswer::Yes => "Yes.",
        ShortAnswer::Almost => "Almost.",
        ShortAnswer::NotYet => "Not yet.",
        ShortAnswer::No => "No.",
        ShortAnswer::NotKnown => "Not known.",
        ShortAnswer::NotKnownYet => "Not known yet.",
        ShortAnswer::Stopping => "Stopping.",
    }
}

/// The sentence after the answer.
pub(super) fn sentence(health: &Health, now: Timestamp) -> String {
    let text = match &health.reason {
        Reason::StoreFailed => "The store has failed: usage is refused, and what is on disk waits for you.",
        Reason::Starting => "The agent is starting.",
        Reason::Stopping => "What was acknowledged is on disk, and goes on with the next start.",
        Reason::StoreUnreadable => "The store cannot be read.",
        Reason::ClockInDoubt => "The clock is in doubt, so no hour is sealed. Usage is counted meanwhile.",
        Reason::NoHourOver => "No hour with usage is over yet.",
        Reason::NoUsage => "There was no usage to bill in the last two days.",
        Reason::Unbilled { waiting, held } => return unbilled(*waiting, *held),
        Reason::BilledUntil { until, recent } => {
            return format!("Everything up to {} is with AWS{}.", clock_time(*until, now), but_for(*recent));
        }
    };
    text.to_owned()
}

fn unbilled(waiting: Option<Waiting>, held: u64) -> String {
    let waiting = waiting.map(|waiting| match waiting {
        Waiting::Unsealed(ended) => format!("an hour that ended {} ago is not sealed", span(ended)),
        Waiting::OnTheWay(number) => format!("{} on the way to AWS", records_are(number)),
        Waiting::ForAws(number) => format!("{} for AWS", records_wait(number)),
        Waiting::LateForAws(number, oldest) => {
            format!("{} for AWS, the oldest for {}", records_wait(number), span(oldest))
        }
    });
    let held = (held > 0).then(|| format!("{} held for you to decide", records_are(held)));
    let parts: Vec<_> = [waiting, held].into_iter().flatten().collect();
    format!("{}.", capitalised(&parts.join(", and ")))
}

/// What of the last two days AWS was not told for its own hour.
const fn but_for(recent: RecentHours) -> &'static str {
    match (recent.some_moved, recent.some_written_off) {
        (false, false) => "",
        (true, false) => ", or was moved into a later hour",
        (false, true) => ", or was written off",
        (true, true) => ", was moved into a later hour, or was written off",
    }
}

fn records_are(number: u64) -> String {
    format!("{} {}", records(number), if number == 1 { "is" } else { "are" })
}

fn records_wait(number: u64) -> String {
    format!("{} {}", records(number), if number == 1 { "waits" } else { "wait" })
}

fn capitalised(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// What the problem is.
pub(super) fn title(problem: &Problem<'_>) -> String {
    match problem {
        Problem::StoreFailed(_) => "The store has failed".to_owned(),
        Problem::StoreUnreadable(_) => "The store cannot be read".to_owned(),
        Problem::ClockInDoubt(_) => "The clock is in doubt".to_owned(),
        Problem::TimeUntold(_) => "AWS has not told the time yet".to_owned(),
        Problem::NoRoom(_) => "Usage comes faster than the disk takes it".to_owned(),
        Problem::Unsent { product, obstacle, .. } => {
            let what = match obstacle {
                Some(Said::Setup(_)) => "is refused by AWS",
                Some(Said::NotDelivered(_)) => "does not reach AWS",
                Some(Said::Lost(_)) => "gets no answer from AWS",
                Some(Said::Throttled) => "is slowed down by AWS",
                Some(Said::Answered { .. } | Said::RefusedRecord) | None => "is late",
            };
            format!("{product} {what}")
        }
        Problem::Held { product, reason, records: number, .. } => {
            let are = if *number == 1 { "is" } else { "are" };
            format!("{} of {product} {are} held as {}", records(*number), reason.name())
        }
        Problem::Capped { product, dimension, .. } => {
            format!("An hour of {dimension} of {product} has reached AWS's largest quantity")
        }
    }
}

/// What is behind the problem, and what it means.
pub(super) fn explanation(problem: &Problem<'_>, now: Timestamp) -> String {
    match problem {
        Problem::StoreFailed(reason) => format!(
            "{reason}. Nothing is written any more until the cause is mended and the agent started again."
        ),
        Problem::StoreUnreadable(fault) => {
            format!("{fault}. The hours and the held records below are missing for it.")
        }
        Problem::ClockInDoubt(fault) | Problem::TimeUntold(fault) => format!("{fault}."),
        Problem::NoRoom(refused) => format!(
            "{} found no room in the last five minutes. Nothing is lost as long as applications send them again.",
            count(*refused, "event")
        ),
        Problem::Unsent { obstacle, deadline, .. } => {
            let sentences =
                [obstacle.and_then(obstacle_sentence), deadline.map(|at| deadline_sentence(at, now))];
            sentences.into_iter().flatten().collect::<Vec<_>>().join(" ")
        }
        Problem::Held { reason, decide_by, .. } => {
            let deadline = decide_by.map(|at| decide_sentence(at, now));
            [Some(held_sentence(*reason).to_owned()), deadline]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
                .join(" ")
        }
        Problem::Capped { customers, .. } => format!(
            "The last sealed hour of {} did. What is above it is billed with the next hours, until nothing is left. If it \
             is a mistake, take it away: AWS takes nothing back.",
            count(*customers, "customer")
        ),
    }
}

fn obstacle_sentence(said: &Said) -> Option<String> {
    match said {
        Said::Setup(text) => {
            Some(format!("Credentials, permissions or the product code: \u{201c}{text}\u{201d}."))
        }
        Said::NotDelivered(text) | Said::Lost(text) => {
            Some(format!("\u{201c}{text}\u{201d}. It is tried again by itself."))
        }
        Said::Throttled => Some("Too many calls of this account.".to_owned()),
        Said::Answered { .. } | Said::RefusedRecord => None,
    }
}

fn deadline_sentence(deadline: Timestamp, now: Timestamp) -> String {
    let left = deadline.since(now);
    format!("AWS takes what waits until {}, {} from now.", clock_time(deadline, now), span(left))
}

fn decide_sentence(deadline: Timestamp, now: Timestamp) -> String {
    let left = deadline.since(now);
    format!(
        "AWS takes the first of it until {}, {} from now; after that it can only be carried into a later hour.",
        clock_time(deadline, now),
        span(left)
    )
}

const fn held_sentence(reason: HoldReason) -> &'static str {
    match reason {
        HoldReason::NotSubscribed => {
            "AWS knows no subscription of the customer. It is tried again by itself until the deadline; if the \
             subscription has ended, close the customer and write the rest off."
        }
        HoldReason::Conflict => {
            "AWS has another amount for the hour, and it is not from this agent. Find and stop the other reporter \
             first, then decide."
        }
        HoldReason::Refused => {
            "AWS refuses the record itself. Mend what it names, then retry before the deadline or carry after it."
        }
        HoldReason::UnknownCustomer => {
            "AWS does not know the customer. See what the application sends as its customer: correct it, then retry \
             before the deadline or carry after it, or write off what was never a customer."
        }
        HoldReason::NotBillable => {
            "Used after the customer's last hour. Write it off, or reopen the customer and carry."
        }
        HoldReason::NoIdentity => "Register the customer under the product's new identity, then carry.",
        HoldReason::Missed => "It is past its deadline: carry it into the current hour.",
        HoldReason::BeforeSince => {
            "Some of it may be from before the customer's subscription began. Write it off, or retry it if it is all \
             from after."
        }
        HoldReason::Replaced => {
            "The customer's identity was replaced inside the hour. Retry bills all of it to the old identity; carry bills \
             it to the new one."
        }
        HoldReason::OutcomeUnknown => {
            "AWS may have billed it. Compare with CloudTrail first; if it was billed, write it off, else carry."
        }
        HoldReason::Suspicious => {
            "More was used than the configuration takes for possible, and nothing of it was sent. Retry sends it; if it \
             is a mistake, write it off."
        }
    }
}
