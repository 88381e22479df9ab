//! What differs, for people and for machines.

use std::{collections::BTreeSet, sync::Arc};

use serde::Serialize;

use super::super::{
    cloudtrail::{Counts, Trail, Unreadable},
    exit::{Exit, Failure},
    output::Printer,
    range::Hours,
    show::{count, given},
    table::{Table, number, text},
};
use crate::domain::reconcile::{Difference, Finding, LedgerLine, Report, Standing, TrailLine};

/// What differs, one line each.
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
    let meanings: BTreeSet<(Finding, &str)> =
        differences.iter().map(|difference| (difference.finding, meaning(difference))).collect();
    for (finding, meaning) in meanings {
        printer.note(&format!("{}: {meaning}", finding.name()))?;
    }
    Ok(())
}

fn cells(difference: &Difference<'_>) -> [String; 12] {
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
        text(ours.and_then(|line| line.standing.receipt())),
        text(theirs.map(|line| &line.receipt)),
        text(theirs.map(|line| &line.region)),
    ]
}

/// The buyer as CloudTrail has it.
fn buyer(line: &TrailLine) -> String {
    let names = [&line.license_arn, &line.account_id, &line.customer_identifier];
    names.into_iter().find(|name| !name.is_empty()).map_or("hidden", |name| name).to_owned()
}

fn state(line: &LedgerLine) -> &'static str {
    match line.standing {
        Standing::Accepted { .. } => "accepted",
        Standing::Pending => "pending",
        Standing::Held => "held",
        Standing::RolledForward => "rolled_forward",
        Standing::Carried => "carried",
        Standing::WrittenOff => "written_off",
        Standing::Expired => "expired",
    }
}

/// What a finding means for the bill, and what to do.
fn meaning(difference: &Difference<'_>) -> &'static str {
    match (difference.finding, difference.ours.map(state).unwrap_or_default()) {
        (Finding::AcceptedTwice, _) => "AWS accepted the slot under a second receipt, and may bill it twice",
        (Finding::NotAcceptedHere, "rolled_forward" | "carried") => {
            "AWS has billed it, and its usage went to a later hour, too: it is billed twice"
        }
        (Finding::NotAcceptedHere, "held") => {
            "AWS has billed it: do not carry it; retry it, or write it off once its deadline has passed"
        }
        (Finding::NotAcceptedHere, "written_off") => "AWS has billed what a person gave up",
        (Finding::NotAcceptedHere, "expired") => "AWS has a zero that expired here: nothing is at stake",
        (Finding::NotAcceptedHere, _) => "AWS has it; the next attempt settles it",
        (Finding::NotInLedger, _) => "AWS accepted it from someone else, or the ledger has lost it",
        (Finding::DifferentQuantity, _) => "AWS bills another quantity than the ledger has",
        (Finding::DifferentSlot, _) => "the receipt is that of another customer, dimension or hour at AWS",
        (Finding::DifferentReceipt, _) => {
            "AWS accepted the slot under another receipt: someone else may have sent it"
        }
        (Finding::NotInCloudTrail, _) => {
            "accepted here, but not in these files: are they all there, of every region?"
        }
        (Finding::NotInCloudTrailYet, _) => {
            "accepted less than 15 minutes ago, which CloudTrail may take to show it: look again"
        }
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
}

impl From<&Difference<'_>> for DifferenceJson {
    fn from(difference: &Difference<'_>) -> Self {
        let Difference { finding, ours, theirs } = *difference;
        Self {
            finding: finding.name(),
            detail: meaning(difference),
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
            receipt: line.standing.receipt().and_then(|receipt| given(receipt.to_string())),
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
        }
    }
}

#[derive(Serialize)]
struct UnreadableJson<'a> {
    finding: &'static str,
    #[serde(flatten)]
    unreadable: &'a Unreadable,
}

#[derive(Serialize)]
struct SummaryJson<'a> {
    summary: &'a Summary,
}

#[derive(Serialize)]
pub(super) struct Summary {
    from: Option<String>,
    to: Option<String>,
    matched: u64,
    differ: u64,
    /// Accepted so shortly ago that CloudTrail may not show it yet.
    too_recent: u64,
    /// Acceptances of licenses that the product's records do not name.
    other_licenses: u64,
    cloudtrail: Counts,
}

impl Summary {
    pub(super) fn new(report: &Report<'_>, counts: Counts, hours: Hours, other_licenses: u64) -> Self {
        let too_recent = report.differences.iter().filter(|difference| difference.finding.may_pass()).count();
        Self {
            from: hours.from.map(|from| from.to_string()),
            to: hours.to.map(|to| to.to_string()),
            matched: report.matched,
            differ: (report.differences.len() - too_recent) as u64 + counts.unreadable,
            too_recent: too_recent as u64,
            other_licenses,
            cloudtrail: counts,
        }
    }

    pub(super) const fn exit(&self) -> Exit {
        match (self.differ, self.too_recent) {
            (0, 0) => Exit::Ok,
            (0, _) => Exit::TryLater,
            _ => Exit::Failed,
        }
    }

    pub(super) fn show(&self, printer: &mut Printer<'_>) -> Result<(), Failure> {
        if printer.is_json() {
            return printer.json(&SummaryJson { summary: self });
        }
        let Self { matched, differ, too_recent, cloudtrail, .. } = self;
        let recent = match too_recent {
            0 => String::new(),
            number => format!(", {number} not there yet"),
        };
        let (from, to) = (self.from.as_deref().unwrap_or_default(), self.to.as_deref().unwrap_or_default());
        printer.line(&format!(
            "{} match, {differ} differ{recent}; hours from {from} to {to}",
            count(*matched, "record")
        ))?;
        if self.other_licenses > 0 {
            let number = self.other_licenses;
            printer.note(&format!("left out: {number} of licenses that no record of this product has"))?;
        }
        if cloudtrail.calls_without_results > 0 {
            let calls = count(cloudtrail.calls_without_results, "call");
            printer.note(&format!(
                "CloudTrail left out the results of {calls}, as it does when they are large"
            ))?;
        }
        Ok(())
    }
}
