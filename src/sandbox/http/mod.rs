//! The sandbox over HTTP: calls to AWS in AWS JSON 1.1 on every path that is not the sandbox's own.

mod control;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Extension, State},
    http::{HeaderMap, HeaderName, StatusCode, header},
    response::{IntoResponse, Response},
};
use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::json;
use tokio::{net::TcpListener, time::sleep};
use tracing::debug;

use super::{
    exception::Exception,
    marketplace::{Answer, Request},
    shared::SharedMarketplace,
};
use crate::{
    base::{
        http::{self, ConnectionCloser, HttpLimits},
        tasks::Tasks,
    },
    domain::time::Timestamp,
};

/// Upper bound of a request that is read, though AWS allows less than 1 MB: a client that is cut off while it still
/// sends would not see why.
const MAX_READ: usize = 16 * 1024 * 1024;
/// SDKs keep connections for a minute and a half, and take one that is closed under them for a lost answer.
const LIMITS: HttpLimits = HttpLimits {
    connections: 256,
    header_timeout: Duration::from_mins(5),
    write_timeout: Duration::from_mins(1),
    keeps_alive: true,
};
const AWS_JSON: &str = "application/x-amz-json-1.1";

/// Serves until the tasks stop.
pub(super) async fn serve(listener: TcpListener, marketplace: Arc<SharedMarketplace>, tasks: Tasks) {
    http::serve(listener, router(marketplace), LIMITS, tasks).await;
}

fn router(marketplace: Arc<SharedMarketplace>) -> Router {
    Router::new()
        .merge(control::routes())
        .fallback(call)
        .layer(DefaultBodyLimit::max(MAX_READ))
        .with_state(marketplace)
}

/// A call to AWS.
async fn call(
    State(marketplace): State<Arc<SharedMarketplace>>,
    Extension(connection): Extension<ConnectionCloser>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let (target, authorization) =
        (text(HeaderName::from_static("x-amz-target")), text(header::AUTHORIZATION));
    let answer = marketplace.call(Request { target, authorization, body: &body });
    debug!(request_id = answer.request_id, result = answer.result(), is_lost = answer.is_lost, "call");
    sleep(answer.latency).await;
    if answer.is_lost {
        return connection.close().await;
    }
    aws_response(answer, marketplace.now())
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
