//! `tallyman audit`: checks that all usage is where it must be, in a running agent or in a data folder.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use clap::Args;
use serde::Serialize;

use super::{
    connect::{Agent, AgentArgs},
    exit::{Exit, Failure},
    format::{count, given, rfc3339, unless_zero},
    output::Printer,
    table::{Table, number, text},
};
use crate::{
    api::audit::message,
    base::proto::{AuditFault, AuditReport, AuditRequest},
    domain::billing::journal::Digest,
    engine::audit::{AuditError, Known, audit, read_the_rest},
    store::{RocksFolder, Verified},
};

#[derive(Debug, Args)]
pub(crate) struct AuditArgs {
    /// Look at a data folder that no agent uses, instead of asking an agent: every block of every table, and then the
    /// ledger. Nothing in it is changed.
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The journal's end as an earlier audit told it: it must still be in the chain.
    #[arg(long, value_name = "LINE:HASH")]
    noted: Option<Noted>,
    #[command(flatten)]
    agent: AgentArgs,
}

/// A line of the journal and its hash.
#[derive(Clone, Copy, Debug)]
struct Noted {
    line: u64,
    hash: Digest,
}

impl FromStr for Noted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (line, hash) = text.split_once(':').ok_or("it has the form LINE:HASH")?;
        let line = line.parse().ok().filter(|line| *line > 0);
        Ok(Self { line: line.ok_or("lines are numbered from 1")?, hash: hash.parse()? })
    }
}

pub(super) async fn run(args: &AuditArgs, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    let (report, whole) = match &args.data_dir {
        Some(folder) => {
            let (report, whole) = of_folder(folder, args.noted, printer)?;
            (report, Some(whole))
        }
        None => (of_agent(args, printer).await?, None),
    };
    printer.end_progress()?;
    if printer.is_json() {
        printer.json(&ReportJson { whole_folder: whole, ..ReportJson::from(&report) })?;
    } else {
        show(&report, whole, printer)?;
    }
    Ok(if report.faults_found == 0 { Exit::Ok } else { Exit::Failed })
}

/// Reads all of a folder first, since most of it says nothing about the ledger and may be damaged all the same.
fn of_folder(
    folder: &Path,
    noted: Option<Noted>,
    printer: &mut Printer<'_>,
) -> Result<(AuditReport, WholeFolder), Failure> {
    let store = RocksFolder::open(folder)?;
    let verified = store.verify(&mut |rows| tell_progress(rows, "read", printer).is_ok())?;
    let verified = verified.ok_or_else(broken_off)?;
    let known = Known { noted: noted.map(|noted| (noted.line, noted.hash)), ..Known::default() };
    let report = audit(&store, known, &mut |rows| tell_progress(rows, "checked", printer).is_ok());
    let report = report.map_err(failure)?;
    let dedup_keys = read_the_rest(&store).map_err(failure)?;
    Ok((message(&report), WholeFolder::new(verified, dedup_keys)))
}

fn failure(error: AuditError) -> Failure {
    match error {
        AuditError::Store(fault) => fault.into(),
        AuditError::BrokenOff => broken_off(),
    }
}

/// An audit is broken off only when progress cannot be written, so whoever read it has gone.
fn broken_off() -> Failure {
    std::io::Error::from(std::io::ErrorKind::BrokenPipe).into()
}

/// What was read of a folder, beside what the ledger's rules ask for.
#[derive(Clone, Copy, Debug, Serialize)]
struct WholeFolder {
    rows: u64,
    files: u64,
    bytes: u64,
    dedup_keys: u64,
}

impl WholeFolder {
    const fn new(Verified { rows, files, bytes }: Verified, dedup_keys: u64) -> Self {
        Self { rows, files, bytes, dedup_keys }
    }
}

