//! Calls from their headers to their answer, without a server.

use std::time::Duration;

use serde_json::{Value, json};

use super::{ARN, SIGNATURE, record};
use crate::{
    base::config,
    sandbox::{
        catalog::Catalog,
        exception::Kind,
        faults::{Faults, Period, Rule},
        marketplace::{Answer, Marketplace, Moment, Request, Settings},
        metering::BATCH_METER_USAGE,
    },
};

/// 14:30 on the day of the records in these tests, which are for 12:00.
const NOW: &str = "2026-11-02T14:30:00Z";

fn marketplace(faults: Faults) -> Marketplace {
    Marketplace::new(Settings { catalog: None, faults, seed: 7 })
}

fn at(real_millis: u64) -> Moment {
    Moment { now: NOW.parse().unwrap(), real: Duration::from_millis(real_millis) }
}

fn send(marketplace: &mut Marketplace, body: &str) -> Answer {
    let request =
        Request { target: Some(BATCH_METER_USAGE), authorization: Some(SIGNATURE), body: body.as_bytes() };
    marketplace.call(request, at(0))
}

fn batch(dimensions: &[&str]) -> String {
    let records: Vec<Value> = dimensions.iter().map(|name| record(json!({"Dimension": name}))).collect();
    json!({"ProductCode": "prod", "UsageRecords": records}).to_string()
}

fn refused(answer: Answer) -> Kind {
    answer.outcome.unwrap_err().kind
}

fn statuses(answer: &Answer) -> Vec<&str> {
    let results = answer.outcome.as_ref().unwrap()["Results"].as_array().unwrap();
    results.iter().map(|result| result["Status"].as_str().unwrap()).collect()
}

#[test]
fn results_echo_the_records_and_are_not_in_their_order() {
    let body = json!({"ProductCode": "prod", "UsageRecords": [
        record(json!({"Dimension": "a", "Timestamp": 1_793_620_800.5, "New": [1]})),
        record(json!({"Dimension": "b"}))
    ]});
    let answer = send(&mut marketplace(Faults::default()), &body.to_string()).outcome.unwrap();
    assert_eq!(answer["Results"][0]["UsageRecord"], body["UsageRecords"][1]);
    assert_eq!(answer["Results"][1]["UsageRecord"], body["UsageRecords"][0]);
    assert_ne!(answer["Results"][0]["MeteringRecordId"], answer["Results"][1]["MeteringRecordId"]);
    assert_eq!(answer["UnprocessedRecords"], json!([]));
}

#[test]
fn an_exception_records_nothing() {
    let mut marketplace = marketplace(Faults::default());
    let old = record(json!({"Timestamp": 1_793_620_800 - 24 * 3600, "Dimension": "old"}));
    let future = record(json!({"Timestamp": 1_793_620_800 + 24 * 3600, "Dimension": "future"}));
    for (bad, kind) in [
        (old, Kind::TimestampOutOfBounds),
        (future, Kind::TimestampOutOfBounds),
        (record(json!({"Quantity": -1, "Dimension": "bad"})), Kind::Validation),
        (record(json!({})), Kind::Validation),
    ] {
        let body = json!({"ProductCode": "prod", "UsageRecords": [record(json!({})), bad]});
        assert_eq!(refused(send(&mut marketplace, &body.to_string())), kind, "{bad}");
    }
    assert_eq!(marketplace.billed(), []);
}

#[test]
fn a_record_is_success_again_or_duplicate() {
    let mut marketplace = marketplace(Faults::default());
    assert_eq!(statuses(&send(&mut marketplace, &batch(&["a"]))), ["Success"]);
    assert_eq!(statuses(&send(&mut marketplace, &batch(&["a", "b"]))), ["Success", "Success"]);
    let other = batch(&["a", "b"]).replacen("\"Quantity\":5", "\"Quantity\":6", 1);
    let answer = send(&mut marketplace, &other);
    assert_eq!(statuses(&answer), ["Success", "DuplicateRecord"]);
    assert_eq!(answer.outcome.unwrap()["Results"][1].get("MeteringRecordId"), None);
}

