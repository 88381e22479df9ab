//! Who may make which call: one table, held against the real binary for each role, bound and unbound, by token and by
//! certificate. A call of the proto that has no row fails, and so does a row that is too generous or too strict.

use std::{collections::BTreeSet, fs};

use prost::{
    Message,
    bytes::{Buf, BufMut},
};
use prost_types::FileDescriptorSet;
use tallyman::internals::DESCRIPTORS;
use tallyman_client::proto::{
    AdjustRequest, AllowMoveRequest, AuditRequest, CloseCustomerRequest, Customer, DecideHeldRequest,
    GetCustomerRequest, GetSummaryRequest, ListAdjustmentsRequest, ListCustomersRequest, ListHeldRequest,
    ListMovesRequest, ListRecordsRequest, PutCustomerRequest, RecordRequest, RecordResponse,
    RecordStreamRequest, RecordStreamResponse, Rejection, UsageEvent, rejection::Reason,
};
use tokio_stream::iter;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::http::uri::PathAndQuery,
    transport::Channel,
};

use super::{NOWHERE, clients::OTHER_PRODUCT, connect, issue, require_certificates};
use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home},
    events::{ACME, GLOBEX, event},
};

/// `yes`: for all customers. `own`: for those that the client is bound to, and no other. `-`: not at all. The calls are about
/// customers of one product; a client of another product sees a list, which has the customers of its own alone (`clients`).
/// No client is without a role: the configuration refuses it.
const TABLE: [&str; 16] = [
    "                              | meter | customers | read | decide | bound meter | bound customers | other product | all roles | no clients",
    "UsageService/Record           | yes   | -         | -    | -      | own         | -               | -             | yes       | yes",
    "UsageService/RecordStream     | yes   | -         | -    | -      | own         | -               | -             | yes       | yes",
    "CustomerService/PutCustomer   | -     | yes       | -    | -      | -           | own             | -             | yes       | yes",
    "CustomerService/GetCustomer   | -     | yes       | yes  | -      | -           | own             | -             | yes       | yes",
    "CustomerService/ListCustomers | -     | yes       | yes  | -      | -           | -               | yes           | yes       | yes",
    "CustomerService/CloseCustomer | -     | yes       | -    | -      | -           | own             | -             | yes       | yes",
    "LedgerService/GetSummary      | -     | -         | yes  | -      | -           | -               | -             | yes       | yes",
    "LedgerService/ListRecords     | -     | -         | yes  | -      | -           | -               | -             | yes       | yes",
    "LedgerService/ListHeld        | -     | -         | yes  | -      | -           | -               | -             | yes       | yes",
    "LedgerService/DecideHeld      | -     | -         | -    | yes    | -           | -               | -             | yes       | yes",
    "LedgerService/Adjust          | -     | -         | -    | yes    | -           | -               | -             | yes       | yes",
    "LedgerService/ListAdjustments | -     | -         | yes  | -      | -           | -               | -             | yes       | yes",
    "LedgerService/Audit           | -     | -         | yes  | -      | -           | -               | -             | yes       | yes",
    "LedgerService/AllowMove       | -     | -         | -    | yes    | -           | -               | -             | yes       | yes",
    "LedgerService/ListMoves       | -     | -         | yes  | -      | -           | -               | -             | yes       | yes",
];

/// The clients of the table, with their roles, and what each is bound to.
const CLIENTS: [(&str, &[&str], &str); 8] = [
    ("meter", &["meter"], ""),
    ("customers", &["customers"], ""),
    ("read", &["read"], ""),
    ("decide", &["decide"], ""),
    ("bound meter", &["meter"], TO_A_CUSTOMER),
    ("bound customers", &["customers"], TO_A_CUSTOMER),
    ("other product", &["meter", "customers"], TO_ANOTHER_PRODUCT),
    ("all roles", &["meter", "customers", "read", "decide"], ""),
];
const TO_A_CUSTOMER: &str = "customers = ['123456789012']";
const TO_ANOTHER_PRODUCT: &str = "products = ['prod-other']";
const PRODUCT: &str = "prod-sandbox";

