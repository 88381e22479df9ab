//! `tallyman status`: shows how an agent is doing.

use clap::Args;
use serde_json::json;
use tonic::{Code, Status};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use super::{
    connect::{Agent, AgentArgs},
    exit::{Exit, Failure},
    format::{ago, count, given, left, moment, rfc3339},
    output::Printer,
    table::{Table, number, text},
};
use crate::{
    api::summary::to_json,
    aws::metering::Endpoint,
    base::proto::{DimensionSummary, GetSummaryRequest, ProductSummary, Summary},
    domain::{
        text::printable,
        time::{Hour, Timestamp},
    },
};

#[derive(Debug, Args)]
pub(crate) struct StatusArgs {
    /// Exit with 1 unless the agent takes usage: for health checks.
    #[arg(long)]
    ready: bool,
    #[command(flatten)]
    agent: AgentArgs,
}

pub(super) async fn run(args: &StatusArgs, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let agent = Agent::connect(&args.agent).await?;
    let summary = match agent.ledger().get_summary(GetSummaryRequest {}).await {
        Ok(summary) => summary.into_inner(),
        Err(refused) if args.ready && is_for_others(&refused) => return tell_health(&agent, printer).await,
        Err(refused) => return Err(refused.into()),
    };
    if printer.is_json() {
        printer.json(&to_json(&summary))?;
    } else {
        printer.text(&render(&summary))?;
    }
    Ok(if args.ready && !summary.accepting { Exit::Failed } else { Exit::Ok })
}

/// Whether the summary is refused to this client.
fn is_for_others(refused: &Status) -> bool {
    matches!(refused.code(), Code::PermissionDenied | Code::Unauthenticated)
}

/// Tells whether the agent takes usage. Anyone may ask that, also a health check that has an application's token.
async fn tell_health(agent: &Agent, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let asked = HealthCheckRequest { service: "tallyman.v1.UsageService".to_owned() };
    let accepting = agent.health().check(asked).await?.into_inner().status() == ServingStatus::Serving;
    if printer.is_json() {
        printer.json(&json!({ "accepting": accepting }))?;
    } else {
        printer.text(if accepting { "takes usage\n" } else { "TAKES NO USAGE\n" })?;
    }
    Ok(if accepting { Exit::Ok } else { Exit::Failed })
}

fn render(summary: &Summary) -> String {
    let now = Timestamp::from_seconds(summary.now_unix_seconds);
    let mut page = lines(&agent_fields(summary, now));
    for product in &summary.products {
        page.push(String::new());
        page.push(format!("product {}", printable(&product.code)));
        page.extend(indented(lines(&product_fields(product, now))));
        let table = dimension_table(&product.dimensions).render();
        page.extend(indented(table.lines().map(str::to_owned)));
    }
    page.push(String::new());
    page.join("\n")
}

