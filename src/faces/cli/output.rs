//! Where results go: the one place that writes.

use std::io::Write;

use clap::ValueEnum;
use serde::Serialize;

use super::{
    exit::{Exit, Failure},
    table::Table,
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    #[default]
    Human,
    Json,
}

/// Writes results, and notes beside them that are not results (warnings, what to do next).
pub(super) struct Printer<'a> {
    output: Output,
    out: &'a mut (dyn Write + Send),
    notes: &'a mut (dyn Write + Send),
    shows_progress: bool,
    /// Whether the notes' last line is progress, to be written over.
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

    /// With progress shown among the notes, for when they go to a terminal.
    pub(super) fn with_progress(mut self, shows_progress: bool) -> Self {
        self.shows_progress = shows_progress;
        self
    }

    pub(super) fn is_json(&self) -> bool {
        self.output == Output::Json
    }

    pub(super) fn line(&mut self, line: &str) -> Result<(), Failure> {
        Ok(writeln!(self.out, "{line}")?)
    }

    pub(super) fn text(&mut self, text: &str) -> Result<(), Failure> {
        Ok(write!(self.out, "{text}")?)
    }

    /// One object, on one line.
    pub(super) fn json(&mut self, object: &impl Serialize) -> Result<(), Failure> {
        let mut line = serde_json::to_vec(object).map_err(std::io::Error::from)?;
        line.push(b'\n');
        Ok(self.out.write_all(&line)?)
    }

    /// The table, or what its absence means.
    pub(super) fn table(&mut self, table: &Table, empty: &str) -> Result<(), Failure> {
        if table.is_empty() { self.line(empty) } else { self.text(&table.render()) }
    }

    /// Says how far long work is, in place of what it said before.
    pub(super) fn progress(&mut self, progress: &str) -> Result<(), Failure> {
        if !self.shows_progress {
            return Ok(());
        }
        self.is_mid_line = true;
        write!(self.notes, "{CLEAR_LINE}{progress}")?;
        Ok(self.notes.flush()?)
    }

    pub(super) fn end_progress(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.is_mid_line) {
            write!(self.notes, "{CLEAR_LINE}")?;
        }
        Ok(())
    }

    pub(super) fn note(&mut self, note: &str) -> Result<(), Failure> {
        self.end_progress()?;
        Ok(writeln!(self.notes, "tallyman: {note}")?)
    }

    /// Writes what is still buffered, and the failure if there is one.
    pub(super) fn finish(mut self, result: Result<Exit, Failure>) -> Exit {
        let result = result.and_then(|exit| Ok(self.out.flush().map(|()| exit)?));
        match result {
            Ok(exit) => exit,
            Err(failure) if failure.is_closed_pipe() => Exit::Ok,
            Err(failure) => {
                // With nowhere left to complain, the exit code must do.
                self.note(&failure.to_string()).ok();
                failure.exit()
            }
        }
    }
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
    fn a_failure_is_told_beside_the_results() {
        let (mut out, mut notes) = (Vec::new(), Vec::new());
        let printer = Printer::new(Output::Json, &mut out, &mut notes);
        assert_eq!(printer.finish(Err(Failure::Usage("no".to_owned()))), Exit::Usage);
        assert!(out.is_empty());
        assert_eq!(String::from_utf8(notes).unwrap(), "tallyman: no\n");
    }
}