async fn of_agent(args: &AuditArgs, printer: &mut Printer<'_>) -> Result<AuditReport, Failure> {
    let agent = Agent::connect(&args.agent).await?;
    let request = args.noted.map_or_else(AuditRequest::default, |noted| AuditRequest {
        noted_line: noted.line,
        noted_hash: noted.hash.to_string(),
    });
    let mut answers = agent.ledger().audit(request).await?.into_inner();
    while let Some(answer) = answers.message().await? {
        if let Some(report) = answer.report {
            return Ok(report);
        }
        tell_progress(answer.rows_read, "checked", printer)?;
    }
    Err(tonic::Status::unavailable("the agent broke the audit off").into())
}

fn tell_progress(rows: u64, done: &str, printer: &mut Printer<'_>) -> Result<(), Failure> {
    printer.progress(&format!("{} {done}", count(rows, "row")))
}

fn show(report: &AuditReport, whole: Option<WholeFolder>, printer: &mut Printer<'_>) -> Result<(), Failure> {
    let checked = [
        count(report.records, "record"),
        count(report.open_buckets, "open bucket"),
        count(report.decisions, "decision"),
        count(report.journal_lines, "journal line"),
    ];
    let checked = checked.join(", ");
    if report.faults_found == 0 {
        printer.line(&format!("everything is in its place: {checked}"))?;
    } else {
        printer.text(&table(&report.faults).render())?;
        printer.line(&format!("{} in {checked}", count(report.faults_found, "fault")))?;
        let hidden = report.faults_found.saturating_sub(report.faults.len() as u64);
        if hidden > 0 {
            printer.note(&format!("{hidden} more are not shown"))?;
        }
    }
    if let Some(WholeFolder { rows, files, bytes, dedup_keys }) = whole {
        let (rows, files, keys) = (count(rows, "row"), count(files, "file"), count(dedup_keys, "dedup key"));
        printer.line(&format!("every block was read: {rows} in {files} of {bytes} bytes, {keys}"))?;
    }
    let end = format!("{}:{}", report.journal_lines, report.last_line_hash);
    printer.line(&format!(
        "the journal ends with {end} (keep this elsewhere, and give it to a later audit with --noted)"
    ))
}

fn table(faults: &[AuditFault]) -> Table {
    let columns = [
        text("RULE"),
        text("HOUR"),
        text("PRODUCT"),
        text("CUSTOMER"),
        text("DIMENSION"),
        number("RECORD"),
        number("AMOUNT"),
        text("FAULT"),
    ];
    let mut table = Table::new(&columns);
    for fault in faults.iter().cloned() {
        table.row([
            fault.invariant,
            rfc3339(fault.hour_unix_seconds).unwrap_or_default(),
            fault.product,
            fault.customer,
            fault.dimension,
            unless_zero(&fault.record.to_string()),
            unless_zero(&fault.amount),
            fault.what,
        ]);
    }
    table
}

#[derive(Serialize)]
struct ReportJson {
    sound: bool,
    records: u64,
    open_buckets: u64,
    decisions: u64,
    journal_lines: u64,
    last_line_hash: String,
    faults_found: u64,
    faults: Vec<FaultJson>,
    /// What was read of a data folder; an agent is not asked for all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    whole_folder: Option<WholeFolder>,
}

#[derive(Serialize)]
struct FaultJson {
    invariant: String,
    fault: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    product: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    customer: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dimension: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    hour: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<u64>,
    amount: String,
}

impl From<&AuditReport> for ReportJson {
    fn from(report: &AuditReport) -> Self {
        Self {
            sound: report.faults_found == 0,
            records: report.records,
            open_buckets: report.open_buckets,
            decisions: report.decisions,
            journal_lines: report.journal_lines,
            last_line_hash: report.last_line_hash.clone(),
            faults_found: report.faults_found,
            faults: report.faults.iter().cloned().map(FaultJson::from).collect(),
            whole_folder: None,
        }
    }
}

impl From<AuditFault> for FaultJson {
    fn from(fault: AuditFault) -> Self {
        Self {
            invariant: fault.invariant,
            fault: fault.what,
            product: given(fault.product),
            customer: given(fault.customer),
            dimension: given(fault.dimension),
            hour: rfc3339(fault.hour_unix_seconds),
            record: Some(fault.record).filter(|record| *record > 0),
            amount: fault.amount,
        }
    }
}
