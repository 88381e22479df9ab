//! Traces by OTLP, over gRPC.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanContext, TraceContextExt, TracerProvider},
};
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::{
    Resource,
    error::OTelSdkResult,
    propagation::TraceContextPropagator,
    resource::EnvResourceDetector,
    trace::{
        BatchSpanProcessor, Sampler, SdkTracerProvider, Span as SdkSpan, SpanData, SpanExporter,
        SpanProcessor,
    },
};
use tonic::{
    codegen::http::{HeaderMap, HeaderName},
    transport::ClientTlsConfig,
};
use tracing::{Span, Subscriber, info, level_filters::LevelFilter, warn};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{Layer, filter::Targets, registry::LookupSpan};

use super::spans;
use crate::base::{
    config,
    metrics::{self, SpanFate},
    tasks::blocking,
};

/// For a batch of spans. One at a time is on its way, and those that wait are bounded: others are dropped.
const SEND_WITHIN: Duration = Duration::from_secs(5);
/// How long the end waits for the last spans to be sent.
const FLUSH_WITHIN: Duration = Duration::from_secs(2);

/// The trace that a call is part of, as its headers say (W3C Trace Context).
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    caller: Option<SpanContext>,
}

impl Origin {
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let context = TraceContextPropagator::new().extract(&Headers(headers));
        let caller = context.span().span_context().clone();
        Self { caller: caller.is_valid().then_some(caller) }
    }

    /// Whether the caller traces the call; `None` if it does not say.
    pub(crate) fn is_traced(&self) -> Option<bool> {
        self.caller.as_ref().map(SpanContext::is_sampled)
    }

    /// Makes the span a part of this trace. The span must not have begun.
    pub(crate) fn continue_in(&self, span: &Span) {
        if let Some(caller) = &self.caller {
            let context = Context::new().with_remote_span_context(caller.clone());
            // It cannot be when nothing is traced.
            drop(span.set_parent(context));
        }
    }

    pub(crate) fn link(&self, span: &Span) {
        if let Some(caller) = &self.caller {
            span.add_link(caller.clone());
        }
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).and_then(|value| value.to_str().ok())
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}

/// Sends spans to the collector, if there is one.
#[derive(Debug, Default)]
pub(crate) struct Traces {
    provider: Option<SdkTracerProvider>,
}

impl Traces {
    /// Names the agent by `agent_id`. `OTEL_RESOURCE_ATTRIBUTES` and `OTEL_EXPORTER_OTLP_HEADERS` hold, as everywhere.
    pub(crate) fn start(telemetry: &config::Telemetry, agent_id: &str) -> Result<Self, String> {
        let Some(endpoint) = &telemetry.otlp_endpoint else { return Ok(Self::default()) };
        let exporter = OtlpExporter::builder()
            .with_tonic()
            .with_endpoint(endpoint)
            .with_timeout(SEND_WITHIN)
            .with_tls_config(ClientTlsConfig::new().with_enabled_roots())
            .build()
            .map_err(|fault| fault.to_string())?;
        let provider = SdkTracerProvider::builder()
            .with_resource(resource(agent_id))
            // What is not to be traced has no span.
            .with_sampler(Sampler::AlwaysOn)
            .with_span_processor(Counted(BatchSpanProcessor::builder(Watched::new(exporter)).build()))
            .build();
        Ok(Self { provider: Some(provider) })
    }

    /// What takes the spans up.
    pub(crate) fn layer<S>(&self) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let tracer = self.provider.as_ref()?.tracer("tallyman");
        let layer = tracing_opentelemetry::layer()
            .with_tracer(tracer)
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false);
        Some(layer.with_filter(Targets::new().with_target(spans::TARGET, LevelFilter::INFO)))
    }

    /// Sends what is left, within a bounded time.
    pub(crate) async fn stop(self) {
        let Some(provider) = self.provider else { return };
        // What did not go has been told, and counted.
        drop(blocking(move || provider.shutdown_with_timeout(FLUSH_WITHIN)).await);
    }
}

fn resource(agent_id: &str) -> Resource {
    let agent = [
        KeyValue::new("service.name", "tallyman"),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
        KeyValue::new("service.instance.id", agent_id.to_owned()),
    ];
    let environment = EnvResourceDetector::new();
    Resource::builder_empty().with_attributes(agent).with_detector(Box::new(environment)).build()
}

/// Counts the spans that are made: those that are neither sent nor lost wait, or found no room to.
#[derive(Debug)]
struct Counted<P>(P);

impl<P: SpanProcessor> SpanProcessor for Counted<P> {
    fn on_start(&self, span: &mut SdkSpan, context: &Context) {
        self.0.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        metrics::spans(1, SpanFate::Made);
        self.0.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.0.set_resource(resource);
    }
}

/// Says once when the collector takes no spans any more, and once when it does again.
#[derive(Debug)]
struct Watched<E> {
    exporter: E,
    is_failing: AtomicBool,
}

impl<E> Watched<E> {
    fn new(exporter: E) -> Self {
        Self { exporter, is_failing: AtomicBool::default() }
    }
}

impl<E: SpanExporter> SpanExporter for Watched<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        let sent = self.exporter.export(batch).await;
        metrics::spans(spans, if sent.is_ok() { SpanFate::Sent } else { SpanFate::Lost });
        match sent {
            Ok(()) if self.is_failing.swap(false, Ordering::Relaxed) => {
                info!("the trace collector takes spans again");
            }
            Err(fault) if !self.is_failing.swap(true, Ordering::Relaxed) => {
                warn!(%fault, "the trace collector takes no spans: they are dropped until it does");
            }
            Ok(()) | Err(_) => {}
        }
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
