//! From the command line to an exit code: a command is parsed, given a runtime, and run.

use std::{process::ExitCode, time::Duration};

use rustix::{fs::Mode, process::umask};
use tokio::runtime;

use crate::cli::{self, Cli, Command, Exit};

use super::{demo, logs::Logs, run};

/// Time for threads that still read or write when all is done. One whose disk does not answer is left behind.
const LEFT_BEHIND: Duration = Duration::from_secs(5);

/// Runs the command that the process's arguments name.
pub fn main() -> ExitCode {
    // What is written is usage and customers: RocksDB, too, creates its files for their owner alone.
    umask(Mode::RWXG | Mode::RWXO);
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(exit) => return exit.into(),
    };
    let logs = Logs::of(&cli);
    let runtime = match runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            logs.start(None);
            tracing::error!("cannot start: {error}");
            return Exit::Internal.into();
        }
    };
    let exit = runtime.block_on(carry_out(cli, logs));
    runtime.shutdown_timeout(LEFT_BEHIND);
    exit.into()
}

async fn carry_out(cli: Cli, logs: Logs) -> Exit {
    // An agent starts its logs itself: whether its spans go anywhere is a matter of its configuration.
    if !matches!(cli.command, Command::Run(_)) {
        logs.start(None);
    }
    match cli.command {
        Command::Run(args) => Box::pin(run::run(args, logs)).await,
        Command::Sandbox(args) => Box::pin(run::sandbox(args)).await,
        Command::Demo(args) => Box::pin(demo::demo(args)).await,
        Command::Check(args) => cli::check(&args, cli.output),
        Command::Client(command) => Box::pin(cli::client(command, cli.output)).await,
    }
}
