//! Who made the calls, in CloudTrail's words: whose amounts differ, and whose match.

use std::collections::BTreeMap;

use serde::Serialize;

use super::super::{
    exit::Failure,
    format::{count, given},
    output::Printer,
};
use crate::domain::reconcile::{Report, Sender};

/// The most senders that are listed. A role that many machines take has as many.
const MAX_SENDERS: usize = 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct SenderJson {
    arn: Option<String>,
    source_ip_address: Option<String>,
    user_agent: Option<String>,
}

impl From<&Sender> for SenderJson {
    fn from(sender: &Sender) -> Self {
        Self {
            arn: given(sender.arn.to_string()),
            source_ip_address: given(sender.address.to_string()),
            user_agent: given(sender.user_agent.to_string()),
        }
    }
}

/// A sender, and how many of the records were its own.
#[derive(Serialize)]
pub(super) struct SenderCount {
    #[serde(flatten)]
    sender: SenderJson,
    records: u64,
}

/// The senders of the records that match, those of most records first.
pub(super) fn of_matched(report: &Report<'_>) -> Vec<SenderCount> {
    most(&report.senders)
        .into_iter()
        .map(|(sender, records)| SenderCount { sender: sender.into(), records })
        .collect()
}

/// Tells who sent what differs, and beside it who sent what matches.
pub(super) fn show(report: &Report<'_>, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let mut differing: BTreeMap<&Sender, u64> = BTreeMap::new();
    for theirs in report.differences.iter().filter_map(|difference| difference.theirs) {
        *differing.entry(&theirs.sender).or_default() += 1;
    }
    if differing.is_empty() {
        return Ok(());
    }
    for (what, senders) in [("differs", &differing), ("matches", &report.senders)] {
        for (sender, number) in most(senders) {
            printer.note(&format!(
                "what {what} was sent by {}: {}",
                words(sender),
                count(number, "record")
            ))?;
        }
    }
    Ok(())
}

fn most<'a>(senders: &BTreeMap<&'a Sender, u64>) -> Vec<(&'a Sender, u64)> {
    let mut all: Vec<_> = senders.iter().map(|(sender, number)| (*sender, *number)).collect();
    all.sort_by_key(|(_, number)| std::cmp::Reverse(*number));
    all.truncate(MAX_SENDERS);
    all
}

fn words(sender: &Sender) -> String {
    let Sender { arn, address, user_agent } = sender;
    if *sender == Sender::default() {
        return "someone whom CloudTrail does not name".to_owned();
    }
    let part =
        |before: &str, text: &str| if text.is_empty() { String::new() } else { format!("{before}{text}") };
    let name = if arn.is_empty() { "someone" } else { arn };
    format!("{name}{}{}", part(" from ", address), part(" with ", user_agent))
}
