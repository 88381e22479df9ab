//! The command line as a whole: its grammar, and its commands against a real server with canned answers.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use clap::CommandFactory;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::*;
use crate::base::{
    proto::{
        AuditFault, AuditReport, AuditRequest, AuditResponse, CloseCustomerRequest, Customer,
        DecideHeldRequest, DecideHeldResponse, DimensionSummary, GetCustomerRequest, GetSummaryRequest,
        LedgerRecord, ListCustomersRequest, ListCustomersResponse, ListHeldRequest, ListRecordsRequest,
        ListRecordsResponse, Origin, ProductSummary, PutCustomerRequest, RecordRequest, RecordResponse,
        RecordState, RecordStreamRequest, RecordStreamResponse, Rejection, Summary, customer,
        customer_service_server::{CustomerService, CustomerServiceServer},
        decide_held_request::Decision,
        ledger_service_server::{LedgerService, LedgerServiceServer},
        rejection::Reason,
        usage_service_server::{UsageService, UsageServiceServer},
    },
    tasks::Tasks,
};

const HOUR: i64 = 3600;
/// 2026-11-22T10:12:00Z.
const NOW: i64 = 1_795_342_320;
const TEN: i64 = NOW - 720;

pub(super) fn summary() -> Summary {
    let dimension = |name: &str, open: &str, unsent: &str, held: &str| DimensionSummary {
        name: name.to_owned(),
        open: open.to_owned(),
        unsent: unsent.to_owned(),
        held: held.to_owned(),
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
            dimensions: vec![
                dimension("gb_out", "12345", "98765432109", "0"),
                dimension("requests", "1", "0", "17"),
            ],
        }],
    }
}

pub(super) fn accepted() -> LedgerRecord {
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
        ..LedgerRecord::default()
    }
}

