//! What AWS answers: any status and any body, read by the SDK and by us.

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use aws_smithy_runtime_api::{
    client::{
        http::{HttpConnector, HttpConnectorFuture, SharedHttpClient, SharedHttpConnector, http_client_fn},
        orchestrator::{HttpRequest, HttpResponse},
    },
    http::StatusCode,
};
use aws_smithy_types::body::SdkBody;
use serde_json::{Value, json};
use tokio::runtime::{Builder, Runtime};

use super::{AwsMetering, Endpoint, MeteringService, RecordBatch};
use crate::{
    aws::session::Session,
    domain::{
        billing::{
            answer::{Attempt, Reply, Verdict},
            record::{Amounts, Delivery, HoldReason, Outcome, Record, RecordId},
        },
        customer::identity::Identity,
        time::{Hour, Timestamp},
        usage::quantity::Quantity,
    },
};

const HOUR: u32 = 498_000;
const STATUSES: [u16; 8] = [200, 400, 403, 408, 413, 429, 500, 503];
/// Errors are kept with each record: 300 characters of AWS's, and what we say around them.
const LONGEST_TEXT: usize = 4 * 300 + 100;

/// The first byte chooses the status, the rest is the body.
pub(crate) fn answer(data: &[u8]) -> bool {
    static RUNTIME: LazyLock<Runtime> =
        LazyLock::new(|| Builder::new_current_thread().enable_all().build().expect("a runtime"));
    let Some((kind, body)) = data.split_first() else { return false };
    let status = STATUSES[usize::from(*kind) % STATUSES.len()];
    let records = records();
    let endpoint =
        Endpoint { url: "https://x.example.com".to_owned(), region: "us-east-1".to_owned(), may_bill: true };
    let marketplace = AwsMetering::new(&Session::over(that_answers(status, body)), &endpoint);
    let reply = RUNTIME.block_on(marketplace.send(records.clone())).reply;
    for record in &records {
        for before in [Delivery::default(), Delivery::default().attempted()] {
            check(record, &before, &reply, status, body);
        }
    }
    matches!(reply, Reply::Answered(_)) == (status == 200)
}

/// Answers each call so, whatever it is.
#[derive(Debug)]
struct Canned(StatusCode, Vec<u8>);

impl HttpConnector for Canned {
    fn call(&self, _: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready(Ok(HttpResponse::new(self.0, SdkBody::from(self.1.clone()))))
    }
}

fn that_answers(status: u16, body: &[u8]) -> SharedHttpClient {
    let status = StatusCode::try_from(status).expect("an HTTP status");
    let connector = SharedHttpConnector::new(Canned(status, body.to_vec()));
    http_client_fn(move |_, _| connector.clone())
}

/// What an answer may do to one of its records.
fn check(record: &Record, before: &Delivery, reply: &Reply, status: u16, body: &[u8]) {
    let now = record.hour.end();
    let slot = record.slot();
    let deadline = Timestamp::MAX;
    match (Attempt { slot: &slot, before, alone: false, may_be_late: true, deadline, now, random: 0 })
        .judge(reply)
    {
        Verdict::Settle(outcome) => {
            assert_eq!(status, 200, "{outcome:?}");
            assert!(
                said_of(record, body).is_none_or(|said| explains(&outcome, &said, before)),
                "{outcome:?}"
            );
        }
        Verdict::Retry(delivery) | Verdict::Isolate(delivery) => {
            assert!(delivery.last_error.len() <= LONGEST_TEXT, "{} bytes", delivery.last_error.len());
            assert!(delivery.outcome_unknown || !before.outcome_unknown, "a doubt was forgotten");
            assert_eq!(delivery.attempts, before.attempts + 1);
        }
        Verdict::Missed(_) => panic!("it was not alone"),
    }
}

