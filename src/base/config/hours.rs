//! `[hour]` and `[submission]`: when an hour is closed, and until when and how its records go to AWS.

use std::time::Duration;

use super::{HourRules, Submission, reader::Section};
use crate::domain::{deadline::Window, record::MissedPolicy, usage::TimeBounds};

/// What is left to send records in, after an hour and its grace, if nothing else is.
const TIME_TO_SEND: Duration = Duration::from_mins(15);

pub(super) fn read_hour(root: &mut Section<'_>) -> HourRules {
    let mut section = root.section("hour");
    let rules = HourRules {
        grace: section.duration("grace", "5m", ("0s", "6h")),
        dedup_window: section.duration("dedup_window", "2h", ("1m", "7d")),
        bounds: TimeBounds {
            max_age: section.duration("max_age", "24h", ("0s", "30d")),
            max_future: section.duration("max_future", "5m", ("0s", "1h")),
        },
    };
    root.put("hour", section);
    rules
}

pub(super) fn read_submission(root: &mut Section<'_>, grace: Duration) -> Submission {
    let mut section = root.section("submission");
    let policies = [("roll_forward", MissedPolicy::RollForward), ("hold", MissedPolicy::Hold)];
    let window = Window {
        age: section.duration("window", "24h", ("1h", "30d")),
        month_end_cutoff: section.duration("month_end_cutoff", "6h", ("1h", "30d")),
    };
    let shortest = Duration::from_hours(1) + grace + TIME_TO_SEND;
    if window.age < shortest {
        section
            .fault("window", "must leave 15 minutes after an hour and hour.grace, or nothing could be sent");
    }
    if window.month_end_cutoff < grace + TIME_TO_SEND {
        section
            .fault("month_end_cutoff", "must leave 15 minutes after hour.grace, or months would end unsent");
    }
    let rate = section.integer("requests_per_second", 10, (1, 1000));
    let submission = Submission {
        window,
        requests_per_second: f64::from(u32::try_from(rate).unwrap_or(u32::MAX)),
        concurrency: usize::try_from(section.integer("concurrency", 4, (1, 64))).unwrap_or(1),
        missed: section.choice("missed", &policies, "roll_forward"),
    };
    root.put("submission", section);
    submission
}

#[cfg(test)]
mod tests {
    use super::super::testing::{GOOD, faults};

    #[test]
    fn a_window_that_leaves_no_time_to_send_is_refused() {
        let no_time = [("TALLYMAN__SUBMISSION__WINDOW", "1h"), ("TALLYMAN__HOUR__GRACE", "6h")];
        assert_eq!(faults(GOOD, &no_time[..1]).len(), 1);
        assert_eq!(faults(GOOD, &no_time).len(), 2, "the end of a month leaves none either");
    }
}
