//! `tallyman adjust`: takes away usage that is not sealed yet.

use std::time::Duration;

use backon::Retryable;
use clap::{Args, builder::NonEmptyStringValueParser};
use serde::Serialize;
use uuid::Uuid;

use super::{
    adjustment_list::{AdjustmentJson, AdjustmentList},
    connect::{Agent, AgentArgs},
    emit::{backoff, is_worth_repeating, parse_tag, parse_timeout},
    exit::{Exit, Failure, describe},
    format::span,
    held::decider,
    output::Printer,
};
use crate::{
    base::proto::{AdjustRequest, AdjustResponse},
    domain::{text::printable, time::Timestamp},
};

#[derive(Debug, Args)]
#[command(
    after_help = "Lowers what is open for a customer and dimension, and what earlier hours carried into that. What is \
                        sealed cannot be lowered: a held record can be written off (tallyman held). Without --hour and \
                        --tag the largest part goes first."
)]
pub(crate) struct AdjustArgs {
    /// The customer's key.
    #[arg(long, value_name = "KEY")]
    customer: String,
    /// The dimension's API name.
    #[arg(long, value_name = "NAME")]
    dimension: String,
    /// How many base units to take away. More than there is, is refused.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    minus: u64,
    /// Why, for whoever asks later.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: String,
    /// The product's code. May be left out when the agent serves only one.
    #[arg(long, value_name = "CODE")]
    product: Option<String>,
    /// Only usage of the hour that starts at this moment (RFC 3339), wherever it has been carried to.
    #[arg(long, value_name = "TIME")]
    hour: Option<Timestamp>,
    /// Only usage with exactly these tags.
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = parse_tag)]
    tags: Vec<(String, String)>,
    /// Who decides; by default the user of this shell, where there is one.
    #[arg(long, env = "USER", value_name = "NAME")]
    by: Option<String>,
    /// The adjustment's id: under one id it counts once, however often it is sent. [default: a random one]
    #[arg(long, value_name = "ID", value_parser = NonEmptyStringValueParser::new())]
    id: Option<String>,
    /// How long it is sent again while the agent is unavailable.
    #[arg(long, default_value = "30s", value_name = "TIME", value_parser = parse_timeout)]
    timeout: Duration,
    #[command(flatten)]
    agent: AgentArgs,
}

pub(super) async fn run(args: AdjustArgs, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let id = args.id.clone().unwrap_or_else(|| format!("adjust-{}", Uuid::new_v4()));
    let request = args.request(&id)?;
    let agent = Agent::connect(&args.agent).await?;
    let answer = send(&agent, request, args.timeout).await?;
    show(answer, printer)?;
    Ok(Exit::Ok)
}

/// Sends it, and again under the same id while that may help.
async fn send(agent: &Agent, request: AdjustRequest, timeout: Duration) -> Result<AdjustResponse, Failure> {
    let mut last = None;
    let attempt = || async { agent.ledger().adjust(request.clone()).await };
    let attempts = attempt
        .retry(backoff())
        .sleep(tokio::time::sleep)
        .when(|status| is_worth_repeating(status, true))
        .notify(|status, _| last = Some(describe(status)));
    match tokio::time::timeout(timeout, attempts).await {
        Ok(answer) => Ok(answer?.into_inner()),
        Err(_) => Err(Failure::GaveUp {
            waited: span(timeout),
            cause: last.unwrap_or_else(|| "the agent did not answer".to_owned()),
            advice: format!(
                "The same command with --id {} may be repeated: it counts once",
                request.adjustment_id
            ),
        }),
    }
}

impl AdjustArgs {
    fn request(&self, id: &str) -> Result<AdjustRequest, Failure> {
        Ok(AdjustRequest {
            product: self.product.clone().unwrap_or_default(),
            customer: self.customer.clone(),
            dimension: self.dimension.clone(),
            minus: self.minus,
            reason: self.reason.clone(),
            decided_by: decider(self.by.as_deref())?,
            adjustment_id: id.to_owned(),
            hour_unix_seconds: self.hour.map_or(0, Timestamp::seconds),
            tags: self.tags.iter().cloned().collect(),
        })
    }
}

#[derive(Serialize)]
struct AdjustedJson {
    #[serde(flatten)]
    adjustment: AdjustmentJson,
    left_open: String,
    repeated: bool,
}

fn show(answer: AdjustResponse, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let AdjustResponse { adjustment, left_open, repeated } = answer;
    let adjustment = adjustment.unwrap_or_default();
    if printer.is_json() {
        return printer.json(&AdjustedJson { adjustment: adjustment.into(), left_open, repeated });
    }
    let done = if repeated { "was lowered before" } else { "lowered" };
    let (dimension, customer) = (printable(&adjustment.dimension), printable(&adjustment.customer));
    printer.line(&format!(
        "{done} by {} base units (adjustment {}, id {}): {left_open} of {dimension} are open for {customer}",
        adjustment.amount,
        adjustment.number,
        printable(&adjustment.adjustment_id)
    ))?;
    let mut list = AdjustmentList::new();
    list.add(adjustment, printer)?;
    list.finish(printer)
}
