//! `UsageService`: takes usage, and answers once it is on disk.

mod fold;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod index;
mod room;
mod stream;
mod wire;

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio_stream::Stream;
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    base::{
        metrics::{self, EventCounters},
        proto::{
            RecordResponse, RecordStreamResponse,
            raw::{RecordRequest, RecordStreamRequest},
            served::usage_service_server::UsageService,
        },
        tasks::Tasks,
        telemetry::{StreamTrace, spans},
    },
    domain::{
        product::ProductIndex,
        usage::{Counts, TimeBounds},
    },
    faces::{client::Client, view::View},
    work::{
        committer::CommitError,
        delta::{Delta, Recorded},
        phase::Phase,
    },
};

use fold::Folded;
pub use fold::{Desk, Hasher};
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
pub fn fold_request(desk: Desk<'_>, request: &RecordRequest) -> Result<Delta, Status> {
    Ok(fold::fold(desk, &Message::of_request(request)?)?.take_delta(None))
}

#[derive(Clone)]
pub struct Ingest {
    view: View,
    bounds: TimeBounds,
    max_events: usize,
    hasher: Hasher,
    /// By product.
    counters: Arc<[EventCounters]>,
    tasks: Tasks,
}

impl Ingest {
    /// `hash_key` is the store's, so that an event id means the same marker after a restart.
    pub fn new(view: View, bounds: TimeBounds, max_events: usize, hash_key: u128, tasks: Tasks) -> Self {
        let counters = view.catalog.products().map(|(_, product)| EventCounters::of(&product.code)).collect();
        Self { view, bounds, max_events, hasher: Hasher::new(hash_key), counters, tasks }
    }

    fn take(&self, client: Option<&Client>, request: &RecordRequest) -> Result<Folded, Status> {
        let message = Message::of_request(request)?;
        self.check(message.events)?;
        if let Some(client) = client {
            client.admit(message.events).map_err(|wait| throttled(client, message.events, wait))?;
        }
        Ok(self.fold(client, &message)?)
    }

    /// Refuses what cannot be taken as a whole.
    fn check(&self, events: usize) -> Result<(), Status> {
        match self.view.phase.get() {
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

    fn fold(&self, client: Option<&Client>, message: &Message<'_>) -> Result<Folded, Malformed> {
        let roster = self.view.committer.roster().read();
        let (catalog, range) = (&self.view.catalog, self.bounds.around(self.view.clock.now()));
        let permission = client.map(|client| &client.permission);
        fold::fold(Desk { catalog, roster: &roster, range, hasher: self.hasher, permission }, message)
    }

    /// The answer to a request whose delta is on disk.
    fn answer(&self, mut folded: Folded, mut recorded: Recorded) -> RecordResponse {
        let mut by_product = std::mem::take(&mut recorded.counts);
        folded.refuse(recorded);
        let mut strangers = 0;
        for product in folded.products_of_rejected() {
            match product {
                Some(product) => by_product.entry(product).or_default().rejected += 1,
                None => strangers += 1,
            }
        }
        if strangers > 0 {
            metrics::strangers_rejected(strangers);
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
            rejected: folded.rejections(),
        }
    }

    fn note(&self, index: ProductIndex, counts: Counts) {
        if let Some(counters) = self.counters.get(usize::from(index.0)) {
            counters.add(counts);
        }
        if let Some(product) = self.view.catalog.product(index).filter(|_| counts.accepted > 0) {
            self.view.activity.accepted(&product.code, self.view.clock.now(), counts.accepted);
        }
    }
}

#[tonic::async_trait]
impl UsageService for Ingest {
    async fn record(&self, request: Request<RecordRequest>) -> Result<Response<RecordResponse>, Status> {
        let client = Client::of(&request);
        let mut folded = self.take(client.as_deref(), &request.into_inner())?;
        let delta = folded.take_delta(None);
        let events = delta.events as u64;
        let handed_over = self.view.committer.record(delta).await;
        let ticket = handed_over.inspect_err(|refusal| {
            if *refusal == CommitError::Full {
                metrics::refused(events);
                self.view.activity.refused(events);
            }
        })?;
        let recorded = ticket.answer().await??;
        Ok(Response::new(self.answer(folded, recorded)))
    }

    type RecordStreamStream = Pin<Box<dyn Stream<Item = Result<RecordStreamResponse, Status>> + Send>>;

    async fn record_stream(
        &self,
        request: Request<Streaming<RecordStreamRequest>>,
    ) -> Result<Response<Self::RecordStreamStream>, Status> {
        self.check(0)?;
        let client = Client::of(&request);
        let trace = request.extensions().get::<StreamTrace>().cloned().unwrap_or_default();
        Ok(Response::new(Box::pin(stream::answer(self.clone(), client, trace, request.into_inner()))))
    }
}
