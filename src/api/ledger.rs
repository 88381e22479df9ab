//! `LedgerService`: what was billed, what waits, and what needs a person.

use std::{collections::BTreeSet, sync::Arc};

use tokio::{sync::Semaphore, task::spawn_blocking};
use tonic::{Request, Response, Status};
use tracing::{debug, info};

use super::request_fields::{MAX_PAGE, MAX_ROWS_READ, decider, page_size, reason};
use crate::{
    api::{
        adjustments, agent_handle::AgentHandle, audit, moves, summary::summary, transport::client::Client,
    },
    base::proto::{
        AdjustRequest, AdjustResponse, Allocation, AllowMoveRequest, AllowedMove, AuditRequest,
        DecideHeldRequest, DecideHeldResponse, DecisionNote, GetSummaryRequest, LedgerRecord,
        ListAdjustmentsRequest, ListAdjustmentsResponse, ListHeldRequest, ListMovesRequest,
        ListMovesResponse, ListRecordsRequest, ListRecordsResponse, Origin, RecordState, Summary,
        decide_held_request::Decision as Kind, ledger_service_server::LedgerService,
    },
    domain::{
        billing::record::{
            self as domain, Decided, Decision, DecisionKind, Delivery, Outcome, Record, RecordId, Settled,
        },
        time::{Hour, Timestamp},
        usage::tags::TagSet,
    },
    engine::{
        audit::Known,
        billing::{
            Adjusted,
            record_reader::{FoundRecord, RecordReader, Wanted},
        },
    },
    store::StoreError,
};

const MAX_DECIDED: usize = 1000;

pub(crate) struct Ledger {
    agent: AgentHandle,
    /// An audit reads the whole store, so there is one at a time.
    audits: Arc<Semaphore>,
}

impl Ledger {
    pub(crate) fn new(agent: AgentHandle) -> Self {
        Self { agent, audits: Arc::new(Semaphore::new(1)) }
    }

    async fn list(&self, query: Query) -> Result<Response<ListRecordsResponse>, Status> {
        let agent = self.agent.clone();
        let page = spawn_blocking(move || query.run(&agent)).await;
        let page = page.map_err(|panic| Status::internal(panic.to_string()))?;
        page.map(Response::new).map_err(|fault| Status::unavailable(fault.to_string()))
    }
}

#[tonic::async_trait]
impl LedgerService for Ledger {
    async fn get_summary(&self, _: Request<GetSummaryRequest>) -> Result<Response<Summary>, Status> {
        Ok(Response::new(summary(&self.agent)))
    }

    async fn list_records(
        &self,
        request: Request<ListRecordsRequest>,
    ) -> Result<Response<ListRecordsResponse>, Status> {
        let filter = request.into_inner();
        let from = page_start(&filter.page_token)?;
        self.list(Query { limit: page_size(filter.page_size), from, filter }).await
    }

    async fn list_held(
        &self,
        request: Request<ListHeldRequest>,
    ) -> Result<Response<ListRecordsResponse>, Status> {
        let request = request.into_inner();
        let from = page_start(&request.page_token)?;
        let state = RecordState::Held.into();
        let filter = ListRecordsRequest { product: request.product, state, ..ListRecordsRequest::default() };
        self.list(Query { limit: page_size(request.page_size), from, filter }).await
    }

    async fn decide_held(
        &self,
        request: Request<DecideHeldRequest>,
    ) -> Result<Response<DecideHeldResponse>, Status> {
        let client = Client::name_of(Client::from_request(&request).as_deref());
        let now = self.agent.trusted_clock.best_now();
        let (ids, decision) = parse_decision(&request.into_inner(), client, now)?;
        let decided = ids.len() as u64;
        let Decision { kind, by, client, reason, .. } = decision.clone();
        self.agent.committer.decide(ids.clone(), decision).await?;
        let decision = kind.name();
        info!(records = ?ids, decision, by = &*by, client = &*client, "a person has decided about held records");
        // A person's words may name a customer. The ledger keeps them.
        debug!(records = ?ids, reason = &*reason, "why");
        Ok(Response::new(DecideHeldResponse { decided }))
    }

