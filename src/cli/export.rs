//! `tallyman export`: writes the ledger out for finance, as CSV or JSON lines.

use clap::{Args, ValueEnum};

use super::{
    adjustment_list::{AdjustmentJson, AdjustmentPages},
    connect::{Agent, AgentArgs},
    exit::{Exit, Failure},
    format::count,
    output::Printer,
    range::RangeArgs,
    record_csv::RecordCsv,
    record_list::RecordJson,
    record_pages::RecordPages,
};
use crate::base::proto::{Adjustment, LedgerRecord};

#[derive(Debug, Args)]
#[command(
    after_help = "Every record of these hours is written, whatever its state, in the order of their numbers, and after \
                        them what persons took from these hours (tallyman adjust); without --from and --to, every \
                        record of the ledger."
)]
pub(crate) struct ExportArgs {
    #[command(flatten)]
    range: RangeArgs,
    /// How records are written. [default: csv; jsonl with --output json]
    #[arg(long, value_enum)]
    format: Option<Format>,
    #[command(flatten)]
    agent: AgentArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A header and one row per record, for spreadsheets.
    Csv,
    /// One JSON object per line.
    Jsonl,
}

pub(super) async fn run(args: &ExportArgs, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let request = args.range.hours()?.request(args.range.product.as_deref());
    let default = if printer.is_json() { Format::Jsonl } else { Format::Csv };
    let format = args.format.unwrap_or(default);
    let agent = Agent::connect(&args.agent).await?;
    let mut pages = Pages {
        adjustments: AdjustmentPages::new(&agent, &request),
        records: RecordPages::new(&agent, request),
    };
    let mut written = 0;
    let result = write_all(&mut pages, format, &mut written, printer).await;
    printer.end_progress()?;
    if let Err(failure) = &result
        && written > 0
        && !failure.is_closed_pipe()
    {
        printer.note(&format!(
            "only the first {} are there: what follows is missing",
            count(written, "record")
        ))?;
    }
    result.map(|()| Exit::Ok)
}

/// Records, and after them what persons have taken from open hours.
struct Pages {
    records: RecordPages,
    adjustments: AdjustmentPages,
}

async fn write_all(
    pages: &mut Pages,
    format: Format,
    written: &mut u64,
    printer: &mut Printer<'_>,
) -> Result<(), Failure> {
    let mut needs_header = format == Format::Csv;
    while let Some(records) = pages.records.next().await? {
        let page = records.len() as u64;
        match format {
            Format::Csv => write_rows(records, std::mem::take(&mut needs_header), printer)?,
            Format::Jsonl => {
                for record in records {
                    printer.json(&RecordJson::from(record))?;
                }
            }
        }
        *written += page;
        printer.progress(&count(*written, "record"))?;
    }
    while let Some(adjustments) = pages.adjustments.next().await? {
        match format {
            Format::Csv => write_adjustments(adjustments, printer)?,
            Format::Jsonl => {
                for adjustment in adjustments {
                    printer.json(&AdjustmentJson::from(adjustment))?;
                }
            }
        }
    }
    Ok(())
}

fn write_adjustments(adjustments: Vec<Adjustment>, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let mut rows = RecordCsv::default();
    for adjustment in adjustments {
        rows.adjustment(adjustment.into())?;
    }
    printer.text(&rows.into_text())
}

fn write_rows(
    records: Vec<LedgerRecord>,
    with_header: bool,
    printer: &mut Printer<'_>,
) -> Result<(), Failure> {
    let mut rows = RecordCsv::default();
    if with_header {
        rows.header();
    }
    for record in records {
        rows.row(record.into())?;
    }
    printer.text(&rows.into_text())
}
