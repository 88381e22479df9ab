//! The gRPC server: puts the services, health and reflection behind the transport.

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
            ledger_service_server::LedgerServiceServer, usage_service_server::UsageServiceServer,
        },
        tasks::Tasks,
        telemetry::Sampling,
    },
    engine::lifecycle::Phase,
};

use super::{
    customers::Customers,
    ledger::Ledger,
    transport::{AuthLayer, BoundSocket, ServerCredentials, TraceLayer, accept},
    usage::Ingest,
};

/// Upper bound of an encoded response of the ledger.
const MAX_RESPONSE_BYTES: usize = 16 << 20;
/// Upper bound of a request about health, which needs no authentication: it is the name of a service.
const MAX_HEALTH_REQUEST_BYTES: usize = 1 << 10;
const MAX_REFLECTION_REQUEST_BYTES: usize = 16 << 10;
const HEALTH_NAMES: [&str; 4] =
    ["", "tallyman.v1.UsageService", "tallyman.v1.CustomerService", "tallyman.v1.LedgerService"];

type Fault = Box<dyn std::error::Error + Send + Sync>;

pub(crate) struct Services {
    pub ingest: Ingest,
    pub customers: Customers,
    pub ledger: Ledger,
    pub phase: watch::Receiver<Phase>,
}

/// Serves until the tasks stop, then answers the calls under way.
pub(crate) async fn serve(
    socket: BoundSocket,
    credentials: ServerCredentials,
    limits: ConnectionLimits,
    sampling: Sampling,
    services: Services,
    tasks: Tasks,
) -> Result<(), Fault> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let phase = services.phase.clone();
    let mut routes = routes(services, limits.max_message_bytes)?;
    routes.add_service(health.max_decoding_message_size(MAX_HEALTH_REQUEST_BYTES));
    let connections = accept(socket, credentials.store.clone(), &limits, &tasks);
    let serving = Server::builder()
        .max_concurrent_streams(limits.max_streams)
        .http2_keepalive_interval(Some(limits.keepalive_interval))
        .http2_keepalive_timeout(Some(limits.keepalive_timeout))
        .layer(TraceLayer::new(sampling))
        .layer(MapResponseLayer::new(too_large_is_exhausted))
        .layer(AuthLayer::new(credentials.store.clone(), limits.request_timeout))
        .add_routes(routes.routes())
        .serve_with_incoming_shutdown(connections, tasks.stopping());
    tokio::select! {
        served = serving => Ok(served?),
        () = report_health(phase, reporter) => Ok(()),
        () = credentials.keep_current() => Ok(()),
    }
}

fn routes(services: Services, max_message_bytes: usize) -> Result<RoutesBuilder, Fault> {
    let usage = UsageServiceServer::new(services.ingest).max_decoding_message_size(max_message_bytes);
    let customers = CustomerServiceServer::new(services.customers);
    let ledger = LedgerServiceServer::new(services.ledger).max_encoding_message_size(MAX_RESPONSE_BYTES);
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
        .add_service(reflection().build_v1()?.max_decoding_message_size(MAX_REFLECTION_REQUEST_BYTES))
        .add_service(reflection().build_v1alpha()?.max_decoding_message_size(MAX_REFLECTION_REQUEST_BYTES));
    Ok(routes)
}

/// Reports each change of the phase by the standard health service, for ever.
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

/// tonic refuses a message over the size limit with `OUT_OF_RANGE`. The code that gRPC defines for it is
/// `RESOURCE_EXHAUSTED`.
fn too_large_is_exhausted<B>(mut response: Response<B>) -> Response<B> {
    let status = response.headers().get("grpc-status").map(HeaderValue::as_bytes);
    if status.is_some_and(|status| Code::from_bytes(status) == Code::OutOfRange) {
        let exhausted = HeaderValue::from(Code::ResourceExhausted as i32);
        response.headers_mut().insert("grpc-status", exhausted);
    }
    response
}
