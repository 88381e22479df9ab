//! `tallyman emit`: sends usage events by hand.

use std::{collections::BTreeMap, time::Duration};

use backon::{ExponentialBuilder, Retryable};
use clap::{Args, builder::NonEmptyStringValueParser};
use serde::Serialize;
use tonic::{Code, Status};
use uuid::Uuid;

use super::{
    connect::{Agent, AgentArgs},
    exit::{Exit, Failure, describe, is_connection_fault},
    format::{count, enum_name, span},
    output::Printer,
};
use crate::{
    base::proto::{RecordRequest, RecordResponse, UsageEvent, rejection::Reason},
    domain::{text::printable, time::Timestamp},
};

#[derive(Debug, Args)]
pub(crate) struct EmitArgs {
    /// The key under which the application knows the customer.
    #[arg(long, value_name = "KEY")]
    customer: String,
    /// The dimension's API name.
    #[arg(long, value_name = "NAME")]
    dimension: String,
    /// Whole base units, for instance bytes.
    #[arg(long, default_value_t = 1, value_name = "N")]
    quantity: u64,
    /// Who or what was active, for dimensions that count distinct subjects. With --count, `-1`, `-2` and so on are added.
    #[arg(long, default_value = "", value_name = "NAME")]
    subject: String,
    /// A tag of the usage, for dimensions that take them; up to five.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_tag)]
    tags: Vec<(String, String)>,
    /// The product's code. May be left out when the agent serves only one.
    #[arg(long, value_name = "CODE")]
    product: Option<String>,
    /// The event's id: repeats of it count once. With --count, `-1`, `-2` and so on are added. [default: a random one]
    #[arg(long, value_name = "ID", conflicts_with = "no_event_id", value_parser = NonEmptyStringValueParser::new())]
    event_id: Option<String>,
    /// Send no id. Then a repeat could count twice, so a request is only repeated when it surely did not count.
    #[arg(long)]
    no_event_id: bool,
    /// When the usage happened (RFC 3339). [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    time: Option<EventTime>,
    /// How many such events.
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: u64,
    /// How many events go into one request.
    #[arg(long, default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=100_000))]
    batch: u64,
    /// How long a request is repeated while the agent is full or unavailable.
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = parse_timeout)]
    timeout: Duration,
    #[command(flatten)]
    agent: AgentArgs,
}

/// An event's time as the protocol has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct EventTime {
    unix_nanos: u64,
}

fn parse_time(text: &str) -> Result<EventTime, String> {
    let moment: Timestamp = text.parse()?;
    let nanos = u64::try_from(moment.millis()).ok().and_then(|millis| millis.checked_mul(1_000_000));
    // A time of 0 means "now" in the protocol, so no event can be of that moment.
    let unix_nanos = nanos.filter(|nanos| *nanos > 0).ok_or_else(|| format!("`{text}` is out of range"))?;
    Ok(EventTime { unix_nanos })
}

pub(super) fn parse_tag(text: &str) -> Result<(String, String), String> {
    let parts = text.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    parts.ok_or_else(|| format!("`{text}` is not a tag like team=blue"))
}

pub(super) fn parse_timeout(text: &str) -> Result<Duration, String> {
    let span = text.parse::<jiff::SignedDuration>().ok().and_then(|span| Duration::try_from(span).ok());
    span.filter(|span| !span.is_zero())
        .ok_or_else(|| format!("`{text}` is not a span of time like 30s or 5m"))
}

pub(super) async fn run(args: EmitArgs, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let agent = Agent::connect(&args.agent).await?;
    let sender = Sender { agent, event_id: args.base_id(), args };
    let mut totals = Totals::default();
    let result = sender.send_all(&mut totals, printer).await;
    printer.end_progress()?;
    // The totals are shown also after a failure: some events may have counted.
    if totals.has_answers {
        totals.show(sender.event_id.as_deref(), printer)?;
    }
    result?;
    Ok(if totals.rejected == 0 { Exit::Ok } else { Exit::Failed })
}

impl EmitArgs {
    /// The id of a single event, or the beginning of the ids of many.
    fn base_id(&self) -> Option<String> {
        if self.no_event_id {
            return None;
        }
        Some(self.event_id.clone().unwrap_or_else(random_id))
    }
}

fn random_id() -> String {
    format!("emit-{}", Uuid::new_v4())
}

struct Sender {
    agent: Agent,
    args: EmitArgs,
    event_id: Option<String>,
}

