//! `LedgerService`: what was billed, what waits, and what needs a person.

use std::{collections::BTreeSet, sync::Arc};

use tokio::{sync::Semaphore, task::spawn_blocking};
use tonic::{Request, Response, Status};
use tracing::{debug, info};

use crate::{
    base::proto::{
        Allocation, AuditRequest, DecideHeldRequest, DecideHeldResponse, DecisionNote, GetSummaryRequest,
        LedgerRecord, ListHeldRequest, ListRecordsRequest, ListRecordsResponse, Origin, RecordState, Summary,
        decide_held_request::Decision as Kind, ledger_service_server::LedgerService,
    },
    domain::{
        record::{self as domain, Decision, DecisionKind, Delivery, Outcome, Record, RecordId, Settled},
        tags::TagSet,
        time::{Hour, Timestamp},
    },
    faces::{audit, summary::summary, view::View},
    work::audit::Known,
    worlds::store::{Store, StoreError, Table, load, values::Decided},
};

const MAX_PAGE: usize = 1000;
const MAX_DECIDED: usize = 1000;
const MAX_REASON: usize = 1000;
const MAX_DECIDER: usize = 200;
/// Rows that one call looks at before it answers with what it has, and a token to go on.
const MAX_ROWS_READ: usize = 50_000;

pub struct Ledger {
    view: View,
    /// An audit reads the whole store, so there is one at a time.
    audits: Arc<Semaphore>,
}

impl Ledger {
    pub fn new(view: View) -> Self {
        Self { view, audits: Arc::new(Semaphore::new(1)) }
    }

    async fn list(&self, query: Query) -> Result<Response<ListRecordsResponse>, Status> {
        let view = self.view.clone();
        let page = spawn_blocking(move || query.run(&view)).await;
        let page = page.map_err(|panic| Status::internal(panic.to_string()))?;
        page.map(Response::new).map_err(|fault| Status::unavailable(fault.to_string()))
    }
}

#[tonic::async_trait]
impl LedgerService for Ledger {
    async fn get_summary(&self, _: Request<GetSummaryRequest>) -> Result<Response<Summary>, Status> {
        Ok(Response::new(summary(&self.view)))
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
        let (ids, decision) = parse_decision(&request.into_inner(), self.view.clock.now())?;
        let decided = ids.len() as u64;
        let (kind, by, reason) = (decision.kind.name(), decision.by.clone(), decision.reason.clone());
        self.view.committer.decide(ids.clone(), decision).await??;
        info!(records = ?ids, decision = kind, by = &*by, "a person has decided about held records");
        // A person's words may name a customer. The ledger keeps them.
        debug!(records = ?ids, reason = &*reason, "why");
        Ok(Response::new(DecideHeldResponse { decided }))
    }

    type AuditStream = audit::Answers;

    async fn audit(&self, request: Request<AuditRequest>) -> Result<Response<audit::Answers>, Status> {
        let AuditRequest { noted_line, noted_hash } = request.into_inner();
        let noted = if noted_line == 0 {
            None
        } else {
            Some((noted_line, noted_hash.parse().map_err(Status::invalid_argument)?))
        };
        let known = Known { limits: self.view.limits, noted };
        let permit = self.audits.clone().try_acquire_owned();
        let permit =
            permit.map_err(|_| Status::resource_exhausted("an audit is under way: ask again after it"))?;
        Ok(Response::new(audit::start(&self.view, known, permit)))
    }
}

fn parse_decision(
    request: &DecideHeldRequest,
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
    let reason = text("reason", &request.reason, MAX_REASON)?;
    let by = text("decided_by", &request.decided_by, MAX_DECIDER)?;
    Ok((ids, Decision { kind, reason, by, at: now }))
}

fn text(field: &str, text: &str, longest: usize) -> Result<Arc<str>, Status> {
    if (1..=longest).contains(&text.len()) && !text.trim().is_empty() {
        Ok(text.into())
    } else {
        Err(Status::invalid_argument(format!("{field} must be 1 to {longest} bytes")))
    }
}

fn page_size(asked: u32) -> usize {
    match asked as usize {
        0 => MAX_PAGE,
        size => size.min(MAX_PAGE),
    }
}

