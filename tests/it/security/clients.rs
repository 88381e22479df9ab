//! Clients that are bound: what each may do.

use std::fs;

use tallyman_client::proto::{
    AuditRequest, CloseCustomerRequest, Customer, DecideHeldRequest, GetCustomerRequest, GetSummaryRequest,
    ListCustomersRequest, ListHeldRequest, ListRecordsRequest, PutCustomerRequest, RecordRequest,
    RecordStreamRequest, UsageEvent, customer_service_client::CustomerServiceClient,
    ledger_service_client::LedgerServiceClient, rejection::Reason, usage_service_client::UsageServiceClient,
};
use tokio_stream::StreamExt;
use tonic::{
    Code, Status,
    codegen::InterceptedService,
    transport::{Channel, Endpoint},
};

use super::{Bearer, NOWHERE, connect, issue, require_certificates, send};
use crate::support::{
    agent::{ACCOUNT_PRODUCT, Agent, Home, binary},
    events::{ACME, GLOBEX, event},
    eventually,
};

pub(super) const OTHER_PRODUCT: &str = r#"
[[product]]
code = "prod-other"
identity = "account"
endpoint_url = "ENDPOINT"
dimension = [{ name = "requests" }]
"#;

fn of(product: &str, event: UsageEvent) -> UsageEvent {
    UsageEvent { product: product.to_owned(), ..event }
}

/// An agent with four clients, each with the token of its name.
struct House {
    /// First, so that it ends before its folder is looked at.
    _agent: Agent,
    home: Home,
    channel: Channel,
}

impl House {
    async fn open() -> Self {
        let home = Home::new("", NOWHERE, None);
        for name in ["app", "desk", "clerk", "root"] {
            fs::write(home.path().join(name), format!("{name}-t0ken")).unwrap();
        }
        let folder = home.path().display();
        let clients = format!(
            r#"
            [[grpc.client]]
            name = "app"
            token_file = "{folder}/app"
            products = ["prod-sandbox"]
            customers = ["{ACME}"]
            [[grpc.client]]
            name = "desk"
            token_file = "{folder}/desk"
            products = ["prod-sandbox"]
            roles = ["customers"]
            [[grpc.client]]
            name = "clerk"
            token_file = "{folder}/clerk"
            customers = ["{ACME}"]
            roles = ["customers"]
            [[grpc.client]]
            name = "root"
            token_file = "{folder}/root"
            roles = ["meter", "customers", "read", "decide"]
            "#
        );
        home.configure(&clients, &format!("{ACCOUNT_PRODUCT}{OTHER_PRODUCT}"), NOWHERE);
        let agent = home.start().await;
        let channel = home.channel().await.unwrap();
        Self { _agent: agent, home, channel }
    }

    fn ledger(&self, token: &'static str) -> LedgerServiceClient<InterceptedService<Channel, Bearer>> {
        LedgerServiceClient::with_interceptor(self.channel.clone(), Bearer(token))
    }

    fn customers(&self, token: &'static str) -> CustomerServiceClient<InterceptedService<Channel, Bearer>> {
        CustomerServiceClient::with_interceptor(self.channel.clone(), Bearer(token))
    }

    /// Open usage of all products.
    async fn open_usage(&self) -> Vec<String> {
        let summary = self.ledger("root-t0ken").get_summary(GetSummaryRequest {}).await.unwrap().into_inner();
        summary.products.iter().map(|product| product.dimensions[0].open.clone()).collect()
    }
}

fn code<T>(answer: Result<T, Status>) -> Code {
    answer.err().map_or(Code::Ok, |status| status.code())
}

#[tokio::test]
async fn a_bound_client_meters_for_its_products_and_customers_alone() {
    let house = House::open().await;
    let events = || {
        vec![
            of("prod-sandbox", event(ACME, "requests", 1, "")),
            of("prod-sandbox", event(GLOBEX, "requests", 2, "")),
            of("prod-other", event(ACME, "requests", 4, "")),
            of("prod-sandbox", event(ACME, "requests", 8, "an-id")),
            of("prod-sandbox", event(GLOBEX, "requests", 16, "an-id")),
        ]
    };
    let answer = send(house.channel.clone(), "app-t0ken", events()).await.unwrap();
    assert_eq!(answer.accepted, 2);
    let rejected: Vec<_> = answer.rejected.iter().map(|bad| (bad.index, bad.reason())).collect();
    assert_eq!(rejected, [1, 2, 4].map(|index| (index, Reason::NotAllowed)));
    let messages: Vec<_> = answer.rejected.iter().map(|bad| &*bad.message).collect();
    assert!(messages[0].contains("`customers`") && messages[1].contains("`products`"), "{messages:?}");
    assert_eq!(house.open_usage().await, ["9", "0"]);

    let message = RecordStreamRequest { producer_id: "p".to_owned(), sequence: 1, events: events() };
    let mut app = UsageServiceClient::with_interceptor(house.channel.clone(), Bearer("app-t0ken"));
    let mut answers = app.record_stream(tokio_stream::iter([message])).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap();
    assert_eq!((answer.accepted, answer.rejected.len()), (1, 3), "the id counted before");
    let all = send(house.channel.clone(), "root-t0ken", events()).await.unwrap();
    assert_eq!((all.accepted, all.rejected.len()), (4, 0));
}