impl Sender {
    async fn send_all(&self, totals: &mut Totals, printer: &mut Printer<'_>) -> Result<(), Failure> {
        let EmitArgs { count, batch, .. } = self.args;
        let mut sent = 0;
        while sent < count {
            let next = count.min(sent.saturating_add(batch));
            let events = (sent..next).map(|index| self.event(index)).collect();
            totals.add(self.send(RecordRequest { events }).await?);
            sent = next;
            if count > batch {
                printer.progress(&format!("{sent} of {count} events sent"))?;
            }
        }
        Ok(())
    }

    fn event(&self, index: u64) -> UsageEvent {
        let args = &self.args;
        let numbered = |base: &str| match base {
            "" => String::new(),
            base if args.count > 1 => format!("{base}-{}", index.saturating_add(1)),
            base => base.to_owned(),
        };
        UsageEvent {
            customer: args.customer.clone(),
            dimension: args.dimension.clone(),
            quantity: args.quantity,
            time_unix_nano: args.time.map_or(0, |time| time.unix_nanos),
            event_id: numbered(self.event_id.as_deref().unwrap_or_default()),
            product: args.product.clone().unwrap_or_default(),
            subject: numbered(&args.subject),
            tags: args.tags.iter().cloned().collect(),
        }
    }

    /// Sends one request, and repeats it while that may help and cannot count an event twice.
    async fn send(&self, request: RecordRequest) -> Result<RecordResponse, Failure> {
        let mut last = None;
        let attempt = || async { self.agent.usage().record(request.clone()).await };
        let attempts = attempt
            .retry(backoff())
            .sleep(tokio::time::sleep)
            .when(|status| is_worth_repeating(status, self.event_id.is_some()))
            .notify(|status, _| last = Some(describe(status)));
        match tokio::time::timeout(self.args.timeout, attempts).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(Failure::GaveUp {
                waited: span(self.args.timeout),
                cause: last.unwrap_or_else(|| "the agent did not answer".to_owned()),
                advice: self.advice(),
            }),
        }
    }

    /// What to do about a request that was given up.
    fn advice(&self) -> String {
        match &self.event_id {
            Some(id) => {
                format!(
                    "The same command with --event-id {id} may be repeated within the dedup window: nothing counts twice"
                )
            }
            None => "Whether the last request counted is not known".to_owned(),
        }
    }
}

/// Slow enough for an agent that is full, quick enough for one that restarts.
pub(super) fn backoff() -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(100))
        .with_max_delay(Duration::from_secs(2))
        .with_jitter()
        .without_max_times()
}

pub(super) fn is_worth_repeating(status: &Status, has_ids: bool) -> bool {
    if is_connection_fault(status) {
        return has_ids;
    }
    match status.code() {
        // Nothing was counted.
        Code::ResourceExhausted => true,
        // It may have been counted if the agent stopped meanwhile.
        Code::Unavailable => has_ids,
        _ => false,
    }
}

/// How many events were counted, and why others were not.
#[derive(Debug, Default)]
struct Totals {
    has_answers: bool,
    accepted: u64,
    duplicates: u64,
    late: u64,
    untagged: u64,
    not_billable: u64,
    rejected: u64,
    /// How many events were rejected, by reason and message.
    rejections: BTreeMap<(String, String), u64>,
}

/// The most kinds of rejection that are shown. Messages that name the time differ from request to request, so there may
/// be very many.
const MOST_REJECTIONS: usize = 20;

impl Totals {
    fn add(&mut self, answer: RecordResponse) {
        self.has_answers = true;
        self.accepted = self.accepted.saturating_add(answer.accepted);
        self.duplicates = self.duplicates.saturating_add(answer.duplicates);
        self.late = self.late.saturating_add(answer.late);
        self.untagged = self.untagged.saturating_add(answer.untagged);
        self.not_billable = self.not_billable.saturating_add(answer.not_billable);
        for rejection in answer.rejected {
            self.rejected = self.rejected.saturating_add(1);
            let key = (reason_name(rejection.reason), rejection.message);
            if self.rejections.len() < MOST_REJECTIONS || self.rejections.contains_key(&key) {
                let events = self.rejections.entry(key).or_default();
                *events = events.saturating_add(1);
            }
        }
    }

