//! Room for what a stream has not been told yet. A rejected event is much smaller on its way in than as the reason on its
//! way out: a client that sends nothing else, and reads no answer, would fill the memory.

use std::sync::Arc;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};

/// Rejections of one stream that are not on their way to the client. A message may have more: it waits to be alone.
const MAX_REJECTIONS: u32 = 10_000;

#[derive(Clone, Debug)]
pub(super) struct RejectionBudget(Arc<Semaphore>);

impl RejectionBudget {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(MAX_REJECTIONS as usize)))
    }

    /// Waits until there is room for so many. They have it until the permit is dropped.
    pub(super) async fn take(&self, rejections: usize) -> Result<OwnedSemaphorePermit, AcquireError> {
        let permits = u32::try_from(rejections).unwrap_or(MAX_REJECTIONS).min(MAX_REJECTIONS);
        self.0.clone().acquire_many_owned(permits).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether there is room at once.
    async fn has_room(budget: &RejectionBudget, rejections: usize) -> bool {
        tokio::select! {
            biased;
            permit = budget.take(rejections) => permit.is_ok(),
            () = std::future::ready(()) => false,
        }
    }

    #[tokio::test]
    async fn no_more_wait_than_there_is_room_for_and_none_waits_for_ever() {
        let budget = RejectionBudget::new();
        let first = budget.take(9_999).await.unwrap();
        assert!(has_room(&budget, 0).await && has_room(&budget, 1).await);
        assert!(!has_room(&budget, 2).await);
        drop(first);
        let all = budget.take(1_000_000).await.unwrap();
        assert!(has_room(&budget, 0).await && !has_room(&budget, 1).await);
        drop(all);
        assert!(has_room(&budget, 2).await);
    }
}