/// Every status that the body gives the record; `None` where the body is no JSON for us, but was some for the SDK.
fn said_of(record: &Record, body: &[u8]) -> Option<Vec<String>> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let results = body["Results"].as_array().cloned().unwrap_or_default();
    let of_record = |result: &&Value| {
        let echo = &result["UsageRecord"];
        let seconds = echo["Timestamp"].as_f64().unwrap_or(f64::NAN);
        let start =
            Duration::from_millis(u64::try_from(record.hour.start().millis()).unwrap_or(0)).as_secs_f64();
        echo["Dimension"] == *record.dimension && (start..start + 3600.0).contains(&seconds)
    };
    let said = results.iter().filter(of_record);
    Some(said.map(|result| result["Status"].as_str().unwrap_or_default().to_owned()).collect())
}

fn explains(outcome: &Outcome, said: &[String], before: &Delivery) -> bool {
    let says = |status: &str| said.iter().any(|said| said == status);
    match outcome {
        Outcome::Accepted { presumed: false, .. } => says("Success"),
        Outcome::Accepted { presumed: true, .. } => says("DuplicateRecord") && before.outcome_unknown,
        Outcome::Held { reason: HoldReason::Conflict, .. } => says("DuplicateRecord"),
        Outcome::Held { reason: HoldReason::NotSubscribed, .. } => says("CustomerNotSubscribed"),
        Outcome::Held { reason: HoldReason::OutcomeUnknown, .. } => {
            says("CustomerNotSubscribed") && before.outcome_unknown
        }
        _ => false,
    }
}

/// Alike in pairs, so that only all of an echo tells them apart.
fn records() -> RecordBatch {
    let record = |id, account: &str, dimension: &str, hour| {
        let hour = Hour::from_index(hour);
        Arc::new(Record {
            id: RecordId(id),
            product: "prod".into(),
            customer: account.into(),
            dimension: dimension.into(),
            identity: Identity::Account { account_id: account.into() },
            hour,
            timestamp: hour.start(),
            quantity: Quantity::MAX,
            decimal: false,
            allocations: Vec::new(),
            amounts: Amounts::default(),
        })
    };
    vec![
        record(1, "123456789012", "requests", HOUR),
        record(2, "123456789012", "requests", HOUR + 1),
        record(3, "123456789012", "gb", HOUR),
        record(4, "210987654321", "requests", HOUR),
    ]
}

pub(crate) fn answers() -> Vec<Vec<u8>> {
    let seed = |status: u8, body: Value| [vec![status], body.to_string().into_bytes()].concat();
    let echo = |account: &str, dimension: &str, hour: u32| {
        json!({
            "CustomerAWSAccountId": account, "CustomerIdentifier": "", "Dimension": dimension, "Quantity": 5,
            "Timestamp": Hour::from_index(hour).start().seconds(),
        })
    };
    let first = || echo("123456789012", "requests", HOUR);
    let result = |echo: Value, status: &str| json!({"UsageRecord": echo, "Status": status, "MeteringRecordId": "7d0a1c2b-0000-4000-a000-000000000000"});
    let exception = |status, code: &str| seed(status, json!({"__type": code, "message": "no"}));
    let good = [result(first(), "Success"), result(echo("123456789012", "gb", HOUR), "Success")];
    let mixed = [
        result(echo("210987654321", "requests", HOUR), "DuplicateRecord"),
        result(echo("123456789012", "requests", HOUR + 1), "CustomerNotSubscribed"),
        result(first(), "NewStatus"),
    ];
    let twice = [result(first(), "Success"), result(first(), "DuplicateRecord")];
    vec![
        seed(0, json!({"Results": good, "UnprocessedRecords": [echo("210987654321", "requests", HOUR)]})),
        seed(0, json!({"Results": mixed, "UnprocessedRecords": []})),
        seed(0, json!({"Results": twice, "UnprocessedRecords": [first()]})),
        seed(0, json!({"UnprocessedRecords": [first(), first()]})),
        exception(1, "ThrottlingException"),
        exception(1, "com.amazonaws.marketplacemetering#InvalidUsageDimensionException"),
        exception(1, "TimestampOutOfBoundsException"),
        exception(2, "AccessDeniedException"),
        exception(1, &"Ä".repeat(5000)),
        seed(0, json!({"Results": [result(first(), &"long".repeat(2000))], "UnprocessedRecords": []})),
        exception(6, "InternalServiceErrorException"),
    ]
}
