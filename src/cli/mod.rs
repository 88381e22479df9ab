//! The command line.
//!
//! [`parse`] reads the arguments. [`check`] and [`client`] carry out the commands that need no agent in this process.
//! `run`, `demo` and `sandbox` are carried out by the program, since the command line cannot name what builds an agent.

mod adjust;
mod adjustment_list;
mod audit;
mod bench;
mod check;
mod cloudtrail;
mod connect;
mod customers;
mod data_folder;
mod demo;
mod emit;
mod exit;
mod export;
mod format;
mod held;
mod moves;
mod output;
mod range;
mod reconcile;
mod record_csv;
mod record_list;
mod record_pages;
mod records;
mod run;
mod sandbox;
mod status;
mod table;
#[cfg(test)]
mod tests;

use std::{ffi::OsString, io::IsTerminal};

use clap::{Parser, Subcommand, ValueEnum, builder::PossibleValuesParser, builder::TypedValueParser};
use tracing::level_filters::LevelFilter;

pub(crate) use adjust::AdjustArgs;
pub(crate) use audit::AuditArgs;
pub(crate) use bench::BenchArgs;
pub(crate) use check::{CheckArgs, check, load_config};
pub(crate) use customers::CustomersArgs;
pub(crate) use demo::DemoArgs;
pub(crate) use emit::EmitArgs;
pub(crate) use exit::Exit;
pub(crate) use export::ExportArgs;
pub(crate) use held::HeldArgs;
pub(crate) use moves::MovesArgs;
pub(crate) use output::Output;
pub(crate) use reconcile::ReconcileArgs;
pub(crate) use records::RecordsArgs;
pub(crate) use run::RunArgs;
pub(crate) use sandbox::SandboxArgs;
pub(crate) use status::StatusArgs;

use exit::Failure;
use output::Printer;

/// Usage metering for products sold on AWS Marketplace: exact, durable, on time.
#[derive(Debug, Parser)]
#[command(name = "tallyman", version, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    /// How results are printed: for people, or one JSON object per line.
    #[arg(long, global = true, help_heading = EVERYWHERE, value_enum, default_value_t, value_name = "FORM")]
    pub output: Output,
    /// The least important messages that are logged. [default: info; error for the demo, whose faults are on purpose]
    #[arg(long, global = true, help_heading = EVERYWHERE, env = "TALLYMAN_LOG", value_name = "LEVEL", value_parser = levels())]
    pub log: Option<LevelFilter>,
    /// How log messages are written.
    #[arg(long, global = true, help_heading = EVERYWHERE, value_enum, default_value_t, value_name = "FORM")]
    pub log_format: LogFormat,
    #[command(subcommand)]
    pub command: Command,
}

const EVERYWHERE: &str = "Options of every command";

const EXIT_CODES: &str = "Exit codes: 0 fine, 1 the work failed, 64 wrong usage or configuration, 70 a fault of tallyman, \
                          74 storage, 75 try again later.";

impl Cli {
    /// What is logged. The demo's faults are injected on purpose, and would only hide what it shows.
    pub(crate) fn log_level(&self) -> LevelFilter {
        let default =
            if matches!(self.command, Command::Demo(_)) { LevelFilter::ERROR } else { LevelFilter::INFO };
        self.log.unwrap_or(default)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the agent: take usage, add it up by the hour, report it to AWS.
    Run(RunArgs),
    /// See the whole job on this machine, with faults injected and proof that the bill is exact.
    Demo(DemoArgs),
    /// Run a faithful local AWS Marketplace for anyone's tests.
    Sandbox(SandboxArgs),
    /// Check a configuration; every fault is named at once.
    Check(CheckArgs),
    #[command(flatten)]
    Client(ClientCommand),
}

/// The commands that talk to a running agent.
#[derive(Debug, Subcommand)]
pub(crate) enum ClientCommand {
    /// Show how an agent is doing: what waits, how long it may, what needs a person.
    Status(StatusArgs),
    /// List what was billed and what is about to be.
    Records(RecordsArgs),
    /// Take away usage that is not sealed yet: a mistake that must not be billed.
    Adjust(AdjustArgs),
    /// Write the ledger out for finance, as CSV or JSON lines.
    Export(ExportArgs),
    /// Hold the ledger against AWS's own log, and list what either side lacks.
    Reconcile(ReconcileArgs),
    /// List the records that wait for a person, or decide what becomes of them.
    Held(HeldArgs),
    /// Let a product's unbilled usage go to another region or endpoint, or list what was allowed.
    Moves(MovesArgs),
    /// List, register, change or close customers.
    Customers(CustomersArgs),
    /// Check that every unit of usage is where it must be, and that no one altered the ledger.
    Audit(AuditArgs),
    /// Send usage events by hand.
    Emit(EmitArgs),
    /// Measure how much usage an agent takes, and how fast it answers.
    Bench(BenchArgs),
}

/// Reads the process's command line. On wrong usage, and for `--help` and `--version`, the answer has been printed and
/// what is left is to exit.
pub(crate) fn parse() -> Result<Cli, Exit> {
    parse_from(std::env::args_os()).map_err(|answer| {
        let exit = exit_after(&answer);
        // Where nobody reads the answer any more, the exit code is still right.
        answer.print().ok();
        exit
    })
}

fn parse_from(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(args)
}

fn exit_after(answer: &clap::Error) -> Exit {
    // Clap calls help and version errors too, and tells them apart by where it prints them.
    if answer.use_stderr() { Exit::Usage } else { Exit::Ok }
}

fn levels() -> impl TypedValueParser<Value = LevelFilter> {
    PossibleValuesParser::new(["off", "error", "warn", "info", "debug", "trace"])
        .try_map(|level| level.parse::<LevelFilter>())
}

/// Carries out a command that talks to a running agent. Results go to the standard output, notes to standard error.
pub(crate) async fn client(command: ClientCommand, output: Output) -> Exit {
    let (mut out, mut notes) = (std::io::stdout(), std::io::stderr());
    let is_watched = notes.is_terminal();
    let mut printer = Printer::new(output, &mut out, &mut notes).with_progress(is_watched);
    let result = Box::pin(dispatch(command, &mut printer)).await;
    printer.finish(result)
}

async fn dispatch(command: ClientCommand, printer: &mut Printer<'_>) -> Result<Exit, Failure> {
    match command {
        ClientCommand::Status(args) => status::run(&args, printer).await,
        ClientCommand::Records(args) => records::run(&args, printer).await,
        ClientCommand::Export(args) => export::run(&args, printer).await,
        ClientCommand::Reconcile(args) => reconcile::run(&args, printer).await,
        ClientCommand::Held(args) => held::run(args, printer).await,
        ClientCommand::Adjust(args) => adjust::run(args, printer).await,
        ClientCommand::Moves(args) => moves::run(args, printer).await,
        ClientCommand::Customers(args) => customers::run(args, printer).await,
        ClientCommand::Audit(args) => audit::run(&args, printer).await,
        ClientCommand::Emit(args) => emit::run(args, printer).await,
        ClientCommand::Bench(args) => bench::run(args, printer).await,
    }
}
