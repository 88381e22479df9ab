//! `tallyman moves`: lists what persons have said of products that go to another region or endpoint, and says it.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, builder::NonEmptyStringValueParser};
use serde::Serialize;

use super::{
    connect::{Agent, AgentArgs},
    exit::{Exit, Failure},
    format::{given, rfc3339},
    output::Printer,
    table::{Table, number, text},
};
use crate::{
    api::moves::{list, message},
    base::{
        clock::Clock,
        proto::{AllowMoveRequest, AllowedMove, ListMovesRequest},
    },
    engine::moves::{MoveError, MoveOrder, allow_in_folder},
    store::{RocksFolder, RocksStore},
};

#[derive(Debug, Args)]
pub(crate) struct MovesArgs {
    /// Use a data folder that no agent uses, instead of an agent: for one that does not start.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(subcommand)]
    action: Option<MovesAction>,
    #[command(flatten)]
    agent: AgentArgs,
}

#[derive(Debug, Subcommand)]
enum MovesAction {
    /// List all moves that were ever allowed (also without a subcommand).
    List,
    /// Let a product's unbilled usage go to another region or endpoint, although something is at stake.
    Allow(AllowArgs),
}

#[derive(Debug, Args)]
struct AllowArgs {
    /// The product's code.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    product: String,
    /// Where it may go: the `region` of the new configuration, or its `endpoint_url`.
    #[arg(long, value_name = "REGION|URL", value_parser = NonEmptyStringValueParser::new())]
    to: String,
    /// Why, for whoever asks later.
    #[arg(long, value_name = "TEXT", value_parser = NonEmptyStringValueParser::new())]
    reason: String,
    /// Who decides.
    #[arg(long, env = "USER", value_name = "NAME", value_parser = NonEmptyStringValueParser::new())]
    by: String,
}

pub(super) async fn run(args: MovesArgs, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let MovesArgs { data_dir, action, agent } = args;
    match (action.unwrap_or(MovesAction::List), data_dir) {
        (MovesAction::List, None) => {
            let moves = Agent::connect(&agent).await?.ledger().list_moves(ListMovesRequest {}).await?;
            show(moves.into_inner().moves, printer)?;
        }
        (MovesAction::List, Some(folder)) => show(list(&RocksFolder::open(&folder)?)?.moves, printer)?,
        (MovesAction::Allow(order), None) => {
            let AllowArgs { product, to, reason, by } = order;
            let order = AllowMoveRequest { product, to, reason, decided_by: by };
            let allowed = Agent::connect(&agent).await?.ledger().allow_move(order).await?;
            tell(allowed.into_inner(), printer)?;
        }
        (MovesAction::Allow(order), Some(folder)) => tell(allow(order, &folder)?, printer)?,
    }
    Ok(Exit::Ok)
}

fn allow(args: AllowArgs, folder: &Path) -> Result<AllowedMove, Failure> {
    // To open a folder for writing makes one where there is none; to look at it does not.
    drop(RocksFolder::open(folder)?);
    let store = RocksStore::open(folder)?;
    let order = MoveOrder {
        product: args.product.into(),
        to: args.to.into(),
        reason: args.reason.into(),
        by: args.by.into(),
        client: None,
    };
    match allow_in_folder(&order, Clock::SYSTEM.now(), &store) {
        Ok(allowed) => Ok(message(0, &allowed, true)),
        Err(MoveError::Store(fault)) => Err(fault.into()),
        Err(refused) => Err(Failure::Wrong(refused.to_string())),
    }
}

fn tell(allowed: AllowedMove, printer: &mut Printer<'_>) -> Result<(), Failure> {
    if printer.is_json() {
        return printer.json(&MoveJson::from(allowed));
    }
    let AllowedMove { product, from, to, .. } = allowed;
    printer.line(&format!(
        "product {product} may go from {from} to {to}: start the agent with the new configuration; records that may have \
         been billed in {from} will be held"
    ))
}

fn show(moves: Vec<AllowedMove>, printer: &mut Printer<'_>) -> Result<(), Failure> {
    if printer.is_json() {
        return moves.into_iter().try_for_each(|allowed| printer.json(&MoveJson::from(allowed)));
    }
    let columns = [
        number("NO"),
        text("PRODUCT"),
        text("FROM"),
        text("TO"),
        text("ALLOWED"),
        text("BY"),
        text("STATE"),
        text("REASON"),
    ];
    let mut table = Table::new(&columns);
    for allowed in moves {
        let state = if allowed.pending { "pending" } else { "done" };
        table.row([
            allowed.number.to_string(),
            allowed.product,
            allowed.from,
            allowed.to,
            rfc3339(allowed.decided_unix_seconds).unwrap_or_default(),
            allowed.decided_by,
            state.to_owned(),
            allowed.reason,
        ]);
    }
    printer.table(&table, "no move was ever allowed")
}

#[derive(Serialize)]
struct MoveJson {
    #[serde(skip_serializing_if = "is_zero")]
    number: u64,
    product: String,
    from: String,
    to: String,
    reason: String,
    decided_by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    client: Option<String>,
    decided: Option<String>,
    pending: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl From<AllowedMove> for MoveJson {
    fn from(allowed: AllowedMove) -> Self {
        Self {
            number: allowed.number,
            product: allowed.product,
            from: allowed.from,
            to: allowed.to,
            reason: allowed.reason,
            decided_by: allowed.decided_by,
            client: given(allowed.client),
            decided: rfc3339(allowed.decided_unix_seconds),
            pending: allowed.pending,
        }
    }
}
