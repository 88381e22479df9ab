//! The `tallyman` command.

use std::{io::IsTerminal, process::ExitCode};

use tallyman::{
    app,
    faces::cli::{self, Cli, Command, Exit, LogFormat},
};
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

fn main() -> ExitCode {
    let cli = match cli::parse() {
        Ok(cli) => cli,
        Err(exit) => return exit.into(),
    };
    start_logging(&cli);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("cannot start: {error}");
            return Exit::Internal.into();
        }
    };
    runtime.block_on(carry_out(cli)).into()
}

async fn carry_out(cli: Cli) -> Exit {
    match cli.command {
        Command::Run(args) => Box::pin(app::run::run(args)).await,
        Command::Sandbox(args) => Box::pin(app::run::sandbox(args)).await,
        Command::Demo(args) => Box::pin(app::demo::demo(args)).await,
        Command::Check(args) => cli::check(&args, cli.output),
        Command::Client(command) => Box::pin(cli::client(command, cli.output)).await,
    }
}

/// Logs go to standard error. Other people's crates are heard only when they warn.
fn start_logging(cli: &Cli) {
    let level = cli.log_level();
    let others = level.min(tracing::level_filters::LevelFilter::WARN);
    let levels = Targets::new().with_default(others).with_target("tallyman", level);
    let format = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let layer = match cli.log_format {
        LogFormat::Text => format.with_target(false).boxed(),
        LogFormat::Json => format.json().boxed(),
    };
    tracing_subscriber::registry().with(layer.with_filter(levels)).init();
}
