//! What AWS's answer to `BatchMeterUsage` says of each record.

use std::collections::{HashMap, hash_map::Entry};

use aws_sdk_marketplacemetering::{
    operation::batch_meter_usage::BatchMeterUsageOutput,
    types::{UsageRecord, UsageRecordResult, UsageRecordResultStatus},
};

use super::RecordBatch;
use crate::{
    aws::session::{Failure, shortened},
    domain::{
        billing::{
            answer::{Answers, RecordAnswer, Reply},
            culprit::Culprit,
            record::{Record, Slot},
        },
        time::{Hour, Timestamp},
    },
};

/// The reply of a call that was answered with HTTP 200.
pub(super) fn of_output(records: &RecordBatch, output: &BatchMeterUsageOutput) -> Reply {
    let results =
        output.results().iter().filter_map(|result| Some((result.usage_record()?.into(), line(result))));
    let unprocessed =
        output.unprocessed_records().iter().map(|record| (record.into(), RecordAnswer::Unprocessed));
    Reply::Answered(match_lines(records, results.chain(unprocessed)))
}

/// The reply of a call that failed. Unknown exceptions wait like a fault of the set-up: no record is held only because
/// we do not know better.
pub(super) fn of_failure(failure: Failure) -> Reply {
    match failure {
        Failure::Throttled => Reply::Throttled,
        Failure::NotDelivered(text) => Reply::NotDelivered(text),
        Failure::Lost(text) => Reply::Lost(text),
        Failure::Setup(text) => Reply::Setup(text),
        Failure::Refused { exception, text } => match &*exception {
            "TimestampOutOfBoundsException" => Reply::TooOld(text),
            "InvalidCustomerIdentifierException" => Reply::UnknownIdentity(Culprit::Customer, text),
            "InvalidLicenseException" => Reply::UnknownIdentity(Culprit::CustomerHour, text),
            name if BAD_RECORD.contains(&name) => Reply::BadRecord(text),
            _ => Reply::Setup(text),
        },
    }
}

/// Exceptions that a single bad record can cause.
const BAD_RECORD: [&str; 4] = [
    "InvalidUsageDimensionException",
    "InvalidTagException",
    "InvalidUsageAllocationsException",
    "ValidationException",
];

fn line(result: &UsageRecordResult) -> RecordAnswer {
    match result.status() {
        Some(UsageRecordResultStatus::Success) => {
            RecordAnswer::Success { receipt: result.metering_record_id().unwrap_or_default().into() }
        }
        Some(UsageRecordResultStatus::CustomerNotSubscribed) => RecordAnswer::NotSubscribed,
        Some(UsageRecordResultStatus::DuplicateRecord) => RecordAnswer::Duplicate,
        Some(other) => RecordAnswer::Other(shortened(other.as_str()).into()),
        None => RecordAnswer::Other("".into()),
    }
}

/// A record as AWS's answer repeats it.
#[derive(Clone, Debug)]
struct Echo<'a> {
    account_id: &'a str,
    license_arn: &'a str,
    customer_identifier: &'a str,
    dimension: &'a str,
    timestamp: Timestamp,
}

impl<'a> From<&'a UsageRecord> for Echo<'a> {
    fn from(record: &'a UsageRecord) -> Self {
        Self {
            account_id: record.customer_aws_account_id().unwrap_or_default(),
            license_arn: record.license_arn().unwrap_or_default(),
            customer_identifier: record.customer_identifier(),
            dimension: record.dimension(),
            timestamp: Timestamp::from_seconds(record.timestamp().secs()),
        }
    }
}

impl Echo<'_> {
    /// Whether this may repeat `record`. An identity field that AWS leaves out does not speak against it.
    fn matches(&self, record: &Record) -> bool {
        let fields = record.identity.fields();
        let agrees = |echoed: &str, sent: &str| echoed.is_empty() || sent.is_empty() || echoed == sent;
        self.dimension == &*record.dimension
            && Hour::containing(self.timestamp) == record.hour
            && agrees(self.account_id, fields.account_id)
            && agrees(self.license_arn, fields.license_arn)
            && agrees(self.customer_identifier, fields.customer_identifier)
    }
}

