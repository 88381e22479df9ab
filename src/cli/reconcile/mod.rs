//! `tallyman reconcile`: compares the ledger with CloudTrail.

mod advice;
mod findings;
mod senders;
mod summary;

use std::{
    collections::{BTreeSet, HashSet},
    path::PathBuf,
    sync::Arc,
};

use clap::Args;

use super::{
    cloudtrail::{self, Trail},
    connect::{Agent, AgentArgs},
    exit::{Exit, Failure},
    format::count,
    output::Printer,
    range::{Hours, RangeArgs},
    record_list::state_name,
    record_pages::RecordPages,
};
use crate::{
    base::proto::{GetSummaryRequest, LedgerRecord, RecordState},
    domain::{
        billing::record::{HoldReason, RecordId},
        reconcile::{Buyer, LedgerLine, LineState, TrailLine, reconcile},
        time::{Hour, Timestamp},
    },
};

use summary::{LeftOut, Summary};

#[derive(Debug, Args)]
#[command(
    after_help = "Without --from or --to, the hours are those that the files speak of. Exits 0 when all \
                        match, 1 when something differs or nothing was compared, and 75 when all that is missing may \
                        still come."
)]
pub(crate) struct ReconcileArgs {
    /// CloudTrail's files, packed or not, or what `aws cloudtrail lookup-events` printed; `-` is the standard input.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    cloudtrail: Vec<PathBuf>,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    agent: AgentArgs,
}

/// The most lines of the ledger that are kept in memory, some 300 bytes each.
const MAX_LINES: usize = 1_000_000;

pub(super) async fn run(args: &ReconcileArgs, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let asked = args.range.hours()?;
    let product = args.range.product.as_deref();
    let mut trail = Trail::read(&args.cloudtrail, |hour| asked.contains(hour))?;
    let is_of_other_product = |line: &TrailLine| {
        line.license_arn.is_empty() && !line.product.is_empty() && product != Some(&*line.product)
    };
    let all = trail.lines.len();
    if product.is_some() {
        trail.lines.retain(|line| !is_of_other_product(line));
    }
    let other_products = (all - trail.lines.len()) as u64;
    let hours = covered(asked, &trail, other_products)?;
    let agent = Agent::connect(&args.agent).await?;
    let ledger = read_ledger(&agent, hours, product, printer).await?;
    // The time is asked for after the ledger is read, so that no record is taken for younger than it is.
    let now = agent.ledger().get_summary(GetSummaryRequest {}).await?.into_inner().now_unix_seconds;
    let other_licenses =
        if product.is_some() { leave_out_other_licenses(&mut trail.lines, &ledger) } else { 0 };
    let report = reconcile(&ledger, &trail.lines, Timestamp::from_seconds(now));
    findings::show(&report, &trail, printer)?;
    let summary = Summary::new(&report, trail.counts, hours, LeftOut { other_products, other_licenses });
    summary.show(printer)?;
    Ok(summary.exit())
}

/// The hours that are compared: those asked for, or else those that the files speak of.
fn covered(asked: Hours, trail: &Trail, other_products: u64) -> Result<Hours, Failure> {
    let starts = || trail.lines.iter().map(|line| line.hour);
    let from = asked.from.or_else(|| Some(starts().min()?.start()));
    let to = asked.to.or_else(|| Some(starts().max()?.end()));
    if from.is_some() && to.is_some() {
        return Ok(Hours { from, to });
    }
    let left_out = match (trail.counts.outside_hours, other_products) {
        (0, 0) => String::new(),
        (outside, others) => {
            format!(" ({outside} acceptances are of other hours, {others} of other products)")
        }
    };
    Err(Failure::Wrong(format!(
        "nothing was compared: AWS accepted nothing of this in these files{left_out}; say which hours they cover with \
         --from and --to"
    )))
}

async fn read_ledger(
    agent: &Agent,
    hours: Hours,
    product: Option<&str>,
    printer: &mut Printer<'_>,
) -> Result<Vec<LedgerLine>, Failure> {
    let mut pages = RecordPages::new(agent, hours.request(product));
    let (mut lines, mut names) = (Vec::new(), HashSet::new());
    while let Some(records) = pages.next().await? {
        if lines.len() + records.len() > MAX_LINES {
            return Err(Failure::Wrong(format!(
                "more than {MAX_LINES} records: ask for fewer hours with --from and --to"
            )));
        }
        for record in &records {
            let line = ledger_line(record, &mut names);
            lines.push(
                line.map_err(|why| Failure::Wrong(format!("the agent's record {}: {why}", record.id)))?,
            );
        }
        printer.progress(&count(lines.len() as u64, "record"))?;
    }
    printer.end_progress()?;
    Ok(lines)
}

fn ledger_line(record: &LedgerRecord, names: &mut HashSet<Arc<str>>) -> Result<LedgerLine, String> {
    let mut name = |text: &str| cloudtrail::shared(names, text.into());
    let product = name(&record.product);
    let buyer = if !record.license_arn.is_empty() {
        Buyer::License(name(&record.license_arn))
    } else if record.account_id.is_empty() {
        let customer_identifier = name(&record.customer_identifier);
        Buyer::CustomerIdentifier { product: product.clone(), customer_identifier }
    } else {
        Buyer::Account { product: product.clone(), account_id: name(&record.account_id) }
    };
    Ok(LedgerLine {
        id: RecordId(record.id),
        customer: name(&record.customer),
        dimension: name(&record.dimension),
        product,
        buyer,
        hour: Hour::containing(Timestamp::from_seconds(record.hour_unix_seconds)),
        quantity: record.quantity.parse()?,
        state: line_state(record)?,
    })
}

fn line_state(record: &LedgerRecord) -> Result<LineState, String> {
    Ok(match RecordState::try_from(record.state) {
        Ok(RecordState::Accepted) => LineState::Accepted {
            receipt: record.receipt.as_str().into(),
            at: Timestamp::from_seconds(record.settled_unix_seconds),
        },
        Ok(RecordState::Pending) => LineState::Pending,
        Ok(RecordState::Held) => {
            LineState::Held { in_conflict: held_for(record) == HoldReason::Conflict.name() }
        }
        Ok(RecordState::RolledForward) => LineState::RolledForward,
        Ok(RecordState::Carried) => LineState::Carried,
        Ok(RecordState::WrittenOff) => LineState::WrittenOff,
        Ok(RecordState::Expired) => LineState::Expired,
        Ok(RecordState::Unspecified) | Err(_) => {
            return Err(format!("`{}` is not known to this version", state_name(record.state)));
        }
    })
}

/// The first word of the reason is why it is held. What AWS or the agent said in detail may stand behind it.
fn held_for(record: &LedgerRecord) -> &str {
    record.reason.split(':').next().unwrap_or_default()
}

/// Leaves out the lines of licenses that no record of the product has, and returns how many there were. A license itself
/// does not say which product it is of.
fn leave_out_other_licenses(lines: &mut Vec<TrailLine>, ledger: &[LedgerLine]) -> u64 {
    let licenses: BTreeSet<&str> = ledger
        .iter()
        .filter_map(|line| match &line.buyer {
            Buyer::License(arn) => Some(&**arn),
            Buyer::Account { .. } | Buyer::CustomerIdentifier { .. } => None,
        })
        .collect();
    let all = lines.len();
    lines.retain(|line| line.license_arn.is_empty() || licenses.contains(&*line.license_arn));
    (all - lines.len()) as u64
}
