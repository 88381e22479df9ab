//! `LedgerService`: what was billed, what waits, and what needs a person.

use tokio::task::spawn_blocking;
use tonic::{Request, Response, Status};

use crate::{
    base::proto::{
        DecideHeldRequest, DecideHeldResponse, GetSummaryRequest, LedgerRecord, ListHeldRequest,
        ListRecordsRequest, ListRecordsResponse, Origin, RecordState, Summary,
        ledger_service_server::LedgerService,
    },
    domain::{
        deadline::Window,
        record::{Delivery, Outcome, Record, RecordId, Settled},
        time::Hour,
    },
    faces::{summary::summary, view::View},
    worlds::store::{Store, StoreError, Table, load},
};

const MAX_PAGE: usize = 1000;
/// Rows that one call looks at before it answers with what it has, and a token to go on.
const MAX_ROWS_READ: usize = 50_000;

pub struct Ledger {
    view: View,
}

impl Ledger {
    pub fn new(view: View) -> Self {
        Self { view }
    }

    async fn list(&self, query: Query) -> Result<Response<ListRecordsResponse>, Status> {
        let (store, window) = (self.view.store.clone(), self.view.window);
        let page = spawn_blocking(move || query.run(&*store, window)).await;
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
        _: Request<DecideHeldRequest>,
    ) -> Result<Response<DecideHeldResponse>, Status> {
        Err(Status::unimplemented(
            "this version keeps held records, but cannot take decisions about them yet",
        ))
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

struct Query {
    filter: ListRecordsRequest,
    from: RecordId,
    limit: usize,
}

impl Query {
    fn run(&self, store: &dyn Store, window: Window) -> Result<ListRecordsResponse, StoreError> {
        let mut records = Vec::new();
        let (mut from, mut rows_read) = (self.from, 0);
        while rows_read < MAX_ROWS_READ {
            let page = self.merged_page(store, window, from)?;
            let Some(last) = page.last() else {
                return Ok(ListRecordsResponse { records, next_page_token: String::new() });
            };
            rows_read += page.len();
            from = RecordId(last.id + 1);
            for record in page {
                if !self.matches(&record) {
                    continue;
                }
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
    fn merged_page(
        &self,
        store: &dyn Store,
        window: Window,
        from: RecordId,
    ) -> Result<Vec<LedgerRecord>, StoreError> {
        let state = self.filter.state();
        let any = state == RecordState::Unspecified;
        let mut rows = Vec::new();
        if any || state == RecordState::Pending {
            let before = RecordId(from.0.saturating_sub(1));
            let pending = load::pending_after(store, before, MAX_PAGE)?;
            rows.extend(pending.iter().map(|(record, delivery)| pending_message(record, delivery, window)));
        }
        for (table, states) in [
            (Table::Held, &[RecordState::Held][..]),
            (Table::Receipts, &[RecordState::Accepted, RecordState::RolledForward, RecordState::Expired]),
        ] {
            if any || states.contains(&state) {
                let settled = load::settled(store, table, from, MAX_PAGE)?;
                rows.extend(settled.iter().map(|settled| settled_message(settled, window)));
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

fn pending_message(record: &Record, delivery: &Delivery, window: Window) -> LedgerRecord {
    LedgerRecord {
        state: RecordState::Pending.into(),
        attempts: delivery.attempts,
        next_attempt_unix_seconds: delivery.next_attempt.seconds(),
        reason: delivery.last_error.to_string(),
        ..message(record, window)
    }
}

fn settled_message(settled: &Settled, window: Window) -> LedgerRecord {
    let base = LedgerRecord {
        attempts: settled.attempts,
        settled_unix_seconds: settled.at.seconds(),
        ..message(&settled.record, window)
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
    }
}

fn message(record: &Record, window: Window) -> LedgerRecord {
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
        deadline_unix_seconds: window.deadline(record.hour).seconds(),
        origins: amounts.carried_in.origins().map(origin).collect(),
        ..LedgerRecord::default()
    }
}
