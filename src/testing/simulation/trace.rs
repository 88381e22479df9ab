//! What happened, in order.

use std::{
    collections::hash_map::DefaultHasher,
    hash::Hasher,
    sync::{Mutex, MutexGuard},
};

use super::{Coverage, Report};
use crate::{
    base::clock::Clock,
    domain::{invariants::Fault, time::Timestamp},
};

pub(super) struct Trace {
    truth: Clock,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    lines: Vec<(Timestamp, String)>,
    fault: Option<String>,
    coverage: Coverage,
}

impl Trace {
    pub(super) fn new(truth: Clock) -> Self {
        Self { truth, inner: Mutex::default() }
    }

    pub(super) fn note(&self, line: impl Into<String>) {
        let now = self.truth.now();
        self.inner().lines.push((now, line.into()));
    }

    /// Counts that something of a kind has happened.
    pub(super) fn saw(&self, kind: &'static str) {
        *self.inner().coverage.entry(kind).or_default() += 1;
    }

    /// Notes it, and counts it.
    pub(super) fn tell(&self, kind: &'static str, detail: &str) {
        self.note(format!("{kind} {detail}"));
        self.saw(kind);
    }

    /// The first fault stands: what follows may come of it.
    pub(super) fn fault(&self, what: impl Into<String>) {
        let what = what.into();
        self.note(format!("FAULT {what}"));
        self.inner().fault.get_or_insert(what);
    }

    pub(super) fn faults(&self, faults: impl IntoIterator<Item = Fault>) {
        faults.into_iter().for_each(|fault| self.fault(fault.to_string()));
    }

    pub(super) fn has_fault(&self) -> bool {
        self.inner().fault.is_some()
    }

    pub(super) fn report(&self) -> Report {
        let inner = self.inner();
        let mut hasher = DefaultHasher::new();
        for (at, line) in &inner.lines {
            hasher.write_i64(at.millis());
            hasher.write(line.as_bytes());
        }
        let lines = if inner.fault.is_some() { &inner.lines[..] } else { &[] };
        let written =
            lines.iter().map(|(at, line)| format!("{at}.{:03} {line}", at.millis().rem_euclid(1000)));
        Report {
            fault: inner.fault.clone(),
            lines: written.collect(),
            hash: hasher.finish(),
            coverage: inner.coverage.clone(),
        }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }
}