#[test]
fn unsigned_and_unknown_calls_are_refused() {
    let mut marketplace = marketplace(Faults::default());
    let mut call = |target, authorization| {
        refused(marketplace.call(Request { target, authorization, body: b"{}" }, at(0)))
    };
    assert_eq!(call(Some(BATCH_METER_USAGE), None), Kind::MissingAuthenticationToken);
    assert_eq!(call(Some(BATCH_METER_USAGE), Some("Bearer x")), Kind::IncompleteSignature);
    let other_service = SIGNATURE.replace("aws-marketplace", "s3");
    assert_eq!(call(Some(BATCH_METER_USAGE), Some(&other_service)), Kind::InvalidSignature);
    assert_eq!(call(Some("AWSMPMeteringService.MeterUsage"), Some(SIGNATURE)), Kind::UnknownOperation);
    assert_eq!(call(None, Some(SIGNATURE)), Kind::UnknownOperation);
}

#[test]
fn a_request_has_less_than_a_megabyte() {
    let mut marketplace = marketplace(Faults::default());
    let body = batch(&["a"]);
    let padded = |size: usize| format!("{body}{}", " ".repeat(size - body.len()));
    assert!(send(&mut marketplace, &padded(999_999)).outcome.is_ok());
    let refusal = send(&mut marketplace, &padded(1_000_000)).outcome.unwrap_err();
    assert_eq!((refusal.kind.name(), refusal.kind.status()), ("ValidationException", 413));
}

#[test]
fn throttling_errors_and_outages_record_nothing() {
    let outage = Period { start: Some(at(0).now), end: None };
    for (faults, kind) in [
        (Faults { throttle: 1.0, ..Faults::default() }, Kind::Throttling),
        (Faults { calls_per_second: Some(0), ..Faults::default() }, Kind::Throttling),
        (Faults { error: 1.0, ..Faults::default() }, Kind::InternalServiceError),
        (Faults { outage: Some(outage), ..Faults::default() }, Kind::ServiceUnavailable),
        (Faults { refuse: Some(Kind::ExpiredToken), ..Faults::default() }, Kind::ExpiredToken),
    ] {
        let mut marketplace = marketplace(faults);
        assert_eq!(refused(send(&mut marketplace, &batch(&["a"]))), kind);
        assert_eq!(marketplace.billed(), []);
    }
}

#[test]
fn calls_above_the_rate_are_throttled_until_it_allows_more() {
    let mut marketplace = marketplace(Faults { calls_per_second: Some(2), ..Faults::default() });
    let body = batch(&["a"]);
    let request =
        Request { target: Some(BATCH_METER_USAGE), authorization: Some(SIGNATURE), body: body.as_bytes() };
    let mut passes = |millis| marketplace.call(request, at(millis)).outcome.is_ok();
    assert_eq!([0, 500, 999, 1000, 1001].map(&mut passes), [true, true, false, true, false]);
}

#[test]
fn a_lost_reply_is_of_a_call_that_was_carried_out() {
    let mut marketplace = marketplace(Faults { lose_reply: 1.0, ..Faults::default() });
    assert!(send(&mut marketplace, &batch(&["a"])).is_lost);
    assert_eq!(marketplace.billed().len(), 1);
}

