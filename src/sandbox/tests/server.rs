//! The running sandbox, as AWS's SDK and a bare TCP client see it.

use std::time::Duration;

use aws_credential_types::Credentials;
use aws_sdk_marketplacemetering::{
    Client,
    config::{BehaviorVersion, Region, retry::RetryConfig},
    error::SdkError,
    operation::batch_meter_usage::BatchMeterUsageError,
    primitives::DateTime,
    types::{Tag, UsageAllocation, UsageRecord, UsageRecordResultStatus},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{ARN, SIGNATURE};
use crate::{
    base::{
        clock::{Clock, ClockSpec},
        tasks::Tasks,
    },
    domain::time::Timestamp,
    sandbox::{Faults, Sandbox, SandboxOptions},
};

const NOW: &str = "2026-11-22T10:30:00Z";
const LAST_HOUR: &str = "2026-11-22T09:00:00Z";
const BOUND: Duration = Duration::from_secs(10);

async fn start(faults: Faults) -> (Sandbox, Tasks) {
    let tasks = Tasks::default();
    let clock = Clock::new(ClockSpec::starting_now(NOW.parse().unwrap(), 1.0));
    let options = SandboxOptions { listen: ([127, 0, 0, 1], 0).into(), clock, config: None, faults, seed: 7 };
    (Sandbox::start(options, &tasks).await.unwrap(), tasks)
}

fn sdk(sandbox: &Sandbox) -> Client {
    let config = aws_sdk_marketplacemetering::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::from_static("us-east-1"))
        .credentials_provider(Credentials::new("AKIAEXAMPLE", "example", None, None, "tests"))
        .retry_config(RetryConfig::disabled())
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .endpoint_url(sandbox.url())
        .build();
    Client::from_conf(config)
}

fn usage(timestamp: &str, quantity: i32) -> UsageRecord {
    let timestamp = timestamp.parse::<Timestamp>().unwrap().seconds();
    UsageRecord::builder()
        .timestamp(DateTime::from_secs(timestamp))
        .customer_identifier("")
        .customer_aws_account_id("123456789012")
        .dimension("requests")
        .quantity(quantity)
        .build()
        .unwrap()
}