    fn show(&self, event_id: Option<&str>, printer: &mut Printer<'_>) -> Result<(), Failure> {
        if printer.is_json() {
            return printer.json(&self.json(event_id));
        }
        let Self { accepted, duplicates, late, rejected, .. } = self;
        printer.line(&format!(
            "accepted {accepted}, duplicates {duplicates}, late {late}, rejected {rejected}"
        ))?;
        if self.untagged > 0 {
            printer.line(&format!(
                "  {} without tags: the hour has no room for more sets",
                count(self.untagged, "event")
            ))?;
        }
        if self.not_billable > 0 {
            printer.line(&format!(
                "  {} not billable: the customer has ended, so it is held (`tallyman held`); `tallyman customers put KEY \
                 --reopen` takes the customer back",
                count(self.not_billable, "event")
            ))?;
        }
        for ((reason, message), events) in &self.rejections {
            printer.line(&format!(
                "  {} rejected, {reason}: {}",
                count(*events, "event"),
                printable(message)
            ))?;
        }
        Ok(())
    }

    fn json<'t>(&'t self, event_id: Option<&'t str>) -> TotalsJson<'t> {
        let rejections = self.rejections.iter();
        let rejections = rejections
            .map(|((reason, message), &events)| RejectionJson { reason, message, events })
            .collect();
        TotalsJson {
            accepted: self.accepted,
            duplicates: self.duplicates,
            late: self.late,
            untagged: self.untagged,
            not_billable: self.not_billable,
            rejected: self.rejected,
            event_id,
            rejections,
        }
    }
}

fn reason_name(reason: i32) -> String {
    Reason::try_from(reason)
        .map_or_else(|_| format!("reason_{reason}"), |reason| enum_name(reason.as_str_name()))
}

#[derive(Serialize)]
struct TotalsJson<'t> {
    accepted: u64,
    duplicates: u64,
    late: u64,
    untagged: u64,
    not_billable: u64,
    rejected: u64,
    event_id: Option<&'t str>,
    rejections: Vec<RejectionJson<'t>>,
}

#[derive(Serialize)]
struct RejectionJson<'t> {
    reason: &'t str,
    message: &'t str,
    events: u64,
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::base::proto::Rejection;

    #[test]
    fn random_ids_differ() {
        let ids: HashSet<String> = (0..1000).map(|_| random_id()).collect();
        assert_eq!(ids.len(), 1000);
    }

    #[test]
    fn without_ids_only_what_surely_did_not_count_is_repeated() {
        let lost = |code| {
            let mut status = Status::new(code, "lost");
            status.set_source(std::sync::Arc::new(std::io::Error::other("reset")));
            status
        };
        assert!(is_worth_repeating(&Status::unavailable("starting"), true));
        assert!(!is_worth_repeating(&Status::unavailable("starting"), false));
        assert!(is_worth_repeating(&Status::resource_exhausted("full"), false));
        assert!(is_worth_repeating(&lost(Code::Unknown), true));
        assert!(!is_worth_repeating(&lost(Code::ResourceExhausted), false));
        assert!(!is_worth_repeating(&Status::invalid_argument("no"), true));
    }

    #[test]
    fn rejections_are_gathered_by_what_is_wrong() {
        let rejection = |index, message: &str| Rejection {
            index,
            reason: Reason::UnknownDimension.into(),
            message: message.to_owned(),
        };
        let mut totals = Totals::default();
        totals.add(RecordResponse {
            accepted: 1,
            duplicates: 2,
            late: 1,
            untagged: 0,
            not_billable: 1,
            rejected: vec![rejection(1, "a"), rejection(2, "a"), rejection(3, "b")],
        });
        let json = serde_json::to_value(totals.json(Some("id"))).unwrap();
        let expected = serde_json::json!({
            "accepted": 1, "duplicates": 2, "late": 1, "untagged": 0, "not_billable": 1, "rejected": 3, "event_id": "id",
            "rejections": [
                {"reason": "unknown_dimension", "message": "a", "events": 2},
                {"reason": "unknown_dimension", "message": "b", "events": 1},
            ],
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn times_and_spans_are_read() {
        assert_eq!(parse_time("1970-01-01T00:00:01Z"), Ok(EventTime { unix_nanos: 1_000_000_000 }));
        for text in ["1970-01-01T00:00:00Z", "1969-01-01T00:00:00Z", "9999-01-01T00:00:00Z", "noon"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
        assert_eq!(parse_timeout("1m30s"), Ok(Duration::from_secs(90)));
        assert!(
            parse_timeout("0s").is_err() && parse_timeout("-1s").is_err() && parse_timeout("soon").is_err()
        );
    }
}
