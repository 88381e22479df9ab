//! Tells the operator of streams that are refused: each in a metric, and some in the log, since whoever is refused may
//! try without end.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;
use tracing::warn;

use crate::{api::transport::client::Client, base::metrics, engine::counting::streams::StreamRefusal};

const BETWEEN_LINES: Duration = Duration::from_mins(1);

#[derive(Debug, Default)]
pub(super) struct RefusedStreams {
    lines: Mutex<Lines>,
}

#[derive(Debug, Default)]
struct Lines {
    last: Option<Instant>,
    /// Refusals since then that have no line.
    left_out: u64,
}

impl RefusedStreams {
    pub(super) fn note(&self, client: Option<&Client>, refusal: &StreamRefusal) {
        metrics::stream_refused(refusal.reason());
        if matches!(refusal, StreamRefusal::Gap { .. } | StreamRefusal::Over) {
            // The sender is told all, and usage is neither lost nor in danger.
            return;
        }
        let Some(left_out) = self.next_line(Instant::now()) else { return };
        let client = client.map_or("", |client| &client.permission.client);
        // A name that an application chose is written so that it cannot break the line.
        warn!(client, refusal = ?refusal.to_string(), left_out, "a stream is refused");
    }

    /// How many refusals had no line before this one, if it has one.
    fn next_line(&self, now: Instant) -> Option<u64> {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.last.is_some_and(|last| now.saturating_duration_since(last) < BETWEEN_LINES) {
            lines.left_out = lines.left_out.saturating_add(1);
            return None;
        }
        lines.last = Some(now);
        Some(std::mem::take(&mut lines.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_has_a_line_a_minute_that_tells_of_the_others() {
        let (refused, start) = (RefusedStreams::default(), Instant::now());
        let line = |second| refused.next_line(start + Duration::from_secs(second));
        assert_eq!(
            [line(0), line(1), line(59), line(60), line(90), line(121)],
            [Some(0), None, None, Some(2), None, Some(1)]
        );
    }
}
