//! The gRPC server: services, limits, health, reflection, and who may call.

mod access;
mod callers;
mod crowd;
mod gate;
mod incoming;
mod revoked;
mod shown;
mod socket;
mod timely;
mod tls;
mod traced;
mod watched;

use tokio::sync::watch;
use tonic::{
    Code,
    codegen::http::{HeaderValue, Response},
    service::{Routes, RoutesBuilder},
    transport::Server,
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tower::util::MapResponseLayer;

use crate::{
    base::{
        config::ConnectionLimits,
        proto::{
            DESCRIPTORS, customer_service_server::CustomerServiceServer,
            ledger_service_server::LedgerServiceServer, served::usage_service_server::UsageServiceServer,
        },
        tasks::Tasks,
        telemetry::Sampling,
    },
    work::phase::Phase,
};

use super::{customers::Customers, ingest::Ingest, ledger::Ledger};

pub use access::Access;
pub use socket::{Bound, bind};

use gate::Gate;
use incoming::incoming;
use traced::Tracing;

/// Of an answer.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// A question about health or reflection, which anyone may ask.
const MAX_QUESTION_BYTES: usize = 16 << 10;
const HEALTH_NAMES: [&str; 4] =
    ["", "tallyman.v1.UsageService", "tallyman.v1.CustomerService", "tallyman.v1.LedgerService"];

type Fault = Box<dyn std::error::Error + Send + Sync>;

pub struct Services {
    pub ingest: Ingest,
    pub customers: Customers,
    pub ledger: Ledger,
    pub phase: watch::Receiver<Phase>,
}

/// Serves until the tasks stop, then answers what is under way.
pub async fn serve(
    bound: Bound,
    access: Access,
    limits: ConnectionLimits,
    sampling: Sampling,
    services: Services,
    tasks: Tasks,
) -> Result<(), Fault> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let phase = services.phase.clone();
    let mut routes = routes(services, limits.max_message_bytes)?;
    routes.add_service(health.max_decoding_message_size(MAX_QUESTION_BYTES));
    let incoming = incoming(bound, access.keys.clone(), &limits, &tasks);
    let serving = Server::builder()
        .max_concurrent_streams(limits.max_streams)
        .http2_keepalive_interval(Some(limits.keepalive_interval))
        .http2_keepalive_timeout(Some(limits.keepalive_timeout))
        .layer(Tracing::new(sampling))
        .layer(MapResponseLayer::new(too_large_is_exhausted))
        .layer(Gate::new(access.keys.clone(), limits.request_timeout))
        .add_routes(routes.routes())
        .serve_with_incoming_shutdown(incoming, tasks.stopping());
    tokio::select! {
        served = serving => Ok(served?),
        () = report_health(phase, reporter) => Ok(()),
        () = access.follow() => Ok(()),
    }
}

fn routes(services: Services, max_message_bytes: usize) -> Result<RoutesBuilder, Fault> {
    let usage = UsageServiceServer::new(services.ingest).max_decoding_message_size(max_message_bytes);
    let customers = CustomerServiceServer::new(services.customers);
    let ledger = LedgerServiceServer::new(services.ledger).max_encoding_message_size(MAX_MESSAGE_BYTES);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let mut routes = Routes::builder();
    routes
        .add_service(usage)
        .add_service(customers)
        .add_service(ledger)
        .add_service(reflection().build_v1()?.max_decoding_message_size(MAX_QUESTION_BYTES))
        .add_service(reflection().build_v1alpha()?.max_decoding_message_size(MAX_QUESTION_BYTES));
    Ok(routes)
}

/// Keeps the standard health service true to the phase, for ever.
async fn report_health(mut phase: watch::Receiver<Phase>, reporter: HealthReporter) {
    loop {
        let serving = *phase.borrow_and_update() == Phase::Serving;
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in HEALTH_NAMES {
            reporter.set_service_status(name, status).await;
        }
        if phase.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// tonic answers a message over the size limit with `OUT_OF_RANGE`; gRPC's own word for it is `RESOURCE_EXHAUSTED`.
fn too_large_is_exhausted<B>(mut response: Response<B>) -> Response<B> {
    let status = response.headers().get("grpc-status").map(HeaderValue::as_bytes);
    if status.is_some_and(|status| Code::from_bytes(status) == Code::OutOfRange) {
        let exhausted = HeaderValue::from(Code::ResourceExhausted as i32);
        response.headers_mut().insert("grpc-status", exhausted);
    }
    response
}
