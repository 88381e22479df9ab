//! Reads from an event what AWS accepted in a call.
//!
//! Each result repeats its record, so that only the product code is taken from the request. The case of names does not
//! matter, since AWS's documents have both `customerAWSAccountId` and `customerAWSAccountID`.

use std::sync::Arc;

use serde_json::Value;

use super::{
    Counts,
    document::{Event, text},
};
use crate::domain::{
    reconcile::{Sender, TrailLine},
    time::{Hour, Timestamp},
    usage::quantity::Quantity,
};

/// The records that AWS accepted, or why one of them makes no sense. The others are only counted.
pub(super) fn accepted(event: &Event, counts: &mut Counts) -> Vec<Result<TrailLine, String>> {
    counts.calls += 1;
    if !event.error.is_empty() {
        counts.failed_calls += 1;
        return Vec::new();
    }
    let Some(Value::Array(results)) = field(&event.elements, "results") else {
        counts.calls_without_results += 1;
        return Vec::new();
    };
    if let Some(Value::Array(unprocessed)) = field(&event.elements, "unprocessedRecords") {
        counts.unprocessed += unprocessed.len() as u64;
    }
    let (successes, others): (Vec<&Value>, Vec<&Value>) =
        results.iter().partition(|result| text_field(result, "status") == "Success");
    counts.accepted += successes.len() as u64;
    counts.refused += others.len() as u64;
    successes.into_iter().map(|result| line(event, result)).collect()
}

fn line(event: &Event, result: &Value) -> Result<TrailLine, String> {
    let record = field(result, "usageRecord").filter(|record| record.is_object());
    let record = record.ok_or("a result without its usageRecord")?;
    let shown = |owner: &Value, name: &str| -> Arc<str> { known(text_field(owner, name)).into() };
    Ok(TrailLine {
        hour: Hour::containing(timestamp(field(record, "timestamp"))?),
        product: shown(&event.parameters, "productCode"),
        account_id: shown(record, "customerAWSAccountId"),
        license_arn: shown(record, "licenseArn"),
        customer_identifier: shown(record, "customerIdentifier"),
        dimension: text_field(record, "dimension").into(),
        region: event.region.as_str().into(),
        receipt: text_field(result, "meteringRecordId").into(),
        quantity: quantity(record)?,
        at: event.time.parse().unwrap_or_default(),
        sender: sender(event),
    })
}

/// An identity without an ARN, such as that of an AWS service, is named by what it has.
fn sender(event: &Event) -> Sender {
    let names = ["arn", "principalId", "invokedBy", "type"];
    let named = names.map(|name| text_field(&event.identity, name));
    Sender {
        arn: named.into_iter().find(|name| !name.is_empty()).unwrap_or_default().into(),
        address: event.address.as_str().into(),
        user_agent: event.user_agent.as_str().into(),
    }
}

fn field<'v>(owner: &'v Value, name: &str) -> Option<&'v Value> {
    owner.as_object()?.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn text_field(owner: &Value, name: &str) -> String {
    field(owner, name).map(text).unwrap_or_default()
}

/// The value, or empty text where CloudTrail hides it, as in `HIDDEN_DUE_TO_SECURITY_REASONS` or `****`.
fn known(value: String) -> String {
    if value.starts_with("HIDDEN_") || value.contains("***") { String::new() } else { value }
}

/// The quantity of a record: zero if neither field is given, as AWS takes it.
fn quantity(record: &Value) -> Result<Quantity, String> {
    let given = |name| Some(text_field(record, name)).filter(|text| !text.is_empty());
    match given("quantityAsDecimal").or_else(|| given("quantity")) {
        None => Ok(Quantity::ZERO),
        Some(text) => text.parse(),
    }
}

