//! The admin port: metrics, probes and the status page. It changes nothing.

mod host;
mod page;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header::CONTENT_TYPE},
    middleware::from_fn_with_state,
    response::IntoResponse,
    routing::get,
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::time::timeout;

use crate::{
    api::{agent_handle::AgentHandle, summary::set_gauges},
    base::{
        disk::Room,
        http::HttpLimits,
        metrics,
        tasks::{Tasks, blocking},
    },
    engine::lifecycle::Phase,
};

/// A connection serves one request, since a scraper or a probe comes seldom: so none can rest on the port.
pub(crate) const LIMITS: HttpLimits = HttpLimits {
    connections: 64,
    header_timeout: Duration::from_secs(10),
    write_timeout: Duration::from_secs(20),
    keeps_alive: false,
};

#[derive(Clone)]
struct Admin {
    agent: AgentHandle,
    metrics: Option<PrometheusHandle>,
}

/// All routes of the admin port. The status page's event streams end when `tasks` stop. `hosts` are names of the agent.
pub(crate) fn router(
    agent: AgentHandle,
    metrics: Option<PrometheusHandle>,
    hosts: BTreeSet<String>,
    tasks: Tasks,
) -> Router {
    let admin = Admin { agent: agent.clone(), metrics };
    // Probes tell nothing that is worth hiding, and must not depend on a name.
    let probes = Router::new().route("/livez", get(livez)).route("/readyz", get(readyz));
    Router::new()
        .route("/metrics", get(render_metrics))
        .with_state(admin.clone())
        .merge(page::router(agent, tasks))
        .layer(from_fn_with_state(Arc::new(hosts), host::refuse_others))
        .merge(probes.with_state(admin))
}

async fn render_metrics(State(admin): State<Admin>) -> impl IntoResponse {
    set_gauges(&admin.agent);
    read_disk(&admin.agent).await;
    let text = admin.metrics.map(|metrics| metrics.render()).unwrap_or_default();
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], text)
}

/// Reads how full the disk is. If the disk does not answer, its metrics stay as they were, and the others are not held up.
async fn read_disk(agent: &AgentHandle) {
    let folder = agent.data_dir.clone();
    let read = timeout(DISK_TIMEOUT, blocking(move || Room::of(&folder))).await;
    if let Ok(Ok(Ok(room))) = read {
        metrics::disk(room);
    }
}

const DISK_TIMEOUT: Duration = Duration::from_secs(1);

/// Answers as long as the process can. A failed store needs a person, and restarting in a loop would not mend it.
async fn livez() -> &'static str {
    "ok\n"
}

/// Whether usage is taken, or why it is not.
async fn readyz(State(admin): State<Admin>) -> (StatusCode, String) {
    let unready = |why: &str| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"));
    match admin.agent.lifecycle.get() {
        Phase::Serving => (StatusCode::OK, "ready\n".to_owned()),
        Phase::Starting => unready("starting"),
        Phase::Stopping => unready("stopping"),
        Phase::Failed(reason) => unready(&reason),
    }
}
