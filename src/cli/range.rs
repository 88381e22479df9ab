//! The hours that a command is about.

use clap::Args;

use super::exit::Failure;
use crate::{
    base::proto::ListRecordsRequest,
    domain::time::{Hour, Timestamp},
};

#[derive(Debug, Args)]
pub(super) struct RangeArgs {
    /// Only hours that start at this moment (RFC 3339) or later.
    #[arg(long, value_name = "TIME")]
    from: Option<Timestamp>,
    /// Only hours that start before this moment (RFC 3339).
    #[arg(long, value_name = "TIME")]
    to: Option<Timestamp>,
    /// Only this product's, by its code.
    #[arg(long, value_name = "CODE")]
    pub(super) product: Option<String>,
}

impl RangeArgs {
    pub(super) fn hours(&self) -> Result<Hours, Failure> {
        match (self.from, self.to) {
            (Some(from), Some(to)) if from > to => {
                Err(Failure::Usage(format!("--from {from} is after --to {to}")))
            }
            (from, to) => Ok(Hours { from, to }),
        }
    }
}

/// Hours that start in `[from, to)`. An end that is not given is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hours {
    pub(super) from: Option<Timestamp>,
    pub(super) to: Option<Timestamp>,
}

impl Hours {
    pub(super) fn contains(&self, hour: Hour) -> bool {
        self.from.is_none_or(|from| hour.start() >= from) && self.to.is_none_or(|to| hour.start() < to)
    }

    pub(super) fn request(&self, product: Option<&str>) -> ListRecordsRequest {
        ListRecordsRequest {
            product: product.unwrap_or_default().to_owned(),
            from_unix_seconds: self.from.map_or(0, seconds_up),
            to_unix_seconds: self.to.map_or(0, |to| match seconds_up(to) {
                // To the agent, 0 is no end. No hour is before the epoch either.
                0 => -1,
                seconds => seconds,
            }),
            ..ListRecordsRequest::default()
        }
    }
}

/// Rounded up, so that an hour that starts within the second counts as before the moment.
fn seconds_up(moment: Timestamp) -> i64 {
    let down = moment.seconds();
    if Timestamp::from_seconds(down) < moment { down.saturating_add(1) } else { down }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(from: &str, to: &str) -> RangeArgs {
        let moment =
            |text: &str| Some(text).filter(|text| !text.is_empty()).map(|text| text.parse().unwrap());
        RangeArgs { from: moment(from), to: moment(to), product: None }
    }

    fn asked(from: &str, to: &str) -> (i64, i64) {
        let request = args(from, to).hours().unwrap().request(None);
        (request.from_unix_seconds, request.to_unix_seconds)
    }

    #[test]
    fn an_hour_counts_by_its_start_also_when_an_end_is_within_a_second() {
        assert_eq!(asked("", ""), (0, 0));
        assert_eq!(asked("1970-01-01T01:00:00Z", "1970-01-01T02:00:00Z"), (3600, 7200));
        assert_eq!(asked("1970-01-01T01:00:00.5Z", "1970-01-01T02:00:00.001Z"), (3601, 7201));
        let hours = args("1970-01-01T01:00:00.5Z", "1970-01-01T03:00:00Z").hours().unwrap();
        let within: Vec<u32> = (0..5).filter(|hour| hours.contains(Hour::from_index(*hour))).collect();
        assert_eq!(within, [2]);
    }

    #[test]
    fn nothing_is_before_the_epoch() {
        assert_eq!(asked("", "1970-01-01T00:00:00Z").1, -1);
    }

    #[test]
    fn a_range_that_runs_backwards_is_wrong_usage_and_an_empty_one_is_none() {
        let failure = args("2026-11-22T11:00:00Z", "2026-11-22T10:00:00Z").hours().unwrap_err();
        assert_eq!(failure.exit().code(), 64);
        assert!(args("2026-11-22T10:00:00Z", "2026-11-22T10:00:00Z").hours().is_ok());
    }
}
