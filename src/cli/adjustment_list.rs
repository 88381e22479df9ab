//! Adjustments as rows of a table and as JSON: what a person has taken from which hour.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    connect::{Agent, AgentService},
    exit::Failure,
    format::{given, rfc3339},
    output::Printer,
    record_list::{OriginJson, decider},
    table::{Table, number, text},
};
use crate::base::proto::{
    AdjustedHour, Adjustment, ListAdjustmentsRequest, ListRecordsRequest, TaggedAmount,
    ledger_service_client::LedgerServiceClient,
};

/// A list of adjustments that is being printed: as JSON at once, as a table when all are there.
pub(super) struct AdjustmentList {
    table: Table,
    is_empty: bool,
}

impl AdjustmentList {
    pub(super) fn new() -> Self {
        let columns = [
            number("ADJUSTMENT"),
            text("HOUR"),
            text("CUSTOMER"),
            text("DIMENSION"),
            number("TAKEN"),
            text("USED IN"),
            text("TAGS"),
            text("BY"),
            text("REASON"),
        ];
        Self { table: Table::new(&columns), is_empty: true }
    }

    pub(super) fn add(&mut self, adjustment: Adjustment, printer: &mut Printer<'_>) -> Result<(), Failure> {
        if printer.is_json() {
            return printer.json(&AdjustmentJson::from(adjustment));
        }
        self.is_empty = false;
        for hour in &adjustment.hours {
            self.table.row([
                adjustment.number.to_string(),
                rfc3339(hour.hour_unix_seconds).unwrap_or_default(),
                adjustment.customer.clone(),
                adjustment.dimension.clone(),
                total(hour).to_string(),
                used_in(hour),
                tags(hour),
                decider(&adjustment.decided_by, &adjustment.client),
                adjustment.reason.clone(),
            ]);
        }
        Ok(())
    }

    /// Prints the table, if anything is in it.
    pub(super) fn finish(self, printer: &mut Printer<'_>) -> Result<(), Failure> {
        if printer.is_json() || self.is_empty {
            return Ok(());
        }
        printer.table(&self.table, "")
    }
}

fn total(hour: &AdjustedHour) -> u128 {
    let amounts = hour.carried.iter().map(|origin| &origin.amount).chain([&hour.usage]);
    amounts.filter_map(|amount| amount.parse::<u128>().ok()).fold(0, u128::saturating_add)
}

/// The hours in which it was used, where that is not the hour itself alone.
fn used_in(hour: &AdjustedHour) -> String {
    if hour.carried.is_empty() {
        return String::new();
    }
    let own = Some(&hour.usage).filter(|usage| **usage != "0").map(|usage| (hour.hour_unix_seconds, usage));
    let carried = hour.carried.iter().map(|origin| (origin.hour_unix_seconds, &origin.amount));
    let part =
        |(start, amount): (i64, &String)| format!("{amount} in {}", rfc3339(start).unwrap_or_default());
    carried.chain(own).map(part).collect::<Vec<_>>().join(", ")
}

fn tags(hour: &AdjustedHour) -> String {
    let part = |part: &TaggedAmount| {
        let tags: BTreeMap<_, _> = part.tags.iter().collect();
        let tags: Vec<_> = tags.into_iter().map(|(key, value)| format!("{key}={value}")).collect();
        format!("{} of {}", part.amount, tags.join(" "))
    };
    hour.tagged.iter().map(part).collect::<Vec<_>>().join(", ")
}

/// Adjustments of the ledger, read page by page.
pub(super) struct AdjustmentPages {
    ledger: LedgerServiceClient<AgentService>,
    request: ListAdjustmentsRequest,
    is_at_end: bool,
}

impl AdjustmentPages {
    /// Those that took from the hours that records are asked for.
    pub(super) fn new(agent: &Agent, records: &ListRecordsRequest) -> Self {
        let request = ListAdjustmentsRequest {
            product: records.product.clone(),
            customer: records.customer.clone(),
            dimension: records.dimension.clone(),
            from_unix_seconds: records.from_unix_seconds,
            to_unix_seconds: records.to_unix_seconds,
            ..ListAdjustmentsRequest::default()
        };
        Self { ledger: agent.ledger(), request, is_at_end: false }
    }

