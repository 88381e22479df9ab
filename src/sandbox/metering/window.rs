//! For which hours AWS takes usage.

use std::time::Duration;

use super::request::UsageRecord;
use crate::{
    domain::{billing::deadline::Window, time::Timestamp},
    sandbox::exception::{Exception, Kind},
};

/// How far a seller's clock may run ahead. AWS documents no limit, but the future cannot be metered.
const MAX_AHEAD: Duration = Duration::from_mins(5);

/// One record outside the window fails the whole call.
pub(super) fn check(records: &[UsageRecord], now: Timestamp) -> Result<(), Exception> {
    records.iter().try_for_each(|record| check_record(record, now))
}

/// Age is measured from the start of the hour: AWS does not say from where, and this is the stricter way.
fn check_record(record: &UsageRecord, now: Timestamp) -> Result<(), Exception> {
    let refuse = |why: &str| {
        let timestamp = record.timestamp;
        Err(Kind::TimestampOutOfBounds
            .because(format!("timestamp {timestamp} is out of range at {now}: {why}")))
    };
    let deadline = Window::AWS.deadline(record.slot.hour);
    if now >= deadline {
        return refuse(&format!("usage of its hour was taken until {deadline}"));
    }
    if record.timestamp > now.plus(MAX_AHEAD) {
        return refuse("it is in the future");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sandbox::{
        metering::{request::Call, wire::WireCall},
        tests::record,
    };

    fn taken(timestamp: &str, now: &str) -> bool {
        let seconds = timestamp.parse::<Timestamp>().unwrap().seconds();
        let body = json!({"ProductCode": "prod", "UsageRecords": [record(json!({"Timestamp": seconds}))]});
        let call = Call::parse(WireCall::read(body.to_string().as_bytes()).unwrap()).unwrap();
        match check(&call.records, now.parse().unwrap()) {
            Ok(()) => true,
            Err(refusal) => {
                assert_eq!(refusal.kind, Kind::TimestampOutOfBounds);
                false
            }
        }
    }

    #[test]
    fn an_hour_is_taken_until_24_hours_after_its_start() {
        assert!(taken("2026-11-20T10:00:00Z", "2026-11-21T09:59:59Z"));
        assert!(!taken("2026-11-20T10:00:00Z", "2026-11-21T10:00:00Z"));
        assert!(
            !taken("2026-11-20T10:59:59Z", "2026-11-21T10:00:00Z"),
            "the hour counts, not the moment in it"
        );
    }

    #[test]
    fn the_month_before_is_taken_until_six_oclock_on_the_first() {
        assert!(taken("2026-11-30T23:00:00Z", "2026-12-01T05:59:59Z"));
        assert!(!taken("2026-11-30T23:00:00Z", "2026-12-01T06:00:00Z"));
        assert!(
            !taken("2026-11-30T04:00:00Z", "2026-12-01T04:00:00Z"),
            "the grace does not extend the 24 hours"
        );
        assert!(taken("2026-12-01T00:00:00Z", "2026-12-01T06:00:00Z"));
    }

    #[test]
    fn the_future_is_refused_beyond_five_minutes() {
        assert!(taken("2026-11-20T10:05:00Z", "2026-11-20T10:00:00Z"));
        assert!(!taken("2026-11-20T10:05:01Z", "2026-11-20T10:00:00Z"));
    }
}
