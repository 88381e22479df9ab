//! The `tallyman` command.

use std::process::ExitCode;

use tallyman::{
    app::{self, logs::Logs},
    faces::cli::{self, Cli, Command, Exit},
};

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(exit) => return exit.into(),
    };
    let logs = Logs::of(&cli);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            logs.start(None);
            tracing::error!("cannot start: {error}");
            return Exit::Internal.into();
        }
    };
    runtime.block_on(carry_out(cli, logs)).into()
}

async fn carry_out(cli: Cli, logs: Logs) -> Exit {
    // An agent starts them itself: whether its spans go anywhere is a matter of its configuration.
    if !matches!(cli.command, Command::Run(_)) {
        logs.start(None);
    }
    match cli.command {
        Command::Run(args) => Box::pin(app::run::run(args, logs)).await,
        Command::Sandbox(args) => Box::pin(app::run::sandbox(args)).await,
        Command::Demo(args) => Box::pin(app::demo::demo(args)).await,
        Command::Check(args) => cli::check(&args, cli.output),
        Command::Client(command) => Box::pin(cli::client(command, cli.output)).await,
    }
}