/// Gives each line to the one record that it can mean. A line that could mean several, or none, is dropped, and so are
/// lines that contradict each other: the records without an answer are tried again.
fn match_lines<'a>(records: &RecordBatch, lines: impl Iterator<Item = (Echo<'a>, RecordAnswer)>) -> Answers {
    let mut said: HashMap<Slot, Option<RecordAnswer>> = HashMap::new();
    for (echo, line) in lines {
        let mut candidates = records.iter().filter(|record| echo.matches(record));
        let (Some(only), None) = (candidates.next(), candidates.next()) else { continue };
        match said.entry(only.slot()) {
            Entry::Vacant(first) => drop(first.insert(Some(line))),
            Entry::Occupied(mut known) if *known.get() != Some(line) => drop(known.insert(None)),
            Entry::Occupied(_) => {}
        }
    }
    said.into_iter().filter_map(|(slot, line)| Some((slot, line?))).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::domain::billing::record::tests::sample;

    fn refused(exception: &str) -> Reply {
        of_failure(Failure::Refused { exception: exception.into(), text: "".into() })
    }

    #[test]
    fn exceptions_are_sorted_by_what_helps() {
        for exception in ["InvalidUsageDimensionException", "ValidationException"] {
            assert_eq!(refused(exception), Reply::BadRecord("".into()));
        }
        for (exception, culprit) in [
            ("InvalidCustomerIdentifierException", Culprit::Customer),
            ("InvalidLicenseException", Culprit::CustomerHour),
        ] {
            assert_eq!(refused(exception), Reply::UnknownIdentity(culprit, "".into()));
        }
        assert_eq!(refused("TimestampOutOfBoundsException"), Reply::TooOld("".into()));
        for exception in [
            "",
            "AccessDeniedException",
            "ExpiredTokenException",
            "InvalidProductCodeException",
            "DisabledApiException",
            "NewException",
        ] {
            assert_eq!(refused(exception), Reply::Setup("".into()));
        }
    }

    #[test]
    fn a_line_is_given_only_to_the_one_record_that_it_means() {
        let second = Record { hour: Hour::from_index(498_001), ..sample(2) };
        let records = vec![Arc::new(sample(1)), Arc::new(second)];
        let echo = |account_id, hour: u32| Echo {
            account_id,
            license_arn: "",
            customer_identifier: "",
            dimension: "requests",
            timestamp: Hour::from_index(hour).start(),
        };
        let answers = |echo| match_lines(&records, std::iter::once((echo, RecordAnswer::Duplicate)));
        let expected: Answers = std::iter::once((records[1].slot(), RecordAnswer::Duplicate)).collect();
        assert_eq!(answers(echo("123456789012", 498_001)), expected);
        assert_eq!(answers(echo("", 498_001)), expected);
        assert_eq!(answers(echo("999999999999", 498_001)), Answers::default());
    }

    #[test]
    fn lines_that_contradict_each_other_say_nothing() {
        let records = vec![Arc::new(sample(1))];
        let echo = || Echo {
            account_id: "123456789012",
            license_arn: "",
            customer_identifier: "",
            dimension: "requests",
            timestamp: records[0].timestamp,
        };
        let success = || RecordAnswer::Success { receipt: "r-1".into() };
        let answers =
            |lines: Vec<RecordAnswer>| match_lines(&records, lines.into_iter().map(|line| (echo(), line)));
        let expected: Answers = std::iter::once((records[0].slot(), success())).collect();
        assert_eq!(answers(vec![success(), success()]), expected);
        for other in [
            RecordAnswer::Unprocessed,
            RecordAnswer::Duplicate,
            RecordAnswer::Success { receipt: "r-2".into() },
        ] {
            assert_eq!(answers(vec![success(), other.clone()]), Answers::default());
            assert_eq!(answers(vec![other.clone(), success(), other]), Answers::default());
        }
    }
}
