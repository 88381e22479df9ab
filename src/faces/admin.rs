//! The admin port: the status page, metrics and probes. Read-only.

use std::time::Duration;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    response::IntoResponse,
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::time::timeout;

use crate::{
    base::{
        disk::Room,
        metrics,
        tasks::{Tasks, blocking},
    },
    faces::{page, summary::set_gauges, view::View},
    work::phase::Phase,
};

#[derive(Clone)]
struct Admin {
    view: View,
    metrics: Option<PrometheusHandle>,
}

/// The page's streams end with `tasks`.
pub fn router(view: View, metrics: Option<PrometheusHandle>, tasks: Tasks) -> Router {
    Router::new()
        .route("/metrics", get(render_metrics))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .with_state(Admin { view: view.clone(), metrics })
        .merge(page::router(view, tasks))
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