/// A row's call, and what it says for a column.
fn rows(column: &str) -> Vec<(&'static str, &'static str)> {
    let cells = |row: &'static str| row.split('|').map(str::trim).collect::<Vec<_>>();
    let column = cells(TABLE[0]).iter().position(|name| *name == column).unwrap();
    TABLE[1..].iter().map(|row| (cells(row)[0], cells(row)[column])).collect()
}

/// The calls of the proto.
fn calls() -> BTreeSet<String> {
    let files = FileDescriptorSet::decode(DESCRIPTORS).unwrap().file;
    let services = files.iter().filter(|file| file.package() == "tallyman.v1").flat_map(|file| &file.service);
    let calls = services.flat_map(|service| {
        service.method.iter().map(|method| format!("{}/{}", service.name(), method.name()))
    });
    calls.collect()
}

/// A call's request that is about a customer, where one can be.
fn message(call: &str, customer: &str) -> Vec<u8> {
    let (product, key) = (PRODUCT.to_owned(), customer.to_owned());
    let events = vec![UsageEvent { product: product.clone(), ..event(customer, "requests", 0, "") }];
    match call {
        "UsageService/Record" => RecordRequest { events }.encode_to_vec(),
        "UsageService/RecordStream" => {
            // Each message is the first of a producer of its own.
            let producer_id = format!("{customer}-{}", fastrand::u64(..));
            RecordStreamRequest { producer_id, sequence: 1, events }.encode_to_vec()
        }
        "CustomerService/PutCustomer" => {
            let customer = Customer { product, key, ..Customer::default() };
            PutCustomerRequest { customer: Some(customer) }.encode_to_vec()
        }
        "CustomerService/GetCustomer" => GetCustomerRequest { product, key }.encode_to_vec(),
        "CustomerService/ListCustomers" => ListCustomersRequest::default().encode_to_vec(),
        "CustomerService/CloseCustomer" => {
            CloseCustomerRequest { product, key, ..CloseCustomerRequest::default() }.encode_to_vec()
        }
        "LedgerService/GetSummary" => GetSummaryRequest::default().encode_to_vec(),
        "LedgerService/ListRecords" => ListRecordsRequest::default().encode_to_vec(),
        "LedgerService/ListHeld" => ListHeldRequest::default().encode_to_vec(),
        "LedgerService/DecideHeld" => DecideHeldRequest::default().encode_to_vec(),
        "LedgerService/Adjust" => AdjustRequest::default().encode_to_vec(),
        "LedgerService/ListAdjustments" => ListAdjustmentsRequest::default().encode_to_vec(),
        "LedgerService/Audit" => AuditRequest::default().encode_to_vec(),
        "LedgerService/AllowMove" => AllowMoveRequest::default().encode_to_vec(),
        "LedgerService/ListMoves" => ListMovesRequest::default().encode_to_vec(),
        other => panic!("what does a request of {other} look like?"),
    }
}

/// Messages as their bytes.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining()).to_vec()))
    }
}

