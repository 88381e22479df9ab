//! Logs, on standard error, and beside them the spans that are traced.

use std::io::{self, IsTerminal, Stderr, Write};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::{
    Layer, filter::Targets, fmt::MakeWriter, layer::SubscriberExt, util::SubscriberInitExt,
};

use crate::{
    base::telemetry::{Traces, spans},
    cli::{Cli, LogFormat},
    domain::text::escaped,
};

/// How the command line wants them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Logs {
    level: LevelFilter,
    format: LogFormat,
}

impl Logs {
    pub(crate) fn of(cli: &Cli) -> Self {
        Self { level: cli.log_level(), format: cli.log_format }
    }

    /// Other people's crates are heard only when they warn. Of spans that are lost, tallyman tells itself.
    pub(crate) fn start(self, traces: Option<&Traces>) {
        let others = self.level.min(LevelFilter::WARN);
        let levels = Targets::new()
            .with_default(others)
            .with_target("tallyman", self.level)
            .with_target("opentelemetry_sdk", LevelFilter::OFF)
            .with_target(spans::TARGET, LevelFilter::OFF);
        let format =
            tracing_subscriber::fmt::layer().with_writer(ShownLogs).with_ansi(io::stderr().is_terminal());
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

/// Standard error, where nothing that others sent turns or hides what stands beside it.
struct ShownLogs;

impl MakeWriter<'_> for ShownLogs {
    type Writer = ShownWriter<Stderr>;

    fn make_writer(&self) -> Self::Writer {
        ShownWriter(io::stderr())
    }
}

/// Writes what is not seen as escapes. It is handed whole lines.
struct ShownWriter<W>(W);

impl<W: Write> Write for ShownWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match std::str::from_utf8(line) {
            Ok(text) => self.0.write_all(escaped(text).as_bytes())?,
            Err(_) => self.0.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_hides_nothing() {
        let mut writer = ShownWriter(Vec::new());
        writer.write_all("\u{1b}[32mINFO\u{1b}[0m é by=\u{202e}nna\u{200b}\n".as_bytes()).unwrap();
        writer.write_all(b"\xff\n").unwrap();
        assert_eq!(&writer.0[..], b"\x1b[32mINFO\x1b[0m \xc3\xa9 by=\\u202enna\\u200b\n\xff\n");
    }
}
