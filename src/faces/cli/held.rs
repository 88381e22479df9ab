//! `tallyman held`: what waits for a person, and a person's decision.

use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};
use serde::Serialize;

use super::{
    connect::{Agent, AgentArgs},
    exit::{Exit, Failure},
    ledger::RecordList,
    output::Printer,
    show::count,
};
use crate::base::proto::{DecideHeldRequest, ListHeldRequest, decide_held_request::Decision};

#[derive(Debug, Args)]
pub struct HeldArgs {
    /// Only this product's, by its code; for the list.
    #[arg(long, global = true, value_name = "CODE")]
    product: Option<String>,
    #[command(subcommand)]
    action: Option<HeldAction>,
    #[command(flatten)]
    agent: AgentArgs,
}

#[derive(Debug, Subcommand)]
enum HeldAction {
    /// List the held records (also without a subcommand).
    List,
    /// Send the records once more, now that what AWS refused is mended.
    Retry(DecisionArgs),
    /// Carry the records' usage into the customer's current hour.
    Carry(DecisionArgs),
    /// Give the records' usage up: it will never be billed.
    WriteOff(DecisionArgs),
}

#[derive(Debug, Args)]
struct DecisionArgs {
    /// The records, by their ids.
    #[arg(required = true, value_name = "ID")]
    ids: Vec<u64>,
    /// Why, for whoever asks later.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: String,
    /// Who decides.
    #[arg(long, env = "USER", default_value = "unknown", value_name = "NAME")]
    by: String,
}

pub(super) async fn run(args: HeldArgs, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let agent = Agent::connect(&args.agent).await?;
    match args.action {
        None | Some(HeldAction::List) => list(&agent, args.product.unwrap_or_default(), printer).await,
        Some(HeldAction::Retry(decision)) => decide(&agent, Decision::Retry, decision, printer).await,
        Some(HeldAction::Carry(decision)) => decide(&agent, Decision::Carry, decision, printer).await,
        Some(HeldAction::WriteOff(decision)) => decide(&agent, Decision::WriteOff, decision, printer).await,
    }
}

/// All of them: none may be overlooked.
async fn list(agent: &Agent, product: String, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let mut ledger = agent.ledger();
    let mut list = RecordList::new();
    let mut request = ListHeldRequest { product, ..ListHeldRequest::default() };
    loop {
        let page = ledger.list_held(request.clone()).await?.into_inner();
        for record in page.records {
            list.add(record, printer)?;
        }
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    list.finish(printer, "nothing is held")?;
    Ok(Exit::Ok)
}

#[derive(Serialize)]
struct DecidedJson {
    decided: u64,
}

async fn decide(
    agent: &Agent,
    decision: Decision,
    args: DecisionArgs,
    printer: &mut Printer<'_>,
) -> Result<Exit, Failure> {
    let request = DecideHeldRequest {
        ids: args.ids,
        decision: decision.into(),
        reason: args.reason,
        decided_by: args.by,
    };
    let decided = agent.ledger().decide_held(request).await?.into_inner().decided;
    if printer.is_json() {
        printer.json(&DecidedJson { decided })?;
    } else {
        printer.line(&format!("{} {}", count(decided, "record"), outcome(decision)))?;
    }
    Ok(Exit::Ok)
}

fn outcome(decision: Decision) -> &'static str {
    match decision {
        Decision::Unspecified => "decided",
        Decision::Retry => "will be sent again",
        Decision::Carry => "carried into the current hour",
        Decision::WriteOff => "written off",
    }
}
