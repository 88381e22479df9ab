//! Commands whose changes are written together.

use tokio::{sync::broadcast, time::Instant};
use tracing::Span;

use crate::{
    base::{
        sabotage::{Sabotage, is_sabotaged},
        telemetry::spans,
    },
    engine::{lifecycle::Lifecycle, state::EngineState, trusted_clock::BestNow, write_txn::WriteTxn},
    store::{Batch, Store, StoreError},
};

use super::{
    Envelope, Readers, SubmitterEvent,
    commands::{Completion, apply},
};

/// A group takes at most so many commands and events, so that no answer waits for an endless one.
const MOST_COMMANDS: usize = 4096;
const MOST_EVENTS: usize = 200_000;

/// Commands that were applied, and what they changed.
pub(super) struct Group {
    batch: Batch,
    readers: Readers,
    pub(super) completions: Vec<Completion>,
    pub(super) events: usize,
    pub(super) started: Instant,
    /// There is one if a command is traced.
    pub(super) span: Span,
}

impl Group {
    pub(super) fn new() -> Self {
        Self {
            batch: Batch::default(),
            readers: Readers::State,
            completions: Vec::new(),
            events: 0,
            started: Instant::now(),
            span: Span::none(),
        }
    }

    pub(super) fn is_full(&self) -> bool {
        self.completions.len() >= MOST_COMMANDS || self.events >= MOST_EVENTS
    }

    /// Applies a command. It is to be completed only once the group is on disk.
    pub(super) fn apply(
        &mut self,
        envelope: Envelope,
        state: &mut EngineState,
        store: &dyn Store,
        BestNow { now, is_clock_doubted }: BestNow,
        lifecycle: &Lifecycle,
    ) -> Result<(), StoreError> {
        let Envelope { command, span, events, room, readers } = envelope;
        self.trace_for(&span);
        self.events += events;
        if readers == Readers::Others {
            self.readers = Readers::Others;
        }
        let mut txn = WriteTxn { store, now, is_clock_doubted, batch: &mut self.batch };
        self.completions.push(apply(command, state, &mut txn, lifecycle)?);
        // The events wait no more: others may take their room.
        drop(room);
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

    /// Writes what has changed: synced already, if others than the engine's state may read it.
    pub(super) fn write(
        &mut self,
        state: &mut EngineState,
        store: &dyn Store,
        submitters: &broadcast::Sender<SubmitterEvent>,
    ) -> Result<Written, StoreError> {
        state.flush(store, &mut self.batch)?;
        if is_sabotaged(Sabotage::AnswerBeforeSync) {
            self.completions.drain(..).for_each(|completion| completion.complete(submitters));
        }
        let batch = std::mem::take(&mut self.batch);
        let _written = spans::write(&self.span).entered();
        let written = match self.readers {
            _ if batch.is_empty() => Written::Synced,
            Readers::State => store.write(batch).map(|()| Written::Unsynced)?,
            Readers::Others => store.commit(batch).map(|()| Written::Synced)?,
        };
        state.written();
        Ok(written)
    }
}

/// How far a group has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Unsynced,
    Synced,
}