type Field = (&'static str, String);

fn agent_fields(summary: &Summary, now: Timestamp) -> Vec<Field> {
    let sealed = match moment(summary.sealed_through_unix_seconds) {
        Some(hour) => {
            let end = Hour::containing(hour).end();
            format!("up to {end} ({})", ago(end, now))
        }
        None => "nothing yet".to_owned(),
    };
    let state = if summary.accepting {
        "takes usage".to_owned()
    } else {
        let fault = given(summary.fault.clone()).unwrap_or_else(|| "no reason given".to_owned());
        format!("TAKES NO USAGE: {fault}")
    };
    let mut fields = vec![
        ("agent", format!("{} (tallyman {})", summary.agent_id, summary.version)),
        ("state", state),
        ("time", now.to_string()),
        ("sealed", sealed),
        ("open", count(summary.open_buckets, "bucket")),
        ("folder", folder(summary)),
    ];
    if !summary.clock_fault.is_empty() {
        fields.insert(3, ("CLOCK", summary.clock_fault.clone()));
    }
    if summary.sandbox {
        fields.insert(
            2,
            ("SANDBOX", "nothing is billed: a sandbox in the agent's process stands for AWS".to_owned()),
        );
    }
    fields
}

fn folder(summary: &Summary) -> String {
    let is_new = if summary.data_dir_is_new { " (new at this start)" } else { "" };
    format!("{}{is_new}", summary.data_dir)
}

/// Shows where the records go, in the words of the agent's log.
fn endpoint(product: &ProductSummary) -> String {
    let ProductSummary { endpoint_url, region, bills_nothing, .. } = product.clone();
    Endpoint { url: endpoint_url, region, may_bill: !bills_nothing }.to_string()
}

fn product_fields(product: &ProductSummary, now: Timestamp) -> Vec<Field> {
    let mut lines = vec![
        ("endpoint", endpoint(product)),
        ("customers", format!("{}, known to AWS by {}", product.customers, product.identity)),
        ("unsent", unsent(product, now)),
    ];
    if let Some(deadline) = moment(product.nearest_deadline_unix_seconds) {
        lines.push(("deadline", format!("{} (AWS takes it until {deadline})", left(deadline, now))));
    }
    if let Some(until) = moment(product.in_review_until_unix_seconds) {
        let hour = rfc3339(product.in_review_hour_unix_seconds).unwrap_or_default();
        let left = left(until, now);
        lines.push(("in review", format!("until {until} ({left}), the hour {hour}: see `tallyman adjust`")));
    }
    let capped = product.dimensions.iter().filter(|dimension| dimension.capped_customers > 0);
    lines.extend(capped.map(|dimension| ("capped", capped_hour(dimension))));
    if !product.last_error.is_empty() {
        lines.push(("because", product.last_error.clone()));
    }
    let held = match product.records_held {
        0 => "none".to_owned(),
        records => format!("{} for a person to decide: see `tallyman held`", count(records, "record")),
    };
    let last_success = moment(product.last_success_unix_seconds);
    let last_success = last_success.map_or_else(String::new, |then| format!(", last {}", ago(then, now)));
    let accepted = match product.records_accepted {
        0 => "none".to_owned(),
        records => count(records, "record"),
    };
    lines.push(("held", held));
    if product.events_not_billable > 0 {
        let events = count(product.events_not_billable, "event");
        lines.push((
            "ended",
            format!("{events} of ended customers since the agent's start: held as not billable at their hour's seal"),
        ));
    }
    lines.push(("accepted", format!("{accepted} since the agent's start{last_success}")));
    lines
}

fn capped_hour(dimension: &DimensionSummary) -> String {
    let customers = count(dimension.capped_customers, "customer");
    format!(
        "{}: {customers} reached AWS's largest quantity in the last sealed hour; `tallyman adjust` stops what is above it",
        dimension.name
    )
}

fn unsent(product: &ProductSummary, now: Timestamp) -> String {
    let records = match product.records_unsent {
        0 => "none".to_owned(),
        records => count(records, "record"),
    };
    match moment(product.oldest_unsent_unix_seconds) {
        Some(hour) => format!("{records}, the oldest of the hour {hour} ({})", ago(hour, now)),
        None => records,
    }
}

fn dimension_table(dimensions: &[DimensionSummary]) -> Table {
    let mut table =
        Table::new(&[text("dimension, in base units"), number("open"), number("unsent"), number("held")]);
    for dimension in dimensions {
        let DimensionSummary { name, open, unsent, held, .. } = dimension.clone();
        table.row([name, open, unsent, held]);
    }
    table
}

/// A line for each field, with the values aligned.
fn lines(fields: &[Field]) -> Vec<String> {
    fields.iter().map(|(label, value)| format!("{label:<LABEL_WIDTH$}{}", printable(value))).collect()
}

/// The width of the longest label and a gap.
const LABEL_WIDTH: usize = 11;

fn indented(lines: impl IntoIterator<Item = String>) -> impl Iterator<Item = String> {
    lines.into_iter().map(|line| format!("  {line}"))
}

#[cfg(test)]
mod tests {
    use super::{super::tests::summary, *};

    #[test]
    fn an_operator_sees_what_waits_how_long_and_why() {
        let expected = "\
agent      node-a (tallyman 0.1.0)
state      takes usage
time       2026-11-22T10:12:00Z
sealed     up to 2026-11-22T10:00:00Z (12m ago)
open       7 buckets
folder     /var/lib/tallyman

product prod
  endpoint   https://metering.marketplace.us-east-1.amazonaws.com (us-east-1)
  customers  3, known to AWS by account
  unsent     2 records, the oldest of the hour 2026-11-22T09:00:00Z (1h 12m ago)
  deadline   22h 48m left (AWS takes it until 2026-11-23T09:00:00Z)
  because    ThrottlingException: slow down
  held       1 record for a person to decide: see `tallyman held`
  accepted   120 records since the agent's start, last 3m ago
  dimension, in base units   open       unsent  held
  gb_out                    12345  98765432109     0
  requests                      1            0    17
";
        assert_eq!(render(&summary()), expected);
    }

    #[test]
    fn an_hour_of_the_largest_quantity_is_told_with_what_stops_the_rest() {
        let mut summary = summary();
        summary.products[0].dimensions[0].capped_customers = 2;
        let page = render(&summary);
        let expected = "  capped     gb_out: 2 customers reached AWS's largest quantity in the last sealed hour; `tallyman \
                        adjust` stops what is above it\n";
        assert!(page.contains(expected), "{page}");
    }

    #[test]
    fn an_hour_in_review_says_until_when() {
        let mut summary = summary();
        let product = &mut summary.products[0];
        product.in_review_hour_unix_seconds = product.oldest_unsent_unix_seconds;
        product.in_review_until_unix_seconds = summary.now_unix_seconds + 7200;
        let page = render(&summary);
        let expected = "  in review  until 2026-11-22T12:12:00Z (2h left), the hour 2026-11-22T09:00:00Z: see `tallyman adjust`\n";
        assert!(page.contains(expected), "{page}");
    }

    #[test]
    fn a_fresh_agent_and_a_broken_one_say_so() {
        let fresh = render(&Summary {
            accepting: true,
            products: vec![ProductSummary::default()],
            ..Summary::default()
        });
        for words in [
            "nothing yet",
            "0 buckets",
            "unsent     none\n",
            "held       none\n",
            "accepted   none since the agent's start\n",
        ] {
            assert!(fresh.contains(words), "{words} not in\n{fresh}");
        }
        let broken = render(&Summary { fault: "the disk is full".to_owned(), ..Summary::default() });
        assert!(broken.contains("TAKES NO USAGE: the disk is full"), "{broken}");
        let jumped = render(&Summary { clock_fault: "5h ahead".to_owned(), ..Summary::default() });
        assert!(jumped.contains("CLOCK      5h ahead\n"), "{jumped}");
        let new = Summary { data_dir: "/data".to_owned(), data_dir_is_new: true, ..Summary::default() };
        assert!(render(&new).contains("folder     /data (new at this start)\n"));
        let test = ProductSummary { bills_nothing: true, ..ProductSummary::default() };
        let test = render(&Summary { products: vec![test], ..Summary::default() });
        assert!(test.contains("(for tests: nothing is billed there)"), "{test}");
        let sandbox = render(&Summary { sandbox: true, ..Summary::default() });
        assert!(sandbox.contains("SANDBOX    nothing is billed") && !fresh.contains("SANDBOX"), "{sandbox}");
    }

    #[test]
    fn machines_get_one_object_with_stable_keys() {
        let json = to_json(&summary());
        let expected = serde_json::json!({
            "version": "0.1.0", "agent_id": "node-a", "now": "2026-11-22T10:12:00Z", "accepting": true, "fault": null, "clock_fault": null,
            "sealed_through": "2026-11-22T09:00:00Z", "open_buckets": 7, "sandbox": false,
            "data_dir": "/var/lib/tallyman", "data_dir_is_new": false,
            "products": [{
                "code": "prod", "identity": "account", "customers": 3, "records_unsent": 2,
                "endpoint_url": "https://metering.marketplace.us-east-1.amazonaws.com", "region": "us-east-1",
                "bills_nothing": false,
                "oldest_unsent": "2026-11-22T09:00:00Z", "nearest_deadline": "2026-11-23T09:00:00Z",
                "records_held": 1, "records_accepted": 120, "last_success": "2026-11-22T10:09:00Z",
                "last_error": "ThrottlingException: slow down", "events_not_billable": 0,
                "in_review_hour": null, "in_review_until": null,
                "dimensions": [
                    {"name": "gb_out", "open": "12345", "unsent": "98765432109", "held": "0", "capped_customers": 0},
                    {"name": "requests", "open": "1", "unsent": "0", "held": "17", "capped_customers": 0},
                ],
            }],
        });
        assert_eq!(json, expected);
    }
}
