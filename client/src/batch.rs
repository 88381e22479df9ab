//! Recorded events, and the batch of them that becomes the next message.

use std::mem;

use tokio::sync::OwnedSemaphorePermit;

use crate::{
    UsageEvent,
    settings::{MAX_EVENT_BYTES, Settings},
};

/// A recorded event with its permit, which makes room in the buffer when it is dropped.
#[derive(Debug)]
pub(crate) struct Item {
    pub(crate) event: UsageEvent,
    bytes: usize,
    _permit: OwnedSemaphorePermit,
}

impl Item {
    pub(crate) fn new(event: UsageEvent, bytes: usize, permit: OwnedSemaphorePermit) -> Self {
        Self { event, bytes, _permit: permit }
    }
}

/// The events of the next message.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    items: Vec<Item>,
    bytes: usize,
}

impl Batch {
    pub(crate) fn push(&mut self, item: Item) {
        self.bytes += item.bytes;
        self.items.push(item);
    }

    /// Whether the batch takes no more. There is always room for the largest event, so no message is ever too large.
    pub(crate) fn is_full(&self, settings: &Settings) -> bool {
        self.items.len() >= settings.batch_events
            || self.bytes + MAX_EVENT_BYTES > settings.batch_bytes.max(MAX_EVENT_BYTES + 1)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(crate) fn take(&mut self) -> Vec<Item> {
        self.bytes = 0;
        mem::take(&mut self.items)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    fn item() -> Item {
        let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Item::new(UsageEvent::default(), 10, permit)
    }

    #[test]
    fn a_batch_is_full_by_events_or_by_bytes() {
        let mut settings = Settings::new("127.0.0.1:1", "app").unwrap();
        (settings.batch_events, settings.batch_bytes) = (3, 16 << 10);
        let mut batch = Batch::default();
        assert!(!batch.is_full(&settings), "the smallest message takes one event");
        batch.push(item());
        batch.push(item());
        assert!(batch.is_full(&settings), "by bytes");
        settings.batch_bytes = 1 << 20;
        assert!(!batch.is_full(&settings));
        batch.push(item());
        assert!(batch.is_full(&settings), "by events");
        assert_eq!(batch.take().len(), 3);
        assert!(batch.is_empty() && batch.bytes == 0);
    }
}