pub(super) fn pending() -> LedgerRecord {
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

pub(super) fn held() -> LedgerRecord {
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

fn parsed(line: &str) -> Result<Cli, clap::Error> {
    parse_from(line.split_whitespace().map(Into::into))
}

#[test]
fn clap_finds_no_fault_in_the_grammar() {
    Cli::command().debug_assert();
}

#[test]
fn the_commands_of_the_interface_are_understood() {
    let lines = [
        "tallyman run --config /etc/tallyman.toml",
        "tallyman run --config /etc/tallyman.toml --sandbox --throttle 0.5 --latency 20",
        "tallyman run --clock anchor=1000,start=2026-11-30T22:00:00Z,speed=60 --log debug --log-format json",
        "tallyman demo --hours 3 --speed 900 --seed 7",
        "tallyman sandbox --listen 127.0.0.1:0 --seed 1 --config x.toml",
        "tallyman check --config x.toml --print",
        "tallyman status --address unix:/run/tallyman.sock --output json",
        "tallyman --output json records --product p --customer c --dimension d --state rolled_forward --limit 5",
        "tallyman records --from 2026-11-22T00:00:00Z --to 2026-11-23T00:00:00Z",
        "tallyman export --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z --format csv --product p",
        "tallyman export --format jsonl --address localhost:1",
        "tallyman reconcile --cloudtrail a.json b.json.gz --from 2026-11-01T00:00:00Z --product p",
        "tallyman reconcile --to 2026-12-01T00:00:00Z --output json --cloudtrail -",
        "tallyman held",
        "tallyman held list --address localhost:1",
        "tallyman held retry 1 2 3 --reason mended",
        "tallyman held carry 1 --reason later --by ann",
        "tallyman held write-off 1 --reason test --address localhost:1",
        "tallyman customers --product p",
        "tallyman customers get acme --product p --token-file /run/token",
        "tallyman customers put acme --account-id 012345678901 --license-arn arn:x --since 2026-11-22T00:00:00Z",
        "tallyman customers put acme --customer-identifier abc",
        "tallyman customers close acme",
        "tallyman emit --customer acme --dimension requests",
        "tallyman emit --customer acme --dimension gb --quantity 5 --product p --event-id e --count 9 --timeout 1m",
        "tallyman emit --customer acme --dimension gb --no-event-id --time 2026-11-22T10:00:00Z",
    ];
    for line in lines {
        parsed(line).unwrap_or_else(|error| panic!("{line}: {error}"));
    }
}

#[test]
fn wrong_usage_is_64_and_asking_for_help_is_no_fault() {
    let wrong = [
        "tallyman",
        "tallyman fly",
        "tallyman run --clock noon",
        "tallyman run --log loud",
        "tallyman run --throttle 0.5",
        "tallyman demo --hours 0",
        "tallyman demo --speed nan",
        "tallyman status --address nowhere",
        "tallyman records --limit 0",
        "tallyman records --state lost",
        "tallyman export --format xlsx",
        "tallyman export --from noon",
        "tallyman reconcile",
        "tallyman reconcile --cloudtrail",
        "tallyman held retry --reason mended",
        "tallyman held retry 1",
        "tallyman customers put",
        "tallyman emit --customer acme",
        "tallyman emit --customer acme --dimension gb --event-id e --no-event-id",
        "tallyman emit --customer acme --dimension gb --quantity -1",
    ];
    for line in wrong {
        let error = parsed(line).expect_err(line);
        assert_eq!(exit_after(&error).code(), 64, "{line}: {error}");
    }
    for line in ["tallyman --help", "tallyman --version", "tallyman held write-off --help"] {
        assert_eq!(exit_after(&parsed(line).expect_err(line)), Exit::Ok, "{line}");
    }
}

#[test]
fn the_defaults_are_those_of_the_interface() {
    let Command::Demo(demo) = parsed("tallyman demo").unwrap().command else { panic!("not a demo") };
    assert_eq!((demo.hours, demo.seed), (6, None));
    assert!((demo.speed - 1200.0).abs() < f64::EPSILON);
    let Command::Sandbox(sandbox) = parsed("tallyman sandbox").unwrap().command else {
        panic!("not a sandbox")
    };
    assert_eq!(sandbox.listen, SocketAddr::from(([127, 0, 0, 1], 7460)));
    let help = Cli::command().find_subcommand_mut("status").unwrap().render_long_help().to_string();
    assert!(help.contains("127.0.0.1:7450"), "{help}");
}

/// What the canned agent was asked, and what it shall answer.
#[derive(Clone, Default)]
pub(super) struct Canned {
    pub(super) requests: Arc<Mutex<Vec<RecordRequest>>>,
    pub(super) lists: Arc<Mutex<Vec<ListRecordsRequest>>>,
    pub(super) puts: Arc<Mutex<Vec<PutCustomerRequest>>>,
    pub(super) decisions: Arc<Mutex<Vec<DecideHeldRequest>>>,
    /// The answers to the first calls of `Record`; later ones are accepted.
    pub(super) refusals: Arc<Mutex<Vec<Status>>>,
    pub(super) token: Option<&'static str>,
    /// The largest page that fits into an answer; 0 for any.
    pub(super) largest_page: u32,
    /// No records at all.
    pub(super) is_empty: bool,
    /// The connection breaks behind the first page.
    pub(super) breaks: bool,
}

impl Canned {
    fn refusing(refusals: &[Status]) -> Self {
        Self { refusals: Arc::new(Mutex::new(refusals.to_vec())), ..Self::default() }
    }

    /// Serves on a port of the system's choice; gives the address.
    pub(super) async fn serve(&self) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        self.spawn(TcpListenerStream::new(listener));
        address.to_string()
    }

    fn serve_on_socket(&self, path: &Path) {
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
impl UsageService for Canned {
    async fn record(&self, request: Request<RecordRequest>) -> Answer<RecordResponse> {
        let request = request.into_inner();
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
        _: Request<Streaming<RecordStreamRequest>>,
    ) -> Answer<Self::RecordStreamStream> {
        Err(Status::unimplemented("not here"))
    }
}

#[tonic::async_trait]
impl CustomerService for Canned {
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
impl LedgerService for Canned {
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

#[derive(Debug)]
pub(super) struct Ran {
    pub(super) exit: u8,
    pub(super) out: String,
    pub(super) notes: String,
}

pub(super) async fn run_line(line: &str, address: &str) -> Ran {
    let cli = parsed(&format!("tallyman {line} --address {address}"))
        .unwrap_or_else(|error| panic!("{line}: {error}"));
    let Command::Client(command) = cli.command else { panic!("{line} needs no agent") };
    let (mut out, mut notes) = (Vec::new(), Vec::new());
    let mut printer = Printer::new(cli.output, &mut out, &mut notes);
    let result = dispatch(command, &mut printer).await;
    let exit = printer.finish(result).code();
    Ran { exit, out: String::from_utf8(out).unwrap(), notes: String::from_utf8(notes).unwrap() }
}

#[tokio::test]
async fn status_and_records_show_what_the_agent_answers() {
    let agent = Canned::default();
    let address = agent.serve().await;
    let status = run_line("status", &address).await;
    assert_eq!((status.exit, status.notes.as_str()), (0, ""));
    assert!(status.out.contains("22h 48m left"), "{}", status.out);

    let records =
        run_line("records --customer acme --from 2026-11-22T08:00:00Z --state accepted", &address).await;
    assert_eq!(
        (records.exit, records.out.lines().count(), records.notes.as_str()),
        (0, 4, ""),
        "{}",
        records.out
    );
    let asked = agent.lists.lock().unwrap().clone();
    assert_eq!((asked[0].customer.as_str(), asked[0].from_unix_seconds), ("acme", TEN - 2 * HOUR));
    assert_eq!((asked[0].state(), asked[0].page_size), (RecordState::Accepted, 100));
    assert_eq!((asked[1].page_token.as_str(), asked[1].page_size), ("2", 98));

    let json = run_line("records --output json", &address).await;
    let ids: Vec<u64> = json
        .out
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["id"].as_u64().unwrap())
        .collect();
    assert_eq!(ids, [7, 8, 12]);
}

#[tokio::test]
async fn a_list_cut_short_says_so() {
    let agent = Canned::default();
    let address = agent.serve().await;
    for limit in [1, 2] {
        let records = run_line(&format!("records --output json --limit {limit}"), &address).await;
        assert_eq!(records.out.lines().count(), limit);
        assert!(records.notes.contains("only the first"), "{records:?}");
    }
    assert_eq!(run_line("records --limit 3", &address).await.notes, "");
}

#[tokio::test]
async fn emit_repeats_the_same_events_until_they_are_taken() {
    let refusals = [Status::unavailable("starting"), Status::resource_exhausted("full")];
    let agent = Canned::refusing(&refusals);
    let address = agent.serve().await;
    let ran = run_line("emit --customer acme --dimension gb --quantity 5 --count 3", &address).await;
    assert_eq!(
        (ran.exit, ran.out.as_str()),
        (0, "accepted 3, duplicates 0, late 0, rejected 0\n"),
        "{ran:?}"
    );
    let requests = agent.requests.lock().unwrap();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().all(|request| request == &requests[0]), "{requests:?}");
    let ids: std::collections::HashSet<&str> =
        requests[0].events.iter().map(|event| event.event_id.as_str()).collect();
    assert_eq!(ids.len(), 3, "{ids:?}");
    assert!(!ids.contains(""));
}

#[tokio::test]
async fn emit_sends_batches_and_names_what_was_rejected() {
    let agent = Canned::default();
    let address = agent.serve().await;
    let ran =
        run_line("emit --customer acme --dimension gb --count 5 --batch 2 --event-id e", &address).await;
    assert_eq!(ran.exit, 0, "{ran:?}");
    let ids: Vec<Vec<String>> = agent
        .requests
        .lock()
        .unwrap()
        .iter()
        .map(|request| request.events.iter().map(|event| event.event_id.clone()).collect())
        .collect();
    assert_eq!(ids, [vec!["e-1", "e-2"], vec!["e-3", "e-4"], vec!["e-5"]]);

    let ran = run_line("emit --customer acme --dimension wrong --count 2", &address).await;
    assert_eq!(ran.exit, 1);
    assert!(ran.out.contains("2 events rejected, unknown_dimension: no such dimension"), "{ran:?}");
}

#[tokio::test]
async fn emit_gives_up_in_time_and_says_how_to_go_on() {
    let agent = Canned::refusing(&vec![Status::unavailable("starting"); 1000]);
    let address = agent.serve().await;
    let ran = run_line("emit --customer acme --dimension gb --event-id once --timeout 300ms", &address).await;
    assert_eq!((ran.exit, ran.out.as_str()), (75, ""), "{ran:?}");
    assert!(ran.notes.contains("starting") && ran.notes.contains("--event-id once"), "{ran:?}");

    let asked = agent.requests.lock().unwrap().len();
    let ran = run_line("emit --customer acme --dimension gb --no-event-id", &address).await;
    assert_eq!(ran.exit, 75, "{ran:?}");
    assert_eq!(agent.requests.lock().unwrap().len(), asked + 1, "an event without id was sent again");
}

#[tokio::test]
async fn customers_are_listed_registered_and_refused() {
    let agent = Canned::default();
    let address = agent.serve().await;
    let list = run_line("customers", &address).await;
    let expected = "\
PRODUCT  CUSTOMER  STATE   SINCE                 ACCOUNT
prod     acme      active  2026-11-22T10:00:00Z  012345678901
prod     bolt      active  2026-11-22T10:00:00Z  012345678901
";
    assert_eq!((list.exit, list.out.as_str()), (0, expected));
    let put =
        run_line("customers put acme --product p --account-id 012345678901 --output json", &address).await;
    let customer: serde_json::Value = serde_json::from_str(&put.out).unwrap();
    let expected = serde_json::json!({
        "product": "p", "key": "acme", "state": "active", "since": null, "account_id": "012345678901",
        "license_arn": null, "customer_identifier": null, "last_hour_ends": null, "not_subscribed": false,
    });
    assert_eq!(customer, expected);
    for line in
        ["customers put twin --account-id 012345678901", "customers get ghost", "customers close acme"]
    {
        let refused = run_line(line, &address).await;
        assert_eq!((refused.exit, refused.out.as_str()), (1, ""), "{line}");
        assert!(refused.notes.starts_with("tallyman: "), "{refused:?}");
    }
}

#[tokio::test]
async fn held_records_are_listed_and_decided() {
    let agent = Canned::default();
    let address = agent.serve().await;
    assert!(run_line("held", &address).await.out.contains("no such license"));
    let ran = run_line("held retry 1 2 --reason mended --by ann", &address).await;
    assert_eq!((ran.exit, ran.out.as_str()), (0, "2 records will be sent again\n"));
    let asked = agent.decisions.lock().unwrap()[0].clone();
    assert_eq!((asked.ids, asked.reason.as_str(), asked.decided_by.as_str()), (vec![1, 2], "mended", "ann"));
    let ran = run_line("held carry 1 --reason later", &address).await;
    assert_eq!(ran.exit, 1);
    assert!(ran.notes.contains("cannot do this: not in this version"), "{ran:?}");
}

#[tokio::test]
async fn an_agent_that_is_not_there_is_worth_trying_later() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    for address in [format!("127.0.0.1:{port}"), "unix:/nonexistent/tallyman.sock".to_owned()] {
        let ran = run_line("status", &address).await;
        assert_eq!(ran.exit, 75, "{ran:?}");
        assert!(ran.notes.starts_with(&format!("tallyman: cannot reach an agent at {address}: ")), "{ran:?}");
        assert!(ran.notes.ends_with("is it running?\n"), "{ran:?}");
    }
}

#[tokio::test]
async fn an_agent_is_reached_through_a_socket_with_a_token() {
    let folder = tempfile::tempdir().unwrap();
    let (socket, token) = (folder.path().join("tallyman.sock"), folder.path().join("token"));
    std::fs::write(&token, "s3cret\n").unwrap();
    Canned { token: Some("Bearer s3cret"), ..Canned::default() }.serve_on_socket(&socket);
    let address = format!("unix:{}", socket.display());
    let refused = run_line("status", &address).await;
    assert_eq!(refused.exit, 64, "{refused:?}");
    assert!(refused.notes.contains("--token-file"), "{refused:?}");
    let ran = run_line(&format!("status --token-file {}", token.display()), &address).await;
    assert_eq!(ran.exit, 0, "{ran:?}");
}

#[tokio::test]
async fn a_connection_lost_in_the_midst_is_worth_trying_later() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let hang_up = async {
        // Once the greeting is through, the agent dies.
        for _ in 0..2 {
            let (connection, _) = listener.accept().await.unwrap();
            connection.readable().await.unwrap();
        }
    };
    let line = "emit --customer acme --dimension gb --event-id e --timeout 500ms";
    let ran = tokio::time::timeout(Duration::from_secs(20), async {
        tokio::join!(run_line(line, &address), hang_up).0
    });
    let ran = ran.await.unwrap();
    assert_eq!(ran.exit, 75, "{ran:?}");
}

#[tokio::test]
async fn an_audit_says_what_is_wrong_and_by_its_exit_code_whether_anything_is() {
    let address = Canned::default().serve().await;
    let sound = run_line("audit", &address).await;
    assert_eq!((sound.exit, sound.notes.as_str()), (0, ""));
    assert!(sound.out.starts_with("everything is in its place: 3 records, 0 open buckets"), "{}", sound.out);
    assert!(sound.out.contains("7:ab"), "{}", sound.out);
    let hash = "0".repeat(64);
    let faulty = run_line(&format!("audit --noted 2:{hash}"), &address).await;
    assert_eq!(faulty.exit, 1);
    for part in ["I2", "acme", "-5", "it is not there", "2 faults in 3 records"] {
        assert!(faulty.out.contains(part), "no {part} in {}", faulty.out);
    }
    assert!(faulty.notes.contains("1 more"), "{}", faulty.notes);
    let json = run_line(&format!("audit --output json --noted 2:{hash}"), &address).await;
    let report: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    assert_eq!((&report["sound"], &report["faults"][0]["amount"]), (&false.into(), &"-5".into()));
    for wrong in ["audit --noted 2", "audit --noted 0:00", "audit --noted 2:xyz"] {
        assert!(parsed(&format!("tallyman {wrong}")).is_err(), "{wrong}");
    }
}

#[tokio::test]
async fn a_folder_without_a_store_is_refused_and_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("data");
    let refused = run_line(&format!("audit --data-dir {}", missing.display()), "127.0.0.1:1").await;
    assert_eq!(refused.exit, 74);
    assert!(refused.notes.contains("No such file"), "{}", refused.notes);
    assert!(!missing.exists());
}
