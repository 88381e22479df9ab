//! `tallyman held`: lists the records that wait for a person, and sends the person's decision.

use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};
use serde::Serialize;

use super::{
    connect::{Agent, AgentArgs},
    exit::{Exit, Failure},
    format::count,
    output::Printer,
    record_list::RecordList,
};
use crate::base::proto::{DecideHeldRequest, ListHeldRequest, decide_held_request::Decision};

#[derive(Debug, Args)]
pub(crate) struct HeldArgs {
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
    /// Who decides; by default the user of this shell, where there is one.
    #[arg(long, env = "USER", value_name = "NAME")]
    by: Option<String>,
}

impl DecisionArgs {
    fn request(self, decision: Decision) -> Result<DecideHeldRequest, Failure> {
        let decided_by = decider(self.by.as_deref())?;
        Ok(DecideHeldRequest { ids: self.ids, decision: decision.into(), reason: self.reason, decided_by })
    }
}

/// Who decides. Fails where nobody is named, as in a container, since the name is kept for ever.
pub(super) fn decider(by: Option<&str>) -> Result<String, Failure> {
    let named = by.map(str::trim).filter(|name| !name.is_empty());
    named.map(str::to_owned).ok_or_else(|| {
        Failure::Usage("who decides? There is no USER here: add --by NAME, which is kept for ever".to_owned())
    })
}

pub(super) async fn run(args: HeldArgs, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let (kind, decision) = match args.action {
        None | Some(HeldAction::List) => {
            let agent = Agent::connect(&args.agent).await?;
            return list(&agent, args.product.unwrap_or_default(), printer).await;
        }
        Some(HeldAction::Retry(decision)) => (Decision::Retry, decision),
        Some(HeldAction::Carry(decision)) => (Decision::Carry, decision),
        Some(HeldAction::WriteOff(decision)) => (Decision::WriteOff, decision),
    };
    let request = decision.request(kind)?;
    let agent = Agent::connect(&args.agent).await?;
    decide(&agent, request, printer).await
}

/// Lists all of them, whatever their number, so that none is overlooked.
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
    request: DecideHeldRequest,
    printer: &mut Printer<'_>,
) -> Result<Exit, Failure> {
    let decision = request.decision();
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
