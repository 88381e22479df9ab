//! `tallyman reconcile`: the ledger held against CloudTrail.

mod findings;

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
    ledger::state_name,
    output::Printer,
    pages::Pages,
    range::{Hours, RangeArgs},
    show::count,
};
use crate::{
    base::proto::{GetSummaryRequest, LedgerRecord, RecordState},
    domain::{
        reconcile::{Buyer, LedgerLine, Standing, TrailLine, reconcile},
        record::RecordId,
        time::{Hour, Timestamp},
    },
};

use findings::Summary;

#[derive(Debug, Args)]
#[command(
    after_help = "Without --from or --to, the hours are those that the files speak of. Exits 0 when all \
                        match, 1 when something differs, and 75 when all that is missing may still come."
)]
pub struct ReconcileArgs {
    /// CloudTrail's files, packed or not, or what `aws cloudtrail lookup-events` printed; `-` is the standard input.
    #[arg(long, required = true, num_args = 1.., value_name = "FILE")]
    cloudtrail: Vec<PathBuf>,
    #[command(flatten)]
    range: RangeArgs,
    #[command(flatten)]
    agent: AgentArgs,
}

/// The ledger's lines that are held in memory, some 300 bytes each.
const MAX_LINES: usize = 1_000_000;

pub(super) async fn run(args: &ReconcileArgs, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let asked = args.range.hours()?;
    let product = args.range.product.as_deref();
    let mut trail = Trail::read(&args.cloudtrail, |hour| asked.contains(hour))?;
    let is_of_other_product = |line: &TrailLine| {
        line.license_arn.is_empty() && !line.product.is_empty() && product != Some(&*line.product)
    };
    if product.is_some() {
        trail.lines.retain(|line| !is_of_other_product(line));
    }
    let hours = covered(asked, &trail.lines)?;
    let agent = Agent::connect(&args.agent).await?;
    let ledger = read_ledger(&agent, hours, product, printer).await?;
    // Asked after the ledger was read, so that no record is taken for younger than it is.
    let now = agent.ledger().get_summary(GetSummaryRequest {}).await?.into_inner().now_unix_seconds;
    let left_out = if product.is_some() { leave_out_other_licenses(&mut trail.lines, &ledger) } else { 0 };
    let report = reconcile(&ledger, &trail.lines, Timestamp::from_seconds(now));
    findings::show(&report, &trail, printer)?;
    let summary = Summary::new(&report, trail.counts, hours, left_out);
    summary.show(printer)?;
    Ok(summary.exit())
}

/// The hours asked for; where none are, those that the files speak of.
fn covered(asked: Hours, lines: &[TrailLine]) -> Result<Hours, Failure> {
    let from = asked.from.or_else(|| Some(lines.iter().map(|line| line.hour).min()?.start()));
    let to = asked.to.or_else(|| Some(lines.iter().map(|line| line.hour).max()?.end()));
    let hours = Hours { from, to };
    if hours.from.is_none() || hours.to.is_none() {
        let nothing = "AWS accepted nothing in these files: say which hours they cover with --from and --to";
        return Err(Failure::Wrong(nothing.to_owned()));
    }
    Ok(hours)
}

async fn read_ledger(
    agent: &Agent,
    hours: Hours,
    product: Option<&str>,
    printer: &mut Printer<'_>,
) -> Result<Vec<LedgerLine>, Failure> {
    let mut pages = Pages::new(agent, hours.request(product));
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
        standing: standing(record)?,
    })
}

fn standing(record: &LedgerRecord) -> Result<Standing, String> {
    Ok(match RecordState::try_from(record.state) {
        Ok(RecordState::Accepted) => Standing::Accepted {
            receipt: record.receipt.as_str().into(),
            at: Timestamp::from_seconds(record.settled_unix_seconds),
        },
        Ok(RecordState::Pending) => Standing::Pending,
        Ok(RecordState::Held) => Standing::Held,
        Ok(RecordState::RolledForward) => Standing::RolledForward,
        Ok(RecordState::Carried) => Standing::Carried,
        Ok(RecordState::WrittenOff) => Standing::WrittenOff,
        Ok(RecordState::Expired) => Standing::Expired,
        Ok(RecordState::Unspecified) | Err(_) => {
            return Err(format!("`{}` is not known to this version", state_name(record.state)));
        }
    })
}

/// A license does not say which product it is of, but the product's own records do. Gives how many lines there were
/// of others.
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
