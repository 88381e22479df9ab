//! How much was compared, and what the exit code makes of it.

use serde::Serialize;

use super::{
    super::{
        cloudtrail::Counts,
        exit::{Exit, Failure},
        format::count,
        output::Printer,
        range::Hours,
    },
    senders::{self, SenderCount},
};
use crate::domain::reconcile::Report;

#[derive(Serialize)]
struct SummaryJson<'a> {
    summary: &'a Summary,
}

/// What `--product` leaves out of the files.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct LeftOut {
    /// Acceptances of other products.
    pub(super) other_products: u64,
    /// Acceptances of licenses that the product's records do not name.
    pub(super) other_licenses: u64,
}

#[derive(Serialize)]
pub(super) struct Summary {
    from: Option<String>,
    to: Option<String>,
    matched: u64,
    differ: u64,
    /// Accepted so shortly ago that CloudTrail may not show it yet.
    too_recent: u64,
    #[serde(flatten)]
    left_out: LeftOut,
    matched_senders: Vec<SenderCount>,
    cloudtrail: Counts,
}

impl Summary {
    pub(super) fn new(report: &Report<'_>, counts: Counts, hours: Hours, left_out: LeftOut) -> Self {
        let too_recent = report.differences.iter().filter(|difference| difference.finding.may_pass()).count();
        Self {
            from: hours.from.map(|from| from.to_string()),
            to: hours.to.map(|to| to.to_string()),
            matched: report.matched,
            differ: (report.differences.len() - too_recent) as u64 + counts.unreadable,
            too_recent: too_recent as u64,
            left_out,
            matched_senders: senders::of_matched(report),
            cloudtrail: counts,
        }
    }

    /// Nothing compared is no match: most often these are the wrong files or the wrong hours.
    pub(super) const fn exit(&self) -> Exit {
        match (self.differ, self.too_recent, self.matched) {
            (0, 0, 0) => Exit::Failed,
            (0, 0, _) => Exit::Ok,
            (0, _, _) => Exit::TryLater,
            _ => Exit::Failed,
        }
    }

    pub(super) fn show(&self, printer: &mut Printer<'_>) -> Result<(), Failure> {
        if printer.is_json() {
            return printer.json(&SummaryJson { summary: self });
        }
        let Self { matched, differ, too_recent, .. } = self;
        let recent = match too_recent {
            0 => String::new(),
            number => format!(", {number} not there yet"),
        };
        let (from, to) = (self.from.as_deref().unwrap_or_default(), self.to.as_deref().unwrap_or_default());
        printer.line(&format!(
            "{} match, {differ} differ{recent}; hours from {from} to {to}",
            count(*matched, "record")
        ))?;
        self.notes().iter().try_for_each(|note| printer.note(note))
    }

    /// What was not compared.
    fn notes(&self) -> Vec<String> {
        let Self { matched, differ, too_recent, left_out, cloudtrail, .. } = self;
        let nothing = *matched + *differ + *too_recent == 0;
        let outside = cloudtrail.outside_hours;
        let verb = if outside == 1 { "lies" } else { "lie" };
        let calls = count(cloudtrail.calls_without_results, "call");
        let notes = [
            (
                nothing,
                "nothing was compared: neither the ledger nor the files have an accepted record of these hours"
                    .to_owned(),
            ),
            (
                outside > 0,
                format!("{} in the files {verb} outside these hours", count(outside, "acceptance")),
            ),
            (left_out.other_products > 0, format!("left out: {} of other products", left_out.other_products)),
            (
                left_out.other_licenses > 0,
                format!(
                    "left out: {} of licenses that no record of this product has",
                    left_out.other_licenses
                ),
            ),
            (
                cloudtrail.calls_without_results > 0,
                format!("CloudTrail left out the results of {calls}, as it does when they are large"),
            ),
        ];
        notes.into_iter().filter(|(holds, _)| *holds).map(|(_, note)| note).collect()
    }
}
