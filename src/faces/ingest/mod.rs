//! `UsageService`: takes usage, and answers once it is on disk.

mod fold;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod stream;

use std::{collections::BTreeMap, pin::Pin};

use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    base::{
        metrics,
        proto::{
            RecordRequest, RecordResponse, RecordStreamRequest, RecordStreamResponse, UsageEvent,
            usage_service_server::UsageService,
        },
        tasks::Tasks,
    },
    domain::{
        product::ProductIndex,
        usage::{Counts, TimeBounds},
    },
    faces::view::View,
    work::{delta::Recorded, phase::Phase},
};

use fold::{Folded, Hasher};

#[derive(Clone)]
pub struct Ingest {
    view: View,
    bounds: TimeBounds,
    max_events: usize,
    hasher: Hasher,
    tasks: Tasks,
}

impl Ingest {
    /// `hash_key` is the store's, so that an event id means the same marker after a restart.
    pub fn new(view: View, bounds: TimeBounds, max_events: usize, hash_key: u128, tasks: Tasks) -> Self {
        Self { view, bounds, max_events, hasher: Hasher::new(hash_key), tasks }
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

    fn fold(&self, events: &[UsageEvent]) -> Folded {
        let roster = self.view.committer.roster().read();
        fold::fold(&self.view.catalog, &roster, &self.bounds, &self.hasher, self.view.clock.now(), events)
    }

    /// The answer to a request whose delta is on disk.
    fn answer(&self, mut folded: Folded, recorded: Recorded) -> RecordResponse {
        let mut counts: BTreeMap<Option<ProductIndex>, Counts> =
            recorded.counts.iter().map(|(product, counts)| (Some(*product), *counts)).collect();
        folded.refuse(recorded);
        for product in folded.products_of_rejected() {
            counts.entry(product).or_default().rejected += 1;
        }
        self.note(&counts);
        let total = counts.values().fold(Counts::default(), |sum, counts| sum.plus(*counts));
        RecordResponse {
            accepted: total.accepted,
            duplicates: total.duplicates,
            late: total.late,
            untagged: total.untagged,
            rejected: folded.rejections(),
        }
    }

    fn note(&self, counts: &BTreeMap<Option<ProductIndex>, Counts>) {
        for (product, counts) in counts {
            let Some(product) = product.and_then(|index| self.view.catalog.product(index)) else {
                metrics::events("", *counts);
                continue;
            };
            metrics::events(&product.code, *counts);
            if counts.accepted > 0 {
                self.view.activity.note(&product.code, self.view.clock.now());
            }
        }
    }
}

#[tonic::async_trait]
impl UsageService for Ingest {
    async fn record(&self, request: Request<RecordRequest>) -> Result<Response<RecordResponse>, Status> {
        let events = request.into_inner().events;
        self.check(events.len())?;
        let mut folded = self.fold(&events);
        let ticket = self.view.committer.record(folded.take_delta(None)).await?;
        let recorded = ticket.answer().await??;
        Ok(Response::new(self.answer(folded, recorded)))
    }

    type RecordStreamStream = Pin<Box<dyn Stream<Item = Result<RecordStreamResponse, Status>> + Send>>;

    async fn record_stream(
        &self,
        request: Request<Streaming<RecordStreamRequest>>,
    ) -> Result<Response<Self::RecordStreamStream>, Status> {
        self.check(0)?;
        Ok(Response::new(Box::pin(stream::answer(self.clone(), request.into_inner()))))
    }
}
