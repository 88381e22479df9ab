//! Spans of the sandbox's time, as flags and JSON name them.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::domain::time::Timestamp;

/// A span of time, half-open; written as two RFC 3339 times with a slash between them. Either may be left out: then it
/// has no start, or no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period {
    pub start: Option<Timestamp>,
    pub end: Option<Timestamp>,
}

impl Period {
    pub(super) fn covers(&self, moment: Timestamp) -> bool {
        self.start.is_none_or(|start| start <= moment) && self.end.is_none_or(|end| moment < end)
    }
}

impl FromStr for Period {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (start, end) = text
            .split_once('/')
            .ok_or("a span of time is given as START/END, two RFC 3339 times of which one may be left out")?;
        // Whole seconds, as they are shown.
        let second = |moment: Timestamp| Some(Timestamp::from_seconds(moment.seconds()));
        let moment = |text: &str| if text.is_empty() { Ok(None) } else { text.parse().map(second) };
        let period = Self { start: moment(start)?, end: moment(end)? };
        match (period.start, period.end) {
            (None, None) => Err("a span of time needs a start or an end".to_owned()),
            (Some(start), Some(end)) if start >= end => {
                Err("a span of time must end after its start".to_owned())
            }
            _ => Ok(period),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |moment: Option<Timestamp>| moment.map(|moment| moment.to_string()).unwrap_or_default();
        write!(f, "{}/{}", text(self.start), text(self.end))
    }
}

impl TryFrom<String> for Period {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_period_ends_before_its_end() {
        let period: Period = "2026-11-22T10:00:00Z/2026-11-22T11:00:00Z".parse().unwrap();
        let (start, end) = (period.start.unwrap(), period.end.unwrap());
        let a_moment = Duration::from_millis(1);
        assert!(!period.covers(start.minus(a_moment)) && period.covers(start));
        assert!(period.covers(end.minus(a_moment)) && !period.covers(end));
    }

    #[test]
    fn a_period_may_be_open_at_one_end() {
        let moment: Timestamp = "2026-11-22T10:00:00Z".parse().unwrap();
        for (text, before, from_then_on) in
            [("2026-11-22T10:00:00Z/", false, true), ("/2026-11-22T10:00:00Z", true, false)]
        {
            let period: Period = text.parse().unwrap();
            assert_eq!(period.covers(moment.minus(Duration::from_millis(1))), before, "{text}");
            assert_eq!(period.covers(moment), from_then_on, "{text}");
            assert_eq!(period.to_string(), text);
        }
    }

    #[test]
    fn wrong_periods_are_refused() {
        for text in [
            "",
            "/",
            "2026-11-22T10:00:00Z",
            "now/",
            "2026-11-22T10:00:00Z/2026-11-22T10:00:00Z",
            "2026-11-22T10:00:00.2Z/2026-11-22T10:00:00.7Z",
        ] {
            assert!(text.parse::<Period>().is_err(), "{text}");
        }
    }
}