/// One request on a connection of its own; everything that comes back until the connection is closed.
async fn exchange(sandbox: &Sandbox, method: &str, path: &str, headers: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(sandbox.address()).await.unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: sandbox\r\nConnection: close\r\nContent-Length: {length}\r\n\
         {headers}\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

async fn aws_call(sandbox: &Sandbox, body: &str) -> String {
    let headers = format!(
        "Content-Type: application/x-amz-json-1.1\r\nAuthorization: {SIGNATURE}\r\n\
         X-Amz-Target: AWSMPMeteringService.BatchMeterUsage\r\n"
    );
    exchange(sandbox, "POST", "/", &headers, body).await
}

async fn json_of(sandbox: &Sandbox, method: &str, path: &str, body: &str) -> Value {
    let answer = exchange(sandbox, method, path, "", body).await;
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[tokio::test]
async fn the_sdk_meters_a_record_once() {
    let (sandbox, _tasks) = start(Faults::default()).await;
    let call = sdk(&sandbox).batch_meter_usage().product_code("prod").usage_records(usage(LAST_HOUR, 5));
    let first = call.clone().send().await.unwrap();
    let again = call.send().await.unwrap();
    let result = &first.results()[0];
    assert_eq!(result.status(), Some(&UsageRecordResultStatus::Success));
    assert_eq!(result.usage_record(), Some(&usage(LAST_HOUR, 5)));
    assert!(result.metering_record_id().is_some());
    assert_eq!(result.metering_record_id(), again.results()[0].metering_record_id());

    let other =
        sdk(&sandbox).batch_meter_usage().product_code("prod").usage_records(usage(LAST_HOUR, 6)).send();
    assert_eq!(other.await.unwrap().results()[0].status(), Some(&UsageRecordResultStatus::DuplicateRecord));
    let billed = sandbox.billed();
    assert_eq!((billed.len(), billed[0].quantity.to_string(), billed[0].calls), (1, "5".to_owned(), 2));
}

#[tokio::test]
async fn the_sdk_meters_a_license_with_allocations() {
    let (sandbox, _tasks) = start(Faults::default()).await;
    let tag = Tag::builder().key("team").value("a b").build().unwrap();
    let share = UsageAllocation::builder().allocated_usage_quantity(5).tags(tag).build().unwrap();
    let mut record = usage(LAST_HOUR, 5);
    record.license_arn = Some(ARN.to_owned());
    record.usage_allocations = Some(vec![share]);
    sdk(&sandbox).batch_meter_usage().usage_records(record).send().await.unwrap();
    let billed = &sandbox.billed()[0];
    assert_eq!((billed.product.as_str(), billed.license_arn.as_str()), ("", ARN));
    assert_eq!(billed.allocations[0].tags["team"], "a b");
    // This SDK sends the identifier that was not set as an empty one.
    assert_eq!(json_of(&sandbox, "GET", "/_sandbox/calls", "").await["empty_customer_identifier"], 1);
}

#[tokio::test]
async fn the_sdk_knows_the_exceptions() {
    let (sandbox, _tasks) = start(Faults::default()).await;
    let old = sdk(&sandbox)
        .batch_meter_usage()
        .product_code("prod")
        .usage_records(usage("2026-11-21T10:00:00Z", 5));
    let refusal = old.send().await.unwrap_err();
    assert!(matches!(refusal.into_service_error(), BatchMeterUsageError::TimestampOutOfBoundsException(_)));

    let call = sdk(&sandbox).batch_meter_usage().product_code("prod").usage_records(usage(LAST_HOUR, 5));
    sandbox.set_faults(Faults { throttle: 1.0, ..Faults::default() });
    let throttled = call.clone().send().await.unwrap_err();
    assert!(matches!(throttled.into_service_error(), BatchMeterUsageError::ThrottlingException(_)));
    sandbox.set_faults(Faults { error: 1.0, ..Faults::default() });
    let failed = call.send().await.unwrap_err();
    assert_eq!(failed.raw_response().unwrap().status().as_u16(), 500);
    assert!(matches!(failed.into_service_error(), BatchMeterUsageError::InternalServiceErrorException(_)));
    assert_eq!(sandbox.billed(), []);
}

#[tokio::test]
async fn a_lost_reply_closes_the_connection_without_a_byte() {
    let (sandbox, _tasks) = start(Faults { lose_reply: 1.0, ..Faults::default() }).await;
    let call = sdk(&sandbox).batch_meter_usage().product_code("prod").usage_records(usage(LAST_HOUR, 5));
    assert!(matches!(call.clone().send().await.unwrap_err(), SdkError::DispatchFailure(_)));
    assert_eq!(aws_call(&sandbox, "{}").await, "");

    let billed = sandbox.billed();
    sandbox.set_faults(Faults::default());
    let found = call.send().await.unwrap();
    assert_eq!(found.results()[0].metering_record_id(), Some(billed[0].metering_record_id.as_str()));
}

#[tokio::test]
async fn the_latency_comes_after_the_work() {
    let (sandbox, _tasks) = start(Faults { latency: Duration::from_hours(1), ..Faults::default() }).await;
    let call =
        sdk(&sandbox).batch_meter_usage().product_code("prod").usage_records(usage(LAST_HOUR, 5)).send();
    let is_metered = async {
        while sandbox.billed().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        () = is_metered => {}
        _ = call => panic!("answered before its time"),
        () = tokio::time::sleep(BOUND) => panic!("not metered while the answer waits"),
    }
}

#[tokio::test]
async fn answers_carry_the_headers_of_aws_and_the_time_of_the_clock() {
    let (sandbox, _tasks) = start(Faults::default()).await;
    let answer = aws_call(&sandbox, r#"{"UsageRecords": []}"#).await.to_lowercase();
    assert!(answer.starts_with("http/1.1 200 ok\r\n"), "{answer}");
    for part in [
        "content-type: application/x-amz-json-1.1\r\n",
        "x-amzn-requestid: ",
        "date: sun, 22 nov 2026 10:30:",
    ] {
        assert!(answer.contains(part), "{part} is not in {answer}");
    }
    assert_eq!(answer.matches("date: ").count(), 1);
    sandbox.set_faults(Faults { clock_offset: -3600, ..Faults::default() });
    let answer = aws_call(&sandbox, r#"{"UsageRecords": []}"#).await;
    assert!(answer.contains("date: Sun, 22 Nov 2026 09:30:"), "{answer}");
    assert_eq!(
        json_of(&sandbox, "GET", "/_sandbox/health", "").await["now"].as_str().unwrap()[..13],
        NOW[..13]
    );

    let refusal = aws_call(&sandbox, "{}").await;
    assert!(refusal.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{refusal}");
    assert!(refusal.contains("x-amzn-errortype: ValidationException\r\n"), "{refusal}");
    assert!(refusal.contains(r#""__type":"ValidationException""#), "{refusal}");
    let unsigned = "X-Amz-Target: AWSMPMeteringService.BatchMeterUsage\r\n";
    let answer = exchange(&sandbox, "POST", "/any/path", unsigned, "{}").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
}

#[tokio::test]
async fn a_request_that_is_too_large_is_read_and_answered() {
    let (sandbox, _tasks) = start(Faults::default()).await;
    let answer = aws_call(&sandbox, &" ".repeat(3_000_000)).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("ValidationException"), "{answer}");
}

#[tokio::test]
async fn what_was_billed_can_be_looked_up_and_forgotten() {
    let (sandbox, _tasks) = start(Faults::default()).await;
    let record = json!({
        "Timestamp": 1_795_338_000.25,
        "Dimension": "gb",
        "CustomerIdentifier": "abc",
        "QuantityAsDecimal": "1.50"
    });
    aws_call(&sandbox, &json!({"ProductCode": "prod", "UsageRecords": [record]}).to_string()).await;
    let log = json_of(&sandbox, "GET", "/_sandbox/log", "").await["log"].take();
    assert_eq!((log.as_array().map(Vec::len), &log[0]["result"]), (Some(1), &json!("Answered")));
    assert!(
        log[0]["at"].as_str().unwrap().starts_with("2026-11-22T10:30:") && log[0]["real_seconds"].is_f64()
    );
    let mut records = json_of(&sandbox, "GET", "/_sandbox/records", "").await;
    let id = records["records"][0]["metering_record_id"].take();
    assert_eq!(id.as_str().map(str::len), Some(36));
    assert_eq!(
        records,
        json!({"records": [{
            "region": "us-east-1", "product": "prod", "license_arn": "", "account_id": "", "customer_identifier": "abc",
            "dimension": "gb", "hour": LAST_HOUR, "timestamp": LAST_HOUR, "quantity": "1.5",
            "allocations": [], "metering_record_id": null, "calls": 1
        }]})
    );
    assert!(exchange(&sandbox, "POST", "/_sandbox/reset", "", "").await.starts_with("HTTP/1.1 204 "));
    assert_eq!(json_of(&sandbox, "GET", "/_sandbox/records", "").await, json!({"records": []}));
    assert_eq!(json_of(&sandbox, "GET", "/_sandbox/calls", "").await["calls"], 0);
    assert_eq!(json_of(&sandbox, "GET", "/_sandbox/log", "").await, json!({"log": []}));
    assert_eq!(json_of(&sandbox, "GET", "/_sandbox/health", "").await["status"], "ok");
}

#[tokio::test]
async fn faults_can_be_changed_over_http() {
    let (sandbox, _tasks) = start(Faults::default()).await;
    let now = json_of(&sandbox, "POST", "/_sandbox/faults", r#"{"throttle": 1, "latency": 5}"#).await;
    assert_eq!((&now["throttle"], &now["latency"]), (&json!(1.0), &json!(5)));
    assert_eq!(json_of(&sandbox, "GET", "/_sandbox/faults", "").await, now);
    assert!(aws_call(&sandbox, "{}").await.contains("ThrottlingException"));
    json_of(&sandbox, "POST", "/_sandbox/faults", r#"{"refuse": "AccessDeniedException"}"#).await;
    assert!(aws_call(&sandbox, "{}").await.contains("AccessDeniedException"));
    let rules = r#"{"rules": [{"customer": "1", "during": "/2026-11-22T12:00:00Z", "answer": "New"}]}"#;
    let now = json_of(&sandbox, "POST", "/_sandbox/faults", rules).await;
    assert_eq!(now["rules"], serde_json::from_str::<Value>(rules).unwrap()["rules"]);
    let wrong = exchange(&sandbox, "POST", "/_sandbox/faults", "", r#"{"trottle": 1}"#).await;
    assert!(wrong.starts_with("HTTP/1.1 400 ") && wrong.contains("trottle"), "{wrong}");
    json_of(&sandbox, "POST", "/_sandbox/faults", "{}").await;
    assert!(aws_call(&sandbox, "{}").await.contains("ValidationException"));
}

#[tokio::test]
async fn it_stops_with_its_tasks_though_connections_are_open() {
    let (sandbox, tasks) = start(Faults::default()).await;
    let client = sdk(&sandbox);
    let call = client.batch_meter_usage().product_code("prod").usage_records(usage(LAST_HOUR, 5));
    call.send().await.unwrap();
    let _idle = TcpStream::connect(sandbox.address()).await.unwrap();
    assert!(tasks.stop(BOUND).await);
}
