//! The differences between the ledger and CloudTrail, for people and for machines.

use std::{collections::BTreeSet, sync::Arc};

use serde::Serialize;

use super::super::{
    cloudtrail::{Trail, Unreadable},
    exit::Failure,
    format::given,
    output::Printer,
    table::{Table, number, text},
};
use super::{
    advice::advice,
    senders::{self, SenderJson},
};
use crate::domain::reconcile::{Difference, Finding, LedgerLine, LineState, Report, TrailLine};

/// Shows each difference on a line of its own.
pub(super) fn show(report: &Report<'_>, trail: &Trail, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let differences = &report.differences;
    if printer.is_json() {
        for difference in differences {
            printer.json(&DifferenceJson::from(difference))?;
        }
        for unreadable in &trail.unreadable {
            printer.json(&UnreadableJson { finding: "unreadable", unreadable })?;
        }
        return Ok(());
    }
    let mut table = Table::new(&[
        text("FINDING"),
        text("HOUR"),
        text("PRODUCT"),
        text("CUSTOMER"),
        text("DIMENSION"),
        number("ID"),
        number("HERE"),
        number("AWS"),
        text("STATE"),
        text("RECEIPT HERE"),
        text("RECEIPT AT AWS"),
        text("REGION"),
        text("SENT BY"),
    ]);
    for difference in differences {
        table.row(cells(difference));
    }
    if !table.is_empty() {
        printer.text(&table.render())?;
    }
    for Unreadable { file, event, detail } in &trail.unreadable {
        printer
            .note(&format!("{file}: event {event}: AWS accepted a record that makes no sense: {detail}"))?;
    }
    let advices: BTreeSet<(Finding, &str)> =
        differences.iter().map(|difference| (difference.finding, advice(difference))).collect();
    for (finding, advice) in advices {
        printer.note(&format!("{}: {advice}", finding.name()))?;
    }
    senders::show(report, printer)
}

fn cells(difference: &Difference<'_>) -> [String; 13] {
    let Difference { finding, ours, theirs } = difference;
    let hour = difference.hour().map(|hour| hour.to_string()).unwrap_or_default();
    let product = ours.map(|line| &line.product).or_else(|| Some(&theirs.as_ref()?.product));
    let dimension = ours.map(|line| &line.dimension).or_else(|| Some(&theirs.as_ref()?.dimension));
    let text = |text: Option<&Arc<str>>| text.map(ToString::to_string).unwrap_or_default();
    [
        finding.name().to_owned(),
        hour,
        text(product),
        ours.map(|line| line.customer.to_string()).or_else(|| theirs.map(buyer)).unwrap_or_default(),
        text(dimension),
        ours.map(|line| line.id.to_string()).unwrap_or_default(),
        ours.map(|line| line.quantity.to_string()).unwrap_or_default(),
        theirs.map(|line| line.quantity.to_string()).unwrap_or_default(),
        ours.map(state).unwrap_or_default().to_owned(),
        text(ours.and_then(|line| line.state.receipt())),
        text(theirs.map(|line| &line.receipt)),
        text(theirs.map(|line| &line.region)),
        text(theirs.map(|line| &line.sender.arn)),
    ]
}

/// The buyer as CloudTrail names it.
fn buyer(line: &TrailLine) -> String {
    let names = [&line.license_arn, &line.account_id, &line.customer_identifier];
    names.into_iter().find(|name| !name.is_empty()).map_or("hidden", |name| name).to_owned()
}

fn state(line: &LedgerLine) -> &'static str {
    match line.state {
        LineState::Accepted { .. } => "accepted",
        LineState::Pending => "pending",
        LineState::Held { .. } => "held",
        LineState::RolledForward => "rolled_forward",
        LineState::Carried => "carried",
        LineState::WrittenOff => "written_off",
        LineState::Expired => "expired",
    }
}

#[derive(Serialize)]
struct DifferenceJson {
    finding: &'static str,
    detail: &'static str,
    ledger: Option<OursJson>,
    cloudtrail: Option<TheirsJson>,
}

#[derive(Serialize)]
struct OursJson {
    id: u64,
    product: String,
    customer: String,
    dimension: String,
    hour: String,
    quantity: String,
    state: &'static str,
    receipt: Option<String>,
}

#[derive(Serialize)]
struct TheirsJson {
    region: Option<String>,
    product: Option<String>,
    account_id: Option<String>,
    license_arn: Option<String>,
    customer_identifier: Option<String>,
    dimension: String,
    hour: String,
    quantity: String,
    receipt: Option<String>,
    at: String,
    sender: SenderJson,
}

impl From<&Difference<'_>> for DifferenceJson {
    fn from(difference: &Difference<'_>) -> Self {
        let Difference { finding, ours, theirs } = *difference;
        Self {
            finding: finding.name(),
            detail: advice(difference),
            ledger: ours.map(OursJson::from),
            cloudtrail: theirs.map(TheirsJson::from),
        }
    }
}

impl From<&LedgerLine> for OursJson {
    fn from(line: &LedgerLine) -> Self {
        Self {
            id: line.id.0,
            product: line.product.to_string(),
            customer: line.customer.to_string(),
            dimension: line.dimension.to_string(),
            hour: line.hour.to_string(),
            quantity: line.quantity.to_string(),
            state: state(line),
            receipt: line.state.receipt().and_then(|receipt| given(receipt.to_string())),
        }
    }
}

impl From<&TrailLine> for TheirsJson {
    fn from(line: &TrailLine) -> Self {
        Self {
            region: given(line.region.to_string()),
            product: given(line.product.to_string()),
            account_id: given(line.account_id.to_string()),
            license_arn: given(line.license_arn.to_string()),
            customer_identifier: given(line.customer_identifier.to_string()),
            dimension: line.dimension.to_string(),
            hour: line.hour.to_string(),
            quantity: line.quantity.to_string(),
            receipt: given(line.receipt.to_string()),
            at: line.at.to_string(),
            sender: (&line.sender).into(),
        }
    }
}

#[derive(Serialize)]
struct UnreadableJson<'a> {
    finding: &'static str,
    #[serde(flatten)]
    unreadable: &'a Unreadable,
}
