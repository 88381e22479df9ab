//! When an hour is sealed, and which hour takes an event until then.

use std::time::Duration;

use super::deadline::Window;
use crate::domain::time::{Hour, Timestamp};

/// The first watermark of an agent that starts for the first time: the hour that is in grace stays open.
pub(crate) fn first_watermark(started: Timestamp, grace: Duration) -> Hour {
    Hour::containing(started.minus(grace)).previous()
}

/// Left between a seal and the deadline, for sending.
const TIME_TO_SEND: Duration = Duration::from_mins(15);

/// When the hour after `watermark` is sealed: `grace` after its end, and not sooner than `grace` after the start of the
/// agent, so that applications can resend after a down-time; but in time for the hour's deadline.
pub(crate) fn seals_at(watermark: Hour, started: Timestamp, grace: Duration, window: &Window) -> Timestamp {
    let hour = watermark.next();
    let after_start = started.plus(grace).min(window.deadline(hour).minus(TIME_TO_SEND));
    hour.end().plus(grace).max(after_start)
}

/// The hour that takes an event for `hour`: its own while that is open, else the current one, counted as late.
pub(crate) fn open_hour(hour: Hour, watermark: Hour, now: Timestamp) -> Hour {
    if hour > watermark { hour } else { Hour::containing(now).max(watermark.next()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_mins(5);

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn hour(text: &str) -> Hour {
        Hour::containing(at(text))
    }

    #[test]
    fn a_new_agent_leaves_the_hour_in_grace_open() {
        assert_eq!(first_watermark(at("2026-11-22T10:02:00Z"), GRACE).next(), hour("2026-11-22T09:00:00Z"));
        assert_eq!(first_watermark(at("2026-11-22T10:05:00Z"), GRACE).next(), hour("2026-11-22T10:00:00Z"));
    }

    #[test]
    fn an_hour_is_sealed_a_grace_after_its_end_or_after_the_start() {
        let watermark = hour("2026-11-22T09:00:00Z");
        let sealed_at = |started| seals_at(watermark, at(started), GRACE, &Window::AWS).to_string();
        assert_eq!(sealed_at("2026-11-22T10:30:00Z"), "2026-11-22T11:05:00Z");
        assert_eq!(sealed_at("2026-11-22T18:20:00Z"), "2026-11-22T18:25:00Z");
    }

    #[test]
    fn after_a_down_time_the_seal_still_comes_before_the_deadline() {
        let watermark = hour("2026-11-30T21:00:00Z");
        let sealed_at = |started| seals_at(watermark, at(started), GRACE, &Window::AWS).to_string();
        assert_eq!(sealed_at("2026-12-01T05:43:00Z"), "2026-12-01T05:45:00Z");
        assert!(sealed_at("2026-12-01T05:57:00Z").as_str() <= "2026-12-01T05:57:00Z", "at once");
    }

    #[test]
    fn late_events_go_to_the_current_hour_and_never_behind_the_watermark() {
        let watermark = hour("2026-11-22T09:00:00Z");
        let now = at("2026-11-22T11:30:00Z");
        assert_eq!(open_hour(hour("2026-11-22T10:00:00Z"), watermark, now), hour("2026-11-22T10:00:00Z"));
        assert_eq!(open_hour(hour("2026-11-22T09:00:00Z"), watermark, now), hour("2026-11-22T11:00:00Z"));
        let stepped_back = at("2026-11-22T07:00:00Z");
        assert_eq!(open_hour(hour("2026-11-22T07:00:00Z"), watermark, stepped_back), watermark.next());
    }
}