    /// The next page, which may be empty; `None` behind the last one.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<Adjustment>>, Failure> {
        if self.is_at_end {
            return Ok(None);
        }
        let page = self.ledger.list_adjustments(self.request.clone()).await?.into_inner();
        self.is_at_end = page.next_page_token.is_empty();
        self.request.page_token = page.next_page_token;
        Ok(Some(page.adjustments))
    }
}

/// An adjustment as JSON. Amounts are text, in base units.
#[derive(Serialize)]
pub(super) struct AdjustmentJson {
    /// Tells it from a record.
    pub(super) kind: &'static str,
    pub(super) number: u64,
    pub(super) id: String,
    pub(super) product: String,
    pub(super) customer: String,
    pub(super) dimension: String,
    pub(super) amount: String,
    pub(super) reason: String,
    /// What the client said.
    pub(super) by: String,
    /// The client that proved itself.
    pub(super) client: Option<String>,
    pub(super) at: Option<String>,
    pub(super) hours: Vec<AdjustedHourJson>,
}

#[derive(Serialize)]
pub(super) struct AdjustedHourJson {
    pub(super) hour: Option<String>,
    pub(super) usage: String,
    pub(super) carried: Vec<OriginJson>,
    pub(super) tagged: Vec<TaggedJson>,
}

#[derive(Serialize)]
pub(super) struct TaggedJson {
    tags: BTreeMap<String, String>,
    amount: String,
}

impl From<Adjustment> for AdjustmentJson {
    fn from(adjustment: Adjustment) -> Self {
        Self {
            kind: "adjustment",
            number: adjustment.number,
            id: adjustment.adjustment_id,
            product: adjustment.product,
            customer: adjustment.customer,
            dimension: adjustment.dimension,
            amount: adjustment.amount,
            reason: adjustment.reason,
            by: adjustment.decided_by,
            client: given(adjustment.client),
            at: rfc3339(adjustment.decided_unix_seconds),
            hours: adjustment.hours.into_iter().map(Into::into).collect(),
        }
    }
}

impl From<AdjustedHour> for AdjustedHourJson {
    fn from(hour: AdjustedHour) -> Self {
        let part =
            |part: TaggedAmount| TaggedJson { tags: part.tags.into_iter().collect(), amount: part.amount };
        Self {
            hour: rfc3339(hour.hour_unix_seconds),
            usage: hour.usage,
            carried: hour.carried.into_iter().map(Into::into).collect(),
            tagged: hour.tagged.into_iter().map(part).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{output::Output, tests::adjusted},
        *,
    };

    fn shown(output: Output) -> String {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let mut printer = Printer::new(output, &mut out, &mut notes);
        let mut list = AdjustmentList::new();
        list.add(adjusted(), &mut printer).unwrap();
        list.finish(&mut printer).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_adjustment_shows_what_was_taken_from_which_hour_and_tags() {
        let expected = "\
ADJUSTMENT  HOUR                  CUSTOMER  DIMENSION    TAKEN  USED IN                                                     TAGS              BY                REASON
         3  2026-11-22T09:00:00Z  acme      gb_out     5000000  4999993 in 2026-11-22T08:00:00Z, 7 in 2026-11-22T09:00:00Z  4000 of team=red  ann (client ops)  a slip
";
        assert_eq!(shown(Output::Human), expected);
    }

    #[test]
    fn machines_get_an_object_of_a_kind_of_its_own() {
        let json: serde_json::Value = serde_json::from_str(&shown(Output::Json)).unwrap();
        let expected = serde_json::json!({
            "kind": "adjustment", "number": 3, "id": "adjust-1", "product": "prod", "customer": "acme",
            "dimension": "gb_out", "amount": "5000000", "reason": "a slip", "by": "ann", "client": "ops", "at": "2026-11-22T10:12:00Z",
            "hours": [{
                "hour": "2026-11-22T09:00:00Z", "usage": "7",
                "carried": [{"hour": "2026-11-22T08:00:00Z", "amount": "4999993"}],
                "tagged": [{"tags": {"team": "red"}, "amount": "4000"}],
            }],
        });
        assert_eq!(json, expected);
    }
}
