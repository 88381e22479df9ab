//! An agent for tests: a real server with canned answers.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use prost::Message as _;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::base::{
    proto::{
        AdjustRequest, AdjustResponse, AdjustedHour, Adjustment, AllowMoveRequest, AllowedMove, AuditFault,
        AuditReport, AuditRequest, AuditResponse, CloseCustomerRequest, Customer, DecideHeldRequest,
        DecideHeldResponse, DimensionSummary, GetCustomerRequest, GetSummaryRequest, LedgerRecord,
        ListAdjustmentsRequest, ListAdjustmentsResponse, ListCustomersRequest, ListCustomersResponse,
        ListHeldRequest, ListMovesRequest, ListMovesResponse, ListRecordsRequest, ListRecordsResponse,
        Origin, ProductSummary, PutCustomerRequest, RecordRequest, RecordResponse, RecordState,
        RecordStreamResponse, Rejection, Summary, TaggedAmount, customer,
        customer_service_server::{CustomerService, CustomerServiceServer},
        decide_held_request::Decision,
        ledger_service_server::{LedgerService, LedgerServiceServer},
        raw,
        rejection::Reason,
        usage_service_server::{UsageService, UsageServiceServer},
    },
    tasks::Tasks,
};

pub(super) const HOUR: i64 = 3600;
/// 2026-11-22T10:12:00Z.
pub(super) const NOW: i64 = 1_795_342_320;
pub(super) const TEN: i64 = NOW - 720;

pub(in crate::cli) fn summary() -> Summary {
    let dimension = |name: &str, open: &str, unsent: &str, held: &str| DimensionSummary {
        name: name.to_owned(),
        open: open.to_owned(),
        unsent: unsent.to_owned(),
        held: held.to_owned(),
        capped_customers: 0,
    };
    Summary {
        version: "0.1.0".to_owned(),
        agent_id: "node-a".to_owned(),
        now_unix_seconds: NOW,
        sealed_through_unix_seconds: TEN - HOUR,
        open_buckets: 7,
        accepting: true,
        fault: String::new(),
        clock_fault: String::new(),
        sandbox: false,
        data_dir: "/var/lib/tallyman".to_owned(),
        data_dir_is_new: false,
        products: vec![ProductSummary {
            code: "prod".to_owned(),
            identity: "account".to_owned(),
            customers: 3,
            records_unsent: 2,
            oldest_unsent_unix_seconds: TEN - HOUR,
            nearest_deadline_unix_seconds: TEN + 23 * HOUR,
            records_held: 1,
            records_accepted: 120,
            last_success_unix_seconds: NOW - 180,
            last_error: "ThrottlingException: slow down".to_owned(),
            in_review_hour_unix_seconds: 0,
            in_review_until_unix_seconds: 0,
            events_not_billable: 0,
            dimensions: vec![
                dimension("gb_out", "12345", "98765432109", "0"),
                dimension("requests", "1", "0", "17"),
            ],
            endpoint_url: "https://metering.marketplace.us-east-1.amazonaws.com".to_owned(),
            region: "us-east-1".to_owned(),
            bills_nothing: false,
        }],
    }
}

fn allowed_move() -> AllowedMove {
    AllowedMove {
        number: 7,
        product: "prod".to_owned(),
        from: "us-east-1".to_owned(),
        to: "eu-west-1".to_owned(),
        reason: "wrong region".to_owned(),
        decided_by: "ann".to_owned(),
        client: String::new(),
        decided_unix_seconds: TEN,
        pending: true,
    }
}