/// A timestamp: seconds or milliseconds since the epoch, RFC 3339, or `Apr 19, 2018 4:32:50 PM` as in AWS's examples.
fn timestamp(value: Option<&Value>) -> Result<Timestamp, String> {
    const FIRST_MILLIS: f64 = 1e11;
    let shown = value.map(text).unwrap_or_default();
    let moment = match shown.parse::<f64>() {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "saturates, and the fraction of a millisecond does not matter"
        )]
        Ok(number) if number.is_finite() => {
            let millis = if number.abs() < FIRST_MILLIS { number * 1000.0 } else { number };
            Some(Timestamp::from_millis(millis as i64))
        }
        Ok(_) => None,
        Err(_) => shown.parse().ok().or_else(|| in_words(&shown)),
    };
    moment.ok_or_else(|| format!("`{shown}` is not a timestamp"))
}

/// A timestamp in words. Newer Java prints a comma behind the year, and a narrow space before AM and PM.
fn in_words(text: &str) -> Option<Timestamp> {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c == ',').filter(|word| !word.is_empty()).collect();
    let [month, day, year, time, half] = words[..] else { return None };
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    let (hour, rest) = time.split_once(':')?;
    let hour: u8 = hour.parse().ok().filter(|hour| (1..=12).contains(hour))?;
    let hour = match half {
        "AM" => hour % 12,
        "PM" => hour % 12 + 12,
        _ => return None,
    };
    format!("{year}-{month:02}-{day:0>2}T{hour:02}:{rest}Z").parse().ok()
}

