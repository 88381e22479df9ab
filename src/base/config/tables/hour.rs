//! `[hour]`: which hour an event counts in, and when that hour is closed.

use std::time::Duration;

use super::{About, Section};
use crate::{base::config::key::duration_text, domain::usage::event::TimeBounds};

/// The least that may be set: that of an agent that takes no old events.
const SHORTEST_DEDUP_WINDOW: Duration = Duration::from_mins(1);

#[derive(Clone, Copy, Debug)]
pub struct HourRules {
    pub grace: Duration,
    pub dedup_window: Duration,
    pub bounds: TimeBounds,
}

impl HourRules {
    /// How long an event can be taken after it was first taken: its id must be known meanwhile, or it counts twice.
    pub(crate) fn ids_needed_for(&self) -> Duration {
        self.bounds.max_age + self.bounds.max_future
    }

    /// What a dedup window that was made shorter than that lets happen.
    pub(in crate::base::config) fn warning(&self) -> Option<String> {
        if self.dedup_window >= self.ids_needed_for() {
            return None;
        }
        let [window, age, needed] =
            [self.dedup_window, self.bounds.max_age, self.ids_needed_for()].map(duration_text);
        Some(format!(
            "hour.dedup_window ({window}) is shorter than hour.max_age and hour.max_future together ({needed}): an \
             event with an id and a time of its own is billed twice if it is sent again more than {window} after it \
             was counted and less than {age} after its time. Leave hour.dedup_window out, and each id is known for as \
             long as its event is taken"
        ))
    }
}

const ABOUT: About = About {
    words: "Which hour an event counts in, and when that hour is closed for good.",
    example: r#"
[hour]
grace = "5m"
max_age = "24h"
max_future = "5m"
dedup_window = "24h 5m"
"#,
};

pub(super) fn read(root: &mut Section<'_>) -> HourRules {
    let mut section = root.section("hour", &ABOUT);
    let grace = section
        .key(
            "grace",
            "How long an hour stays open for late events after its end. After a start, hours that ended while the \
             agent was away stay open as long",
        )
        .duration("5m", "0s"..="6h");
    let bounds = TimeBounds {
        max_age: section
            .key("max_age", "Events that are older are rejected (`TIME_TOO_OLD`)")
            .duration("24h", "0s"..="30d"),
        max_future: section
            .key("max_future", "Events that are further ahead are rejected (`TIME_IN_FUTURE`)")
            .duration("5m", "0s"..="1h"),
    };
    let needed = (bounds.max_age + bounds.max_future).max(SHORTEST_DEDUP_WINDOW);
    let dedup_window = section
        .key(
            "dedup_window",
            "How long event ids are remembered, at least. If it is shorter than its default, events that are sent again \
             later count twice: `tallyman check` says which",
        )
        .default_words("`max_age` and `max_future` together")
        .duration(&duration_text(needed), "1m"..="31d");
    root.put("hour", section);
    HourRules { grace, dedup_window, bounds }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::base::config::testing::{GOOD, config};

    fn window_of(hour: &str) -> (Duration, Vec<String>) {
        let config = config(&format!("[hour]\n{hour}\n{GOOD}"), &[]).unwrap();
        (config.hour.dedup_window, config.warnings)
    }

    #[test]
    fn ids_are_known_for_as_long_as_their_events_are_taken() {
        let hour = Duration::from_hours(1);
        for (settings, window) in [
            ("", hour * 24 + Duration::from_mins(5)),
            ("max_age = '30d'\nmax_future = '1h'", hour * 24 * 30 + hour),
            ("max_age = '90m'\nmax_future = '0s'", Duration::from_mins(90)),
            ("max_age = '0s'\nmax_future = '0s'", Duration::from_mins(1)),
            ("dedup_window = '7d'", hour * 24 * 7),
        ] {
            assert_eq!(window_of(settings), (window, Vec::new()), "{settings}");
        }
    }

    #[test]
    fn a_shorter_window_is_taken_and_told() {
        let (window, warnings) = window_of("dedup_window = '2h'");
        assert_eq!(window, Duration::from_hours(2));
        let [warning] = &warnings[..] else { panic!("{warnings:?}") };
        for part in [
            "hour.dedup_window (2h)",
            "(24h 5m)",
            "billed twice",
            "more than 2h after",
            "less than 24h after",
        ] {
            assert!(warning.contains(part), "{part} not in {warning}");
        }
    }
}
