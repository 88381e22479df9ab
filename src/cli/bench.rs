//! `tallyman bench`: measures how much usage an agent takes, and how fast it answers.

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{
    connect::{Agent, AgentArgs},
    exit::{Exit, Failure},
    format::count,
    output::Printer,
};
use crate::{
    base::proto::GetSummaryRequest,
    domain::text::printable,
    load::{self, Load, Mode, Report, Usage},
};

#[derive(Debug, Args)]
#[command(after_help = WARNING)]
pub(crate) struct BenchArgs {
    /// Send to an agent that bills AWS: the customers that the options name will pay for it.
    #[arg(long)]
    yes_bill_this: bool,
    /// Calls of `Record`, or one `RecordStream` on each connection.
    #[arg(long, value_enum, default_value_t, value_name = "MODE")]
    mode: ModeArg,
    /// How many events go into one request.
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    batch: u32,
    /// How many connections.
    #[arg(long, default_value_t = 4, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    connections: u32,
    /// How many requests of each connection may wait for their answers.
    #[arg(long, default_value_t = 16, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    in_flight: u32,
    /// Events a second. Each request then has its moment, and its answer's time counts from there. 0 is as fast as
    /// the answers come.
    #[arg(long, default_value_t = 0, value_name = "N", value_parser = clap::value_parser!(u64).range(..=MOST_PER_SECOND))]
    rate: u64,
    /// For how long, at most an hour. [default: 10s; with --events an hour]
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// How many events at most. [default: as many as the time allows]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    events: Option<u64>,
    /// Give each event an id of its own (32 bytes), so that the agent looks for repeats.
    #[arg(long)]
    ids: bool,
    /// Build and encode each request anew, as an application does, instead of once ahead.
    #[arg(long)]
    encode_anew: bool,
    /// How many customers; each event is of one of them, drawn at random.
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    customers: u32,
    /// What their keys begin with; a number follows, with zeros before it that make 12 characters, as an account id has.
    #[arg(long, default_value = "9", value_name = "TEXT")]
    customer_prefix: String,
    /// The dimensions' API names, with commas between them; each event is of one of them, drawn at random.
    #[arg(long, value_name = "NAMES", required = true, value_delimiter = ',')]
    dimension: Vec<String>,
    /// The product's code. May be left out when the agent serves only one.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "CODE")]
    product: String,
    /// Whole base units of each event.
    #[arg(long, default_value_t = 1, value_name = "N")]
    quantity: u64,
    #[command(flatten)]
    agent: AgentArgs,
}

const WARNING: &str = "It sends real usage, which an agent bills like any other. So it refuses an agent that bills AWS, unless \
                       --yes-bill-this is given: run one with --sandbox and a data_dir of its own. \
                       Exits 1 if any event that it sent did not count.";

#[derive(Clone, Copy, Debug, Default, ValueEnum)]
enum ModeArg {
    Unary,
    #[default]
    Stream,
}

const MOST_PER_SECOND: u64 = 1_000_000_000;
const USUAL_DURATION: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_hours(1);

fn parse_duration(text: &str) -> Result<Duration, String> {
    let span = text.parse::<jiff::SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
    span.filter(|span| (Duration::from_nanos(1)..=LONGEST).contains(span))
        .ok_or_else(|| format!("`{text}` is not a span of time like 30s or 5m, of an hour at most"))
}

pub(super) async fn run(args: BenchArgs, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    if !args.yes_bill_this {
        refuse_to_bill(&args.agent).await?;
    }
    let target = Agent::connections(&args.agent, args.connections).await?;
    let report = load::run(&args.load(), target).await?;
    if printer.is_json() {
        printer.json(&ReportJson::new(&report))?;
    } else {
        show(&report, printer)?;
    }
    Ok(if report.is_clean() { Exit::Ok } else { Exit::Failed })
}

/// Fails unless the agent bills a sandbox.
async fn refuse_to_bill(args: &AgentArgs) -> Result<(), Failure> {
    let agent = Agent::connect(args).await?;
    if agent.ledger().get_summary(GetSummaryRequest {}).await?.into_inner().sandbox {
        return Ok(());
    }
    Err(Failure::Usage(format!(
        "the agent at {} bills AWS, and would bill what this sends to its customers. Run one with --sandbox and a \
         data_dir of its own, or say --yes-bill-this",
        args.address()
    )))
}

