//! `UsageService`: takes usage, and answers once it is on disk.

mod fold;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod message_digest;
mod name_cache;
mod refused_streams;
mod rejection_budget;
mod stream;
mod wire;

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    api::{agent_handle::AgentHandle, transport::client::Client},
    base::{
        metrics::{self, EventCounters},
        proto::{
            RecordResponse, RecordStreamResponse,
            raw::{RecordRequest, RecordStreamRequest},
            usage_service_server::UsageService,
        },
        tasks::Tasks,
        telemetry::{StreamTrace, spans},
    },
    domain::{
        product::ProductIndex,
        usage::event::{Counts, TimeBounds},
    },
    engine::{
        committer::CommitError,
        counting::request::{CountRequest, Counted},
        lifecycle::Phase,
    },
};

use fold::FoldedRequest;
pub use fold::{Hasher, ValidationContext};
use refused_streams::RefusedStreams;
use wire::{Malformed, Message};

fn throttled(client: &Client, events: usize, wait: Duration) -> Status {
    let name = &client.permission.client;
    metrics::throttled(name, events as u64);
    let text = format!(
        "client `{name}` has sent more than its events_per_second: wait {wait:?}; nothing was counted"
    );
    let details = ErrorDetails::with_retry_info(Some(wait));
    Status::with_error_details(Code::ResourceExhausted, text, details)
}

/// What a request asks to count, taken apart and folded as the service does it.
pub fn fold_request(context: ValidationContext<'_>, request: &RecordRequest) -> Result<CountRequest, Status> {
    Ok(fold::fold(context, &Message::of_request(request)?)?.take_count_request(None))
}

/// The same for a stream's message, with its digest.
pub fn fold_message(
    context: ValidationContext<'_>,
    message: &RecordStreamRequest,
) -> Result<(CountRequest, u64), Status> {
    let mut folded = fold::fold(context, &Message::of_stream(message)?)?;
    Ok((folded.take_count_request(None), folded.digest))
}

#[derive(Clone)]
pub(crate) struct Ingest {
    agent: AgentHandle,
    bounds: TimeBounds,
    max_events: usize,
    hasher: Hasher,
    /// One set of counters for each product.
    counters: Arc<[EventCounters]>,
    refused_streams: Arc<RefusedStreams>,
    tasks: Tasks,
}

impl Ingest {
    /// `hash_key` is the store's, so that an event id has the same dedup key after a restart.
    pub(crate) fn new(
        agent: AgentHandle,
        bounds: TimeBounds,
        max_events: usize,
        hash_key: u128,
        tasks: Tasks,
    ) -> Self {
        let counters =
            agent.catalog.products().map(|(_, product)| EventCounters::of(&product.code)).collect();
        let refused_streams = Arc::default();
        Self { agent, bounds, max_events, hasher: Hasher::new(hash_key), counters, refused_streams, tasks }
    }

    fn take(&self, client: Option<&Client>, request: &RecordRequest) -> Result<FoldedRequest, Status> {
        let message = Message::of_request(request)?;
        self.check(message.events)?;
        if let Some(client) = client {
            client.admit(message.events).map_err(|wait| throttled(client, message.events, wait))?;
        }
        Ok(self.fold(client, &message)?)
    }

    /// Refuses what cannot be taken as a whole.
    fn check(&self, events: usize) -> Result<(), Status> {
        match self.agent.lifecycle.get() {
            Phase::Serving => {}
            Phase::Starting => return Err(Status::unavailable("the agent is starting")),
            Phase::Stopping => return Err(Status::unavailable("the agent is stopping")),
            Phase::Failed(reason) => return Err(Status::unavailable(reason.to_string())),
        }
        if events > self.max_events {
            let most = self.max_events;
            return Err(Status::invalid_argument(format!(
                "the request has {events} events; at most {most} are allowed (grpc.max_events_per_request)"
            )));
        }
        Ok(())
    }

    fn fold(&self, client: Option<&Client>, message: &Message<'_>) -> Result<FoldedRequest, Malformed> {
        let customers = self.agent.committer.customers().read();
        let (now, watermarks) = (self.agent.trusted_clock.best_nanos(), self.agent.committer.watermarks());
        let context = ValidationContext {
            catalog: &self.agent.catalog,
            customers: &customers,
            range: self.bounds.around(now),
            watermarks: &watermarks,
            now: now.timestamp(),
            hasher: self.hasher,
            permission: client.map(|client| &client.permission),
        };
        fold::fold(context, message)
    }

    /// The answer to a request whose usage is on disk.
    fn answer(&self, mut folded: FoldedRequest, mut recorded: Counted) -> RecordResponse {
        let mut by_product = std::mem::take(&mut recorded.counts);
        folded.refuse(recorded);
        let mut unknown = 0;
        for product in folded.products_of_rejected() {
            match product {
                Some(product) => by_product.entry(product).or_default().rejected += 1,
                None => unknown += 1,
            }
        }
        if unknown > 0 {
            metrics::unknown_product_rejected(unknown);
        }
        let mut total = Counts::default();
        for (product, counts) in by_product {
            self.note(product, counts);
            total = total.plus(counts);
        }
        spans::note_counts(total);
        RecordResponse {
            accepted: total.accepted,
            duplicates: total.duplicates,
            late: total.late,
            untagged: total.untagged,
            not_billable: total.not_billable,
            rejected: folded.rejections(),
        }
    }

    fn note(&self, index: ProductIndex, counts: Counts) {
        if let Some(counters) = self.counters.get(usize::from(index.0)) {
            counters.add(counts);
        }
        if let Some(product) = self.agent.catalog.product(index).filter(|_| counts.accepted > 0) {
            self.agent.activity.accepted(&product.code, self.agent.clock.now(), counts.accepted);
            self.agent.not_billable.note(&product.code, counts.not_billable);
        }
    }
}

#[tonic::async_trait]
impl UsageService for Ingest {
    async fn record(&self, request: Request<RecordRequest>) -> Result<Response<RecordResponse>, Status> {
        let client = Client::from_request(&request);
        let mut folded = self.take(client.as_deref(), &request.into_inner())?;
        let count_request = folded.take_count_request(None);
        let events = count_request.events as u64;
        let handed_over = self.agent.committer.count(count_request).await;
        let ticket = handed_over.inspect_err(|refusal| {
            if matches!(refusal, CommitError::Full) {
                metrics::refused(events);
                self.agent.activity.refused(events);
            }
        })?;
        let counted = ticket.answer().await?;
        Ok(Response::new(self.answer(folded, counted)))
    }

    type RecordStreamStream = Pin<Box<dyn Stream<Item = Result<RecordStreamResponse, Status>> + Send>>;

    async fn record_stream(
        &self,
        request: Request<Streaming<RecordStreamRequest>>,
    ) -> Result<Response<Self::RecordStreamStream>, Status> {
        self.check(0)?;
        let client = Client::from_request(&request);
        let trace = request.extensions().get::<StreamTrace>().cloned().unwrap_or_default();
        Ok(Response::new(Box::pin(stream::answer(self.clone(), client, trace, request.into_inner()))))
    }
}