fn page_start(token: &str) -> Result<RecordId, Status> {
    if token.is_empty() {
        return Ok(RecordId(0));
    }
    token.parse().map(RecordId).map_err(|_| Status::invalid_argument("page_token is not one of ours"))
}

/// The states of records that are neither pending nor held.
const RECEIPTS: [RecordState; 5] = [
    RecordState::Accepted,
    RecordState::RolledForward,
    RecordState::Expired,
    RecordState::Carried,
    RecordState::WrittenOff,
];

struct Query {
    filter: ListRecordsRequest,
    from: RecordId,
    limit: usize,
}

impl Query {
    fn run(&self, view: &View) -> Result<ListRecordsResponse, StoreError> {
        let mut records = Vec::new();
        let (mut from, mut rows_read) = (self.from, 0);
        while rows_read < MAX_ROWS_READ {
            let page = self.merged_page(view, from)?;
            let Some(last) = page.last() else {
                return Ok(ListRecordsResponse { records, next_page_token: String::new() });
            };
            rows_read += page.len();
            from = RecordId(last.id + 1);
            for mut record in page {
                if !self.matches(&record) {
                    continue;
                }
                record.decisions = decisions(&*view.store, RecordId(record.id))?;
                let next_page_token = (record.id + 1).to_string();
                records.push(record);
                if records.len() == self.limit {
                    return Ok(ListRecordsResponse { records, next_page_token });
                }
            }
        }
        Ok(ListRecordsResponse { records, next_page_token: from.to_string() })
    }

    /// The next rows of all tables that may hold what is asked for, in the order of their numbers.
    fn merged_page(&self, view: &View, from: RecordId) -> Result<Vec<LedgerRecord>, StoreError> {
        let store = &*view.store;
        let state = self.filter.state();
        let any = state == RecordState::Unspecified;
        let mut rows = Vec::new();
        if any {
            // Also read before the pending ones: a record that is sent again meanwhile would else be in neither.
            let held = load::settled(store, Table::Held, from, MAX_PAGE)?;
            rows.extend(held.iter().map(|settled| settled_message(settled, view)));
        }
        if any || state == RecordState::Pending {
            let before = RecordId(from.0.saturating_sub(1));
            let pending = load::pending_after(store, before, MAX_PAGE)?;
            rows.extend(pending.iter().map(|(record, delivery)| pending_message(record, delivery, view)));
        }
        for (table, states) in [(Table::Held, &[RecordState::Held][..]), (Table::Receipts, &RECEIPTS[..])] {
            if any || states.contains(&state) {
                let settled = load::settled(store, table, from, MAX_PAGE)?;
                rows.extend(settled.iter().map(|settled| settled_message(settled, view)));
            }
        }
        // A record that was settled between two of these reads is there twice; the later read knows better.
        rows.reverse();
        rows.sort_by_key(|row| row.id);
        rows.dedup_by_key(|row| row.id);
        // A table may have more rows before the last one of another: only the first page's worth is in order.
        rows.truncate(MAX_PAGE);
        Ok(rows)
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

fn pending_message(record: &Record, delivery: &Delivery, view: &View) -> LedgerRecord {
    LedgerRecord {
        state: RecordState::Pending.into(),
        attempts: delivery.attempts,
        next_attempt_unix_seconds: delivery.next_attempt.seconds(),
        reason: delivery.last_error.to_string(),
        ..message(record, view)
    }
}

fn settled_message(settled: &Settled, view: &View) -> LedgerRecord {
    let base = LedgerRecord {
        attempts: settled.attempts,
        settled_unix_seconds: settled.at.seconds(),
        ..message(&settled.record, view)
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

fn decisions(store: &dyn Store, id: RecordId) -> Result<Vec<DecisionNote>, StoreError> {
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
    };
    Ok(load::decisions(store, id)?.into_iter().map(note).collect())
}

fn allocation(part: &domain::Allocation) -> Allocation {
    let tags = part.tags.iter().flat_map(TagSet::tags);
    Allocation {
        tags: tags.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        quantity: part.quantity.to_string(),
    }
}

fn message(record: &Record, view: &View) -> LedgerRecord {
    let deadline = view.committer.roster().read().deadline(&view.catalog, view.window, record);
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
        origins: amounts.carried_in.origins().map(origin).collect(),
        ..LedgerRecord::default()
    }
}
