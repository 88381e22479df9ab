//! The sandbox's own paths, `/_sandbox/`: look at what was billed and how calls were answered, and set faults.

use std::sync::Arc;

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Json, Response},
    routing::{get, post},
};
use serde_json::{Value, json};

use crate::sandbox::{
    call_log::LoggedCall, faults::Faults, metering::BilledRecord, shared::SharedMarketplace,
};

type Shared = Arc<SharedMarketplace>;

pub(super) fn routes() -> Router<Shared> {
    Router::new()
        .route("/_sandbox/records", get(records))
        .route("/_sandbox/calls", get(calls))
        .route("/_sandbox/log", get(log))
        .route("/_sandbox/faults", get(faults).post(set_faults))
        .route("/_sandbox/reset", post(reset))
        .route("/_sandbox/health", get(health))
}

async fn records(State(marketplace): State<Shared>) -> Json<Value> {
    let billed = marketplace.lock().billed();
    Json(json!({"records": billed.iter().map(shown).collect::<Vec<_>>()}))
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

async fn calls(State(marketplace): State<Shared>) -> Json<Value> {
    Json(marketplace.lock().counts().to_json())
}

async fn log(State(marketplace): State<Shared>) -> Json<Value> {
    let shown = |call: &LoggedCall| {
        json!({
            "at": call.at.to_string(),
            "real_seconds": call.real.as_secs_f64(),
            "result": call.result,
            "is_lost": call.is_lost,
        })
    };
    let log = marketplace.lock().log();
    Json(json!({"log": log.iter().map(shown).collect::<Vec<_>>()}))
}

async fn faults(State(marketplace): State<Shared>) -> Json<Faults> {
    Json(marketplace.lock().faults().clone())
}

/// Replaces all faults: those that the body leaves out are off. Any content type will do, to suit `curl -d`.
async fn set_faults(State(marketplace): State<Shared>, body: Bytes) -> Response {
    match serde_json::from_slice::<Faults>(&body) {
        Ok(faults) => {
            marketplace.lock().set_faults(faults.clone());
            Json(faults).into_response()
        }
        Err(error) => (StatusCode::BAD_REQUEST, Json(json!({"error": error.to_string()}))).into_response(),
    }
}

async fn reset(State(marketplace): State<Shared>) -> StatusCode {
    marketplace.lock().reset();
    StatusCode::NO_CONTENT
}

async fn health(State(marketplace): State<Shared>) -> Json<Value> {
    Json(json!({"status": "ok", "now": marketplace.now().to_string()}))
}
