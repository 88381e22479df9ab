//! The sandbox over HTTP: AWS JSON 1.1 on every path, and `/_sandbox/` for looking in and setting up.

use axum::{
    Router,
    body::Bytes,
    extract::{ConnectInfo, DefaultBodyLimit, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Json, Response},
    routing::{get, post},
};
use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::{Value, json};
use tokio::time::sleep;
use tracing::debug;

use super::{
    BilledRecord, LoggedCall, Sandbox,
    connection::Scissors,
    exception::Exception,
    faults::Faults,
    marketplace::{Answer, Request},
};
use crate::domain::time::Timestamp;

/// So much of a request is read, though less than 1 MB is allowed: a client that is cut off while it still
/// sends would not see why.
const MAX_READ: usize = 16 * 1024 * 1024;
const AWS_JSON: &str = "application/x-amz-json-1.1";

pub(super) fn router(sandbox: Sandbox) -> Router {
    Router::new()
        .route("/_sandbox/records", get(records))
        .route("/_sandbox/calls", get(calls))
        .route("/_sandbox/log", get(log))
        .route("/_sandbox/faults", get(faults).post(set_faults))
        .route("/_sandbox/reset", post(reset))
        .route("/_sandbox/health", get(health))
        .fallback(call)
        .layer(DefaultBodyLimit::max(MAX_READ))
        .with_state(sandbox)
}

/// A call to AWS.
async fn call(
    State(sandbox): State<Sandbox>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let (target, authorization) =
        (text(HeaderName::from_static("x-amz-target")), text(header::AUTHORIZATION));
    let answer = sandbox.call(Request { target, authorization, body: &body });
    debug!(request_id = answer.request_id, result = answer.result(), is_lost = answer.is_lost, "call");
    sleep(answer.latency).await;
    if answer.is_lost {
        scissors.cut();
    }
    aws_response(answer, sandbox.now())
}

fn aws_response(answer: Answer, now: Timestamp) -> Response {
    let date = Timestamp::from_seconds(now.seconds().saturating_add(answer.clock_offset));
    let headers = [
        (header::CONTENT_TYPE, AWS_JSON.to_owned()),
        (header::DATE, http_date(date)),
        (HeaderName::from_static("x-amzn-requestid"), answer.request_id),
    ];
    match answer.outcome {
        Ok(body) => (headers, body.to_string()).into_response(),
        Err(Exception { kind, message }) => {
            let status = StatusCode::from_u16(kind.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let body = json!({"__type": kind.name(), "message": message});
            (status, headers, [("x-amzn-errortype", kind.name())], body.to_string()).into_response()
        }
    }
}

/// The form of HTTP's `Date`. Times before the year 0 or after 9999 have none.
fn http_date(date: Timestamp) -> String {
    jiff::Timestamp::from_second(date.seconds())
        .and_then(|moment| DateTimePrinter::new().timestamp_to_rfc9110_string(&moment))
        .unwrap_or_default()
}

async fn records(State(sandbox): State<Sandbox>) -> Json<Value> {
    let records: Vec<Value> = sandbox.billed().iter().map(shown).collect();
    Json(json!({"records": records}))
}

fn shown(record: &BilledRecord) -> Value {
    let allocations: Vec<Value> = record
        .allocations
        .iter()
        .map(|allocation| json!({"tags": allocation.tags, "quantity": allocation.quantity.to_string()}))
        .collect();
    json!({
        "region": record.region,
        "product": record.product,
        "license_arn": record.license_arn,
        "account_id": record.account_id,
        "customer_identifier": record.customer_identifier,
        "dimension": record.dimension,
        "hour": record.hour.to_string(),
        "timestamp": record.timestamp.to_string(),
        "quantity": record.quantity.to_string(),
        "metering_record_id": record.metering_record_id,
        "allocations": allocations,
        "calls": record.calls,
    })
}

async fn calls(State(sandbox): State<Sandbox>) -> Json<Value> {
    Json(sandbox.marketplace().tally().to_json())
}

async fn log(State(sandbox): State<Sandbox>) -> Json<Value> {
    let shown = |call: &LoggedCall| {
        json!({
            "at": call.at.to_string(),
            "real_seconds": call.real.as_secs_f64(),
            "result": call.result,
            "is_lost": call.is_lost,
        })
    };
    Json(json!({"log": sandbox.log().iter().map(shown).collect::<Vec<_>>()}))
}

async fn faults(State(sandbox): State<Sandbox>) -> Json<Faults> {
    Json(sandbox.marketplace().faults().clone())
}

/// Replaces all faults: those that the body leaves out are off. Any content type will do, to suit `curl -d`.
async fn set_faults(State(sandbox): State<Sandbox>, body: Bytes) -> Response {
    match serde_json::from_slice::<Faults>(&body) {
        Ok(faults) => {
            sandbox.set_faults(faults.clone());
            Json(faults).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, Json(json!({"error": error.to_string()}))).into_response(),
    }
}

async fn reset(State(sandbox): State<Sandbox>) -> StatusCode {
    sandbox.marketplace().reset();
    StatusCode::NO_CONTENT
}

async fn health(State(sandbox): State<Sandbox>) -> Json<Value> {
    Json(json!({"status": "ok", "now": sandbox.now().to_string()}))
}