#[test]
fn unprocessed_records_are_handed_back_and_not_metered() {
    let mut marketplace = marketplace(Faults { unprocessed: 0.5, ..Faults::default() });
    let names: Vec<String> = (0..25).map(|n| n.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let answer = send(&mut marketplace, &batch(&names));
    let metered = statuses(&answer).len();
    let unprocessed = answer.outcome.as_ref().unwrap()["UnprocessedRecords"].as_array().unwrap();
    assert_eq!(metered + unprocessed.len(), 25);
    assert!((5..20).contains(&metered), "{metered} of 25 at a probability of 0.5");
    assert_eq!(marketplace.billed().len(), metered);
}

#[test]
fn a_seed_decides_everything_and_a_reset_begins_again() {
    let faults = Faults { throttle: 0.2, error: 0.2, lose_reply: 0.2, unprocessed: 0.2, ..Faults::default() };
    let mut marketplace = marketplace(faults);
    let mut run = || {
        let answers: Vec<_> = ["a", "b", "c", "d", "e", "f"]
            .map(|name| send(&mut marketplace, &batch(&[name, "same"])))
            .into_iter()
            .map(|answer| (answer.request_id, answer.outcome, answer.is_lost))
            .collect();
        marketplace.reset();
        assert_eq!(marketplace.billed(), []);
        answers
    };
    assert_eq!(run(), run());
}

fn ruled(rules: &Value) -> Marketplace {
    let rules: Vec<Rule> = serde_json::from_value(rules.clone()).unwrap();
    marketplace(Faults { rules, ..Faults::default() })
}

#[test]
fn chosen_records_get_chosen_answers_and_are_not_metered() {
    let mut marketplace = ruled(&json!([
        {"dimension": "a", "answer": "CustomerNotSubscribed"},
        {"dimension": "b", "answer": "NewStatus"},
        {"dimension": "c", "answer": "Unprocessed"},
        {"dimension": "a", "answer": "InvalidLicenseException"}
    ]));
    let answer = send(&mut marketplace, &batch(&["a", "b", "c", "d"]));
    assert_eq!(statuses(&answer), ["Success", "NewStatus", "CustomerNotSubscribed"]);
    assert_eq!(answer.outcome.unwrap()["UnprocessedRecords"][0]["Dimension"], "c");
    assert_eq!(marketplace.billed().len(), 1);
    assert_eq!(marketplace.counts().to_json()["records"]["NewStatus"], 1);
}

#[test]
fn a_poison_record_refuses_its_whole_call() {
    let mut marketplace = ruled(&json!([{"dimension": "bad", "answer": "InvalidLicenseException"}]));
    assert_eq!(refused(send(&mut marketplace, &batch(&["a", "bad"]))), Kind::InvalidLicense);
    assert_eq!(marketplace.billed(), []);
    assert_eq!(statuses(&send(&mut marketplace, &batch(&["a"]))), ["Success"]);
}

#[test]
fn a_subscription_begins_and_ends_by_the_clock() {
    let rule = |during: &str| json!([{"customer": "123456789012", "during": during, "answer": "CustomerNotSubscribed"}]);
    for (during, status) in [
        (format!("/{NOW}"), "Success"),
        ("/2026-11-02T14:30:01Z".to_owned(), "CustomerNotSubscribed"),
        (format!("{NOW}/"), "CustomerNotSubscribed"),
        ("2026-11-02T14:30:01Z/".to_owned(), "Success"),
    ] {
        assert_eq!(statuses(&send(&mut ruled(&rule(&during)), &batch(&["a"]))), [status], "{during}");
    }
}

#[test]
fn a_configuration_decides_who_subscribes() {
    let text = "[[product]]\ncode = 'prod'\nidentity = 'account'\ncustomers = 'registered'\n\
                [[product.dimension]]\nname = 'requests'\n[[product.customer]]\nkey = '123456789012'\n";
    let catalog = Catalog::new(&config::parse(text, "test", std::iter::empty()).unwrap());
    let mut marketplace =
        Marketplace::new(Settings { catalog: Some(catalog), faults: Faults::default(), seed: 7 });
    let stranger = record(json!({"CustomerAWSAccountId": "210987654321"}));
    let body = json!({"ProductCode": "prod", "UsageRecords": [record(json!({})), stranger]});
    assert_eq!(statuses(&send(&mut marketplace, &body.to_string())), ["CustomerNotSubscribed", "Success"]);
    assert_eq!(refused(send(&mut marketplace, &batch(&["unknown"]))), Kind::InvalidUsageDimension);
    assert_eq!(marketplace.billed().len(), 1);
}

fn identified(customer: &str) -> Value {
    record(json!({"CustomerAWSAccountId": null, "CustomerIdentifier": customer}))
}

#[test]
fn a_customer_that_does_not_exist_is_refused_as_aws_does_for_its_kind() {
    let known = ["ifAPi5AcF3", "123456789012", ARN].map(str::to_owned).into();
    let mut marketplace = marketplace(Faults { known_customers: Some(known), ..Faults::default() });
    let mut sent = |product: &str, records: &[Value]| {
        send(&mut marketplace, &json!({"ProductCode": product, "UsageRecords": records}).to_string())
    };
    let unknown = "did-not-come-from-aws";
    let refusal = sent("prod", &[identified("ifAPi5AcF3"), identified(unknown)]).outcome.unwrap_err();
    assert_eq!(refusal.kind, Kind::InvalidCustomerIdentifier);
    assert!(refusal.message.contains(unknown), "{}", refusal.message);
    assert_eq!(statuses(&sent("prod", &[identified("ifAPi5AcF3")])), ["Success"]);
    let stranger = record(json!({"CustomerAWSAccountId": "210987654321"}));
    assert_eq!(statuses(&sent("prod", &[record(json!({})), stranger])), ["CustomerNotSubscribed", "Success"]);
    let licensed = |arn: &str| record(json!({"LicenseArn": arn}));
    assert_eq!(statuses(&sent("", &[licensed(ARN)])), ["Success"]);
    let other = licensed("arn:aws:license-manager::1:license:l-other").as_object().cloned().unwrap();
    let other = Value::Object(
        other.into_iter().chain([("CustomerAWSAccountId".into(), "210987654321".into())]).collect(),
    );
    assert_eq!(refused(sent("", &[licensed(ARN), other])), Kind::InvalidLicense);
    assert_eq!(marketplace.billed().len(), 3);
}

#[test]
fn where_customers_are_registered_another_identifier_does_not_exist() {
    let text = "[[product]]\ncode = 'prod'\nidentity = 'customer_identifier'\ncustomers = 'registered'\n\
                [[product.dimension]]\nname = 'requests'\n[[product.customer]]\nkey = 'ifAPi5AcF3'\n";
    let catalog = Catalog::new(&config::parse(text, "test", std::iter::empty()).unwrap());
    let settings = Settings { catalog: Some(catalog), faults: Faults::default(), seed: 7 };
    let mut marketplace = Marketplace::new(settings);
    let mut sent = |customers: &[&str]| {
        let records: Vec<Value> = customers.iter().map(|customer| identified(customer)).collect();
        send(&mut marketplace, &json!({"ProductCode": "prod", "UsageRecords": records}).to_string())
    };
    assert_eq!(refused(sent(&["ifAPi5AcF3", "another"])), Kind::InvalidCustomerIdentifier);
    assert_eq!(statuses(&sent(&["ifAPi5AcF3"])), ["Success"]);
}

#[test]
fn calls_and_records_are_counted_by_their_result() {
    let mut marketplace = marketplace(Faults::default());
    let empty = record(json!({"CustomerIdentifier": ""}));
    send(&mut marketplace, &json!({"ProductCode": "prod", "UsageRecords": [empty]}).to_string());
    send(&mut marketplace, &batch(&["a", "b"]));
    send(&mut marketplace, "{}");
    marketplace.set_faults(Faults { throttle: 1.0, lose_reply: 1.0, ..Faults::default() });
    send(&mut marketplace, "{}");
    assert_eq!(
        marketplace.counts().to_json(),
        json!({
            "calls": 4, "throttled": 1, "errors": 0, "lost": 1, "empty_customer_identifier": 1,
            "by_result": {"Answered": 2, "ValidationException": 1, "ThrottlingException": 1},
            "records": {"Success": 3}
        })
    );
}
