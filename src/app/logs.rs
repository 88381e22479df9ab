//! Logs, on standard error, and beside them the spans that are traced.

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    base::telemetry::{Traces, spans},
    faces::cli::{Cli, LogFormat},
};

/// How the command line wants them.
#[derive(Clone, Copy, Debug)]
pub struct Logs {
    level: LevelFilter,
    format: LogFormat,
}

impl Logs {
    pub fn of(cli: &Cli) -> Self {
        Self { level: cli.log_level(), format: cli.log_format }
    }

    /// Other people's crates are heard only when they warn. Of spans that are lost, tallyman tells itself.
    pub fn start(self, traces: Option<&Traces>) {
        let others = self.level.min(LevelFilter::WARN);
        let levels = Targets::new()
            .with_default(others)
            .with_target("tallyman", self.level)
            .with_target("opentelemetry_sdk", LevelFilter::OFF)
            .with_target(spans::TARGET, LevelFilter::OFF);
        let format = tracing_subscriber::fmt::layer()
            .with_writer(std::io::stderr)
            .with_ansi(std::io::stderr().is_terminal());
        let layer = match self.format {
            LogFormat::Text => format.with_target(false).boxed(),
            LogFormat::Json => format.json().boxed(),
        };
        tracing_subscriber::registry()
            .with(traces.and_then(Traces::layer))
            .with(layer.with_filter(levels))
            .init();
    }
}
