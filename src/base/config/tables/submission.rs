//! `[submission]`: until when and how records go to AWS.

use std::time::Duration;

use super::{About, Section};
use crate::domain::billing::{deadline::Window, record::MissedPolicy};

#[derive(Clone, Copy, Debug)]
pub struct Submission {
    pub window: Window,
    pub requests_per_second: f64,
    pub concurrency: usize,
    pub missed: MissedPolicy,
}

/// The least time that an hour and its grace must leave to send its records in.
const TIME_TO_SEND: Duration = Duration::from_mins(15);

const ABOUT: About = About {
    words: "How sealed records go to AWS. `window` and `month_end_cutoff` are AWS's rules: change them when AWS does.",
    example: r#"
[submission]
window = "24h"
month_end_cutoff = "6h"
requests_per_second = 10
concurrency = 4
missed = "roll_forward"
"#,
};

pub(super) fn read(root: &mut Section<'_>, grace: Duration) -> Submission {
    let mut section = root.section("submission", &ABOUT);
    let window = read_window(&mut section, grace);
    let requests_per_second: u32 = section
        .key(
            "requests_per_second",
            "Calls to AWS a second, all products of one seller account and region together. AWS's quota is 10",
        )
        .integer(10, 1..=1000);
    let concurrency = section
        .key(
            "concurrency",
            "Calls to AWS under way at a time; 4 reach 10 calls a second while AWS answers within 350 ms",
        )
        .integer(4, 1..=64);
    let policies = [("roll_forward", MissedPolicy::RollForward), ("hold", MissedPolicy::Hold)];
    let missed = section
        .key(
            "missed",
            "Whether a record past its deadline moves into the current hour (`roll_forward`) or waits for a person \
             (`hold`)",
        )
        .choice(&policies, "roll_forward");
    root.put("submission", section);
    Submission { window, requests_per_second: requests_per_second.into(), concurrency, missed }
}

fn read_window(section: &mut Section<'_>, grace: Duration) -> Window {
    let age = section
        .key(
            "window",
            "How long AWS accepts records of an hour, counted from the hour's start. It must leave 15 minutes \
             after an hour and `hour.grace`",
        )
        .duration("24h", "1h"..="30d");
    let month_end_cutoff = section
        .key(
            "month_end_cutoff",
            "How long on the 1st (UTC) AWS accepts records of the month before. It must leave 15 minutes after \
             `hour.grace`",
        )
        .duration("6h", "1h"..="30d");
    if age < Duration::from_hours(1) + grace + TIME_TO_SEND {
        section
            .fault("window", "must leave 15 minutes after an hour and hour.grace, or nothing could be sent");
    }
    if month_end_cutoff < grace + TIME_TO_SEND {
        section
            .fault("month_end_cutoff", "must leave 15 minutes after hour.grace, or months would end unsent");
    }
    Window { age, month_end_cutoff }
}

#[cfg(test)]
mod tests {
    use crate::base::config::testing::{GOOD, faults};

    #[test]
    fn a_window_that_leaves_no_time_to_send_is_refused() {
        let no_time = [("TALLYMAN__SUBMISSION__WINDOW", "1h"), ("TALLYMAN__HOUR__GRACE", "6h")];
        assert_eq!(faults(GOOD, &no_time[..1]).len(), 1);
        assert_eq!(faults(GOOD, &no_time).len(), 2, "the end of a month leaves none either");
    }
}