#[tokio::test]
async fn a_health_check_needs_no_role_and_no_token() {
    let house = House::open().await;
    let status = |options: &[&str]| {
        let mut command = binary();
        command.args(["status", "--address", &house.home.grpc]).args(options);
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let token = house.home.path().join("app").display().to_string();
    let ready = (Some(0), "takes usage\n".to_owned());
    assert_eq!(status(&["--ready", "--token-file", &token]), ready);
    assert_eq!(status(&["--ready"]), ready);
    for options in [&["--token-file", &*token][..], &[]] {
        assert_eq!(
            status(options),
            (Some(64), String::new()),
            "the summary is not for everyone: {options:?}"
        );
    }
}

#[tokio::test]
async fn nobody_in_particular_is_not_let_in() {
    let house = House::open().await;
    for token in ["", "app", "app-t0ken2", "root-t0ke"] {
        let events = vec![of("prod-sandbox", event(ACME, "requests", 1, ""))];
        assert_eq!(code(send(house.channel.clone(), token, events).await), Code::Unauthenticated, "{token}");
    }
    assert_eq!(house.open_usage().await, ["0", "0"]);
    let summary = |token: &str| {
        let file = house.home.path().join(token);
        let mut status = binary();
        status.args(["status", "--address", &house.home.grpc]).arg("--token-file").arg(file);
        status.output().unwrap()
    };
    assert!(summary("root").status.success());
    let refused = summary("app");
    assert!(!refused.status.success());
    assert!(
        String::from_utf8_lossy(&refused.stderr).contains("needs one of these roles: read"),
        "{refused:?}"
    );
}

#[tokio::test]
async fn an_applications_token_does_not_write_off_what_is_owed() {
    let house = House::open().await;
    for token in ["app-t0ken", "desk-t0ken"] {
        let decided = house.ledger(token).decide_held(DecideHeldRequest::default()).await;
        assert_eq!(code(decided), Code::PermissionDenied, "{token}");
        let mut ledger = house.ledger(token);
        let seen = [
            code(ledger.get_summary(GetSummaryRequest {}).await),
            code(ledger.list_records(ListRecordsRequest::default()).await),
            code(ledger.list_held(ListHeldRequest::default()).await),
            code(ledger.audit(AuditRequest::default()).await),
        ];
        assert_eq!(seen, [Code::PermissionDenied; 4], "{token}");
    }
    let decided = house.ledger("").decide_held(DecideHeldRequest::default()).await;
    assert_eq!(code(decided), Code::Unauthenticated, "nobody in particular");
    let decided = house.ledger("root-t0ken").decide_held(DecideHeldRequest::default()).await;
    assert_eq!(code(decided), Code::InvalidArgument, "it may, but says nothing");
    let usage = RecordRequest { events: vec![of("prod-sandbox", event(ACME, "requests", 1, ""))] };
    let mut desk = UsageServiceClient::with_interceptor(house.channel.clone(), Bearer("desk-t0ken"));
    assert_eq!(code(desk.record(usage).await), Code::PermissionDenied);
    assert_eq!(code(desk.record_stream(tokio_stream::empty()).await), Code::PermissionDenied);
}

#[tokio::test]
async fn customers_are_kept_by_those_who_may_and_of_their_products() {
    let house = House::open().await;
    let put = async |token, product: &str, key: &str| {
        let customer = Customer { product: product.to_owned(), key: key.to_owned(), ..Customer::default() };
        code(house.customers(token).put_customer(PutCustomerRequest { customer: Some(customer) }).await)
    };
    assert_eq!(put("app-t0ken", "prod-sandbox", ACME).await, Code::PermissionDenied, "no role");
    assert_eq!(put("desk-t0ken", "prod-other", ACME).await, Code::PermissionDenied, "not its product");
    assert_eq!(put("desk-t0ken", "prod-sandbox", ACME).await, Code::Ok);
    assert_eq!(put("root-t0ken", "prod-other", GLOBEX).await, Code::Ok);
    let mut desk = house.customers("desk-t0ken");
    let list = desk.list_customers(ListCustomersRequest::default()).await.unwrap().into_inner();
    let shown: Vec<_> = list.customers.iter().map(|customer| &*customer.product).collect();
    assert_eq!(shown, ["prod-sandbox"], "those of other products do not show");
    assert_eq!(put("clerk-t0ken", "prod-other", ACME).await, Code::Ok);
    assert_eq!(put("clerk-t0ken", "prod-other", GLOBEX).await, Code::PermissionDenied, "not its customer");
    let all = house.customers("clerk-t0ken").list_customers(ListCustomersRequest::default()).await;
    assert_eq!(code(all), Code::PermissionDenied, "a list would name other customers");
    let (product, key) = ("prod-other".to_owned(), GLOBEX.to_owned());
    let get = GetCustomerRequest { product: product.clone(), key: key.clone() };
    assert_eq!(code(desk.get_customer(get).await), Code::PermissionDenied);
    let close = CloseCustomerRequest { product, key, ..CloseCustomerRequest::default() };
    assert_eq!(code(desk.close_customer(close.clone()).await), Code::PermissionDenied);
    assert_eq!(code(house.customers("root-t0ken").close_customer(close).await), Code::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_known_by_its_certificate() {
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let folder = home.path().to_owned();
    issue(
        &folder,
        "ca",
        &["server", "by-name=billing", "by-uri=anything,spiffe://example.org/app", "stranger"],
    );
    // It sends its authority's certificate after its own, as many do.
    let chain = ["by-name.crt", "ca.crt"].map(|name| fs::read_to_string(folder.join(name)).unwrap());
    fs::write(folder.join("by-name.crt"), chain.concat()).unwrap();
    require_certificates(&mut home, "server", "ca");
    for (index, (name, certificate)) in
        [("by-name", "billing"), ("by-uri", "spiffe://example.org/app")].iter().enumerate()
    {
        home.set(&format!("GRPC__CLIENT__{index}__NAME"), name);
        home.set(&format!("GRPC__CLIENT__{index}__CERTIFICATE"), certificate);
        home.set(&format!("GRPC__CLIENT__{index}__CUSTOMERS__0"), [ACME, GLOBEX][index]);
    }
    let _agent = home.start().await;
    let accepted = async |certificate: &str| {
        let channel = connect(&home, "ca", certificate).await.unwrap();
        let events = vec![event(ACME, "requests", 1, ""), event(GLOBEX, "requests", 1, "")];
        send(channel, "", events).await.map(|answer| {
            assert_eq!(answer.accepted, 1);
            answer.rejected[0].index
        })
    };
    assert_eq!(accepted("by-name").await.unwrap(), 1);
    assert_eq!(accepted("by-uri").await.unwrap(), 0);
    assert_eq!(code(accepted("stranger").await), Code::Unauthenticated, "a certificate alone is not enough");
}

#[tokio::test]
async fn a_clients_token_changes_without_a_restart_and_is_never_anothers() {
    let house = House::open().await;
    let path = |name: &str| house.home.path().join(name);
    let sent = async |token: &str| {
        let events = vec![of("prod-sandbox", event(ACME, "requests", 1, ""))];
        code(send(house.channel.clone(), token, events).await)
    };
    fs::write(path("app"), "fresh").unwrap();
    eventually("the new token is taken", async || (sent("fresh").await == Code::Ok).then_some(())).await;
    assert_eq!(sent("app-t0ken").await, Code::Unauthenticated);
    fs::write(path("desk"), "fresh").unwrap();
    eventually("it is told", async || {
        (house.home.metric("tallyman_credentials_stale").await == Some(1.0)).then_some(())
    })
    .await;
    assert_eq!(sent("fresh").await, Code::Ok, "it is the application's still");
    let list = house.customers("desk-t0ken").list_customers(ListCustomersRequest::default()).await;
    assert_eq!(code(list), Code::Ok, "and this one has the token before");
}

#[tokio::test]
async fn health_is_for_everyone() {
    let house = House::open().await;
    let channel =
        Endpoint::from_shared(format!("http://{}", house.home.grpc)).unwrap().connect().await.unwrap();
    let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
    let asked = tonic_health::pb::HealthCheckRequest { service: String::new() };
    assert_eq!(health.check(asked).await.unwrap().into_inner().status, 1);
}
