//! Customers that clients bring: no client takes the room or the identity of others, or learns of them.

use std::fs;

use tallyman_client::proto::{
    Customer, GetCustomerRequest, PutCustomerRequest, UsageEvent,
    customer_service_client::CustomerServiceClient, rejection::Reason,
};
use tonic::{
    Code, Status,
    codegen::InterceptedService,
    transport::{Channel, Endpoint},
};

use super::{Bearer, NOWHERE, send};
use crate::support::{
    agent::{ACCOUNT_PRODUCT, Agent, Home},
    events::{ACME, GLOBEX, event},
};

const LICENSED: &str = r#"
[[product]]
code = "secret-launch"
dimension = [{ name = "seats-of-the-secret" }]
"#;

/// An agent with these clients, each with the token `NAME-t0ken`.
struct House {
    /// First, so that it ends before its folder is looked at.
    _agent: Agent,
    home: Home,
    channel: Channel,
}

impl House {
    async fn open(limits: &str, clients: &[(&str, &str)]) -> Self {
        let home = Home::new("", NOWHERE, None);
        let mut sections = format!("{limits}\n");
        for (name, keys) in clients {
            let file = home.path().join(name);
            fs::write(&file, format!("{name}-t0ken")).unwrap();
            let file = format!("token_file = '{}'", file.display());
            sections.extend(["[[grpc.client]]\nname = '", name, "'\n", &file, "\n", keys, "\n"]);
        }
        home.configure(&sections, &format!("{ACCOUNT_PRODUCT}{LICENSED}"), NOWHERE);
        let agent = home.start().await;
        let channel =
            Endpoint::from_shared(format!("http://{}", home.grpc)).unwrap().connect().await.unwrap();
        Self { _agent: agent, home, channel }
    }

    fn customers(&self, token: &'static str) -> CustomerServiceClient<InterceptedService<Channel, Bearer>> {
        CustomerServiceClient::with_interceptor(self.channel.clone(), Bearer(token))
    }

    async fn put(&self, token: &'static str, customer: Customer) -> Result<Customer, Status> {
        let put = PutCustomerRequest { customer: Some(customer) };
        self.customers(token).put_customer(put).await.map(tonic::Response::into_inner)
    }

    /// The first refusal of usage.
    async fn rejection(&self, token: &'static str, event: UsageEvent) -> (Reason, String) {
        let answer = send(self.channel.clone(), token, vec![event]).await.unwrap();
        let rejection = answer.rejected.into_iter().next().expect("it is rejected");
        (rejection.reason(), rejection.message)
    }
}

fn usage(product: &str, customer: &str, dimension: &str) -> UsageEvent {
    UsageEvent { product: product.to_owned(), ..event(customer, dimension, 1, "") }
}

fn account(key: &str, account_id: &str) -> Customer {
    let (key, account_id) = (key.to_owned(), account_id.to_owned());
    Customer { product: "prod-sandbox".to_owned(), key, account_id, ..Customer::default() }
}

fn many(from: u32, count: u32) -> Vec<UsageEvent> {
    (from..from + count).map(|number| usage("prod-sandbox", &format!("{number:012}"), "requests")).collect()
}

#[tokio::test]
async fn one_client_does_not_take_the_room_for_customers_that_all_share() {
    let clients = [
        ("greedy", "roles = ['meter']"),
        ("modest", "roles = ['meter']"),
        ("landing", "roles = ['customers']"),
    ];
    let house = House::open("[limits]\nmax_customers = 1000", &clients).await;
    let greedy = send(house.channel.clone(), "greedy-t0ken", many(0, 5000)).await.unwrap();
    assert_eq!((greedy.accepted, greedy.rejected.len()), (100, 4900), "a tenth of all");
    assert!(greedy.rejected.iter().all(|rejection| rejection.reason() == Reason::LimitReached));
    let message = &greedy.rejected[0].message;
    assert!(message.contains("limits.max_unverified_customers") && message.contains("(100)"), "{message}");
    let again = send(house.channel.clone(), "greedy-t0ken", many(0, 100)).await.unwrap();
    assert_eq!(again.accepted, 100, "those that it has named go on");
    let modest = send(house.channel.clone(), "modest-t0ken", many(900_000, 50)).await.unwrap();
    assert_eq!((modest.accepted, modest.rejected.len()), (50, 0));
    let license_arn = "arn:aws:license-manager::123456789012:license:l-1".to_owned();
    let buyer = Customer { product: "secret-launch".to_owned(), license_arn, ..account("buyer", ACME) };
    assert_eq!(house.put("landing-t0ken", buyer).await.unwrap().key, "buyer");
}