/// Makes a call about a customer; tells how it is answered. On the wire a single message is a stream of one.
async fn ask(channel: &Channel, token: &str, call: &str, customer: &str) -> Code {
    let mut request = Request::new(iter([message(call, customer)]));
    if !token.is_empty() {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let path: PathAndQuery = format!("/tallyman.v1.{call}").parse().unwrap();
    let mut grpc = Grpc::new(channel.clone());
    grpc.ready().await.unwrap();
    let answer = match grpc.streaming(request, path, Raw).await {
        Ok(answers) => answers.into_inner().message().await,
        Err(refused) => Err(refused),
    };
    match answer {
        Ok(Some(answer)) if refused_events(call, &answer) => Code::PermissionDenied,
        Ok(_) => Code::Ok,
        Err(refused) => refused.code(),
    }
}

/// Whether the event of a call was refused since the client may not send it.
fn refused_events(call: &str, answer: &[u8]) -> bool {
    let rejected = match call {
        "UsageService/Record" => RecordResponse::decode(answer).unwrap().rejected,
        "UsageService/RecordStream" => RecordStreamResponse::decode(answer).unwrap().rejected,
        _ => Vec::new(),
    };
    rejected.iter().map(Rejection::reason).any(|reason| reason == Reason::NotAllowed)
}

/// Holds a column against what a caller is answered.
async fn check(column: &str, channel: &Channel, token: &str) {
    for (call, expected) in rows(column) {
        let mut may = Vec::new();
        for customer in [ACME, GLOBEX] {
            let code = ask(channel, token, call, customer).await;
            assert_ne!(code, Code::Unauthenticated, "{call} by {column}");
            may.push(code != Code::PermissionDenied);
        }
        let found = match may[..] {
            [true, true] => "yes",
            [true, false] => "own",
            [false, false] => "-",
            _ => "another's alone",
        };
        assert_eq!(found, expected, "{call} by {column}");
    }
}

async fn is_nobody(channel: &Channel, token: &str) {
    for call in calls() {
        assert_eq!(ask(channel, token, &call, ACME).await, Code::Unauthenticated, "{call} with `{token}`");
    }
}

fn products() -> String {
    format!("{ACCOUNT_PRODUCT}{OTHER_PRODUCT}")
}

fn token(name: &str) -> String {
    format!("{}-t0ken", name.replace(' ', "-"))
}

/// The clients' sections, each known by what `proof` says.
fn sections(proof: impl Fn(&str) -> String) -> String {
    let section = |(name, roles, bound): &(&str, &[&str], &str)| {
        let name = name.replace(' ', "-");
        format!("[[grpc.client]]\nname = '{name}'\n{}\nroles = {roles:?}\n{bound}\n", proof(&name))
    };
    CLIENTS.iter().map(section).collect()
}

#[test]
fn the_table_has_each_call_of_the_proto_once() {
    let listed: Vec<_> = rows("meter").iter().map(|(call, _)| (*call).to_owned()).collect();
    assert_eq!(listed.iter().cloned().collect::<BTreeSet<_>>(), calls());
    assert_eq!(listed.len(), calls().len());
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_is_for_the_roles_of_the_table_by_token() {
    let home = Home::new(&products(), NOWHERE, None);
    let file = |name: &str| {
        let file = home.path().join(name);
        fs::write(&file, token(name)).unwrap();
        format!("token_file = '{}'", file.display())
    };
    home.configure(&sections(file), &products(), NOWHERE);
    let _agent = home.start().await;
    let channel = home.channel().await.unwrap();
    for (name, ..) in CLIENTS {
        check(name, &channel, &token(name)).await;
    }
    for nobody in ["", "meter", "all-roles-t0ke", "all-roles-t0ken2"] {
        is_nobody(&channel, nobody).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_is_for_the_roles_of_the_table_by_certificate() {
    let mut home = Home::new(&products(), NOWHERE, None);
    let names: Vec<String> = CLIENTS.iter().map(|(name, ..)| name.replace(' ', "-")).collect();
    let all = ["server", "stranger"].into_iter().chain(names.iter().map(String::as_str));
    issue(home.path(), "ca", &all.collect::<Vec<_>>());
    require_certificates(&mut home, "server", "ca");
    home.configure(&sections(|name| format!("certificate = '{name}'")), &products(), NOWHERE);
    let _agent = home.start().await;
    for (column, ..) in CLIENTS {
        let channel = connect(&home, "ca", &column.replace(' ', "-")).await.unwrap();
        check(column, &channel, "").await;
        is_nobody(&channel, "a-token").await;
    }
    let stranger = connect(&home, "ca", "stranger").await.unwrap();
    is_nobody(&stranger, "").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_clients_the_one_token_allows_everything_and_no_other_does() {
    let home = Home::new(&products(), NOWHERE, None);
    let file = home.path().join("token");
    fs::write(&file, "the-one-t0ken").unwrap();
    let section = format!("token_file = '{}'", file.display());
    let grpc = fs::read_to_string(home.config()).unwrap().replace("[admin]", &format!("{section}\n[admin]"));
    fs::write(home.config(), grpc).unwrap();
    let agent = home.start().await;
    let channel = home.channel().await.unwrap();
    check("no clients", &channel, "the-one-t0ken").await;
    for nobody in ["", "another"] {
        is_nobody(&channel, nobody).await;
    }
    agent.terminate().await;
    home.configure("", &products(), NOWHERE);
    let _agent = home.start().await;
    check("no clients", &home.channel().await.unwrap(), "").await;
}
