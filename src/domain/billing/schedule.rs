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

/// How long an hour stays open after its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenFor {
    /// For late events.
    pub grace: Duration,
    /// After that, for people to look at what was used.
    pub review: Duration,
}

/// When the hour after `watermark` is sealed: when its review ends, and not sooner than `grace` after the start of the
/// agent, so that applications can resend after a down-time; but in time for the hour's deadline.
pub(crate) fn seals_at(watermark: Hour, started: Timestamp, open_for: OpenFor, window: &Window) -> Timestamp {
    let hour = watermark.next();
    let after_start = started.plus(open_for.grace).min(latest_seal(hour, window));
    review_ends(hour, open_for, window).max(after_start)
}

/// When an hour has been open for as long as it is to be, after its end. At the end of a month, when AWS takes little time
/// for it, a review is cut short, but never the grace.
pub(crate) fn review_ends(hour: Hour, open_for: OpenFor, window: &Window) -> Timestamp {
    let after_grace = hour.end().plus(open_for.grace);
    after_grace.max(after_grace.plus(open_for.review).min(latest_seal(hour, window)))
}

fn latest_seal(hour: Hour, window: &Window) -> Timestamp {
    window.deadline(hour).minus(TIME_TO_SEND)
}

/// The hour that takes an event for `hour`: its own while that is open, else the current one, counted as late.
pub(crate) fn open_hour(hour: Hour, watermark: Hour, now: Timestamp) -> Hour {
    if hour > watermark { hour } else { Hour::containing(now).max(watermark.next()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GRACE: Duration = Duration::from_mins(5);
    const AT_ONCE: OpenFor = OpenFor { grace: GRACE, review: Duration::ZERO };

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
        let sealed_at = |started| seals_at(watermark, at(started), AT_ONCE, &Window::AWS).to_string();
        assert_eq!(sealed_at("2026-11-22T10:30:00Z"), "2026-11-22T11:05:00Z");
        assert_eq!(sealed_at("2026-11-22T18:20:00Z"), "2026-11-22T18:25:00Z");
    }

    #[test]
    fn after_a_down_time_the_seal_still_comes_before_the_deadline() {
        let watermark = hour("2026-11-30T21:00:00Z");
        let sealed_at = |started| seals_at(watermark, at(started), AT_ONCE, &Window::AWS).to_string();
        assert_eq!(sealed_at("2026-12-01T05:43:00Z"), "2026-12-01T05:45:00Z");
        assert!(sealed_at("2026-12-01T05:57:00Z").as_str() <= "2026-12-01T05:57:00Z", "at once");
    }

    #[test]
    fn a_review_delays_the_seal_and_leaves_a_quarter_of_an_hour_before_the_deadline() {
        let sealed_at = |hour_text: &str, hours| {
            let open_for = OpenFor { grace: GRACE, review: Duration::from_hours(hours) };
            let long_ago = at("2026-11-01T00:00:00Z");
            seals_at(hour(hour_text).previous(), long_ago, open_for, &Window::AWS).to_string()
        };
        assert_eq!(sealed_at("2026-11-22T10:00:00Z", 3), "2026-11-22T14:05:00Z");
        assert_eq!(sealed_at("2026-11-22T10:00:00Z", 20), "2026-11-23T07:05:00Z");
        assert_eq!(sealed_at("2026-11-30T23:00:00Z", 3), "2026-12-01T03:05:00Z");
        assert_eq!(sealed_at("2026-11-30T23:00:00Z", 20), "2026-12-01T05:45:00Z", "AWS takes it until six");
        assert_eq!(sealed_at("2026-11-30T05:00:00Z", 20), "2026-12-01T02:05:00Z");
        assert_eq!(sealed_at("2026-11-30T09:00:00Z", 20), "2026-12-01T05:45:00Z");
    }

    #[test]
    fn a_review_never_shortens_the_grace() {
        let short = Window { age: Duration::from_hours(2), month_end_cutoff: Duration::from_hours(6) };
        let open_for = OpenFor { grace: Duration::from_mins(50), review: Duration::from_hours(20) };
        let ten = hour("2026-11-22T10:00:00Z");
        assert_eq!(review_ends(ten, open_for, &short), at("2026-11-22T11:50:00Z"));
    }

    proptest! {
        #[test]
        fn an_hour_is_sealed_before_its_deadline_and_after_those_before_it(
            index in 400_000..600_000_u32, grace in 0..=360_u64, review in 0..=1200_u64,
        ) {
            let open_for = OpenFor { grace: Duration::from_mins(grace), review: Duration::from_mins(review) };
            // The configuration refuses a grace that leaves less.
            prop_assume!(open_for.grace + TIME_TO_SEND <= Window::AWS.month_end_cutoff);
            let hour = Hour::from_index(index);
            let ends = review_ends(hour, open_for, &Window::AWS);
            prop_assert!(ends.plus(TIME_TO_SEND) <= Window::AWS.deadline(hour));
            prop_assert!(ends >= hour.end().plus(open_for.grace));
            prop_assert!(ends <= review_ends(hour.next(), open_for, &Window::AWS));
        }
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