pub(in crate::cli) fn accepted() -> LedgerRecord {
    LedgerRecord {
        id: 7,
        product: "prod".to_owned(),
        customer: "acme".to_owned(),
        account_id: "012345678901".to_owned(),
        dimension: "gb_out".to_owned(),
        hour_unix_seconds: TEN - 2 * HOUR,
        timestamp_unix_seconds: TEN - 2 * HOUR,
        quantity: "1.234".to_owned(),
        state: RecordState::Accepted.into(),
        usage: "1234567890".to_owned(),
        carried_in: "0".to_owned(),
        billed: "1234000000".to_owned(),
        carried_out: "567890".to_owned(),
        rounded: "0".to_owned(),
        attempts: 1,
        deadline_unix_seconds: TEN + 22 * HOUR,
        receipt: "receipt-7".to_owned(),
        settled_unix_seconds: TEN - HOUR + 360,
        origins: vec![Origin { hour_unix_seconds: TEN - 3 * HOUR, amount: "3".to_owned() }],
        withheld: "0".to_owned(),
        ..LedgerRecord::default()
    }
}

pub(in crate::cli) fn pending() -> LedgerRecord {
    LedgerRecord {
        id: 8,
        customer: "210987654321".to_owned(),
        dimension: "requests".to_owned(),
        hour_unix_seconds: TEN - HOUR,
        quantity: "17".to_owned(),
        state: RecordState::Pending.into(),
        carried_out: "0".to_owned(),
        attempts: 3,
        deadline_unix_seconds: TEN + 23 * HOUR,
        receipt: String::new(),
        ..accepted()
    }
}

pub(in crate::cli) fn held() -> LedgerRecord {
    LedgerRecord {
        id: 12,
        dimension: "requests".to_owned(),
        hour_unix_seconds: TEN - 3 * HOUR,
        quantity: "5".to_owned(),
        state: RecordState::Held.into(),
        carried_out: "0".to_owned(),
        receipt: String::new(),
        reason: "no such license".to_owned(),
        ..accepted()
    }
}

/// 5000000 base units, most of them carried, some of them tagged.
pub(in crate::cli) fn adjusted() -> Adjustment {
    let origin = |hour_unix_seconds, amount: &str| Origin { hour_unix_seconds, amount: amount.to_owned() };
    let tags = [("team".to_owned(), "red".to_owned())].into();
    Adjustment {
        number: 3,
        adjustment_id: "adjust-1".to_owned(),
        product: "prod".to_owned(),
        customer: "acme".to_owned(),
        dimension: "gb_out".to_owned(),
        amount: "5000000".to_owned(),
        reason: "a slip".to_owned(),
        decided_by: "ann".to_owned(),
        decided_unix_seconds: NOW,
        hours: vec![AdjustedHour {
            hour_unix_seconds: TEN - HOUR,
            usage: "7".to_owned(),
            carried: vec![origin(TEN - 2 * HOUR, "4999993")],
            tagged: vec![TaggedAmount { tags, amount: "4000".to_owned() }],
        }],
        client: "ops".to_owned(),
    }
}

/// What the agent was asked, and what it is to answer.
#[derive(Clone, Default)]
pub(in crate::cli) struct CannedAgent {
    pub(in crate::cli) requests: Arc<Mutex<Vec<RecordRequest>>>,
    pub(in crate::cli) lists: Arc<Mutex<Vec<ListRecordsRequest>>>,
    pub(in crate::cli) puts: Arc<Mutex<Vec<PutCustomerRequest>>>,
    pub(in crate::cli) decisions: Arc<Mutex<Vec<DecideHeldRequest>>>,
    pub(in crate::cli) adjusts: Arc<Mutex<Vec<AdjustRequest>>>,
    /// Whether a person has taken something from an open hour.
    pub(in crate::cli) has_adjustments: bool,
    /// The answers to the first calls of `Record` or `Adjust`; later ones are accepted.
    pub(in crate::cli) refusals: Arc<Mutex<Vec<Status>>>,
    pub(in crate::cli) token: Option<&'static str>,
    /// The largest page that fits into an answer; 0 for any.
    pub(in crate::cli) largest_page: u32,
    /// Whether the ledger has no records.
    pub(in crate::cli) is_empty: bool,
    /// Whether the ledger fails behind its first page.
    pub(in crate::cli) breaks: bool,
}

impl CannedAgent {
    pub(super) fn refusing(refusals: &[Status]) -> Self {
        Self { refusals: Arc::new(Mutex::new(refusals.to_vec())), ..Self::default() }
    }