    async fn adjust(&self, request: Request<AdjustRequest>) -> Result<Response<AdjustResponse>, Status> {
        let client = Client::name_of(Client::from_request(&request).as_deref());
        let now = self.agent.trusted_clock.best_now();
        let wish = adjustments::parse(&request.into_inner(), client, &self.agent.catalog, now)?;
        let (by, client, reason) = (wish.by.clone(), wish.client.clone(), wish.reason.clone());
        let adjusted = self.agent.committer.adjust(wish).await?;
        let Adjusted { adjustment, is_repeat, .. } = &adjusted;
        let (number, minus) = (adjustment.number, adjustment.total());
        let (product, dimension) = (&*adjustment.product, &*adjustment.dimension);
        info!(
            adjustment = number,
            product,
            dimension,
            minus,
            is_repeat,
            by = &*by,
            client = &*client,
            "a person has lowered what is open"
        );
        // Whose usage it is, and a person's words, are in the ledger.
        debug!(adjustment = number, customer = &*adjustment.customer, reason = &*reason, "why");
        Ok(Response::new(adjustments::answer(&adjusted)))
    }

    async fn list_adjustments(
        &self,
        request: Request<ListAdjustmentsRequest>,
    ) -> Result<Response<ListAdjustmentsResponse>, Status> {
        let filter = request.into_inner();
        let RecordId(from) = page_start(&filter.page_token)?;
        let (agent, limit) = (self.agent.clone(), page_size(filter.page_size));
        let page = spawn_blocking(move || adjustments::list(&agent, &filter, from, limit)).await;
        let page = page.map_err(|panic| Status::internal(panic.to_string()))?;
        page.map(Response::new).map_err(|fault| Status::unavailable(fault.to_string()))
    }

    type AuditStream = audit::Answers;

    async fn audit(&self, request: Request<AuditRequest>) -> Result<Response<audit::Answers>, Status> {
        let AuditRequest { noted_line, noted_hash } = request.into_inner();
        let noted = if noted_line == 0 {
            None
        } else {
            Some((noted_line, noted_hash.parse().map_err(Status::invalid_argument)?))
        };
        let known = Known { limits: self.agent.limits, noted };
        let permit = self.audits.clone().try_acquire_owned();
        let permit =
            permit.map_err(|_| Status::resource_exhausted("an audit is under way: ask again after it"))?;
        Ok(Response::new(audit::start(&self.agent, known, permit)))
    }

    async fn allow_move(&self, request: Request<AllowMoveRequest>) -> Result<Response<AllowedMove>, Status> {
        moves::allow(&self.agent, request).await.map(Response::new)
    }

    async fn list_moves(&self, _: Request<ListMovesRequest>) -> Result<Response<ListMovesResponse>, Status> {
        let store = self.agent.store.clone();
        let listed = spawn_blocking(move || moves::list(&*store)).await;
        let listed = listed.map_err(|panic| Status::internal(panic.to_string()))?;
        listed.map(Response::new).map_err(|fault| Status::unavailable(fault.to_string()))
    }
}

fn parse_decision(
    request: &DecideHeldRequest,
    client: Arc<str>,
    now: Timestamp,
) -> Result<(BTreeSet<RecordId>, Decision), Status> {
    let kind = match request.decision() {
        Kind::Retry => DecisionKind::Retry,
        Kind::Carry => DecisionKind::Carry,
        Kind::WriteOff => DecisionKind::WriteOff,
        Kind::Unspecified => return Err(Status::invalid_argument("decision must be given")),
    };
    let ids: BTreeSet<RecordId> = request.ids.iter().copied().map(RecordId).collect();
    if ids.is_empty() || ids.len() > MAX_DECIDED {
        return Err(Status::invalid_argument(format!("ids must be 1 to {MAX_DECIDED} records")));
    }
    let (reason, by) = (reason(&request.reason)?, decider(&request.decided_by)?);
    Ok((ids, Decision { kind, reason, by, client, at: now }))
}

fn page_start(token: &str) -> Result<RecordId, Status> {
    if token.is_empty() {
        return Ok(RecordId(0));
    }
    token.parse().map(RecordId).map_err(|_| Status::invalid_argument("page_token is not one of ours"))
}

struct Query {
    filter: ListRecordsRequest,
    from: RecordId,
    limit: usize,
}