impl BenchArgs {
    fn load(&self) -> Load {
        let usual = if self.events.is_some() { LONGEST } else { USUAL_DURATION };
        Load {
            encodes_anew: self.encode_anew,
            mode: match self.mode {
                ModeArg::Unary => Mode::Unary,
                ModeArg::Stream => Mode::Stream,
            },
            usage: Usage {
                product: self.product.clone(),
                dimensions: self.dimension.clone(),
                customers: self.customers,
                customer_prefix: self.customer_prefix.clone(),
                quantity: self.quantity,
                has_ids: self.ids,
            },
            batch: self.batch,
            in_flight: self.in_flight,
            most_events: self.events.unwrap_or(u64::MAX),
            duration: self.duration.unwrap_or(usual),
            rate: self.rate,
        }
    }
}

fn show(report: &Report, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let Report { sent, accepted, duplicates, rejected, late, unanswered, .. } = report;
    let seconds = report.elapsed.as_secs_f64();
    let sent = count(*sent, "event");
    printer.line(&format!("sent       {sent} in {}, {seconds:.2} s", count(report.requests, "request")))?;
    printer.line(&format!(
        "answered   {} events/s, {} requests/s",
        report.events_per_second(),
        report.requests_per_second()
    ))?;
    let latencies =
        PERCENTILES.map(|(name, of_100_000)| format!("{name} {}", ms(report.latency(of_100_000))));
    printer.line(&format!("latency    {}, longest {} ms", latencies.join(", "), ms(report.longest())))?;
    printer.line(&format!(
        "accepted {accepted}, duplicates {duplicates}, late {late}, rejected {rejected}, unanswered {unanswered}"
    ))?;
    for (fault, requests) in &report.faults {
        printer.line(&format!("  {} failed, {}", count(*requests, "request"), printable(fault)))?;
    }
    Ok(())
}

/// Percentiles that are shown: name, and position in a hundred thousand answers.
const PERCENTILES: [(&str, u64); 4] = [("p50", 50_000), ("p90", 90_000), ("p99", 99_000), ("p99.9", 99_900)];

fn ms(span: Duration) -> String {
    format!("{:.2}", millis(span))
}

fn millis(span: Duration) -> f64 {
    span.as_secs_f64() * 1000.0
}

#[derive(Serialize)]
struct ReportJson<'r> {
    requests: u64,
    sent: u64,
    accepted: u64,
    duplicates: u64,
    late: u64,
    rejected: u64,
    unanswered: u64,
    seconds: f64,
    events_per_second: u64,
    requests_per_second: u64,
    latency_ms: LatencyJson,
    faults: Vec<FaultJson<'r>>,
}

#[derive(Serialize)]
struct LatencyJson {
    p50: f64,
    p90: f64,
    p99: f64,
    #[serde(rename = "p99.9")]
    p99_9: f64,
    longest: f64,
}

#[derive(Serialize)]
struct FaultJson<'r> {
    message: &'r str,
    requests: u64,
}

impl<'r> ReportJson<'r> {
    fn new(report: &'r Report) -> Self {
        let [p50, p90, p99, p99_9] = PERCENTILES.map(|(_, of_100_000)| millis(report.latency(of_100_000)));
        let faults = report.faults.iter().map(|(message, &requests)| FaultJson { message, requests });
        Self {
            requests: report.requests,
            sent: report.sent,
            accepted: report.accepted,
            duplicates: report.duplicates,
            late: report.late,
            rejected: report.rejected,
            unanswered: report.unanswered,
            seconds: report.elapsed.as_secs_f64(),
            events_per_second: report.events_per_second(),
            requests_per_second: report.requests_per_second(),
            latency_ms: LatencyJson { p50, p90, p99, p99_9, longest: millis(report.longest()) },
            faults: faults.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_bounded() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        for text in ["0s", "-1s", "61m", "soon"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
