//! Jobs whose changes are written together.

use tokio::time::Instant;
use tracing::Span;

use crate::{
    base::{
        sabotage::{Sabotage, is_sabotaged},
        telemetry::spans,
    },
    domain::time::Timestamp,
    work::books::Books,
    worlds::store::{Batch, Store, StoreError},
};

use super::{Answer, Ledger, Readers, Weighed};

/// A group takes at most so many jobs and events, so that no answer waits for an endless one.
const MOST_JOBS: usize = 4096;
const MOST_EVENTS: usize = 200_000;

/// Jobs that were worked through, and what they changed.
pub(super) struct Group {
    batch: Batch,
    readers: Readers,
    pub(super) answers: Vec<Answer>,
    pub(super) events: usize,
    pub(super) started: Instant,
    /// There is one if a job is traced.
    pub(super) span: Span,
}

impl Group {
    pub(super) fn new() -> Self {
        Self {
            batch: Batch::default(),
            readers: Readers::Books,
            answers: Vec::new(),
            events: 0,
            started: Instant::now(),
            span: Span::none(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.answers.len() >= MOST_JOBS || self.events >= MOST_EVENTS
    }

    /// Works through a job. Its answer is to be given only once the group is on disk.
    pub(super) fn take_in(
        &mut self,
        weighed: Weighed,
        books: &mut Books,
        store: &dyn Store,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let Weighed { job, span, events, readers } = weighed;
        self.trace_for(&span);
        self.events += events;
        if readers == Readers::Others {
            self.readers = Readers::Others;
        }
        self.answers.push(job(&mut Ledger { books, store, now, batch: &mut self.batch })?);
        Ok(())
    }

    fn trace_for(&mut self, asker: &Span) {
        if asker.is_disabled() {
            return;
        }
        if self.span.is_disabled() {
            self.span = spans::commit(asker);
        } else {
            self.span.follows_from(asker);
        }
    }

    /// Writes what has changed: synced already, if others than the books may read it.
    pub(super) fn write(&mut self, books: &mut Books, store: &dyn Store) -> Result<Written, StoreError> {
        books.flush(store, &mut self.batch)?;
        if is_sabotaged(Sabotage::AnswerBeforeSync) {
            self.answers.drain(..).for_each(|answer| answer());
        }
        let batch = std::mem::take(&mut self.batch);
        let _written = spans::write(&self.span).entered();
        let written = match self.readers {
            _ if batch.is_empty() => Written::Synced,
            Readers::Books => store.write(batch).map(|()| Written::Unsynced)?,
            Readers::Others => store.commit(batch).map(|()| Written::Synced)?,
        };
        books.written();
        Ok(written)
    }
}

/// How far a group has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Unsynced,
    Synced,
}
