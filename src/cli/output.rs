//! The printer: the only place of the command line that writes.

use std::io::Write;

use clap::ValueEnum;
use serde::Serialize;

use super::{
    exit::{Exit, Failure},
    table::Table,
};
use crate::domain::text::{escaped, printable};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    #[default]
    Human,
    Json,
}

/// Writes results to one stream, and notes that are not results (warnings, what to do next) to another.
pub(super) struct Printer<'a> {
    output: Output,
    out: &'a mut (dyn Write + Send),
    notes: &'a mut (dyn Write + Send),
    shows_progress: bool,
    /// Whether the last line of the notes is progress, which the next note replaces.
    is_mid_line: bool,
}

impl<'a> Printer<'a> {
    pub(super) fn new(
        output: Output,
        out: &'a mut (dyn Write + Send),
        notes: &'a mut (dyn Write + Send),
    ) -> Self {
        Self { output, out, notes, shows_progress: false, is_mid_line: false }
    }

    /// Shows progress among the notes if `shows_progress`, which makes sense only on a terminal.
    pub(super) fn with_progress(mut self, shows_progress: bool) -> Self {
        self.shows_progress = shows_progress;
        self
    }

    pub(super) fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    /// Writes a line of results, or several.
    pub(super) fn line(&mut self, line: &str) -> Result<(), Failure> {
        Ok(writeln!(self.out, "{}", printable_lines(line))?)
    }

    /// Writes results as they are.
    pub(super) fn text(&mut self, text: &str) -> Result<(), Failure> {
        Ok(write!(self.out, "{text}")?)
    }

    /// Writes an object on a line of its own.
    pub(super) fn json(&mut self, object: &impl Serialize) -> Result<(), Failure> {
        let line = serde_json::to_string(object).map_err(std::io::Error::from)?;
        Ok(writeln!(self.out, "{}", escaped(&line))?)
    }

    /// Writes the table, or `empty` if it has no rows.
    pub(super) fn table(&mut self, table: &Table, empty: &str) -> Result<(), Failure> {
        if table.is_empty() { self.line(empty) } else { self.text(&table.render()) }
    }

    /// Tells how far long work has come, in place of what was told before.
    pub(super) fn progress(&mut self, progress: &str) -> Result<(), Failure> {
        if !self.shows_progress {
            return Ok(());
        }
        self.is_mid_line = true;
        write!(self.notes, "{CLEAR_LINE}{progress}")?;
        Ok(self.notes.flush()?)
    }

    /// Clears the line of progress.
    pub(super) fn end_progress(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.is_mid_line) {
            write!(self.notes, "{CLEAR_LINE}")?;
        }
        Ok(())
    }

    /// Writes a note, which is no result.
    pub(super) fn note(&mut self, note: &str) -> Result<(), Failure> {
        self.end_progress()?;
        Ok(writeln!(self.notes, "tallyman: {}", printable_lines(note))?)
    }

    /// Writes what is still buffered, and the failure if there is one.
    pub(super) fn finish(mut self, result: Result<Exit, Failure>) -> Exit {
        let result = result.and_then(|exit| Ok(self.out.flush().map(|()| exit)?));
        match result {
            Ok(exit) => exit,
            Err(failure) if failure.is_closed_pipe() => Exit::Ok,
            Err(failure) => {
                // If notes cannot be written either, the exit code still tells.
                self.note(&failure.to_string()).ok();
                failure.exit()
            }
        }
    }
}

/// Names of customers, answers of AWS and what others sent must not control the terminal, or hide in what is shown.
fn printable_lines(text: &str) -> String {
    text.split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

const CLEAR_LINE: &str = "\r\x1b[K";

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    struct ClosedPipe;

    impl Write for ClosedPipe {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_closed_pipe_ends_quietly() {
        let (mut out, mut notes) = (ClosedPipe, Vec::new());
        let mut printer = Printer::new(Output::Human, &mut out, &mut notes);
        let result = printer.line("anything").map(|()| Exit::Failed);
        assert_eq!(printer.finish(result), Exit::Ok);
        assert!(notes.is_empty());
    }

    #[test]
    fn no_text_turns_or_hides_what_is_shown() {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let mut printer = Printer::new(Output::Json, &mut out, &mut notes);
        let text = "a\u{202e}b\u{1b}[2J\u{200b}";
        printer.line(&format!("{text}\nsecond")).unwrap();
        printer.json(&text).unwrap();
        printer.note(text).unwrap();
        let shown = "a\u{fffd}b\u{fffd}[2J\u{fffd}";
        let json = r#""a\u202eb\u001b[2J\u200b""#;
        assert_eq!(String::from_utf8(out).unwrap(), format!("{shown}\nsecond\n{json}\n"));
        assert_eq!(String::from_utf8(notes).unwrap(), format!("tallyman: {shown}\n"));
    }

    #[test]
    fn a_failure_is_told_beside_the_results() {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let printer = Printer::new(Output::Json, &mut out, &mut notes);
        assert_eq!(printer.finish(Err(Failure::Usage("no".to_owned()))), Exit::Usage);
        assert!(out.is_empty());
        assert_eq!(String::from_utf8(notes).unwrap(), "tallyman: no\n");
    }
}