impl Query {
    fn run(&self, agent: &AgentHandle) -> Result<ListRecordsResponse, StoreError> {
        let mut records = Vec::new();
        let (mut from, mut rows_read) = (self.from, 0);
        while rows_read < MAX_ROWS_READ {
            let page = agent.records().page(self.wanted(), from, MAX_PAGE)?;
            let Some(last) = page.last() else {
                return Ok(ListRecordsResponse { records, next_page_token: String::new() });
            };
            rows_read += page.len();
            from = RecordId(last.id().0 + 1);
            for found in page {
                let mut record = found_message(&found, agent);
                if !self.matches(&record) {
                    continue;
                }
                record.decisions = decisions(agent.records(), RecordId(record.id))?;
                record.adjustments = adjustments::notes(agent.records(), found.record())?;
                let next_page_token = (record.id + 1).to_string();
                records.push(record);
                if records.len() == self.limit {
                    return Ok(ListRecordsResponse { records, next_page_token });
                }
            }
        }
        Ok(ListRecordsResponse { records, next_page_token: from.to_string() })
    }

    /// Where the records are that may have the state that is asked for.
    fn wanted(&self) -> Wanted {
        match self.filter.state() {
            RecordState::Unspecified => Wanted::Any,
            RecordState::Pending => Wanted::Pending,
            RecordState::Held => Wanted::Held,
            RecordState::Accepted
            | RecordState::RolledForward
            | RecordState::Expired
            | RecordState::Carried
            | RecordState::WrittenOff => Wanted::Settled,
        }
    }

    fn matches(&self, record: &LedgerRecord) -> bool {
        let filter = &self.filter;
        let text = |wanted: &str, value: &str| wanted.is_empty() || wanted == value;
        text(&filter.product, &record.product)
            && text(&filter.customer, &record.customer)
            && text(&filter.dimension, &record.dimension)
            && record.hour_unix_seconds >= filter.from_unix_seconds
            && (filter.to_unix_seconds == 0 || record.hour_unix_seconds < filter.to_unix_seconds)
            && (filter.state() == RecordState::Unspecified || filter.state() == record.state())
    }
}

fn found_message(found: &FoundRecord, agent: &AgentHandle) -> LedgerRecord {
    match found {
        FoundRecord::Pending(record, delivery) => pending_message(record, delivery, agent),
        FoundRecord::Settled(settled) => settled_message(settled, agent),
    }
}

fn pending_message(record: &Record, delivery: &Delivery, agent: &AgentHandle) -> LedgerRecord {
    LedgerRecord {
        state: RecordState::Pending.into(),
        attempts: delivery.attempts,
        next_attempt_unix_seconds: delivery.next_attempt.seconds(),
        reason: delivery.last_error.to_string(),
        ..message(record, agent)
    }
}

fn settled_message(settled: &Settled, agent: &AgentHandle) -> LedgerRecord {
    let base = LedgerRecord {
        attempts: settled.attempts,
        settled_unix_seconds: settled.at.seconds(),
        withheld: settled.withheld.origins.total().to_string(),
        ..message(&settled.record, agent)
    };
    match &settled.outcome {
        Outcome::Accepted { receipt, presumed } => LedgerRecord {
            state: RecordState::Accepted.into(),
            receipt: receipt.to_string(),
            presumed: *presumed,
            ..base
        },
        Outcome::Held { reason, detail } => LedgerRecord {
            state: RecordState::Held.into(),
            reason: if detail.is_empty() {
                reason.name().to_owned()
            } else {
                format!("{}: {detail}", reason.name())
            },
            ..base
        },
        Outcome::RolledForward { into } => LedgerRecord {
            state: RecordState::RolledForward.into(),
            reason: format!("rolled into {into}"),
            ..base
        },
        Outcome::Expired => LedgerRecord { state: RecordState::Expired.into(), ..base },
        Outcome::Carried { into } => LedgerRecord {
            state: RecordState::Carried.into(),
            reason: format!("carried into {into}"),
            ..base
        },
        Outcome::WrittenOff => LedgerRecord { state: RecordState::WrittenOff.into(), ..base },
    }
}

fn decisions(records: RecordReader<'_>, id: RecordId) -> Result<Vec<DecisionNote>, StoreError> {
    let note = |decided: Decided| DecisionNote {
        decision: match decided.decision.kind {
            DecisionKind::Retry => Kind::Retry,
            DecisionKind::Carry => Kind::Carry,
            DecisionKind::WriteOff => Kind::WriteOff,
        }
        .into(),
        reason: decided.decision.reason.to_string(),
        decided_by: decided.decision.by.to_string(),
        decided_unix_seconds: decided.decision.at.seconds(),
        held_for: decided.held_for.name().to_owned(),
        client: decided.decision.client.to_string(),
    };
    Ok(records.decisions(id)?.into_iter().map(note).collect())
}

