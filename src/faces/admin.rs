//! The admin port: metrics, probes and the summary. Read-only.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    base::{disk::Room, metrics, tasks::blocking},
    faces::{
        summary::{set_gauges, summary, to_json},
        view::View,
    },
    work::phase::Phase,
};

#[derive(Clone)]
struct Admin {
    view: View,
    metrics: Option<PrometheusHandle>,
}

pub fn router(view: View, metrics: Option<PrometheusHandle>) -> Router {
    Router::new()
        .route("/metrics", get(render_metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/api/summary", get(api_summary))
        .with_state(Admin { view, metrics })
}

async fn render_metrics(State(admin): State<Admin>) -> impl IntoResponse {
    set_gauges(&admin.view);
    read_disk(&admin.view).await;
    let text = admin.metrics.map(|metrics| metrics.render()).unwrap_or_default();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

/// A disk that does not answer keeps nobody from the other metrics; its own then stay as they were.
async fn read_disk(view: &View) {
    let folder = view.data_dir.clone();
    let asked = timeout(DISK_TIME, blocking(move || Room::of(&folder))).await;
    if let Ok(Ok(Ok(room))) = asked {
        metrics::disk(room);
    }
}

const DISK_TIME: Duration = Duration::from_secs(1);

/// Alive as long as it can answer: a failed store is for a person, and restarting in a loop would not mend it.
async fn livez() -> &'static str {
    "ok\n"
}

async fn readyz(State(admin): State<Admin>) -> (StatusCode, String) {
    let unready = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
    match admin.view.phase.get() {
        Phase::Serving => (StatusCode::OK, "ready\n".to_owned()),
        Phase::Starting => unready("starting"),
        Phase::Stopping => unready("stopping"),
        Phase::Failed(reason) => unready(&reason),
    }
}

async fn api_summary(State(admin): State<Admin>) -> Json<Value> {
    Json(to_json(&summary(&admin.view)))
}