#[tokio::test]
async fn usage_alone_leaves_room_for_customers_that_are_registered() {
    let home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    home.configure("[limits]\nmax_customers = 100", ACCOUNT_PRODUCT, NOWHERE);
    let _agent = home.start().await;
    let channel = home.channel().await.unwrap();
    let all = send(channel, "", many(0, 200)).await.unwrap();
    assert_eq!((all.accepted, all.rejected.len()), (90, 110));
    let message = &all.rejected[0].message;
    assert!(message.contains("limits.max_customers") && message.contains("a tenth is kept"), "{message}");
    let put = |number: u32| {
        let customer = account(&format!("buyer-{number}"), &format!("{:012}", 900_000 + number));
        PutCustomerRequest { customer: Some(customer) }
    };
    let mut customers = home.customers().await;
    for number in 0..10 {
        customers.put_customer(put(number)).await.unwrap();
    }
    let full = customers.put_customer(put(10)).await.unwrap_err();
    assert_eq!(full.code(), Code::ResourceExhausted);
    assert!(full.message().contains("limits.max_customers (100)"), "{full}");
}

#[tokio::test]
async fn a_bound_client_takes_no_account_that_another_key_stands_for() {
    let clients = [
        ("portal", "roles = ['customers', 'meter']\nproducts = ['prod-sandbox']\ncustomers = ['acme']"),
        ("both", "roles = ['customers']\ncustomers = ['acme', '555566667777']"),
        ("landing", "roles = ['customers']"),
        ("checkout", "roles = ['meter']"),
    ];
    let house = House::open("", &clients).await;
    let other = "555566667777";
    let refused = house.put("portal-t0ken", account("acme", other)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("`customers`") && refused.message().contains(other), "{refused}");
    let sent = send(house.channel.clone(), "checkout-t0ken", vec![usage("prod-sandbox", other, "requests")]);
    assert_eq!(sent.await.unwrap().accepted, 1, "its usage counts, as before");

    let taken = house.put("both-t0ken", account("acme", other)).await.unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists, "it has sent by now");
    house.put("both-t0ken", account("acme", GLOBEX)).await.unwrap_err();
    house.put("landing-t0ken", account("acme", GLOBEX)).await.unwrap();
    house.put("portal-t0ken", account("acme", GLOBEX)).await.expect("it has this account already");
    let moved = house.put("portal-t0ken", account("acme", ACME)).await.unwrap_err();
    assert_eq!(moved.code(), Code::PermissionDenied);
}

#[tokio::test]
async fn a_refusal_tells_a_client_nothing_of_what_it_is_not_for() {
    let clients = [
        (
            "bound",
            "roles = ['meter', 'customers']\nproducts = ['prod-sandbox']\ncustomers = ['acme', '555566667777']",
        ),
        ("root", "roles = ['meter', 'customers', 'read']"),
    ];
    let house = House::open("", &clients).await;
    house.put("root-t0ken", account("name-of-another", "555566667777")).await.unwrap();
    let secrets = ["name-of-another", "secret-launch", "seats-of-the-secret"];
    let told = [
        house.rejection("bound-t0ken", usage("prod-sandbox", "555566667777", "requests")).await,
        house.rejection("bound-t0ken", usage("other", "acme", "requests")).await,
        house.rejection("bound-t0ken", usage("", "acme", "requests")).await,
        house.rejection("bound-t0ken", usage("secret-launch", "acme", "nonsense")).await,
        house.rejection("bound-t0ken", usage("prod-sandbox", "name-of-another", "requests")).await,
    ];
    let reasons = told.each_ref().map(|(reason, _)| *reason);
    let expected = [
        Reason::UnknownCustomer,
        Reason::UnknownProduct,
        Reason::UnknownProduct,
        Reason::NotAllowed,
        Reason::NotAllowed,
    ];
    assert_eq!(reasons, expected);
    let get =
        |product: &str, key: &str| GetCustomerRequest { product: product.to_owned(), key: key.to_owned() };
    let mut customers = house.customers("bound-t0ken");
    let statuses = [
        house.put("bound-t0ken", account("555566667777", "555566667777")).await.unwrap_err(),
        customers.get_customer(get("other", "acme")).await.unwrap_err(),
        customers.get_customer(get("secret-launch", "acme")).await.unwrap_err(),
        customers.get_customer(get("prod-sandbox", "globex")).await.unwrap_err(),
    ];
    let codes = statuses.each_ref().map(Status::code);
    let denied = Code::PermissionDenied;
    assert_eq!(codes, [Code::AlreadyExists, Code::NotFound, denied, denied]);
    let texts = told.iter().map(|(_, text)| &**text).chain(statuses.iter().map(Status::message));
    for text in texts {
        // A client's own words may be repeated to it.
        let text = text.replace("`secret-launch`", "").replace("customer `name-of-another`", "");
        assert!(!secrets.iter().any(|secret| text.contains(secret)), "{text}");
    }
    let (_, all) = house.rejection("root-t0ken", usage("other", "acme", "requests")).await;
    assert!(all.contains("secret-launch"), "whoever is not bound may know: {all}");
    let (_, owner) = house.rejection("root-t0ken", usage("prod-sandbox", "555566667777", "requests")).await;
    assert!(owner.contains("name-of-another"), "{owner}");
    assert!(!house.home.log().contains("555566667777"));
}