    /// Serves on a port of the system's choice; gives the address.
    pub(in crate::cli) async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        self.spawn(TcpListenerStream::new(listener));
        address.to_string()
    }

    pub(super) fn serve_on_socket(&self, path: &Path) {
        self.spawn(UnixListenerStream::new(UnixListener::bind(path).unwrap()));
    }

    fn spawn<S, C>(&self, connections: S)
    where
        S: tokio_stream::Stream<Item = std::io::Result<C>> + Send + 'static,
        C: tonic::transport::server::Connected
            + tokio::io::AsyncRead
            + tokio::io::AsyncWrite
            + Send
            + Unpin
            + 'static,
    {
        let token = self.token;
        let check = move |request: Request<()>| {
            let shown = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
            if shown == token { Ok(request) } else { Err(Status::unauthenticated("a token is needed")) }
        };
        let server = Server::builder()
            .add_service(UsageServiceServer::new(self.clone()))
            .add_service(CustomerServiceServer::new(self.clone()))
            .add_service(LedgerServiceServer::with_interceptor(self.clone(), check))
            .serve_with_incoming(connections);
        Tasks::default().spawn("canned agent", async { server.await.unwrap() });
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl UsageService for CannedAgent {
    async fn record(&self, request: Request<raw::RecordRequest>) -> Answer<RecordResponse> {
        let request = RecordRequest::decode(request.into_inner().bytes()).unwrap();
        let rejected = request.events.iter().zip(0..).filter(|(event, _)| event.dimension == "wrong").map(
            |(_, index)| Rejection {
                index,
                reason: Reason::UnknownDimension.into(),
                message: "no such dimension".to_owned(),
            },
        );
        let rejected: Vec<Rejection> = rejected.collect();
        let accepted = request.events.len() as u64 - rejected.len() as u64;
        self.requests.lock().unwrap().push(request);
        let mut refusals = self.refusals.lock().unwrap();
        if !refusals.is_empty() {
            return Err(refusals.remove(0));
        }
        Ok(Response::new(RecordResponse { accepted, rejected, ..RecordResponse::default() }))
    }

    type RecordStreamStream = tokio_stream::Empty<Result<RecordStreamResponse, Status>>;

    async fn record_stream(
        &self,
        _: Request<Streaming<raw::RecordStreamRequest>>,
    ) -> Answer<Self::RecordStreamStream> {
        Err(Status::unimplemented("not here"))
    }
}

#[tonic::async_trait]
impl CustomerService for CannedAgent {
    async fn put_customer(&self, request: Request<PutCustomerRequest>) -> Answer<Customer> {
        let request = request.into_inner();
        self.puts.lock().unwrap().push(request.clone());
        let mut customer = request.customer.unwrap();
        if customer.key == "twin" {
            return Err(Status::already_exists("customer `acme` has that identity"));
        }
        customer.state = customer::State::Active.into();
        Ok(Response::new(customer))
    }

    async fn get_customer(&self, request: Request<GetCustomerRequest>) -> Answer<Customer> {
        Err(Status::not_found(format!("no customer `{}`", request.into_inner().key)))
    }

    async fn list_customers(&self, request: Request<ListCustomersRequest>) -> Answer<ListCustomersResponse> {
        let is_first = request.into_inner().page_token.is_empty();
        let customer = Customer {
            product: "prod".to_owned(),
            key: if is_first { "acme" } else { "bolt" }.to_owned(),
            account_id: "012345678901".to_owned(),
            since_unix_seconds: TEN,
            state: customer::State::Active.into(),
            verification: customer::Verification::Verified.into(),
            ..Customer::default()
        };
        let next_page_token = if is_first { "2" } else { "" }.to_owned();
        Ok(Response::new(ListCustomersResponse { customers: vec![customer], next_page_token }))
    }

    async fn close_customer(&self, _: Request<CloseCustomerRequest>) -> Answer<Customer> {
        Err(Status::failed_precondition("it has ended already"))
    }
}

#[tonic::async_trait]
impl LedgerService for CannedAgent {
    async fn get_summary(&self, _: Request<GetSummaryRequest>) -> Answer<Summary> {
        Ok(Response::new(summary()))
    }

    /// Two pages.
    async fn list_records(&self, request: Request<ListRecordsRequest>) -> Answer<ListRecordsResponse> {
        let request = request.into_inner();
        let is_first = request.page_token.is_empty();
        let is_too_large = self.largest_page > 0 && request.page_size > self.largest_page;
        self.lists.lock().unwrap().push(request);
        if is_too_large {
            return Err(Status::out_of_range("decoded message length too large"));
        }
        if self.is_empty {
            return Ok(Response::new(ListRecordsResponse::default()));
        }
        if self.breaks && !is_first {
            return Err(Status::unavailable("stopping"));
        }
        let records = if is_first { vec![accepted(), pending()] } else { vec![held()] };
        let next_page_token = if is_first { "2" } else { "" }.to_owned();
        Ok(Response::new(ListRecordsResponse { records, next_page_token }))
    }

    async fn list_held(&self, _: Request<ListHeldRequest>) -> Answer<ListRecordsResponse> {
        Ok(Response::new(ListRecordsResponse { records: vec![held()], ..ListRecordsResponse::default() }))
    }

    async fn decide_held(&self, request: Request<DecideHeldRequest>) -> Answer<DecideHeldResponse> {
        let request = request.into_inner();
        let decided = request.ids.len() as u64;
        let is_carry = request.decision() == Decision::Carry;
        self.decisions.lock().unwrap().push(request);
        if is_carry {
            Err(Status::unimplemented("not in this version"))
        } else {
            Ok(Response::new(DecideHeldResponse { decided }))
        }
    }

    async fn allow_move(&self, request: Request<AllowMoveRequest>) -> Answer<AllowedMove> {
        let AllowMoveRequest { product, to, reason, decided_by } = request.into_inner();
        if product == "other" {
            return Err(Status::failed_precondition("no agent has billed product `other`"));
        }
        Ok(Response::new(AllowedMove { product, to, reason, decided_by, ..allowed_move() }))
    }

    async fn list_moves(&self, _: Request<ListMovesRequest>) -> Answer<ListMovesResponse> {
        Ok(Response::new(ListMovesResponse { moves: vec![allowed_move()] }))
    }

    async fn adjust(&self, request: Request<AdjustRequest>) -> Answer<AdjustResponse> {
        self.adjusts.lock().unwrap().push(request.into_inner());
        let mut refusals = self.refusals.lock().unwrap();
        if !refusals.is_empty() {
            return Err(refusals.remove(0));
        }
        let repeated = self.adjusts.lock().unwrap().len() > 1;
        let answer = AdjustResponse { adjustment: Some(adjusted()), left_open: "12".to_owned(), repeated };
        Ok(Response::new(answer))
    }

    async fn list_adjustments(&self, _: Request<ListAdjustmentsRequest>) -> Answer<ListAdjustmentsResponse> {
        let adjustments = if self.has_adjustments { vec![adjusted()] } else { Vec::new() };
        Ok(Response::new(ListAdjustmentsResponse { adjustments, next_page_token: String::new() }))
    }

    type AuditStream = tokio_stream::Iter<std::vec::IntoIter<Result<AuditResponse, Status>>>;

    async fn audit(&self, request: Request<AuditRequest>) -> Answer<Self::AuditStream> {
        let noted = request.into_inner().noted_line;
        let faults = (noted > 0).then(|| AuditFault {
            invariant: "I2".to_owned(),
            what: "it is not there".to_owned(),
            customer: "acme".to_owned(),
            amount: "-5".to_owned(),
            ..AuditFault::default()
        });
        let report = AuditReport {
            records: 3,
            journal_lines: 7,
            last_line_hash: "ab".to_owned(),
            faults_found: noted,
            faults: faults.into_iter().collect(),
            ..AuditReport::default()
        };
        let answers = [None, Some(report)].map(|report| Ok(AuditResponse { rows_read: 10, report }));
        Ok(Response::new(tokio_stream::iter(answers.to_vec())))
    }
}