const MONTHS: [&str; 12] =
    ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn metering(elements: Value) -> Event {
        Event {
            time: "2026-11-22T11:06:00Z".to_owned(),
            region: "eu-west-1".to_owned(),
            identity: json!({"type": "AssumedRole", "arn": "arn:aws:sts::1:assumed-role/old-meter/i-0"}),
            address: "192.0.2.7".to_owned(),
            user_agent: "Boto3/1.44".to_owned(),
            parameters: json!({"productCode": "prod"}),
            elements,
            ..Event::default()
        }
    }

    fn one(record: &Value) -> Result<TrailLine, String> {
        let result = json!({"usageRecord": record, "meteringRecordId": "r-1", "status": "Success"});
        accepted(&metering(json!({"results": [result]})), &mut Counts::default()).remove(0)
    }

    #[test]
    fn a_success_is_read_with_all_its_fields() {
        let arn = "arn:aws:license-manager::123456789012:license:l-0123abcd";
        let line = one(&json!({
            "dimension": "gb_out", "timestamp": "Apr 19, 2018 4:32:50 PM", "customerAWSAccountID": "012345678901",
            "licenseArn": arn, "quantityAsDecimal": "1.50", "quantity": 0, "customerIdentifier": null,
        }));
        let expected = TrailLine {
            hour: Hour::containing("2018-04-19T16:00:00Z".parse().unwrap()),
            product: "prod".into(),
            account_id: "012345678901".into(),
            license_arn: arn.into(),
            customer_identifier: "".into(),
            dimension: "gb_out".into(),
            region: "eu-west-1".into(),
            receipt: "r-1".into(),
            quantity: "1.5".parse().unwrap(),
            at: "2026-11-22T11:06:00Z".parse().unwrap(),
            sender: Sender {
                arn: "arn:aws:sts::1:assumed-role/old-meter/i-0".into(),
                address: "192.0.2.7".into(),
                user_agent: "Boto3/1.44".into(),
            },
        };
        assert_eq!(line, Ok(expected));
    }

    #[test]
    fn a_sender_without_an_arn_has_the_name_that_there_is() {
        for (identity, name) in [
            (json!({"type": "AWSAccount", "principalId": "AIDA", "accountId": "1"}), "AIDA"),
            (json!({"type": "AWSService", "invokedBy": "x.amazonaws.com"}), "x.amazonaws.com"),
            (json!({"type": "Root", "arn": ""}), "Root"),
            (Value::Null, ""),
            (json!("odd"), ""),
        ] {
            let event = Event { identity, ..Event::default() };
            assert_eq!(&*sender(&event).arn, name);
        }
    }

    #[test]
    fn only_success_is_an_acceptance_and_the_rest_is_counted() {
        let record =
            json!({"dimension": "d", "timestamp": 1_793_620_800, "customerIdentifier": "c", "quantity": 1});
        let result = |status: &str| json!({"usageRecord": record, "status": status});
        let elements = json!({
            "results": [result("Success"), result("DuplicateRecord"), result("CustomerNotSubscribed"), {}],
            "unprocessedRecords": [record],
        });
        let mut counts = Counts::default();
        assert_eq!(accepted(&metering(elements), &mut counts).len(), 1);
        let failed = Event { error: "ThrottlingException".to_owned(), ..metering(Value::Null) };
        assert!(accepted(&failed, &mut counts).is_empty());
        for left_out in
            [Value::Null, json!({"omitted": true, "originalSize": 110_000, "reason": "too large"})]
        {
            assert!(accepted(&metering(left_out), &mut counts).is_empty());
        }
        let expected = Counts {
            calls: 4,
            failed_calls: 1,
            calls_without_results: 2,
            accepted: 1,
            outside_hours: 0,
            refused: 3,
            unprocessed: 1,
            unreadable: 0,
        };
        assert_eq!(counts, expected);
    }

    #[test]
    fn what_is_hidden_is_not_known() {
        for hidden in ["HIDDEN_DUE_TO_SECURITY_REASONS", "****"] {
            let line = one(&json!({"dimension": "d", "timestamp": 0, "customerIdentifier": hidden})).unwrap();
            assert_eq!((&*line.customer_identifier, line.quantity), ("", Quantity::ZERO));
        }
    }

    #[test]
    fn moments_come_in_many_forms() {
        let forms = [
            json!(1_795_342_320),
            json!(1_795_342_320.5),
            json!("1795342320"),
            json!(1_795_342_320_000_u64),
            json!("2026-11-22T10:12:00Z"),
            json!("Nov 22, 2026 10:12:00 AM"),
            json!("Nov 22, 2026, 10:12:00\u{202f}AM"),
        ];
        for form in forms {
            let moment = timestamp(Some(&form)).unwrap_or_else(|why| panic!("{why}"));
            assert_eq!(moment.seconds(), 1_795_342_320, "{form}");
        }
        let midnight = timestamp(Some(&json!("Dec 1, 2026 12:00:00 AM"))).unwrap();
        assert_eq!(midnight.to_string(), "2026-12-01T00:00:00Z");
        let noon = timestamp(Some(&json!("Dec 1, 2026 12:00:00 PM"))).unwrap();
        assert_eq!(noon.to_string(), "2026-12-01T12:00:00Z");
        for wrong in [
            json!(null),
            json!("soon"),
            json!("Nov 31, 2026 1:00:00 AM"),
            json!("Nov 22, 2026 13:00:00 PM"),
            json!("inf"),
        ] {
            assert!(timestamp(Some(&wrong)).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for (record, reason) in [
            (json!({"timestamp": 0, "quantity": -1}), "`-1` is not a quantity"),
            (json!({"timestamp": 0, "quantity": 3_000_000_000_u64}), "is not a quantity"),
            (json!({"timestamp": "later"}), "`later` is not a timestamp"),
            (json!({}), "`` is not a timestamp"),
            (json!(null), "without its usageRecord"),
        ] {
            let why = one(&record).unwrap_err();
            assert!(why.contains(reason), "{reason}: {why}");
        }
    }

    proptest! {
        #[test]
        fn no_timestamp_makes_it_panic(text in "[A-Za-z]{0,4}[ ,]{0,2}[0-9:]{0,9}[ ,]{0,2}\\PC{0,12}") {
            timestamp(Some(&json!(text))).ok();
            in_words(&format!("Nov 22, 2026 {text} PM"));
        }
    }
}