fn allocation(part: &domain::Allocation) -> Allocation {
    let tags = part.tags.iter().flat_map(TagSet::tags);
    Allocation {
        tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        quantity: part.quantity.to_string(),
    }
}

fn message(record: &Record, agent: &AgentHandle) -> LedgerRecord {
    let deadline = agent.committer.customers().read().deadline(&agent.catalog, agent.window, record);
    let (fields, amounts) = (record.identity.fields(), &record.amounts);
    let origin = |(hour, amount): (Hour, u128)| Origin {
        hour_unix_seconds: hour.start().seconds(),
        amount: amount.to_string(),
    };
    LedgerRecord {
        id: record.id.0,
        product: record.product.to_string(),
        customer: record.customer.to_string(),
        account_id: fields.account_id.to_owned(),
        license_arn: fields.license_arn.to_owned(),
        customer_identifier: fields.customer_identifier.to_owned(),
        dimension: record.dimension.to_string(),
        hour_unix_seconds: record.hour.start().seconds(),
        timestamp_unix_seconds: record.timestamp.seconds(),
        quantity: record.quantity.to_string(),
        usage: amounts.usage.to_string(),
        carried_in: amounts.carried_in.total().to_string(),
        billed: amounts.billed.to_string(),
        carried_out: amounts.carried_out.to_string(),
        deadline_unix_seconds: deadline.seconds(),
        allocations: record.allocations.iter().map(allocation).collect(),
        rounded: amounts.rounded.to_string(),
        withheld: "0".to_owned(),
        origins: amounts.carried_in.origins().map(origin).collect(),
        ..LedgerRecord::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(ids: u64) -> DecideHeldRequest {
        DecideHeldRequest {
            ids: (1..=ids).collect(),
            decision: Kind::Carry.into(),
            reason: "asked AWS".to_owned(),
            decided_by: "ann".to_owned(),
        }
    }

    #[test]
    fn a_decision_is_about_1_to_1000_records_and_has_a_kind_a_reason_and_a_name() {
        let parse = |request: &DecideHeldRequest| {
            parse_decision(request, "".into(), Timestamp::MIN).map(|(ids, _)| ids.len())
        };
        assert_eq!((parse(&decision(1)).unwrap(), parse(&decision(1000)).unwrap()), (1, 1000));
        for wrong in [
            decision(0),
            decision(1001),
            DecideHeldRequest { decision: Kind::Unspecified.into(), ..decision(1) },
            DecideHeldRequest { reason: String::new(), ..decision(1) },
            DecideHeldRequest { reason: "x".repeat(1001), ..decision(1) },
            DecideHeldRequest { decided_by: " ".to_owned(), ..decision(1) },
            DecideHeldRequest { decided_by: "a\nb".to_owned(), ..decision(1) },
            DecideHeldRequest { decided_by: "\u{202e}nna".to_owned(), ..decision(1) },
        ] {
            assert_eq!(parse(&wrong).unwrap_err().code(), tonic::Code::InvalidArgument, "{wrong:?}");
        }
    }

    #[test]
    fn each_part_of_a_filter_leaves_out_what_it_does_not_name() {
        let record = LedgerRecord {
            product: "prod".to_owned(),
            customer: "acme".to_owned(),
            dimension: "gb".to_owned(),
            hour_unix_seconds: 7200,
            state: RecordState::Accepted.into(),
            ..LedgerRecord::default()
        };
        let matches = |filter| Query { filter, from: RecordId(0), limit: 1 }.matches(&record);
        let all = ListRecordsRequest {
            product: "prod".to_owned(),
            customer: "acme".to_owned(),
            dimension: "gb".to_owned(),
            from_unix_seconds: 7200,
            to_unix_seconds: 7201,
            state: RecordState::Accepted.into(),
            ..ListRecordsRequest::default()
        };
        assert!(matches(all.clone()) && matches(ListRecordsRequest::default()));
        for other in [
            ListRecordsRequest { product: "other".to_owned(), ..all.clone() },
            ListRecordsRequest { customer: "other".to_owned(), ..all.clone() },
            ListRecordsRequest { dimension: "other".to_owned(), ..all.clone() },
            ListRecordsRequest { from_unix_seconds: 7201, ..all.clone() },
            ListRecordsRequest { to_unix_seconds: 7200, ..all.clone() },
            ListRecordsRequest { state: RecordState::Expired.into(), ..all.clone() },
        ] {
            assert!(!matches(other.clone()), "{other:?}");
        }
    }
}
