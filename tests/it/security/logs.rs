//! What the log tells: no customer above debug, and no token at all.

use std::fs;

use serde_json::json;
use tallyman_client::proto::{
    CloseCustomerRequest, Customer, DecideHeldRequest, GetCustomerRequest, PutCustomerRequest, RecordState,
    customer_service_client::CustomerServiceClient, decide_held_request::Decision,
    ledger_service_client::LedgerServiceClient, rejection::Reason,
};
use tonic::transport::Channel;

use super::{Bearer, send};
use crate::support::{agent::Home, clock_at, events::event, eventually, raw_server::RawServer};

const ACCOUNT: &str = "123456789012";
const LICENSE: &str = "arn:aws:license-manager::123456789012:license:l-0123456789abcdef";
const OTHER_ACCOUNT: &str = "210987654321";
const TOKEN: &str = "t0p-s3cret";

/// A day with held, rejected and decided records, told at this level. AWS names the customer in what it refuses.
async fn log_of_a_bad_day(level: &str) -> String {
    let server = RawServer::start(|number, request| {
        let is_of_globex = request.to_string().contains(ACCOUNT);
        let (name, account, license) = if is_of_globex {
            ("Globex-Corp", ACCOUNT, LICENSE.to_owned())
        } else {
            ("Soylent-Inc", OTHER_ACCOUNT, other_license())
        };
        let said = format!("the license {license} of account {account} ({name}) has something wrong");
        match number {
            1 => (500, json!({"__type": "InternalServiceErrorException", "message": said})),
            2 => (400, json!({"__type": "AccessDeniedException", "message": said})),
            _ => (400, json!({"__type": "InvalidLicenseException", "message": said})),
        }
    })
    .await;
    let product = format!(
        "[[product]]\ncode = \"prod\"\nendpoint_url = \"ENDPOINT\"\ndimension = [{{ name = \"requests\" }}, {{ name = \"calls\" }}]\n\
         [[product.customer]]\nkey = \"Globex-Corp\"\naccount_id = \"{ACCOUNT}\"\nlicense_arn = \"{LICENSE}\"\n"
    );
    let mut home = Home::new(&product, &server.url, Some(clock_at("2026-11-22T10:58:00Z", 240.0)));
    fs::write(home.path().join("token"), TOKEN).unwrap();
    home.set("GRPC__TOKEN_FILE", &home.path().join("token").display().to_string());
    home.extra_args = vec!["--log".to_owned(), level.to_owned()];
    let _agent = home.start().await;
    let channel = home.channel().await.unwrap();
    let events = vec![
        event("Globex-Corp", "requests", 7, "event-id-4711"),
        event("Initech-Ltd", "requests", 7, "event-id-4712"),
    ];
    let answer = send(channel.clone(), TOKEN, events).await.unwrap();
    assert_eq!(answer.rejected[0].reason(), Reason::UnknownCustomer);
    assert!(send(channel.clone(), "wr0ng-token", Vec::new()).await.is_err());
    register_and_close(channel.clone()).await;
    eventually("a record is held", async || home.log().contains("a record is held").then_some(())).await;
    let mut ledger = LedgerServiceClient::with_interceptor(channel, Bearer(TOKEN));
    let held = ledger
        .list_records(tallyman_client::proto::ListRecordsRequest {
            state: RecordState::Held.into(),
            ..Default::default()
        })
        .await
        .unwrap()
        .into_inner()
        .records;
    let decision = DecideHeldRequest {
        ids: vec![held[0].id],
        decision: Decision::WriteOff.into(),
        reason: "Globex-Corp is a friend".to_owned(),
        decided_by: "ann".to_owned(),
    };
    ledger.decide_held(decision).await.unwrap();
    eventually("the decision is told", async || home.log().contains("a person has decided").then_some(()))
        .await;
    fs::write(home.path().join("token"), "fresh-t0ken").unwrap();
    eventually("the change is told", async || home.log().contains("are in force").then_some(())).await;
    home.log()
}

fn other_license() -> String {
    LICENSE.replace(ACCOUNT, OTHER_ACCOUNT).replace("def", "fed")
}

async fn register_and_close(channel: Channel) {
    let (product, key) = ("prod".to_owned(), "Soylent-Inc".to_owned());
    let mut customers = CustomerServiceClient::with_interceptor(channel, Bearer(TOKEN));
    let (license_arn, account_id) = (other_license(), OTHER_ACCOUNT.to_owned());
    let customer = Customer {
        product: product.clone(),
        key: key.clone(),
        license_arn,
        account_id,
        ..Customer::default()
    };
    customers.put_customer(PutCustomerRequest { customer: Some(customer) }).await.unwrap();
    customers.get_customer(GetCustomerRequest { product: product.clone(), key: key.clone() }).await.unwrap();
    customers.close_customer(CloseCustomerRequest { product, key, ..Default::default() }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn at_info_no_customer_is_named_and_what_is_held_is_told_all_the_same() {
    let log = log_of_a_bad_day("info").await;
    let names = [
        "Globex-Corp",
        "Initech",
        "Soylent",
        ACCOUNT,
        OTHER_ACCOUNT,
        "l-0123456789abc",
        "event-id",
        "is a friend",
    ];
    for name in names {
        assert!(!log.contains(name), "{name} shows: {log}");
    }
    for told in ["product=\"prod\"", "AccessDeniedException", "InvalidLicense", "[customer]", "by=\"ann\""] {
        assert!(log.contains(told), "{told} does not show: {log}");
    }
    assert!(!log.contains(TOKEN) && !log.contains("fresh-t0ken"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_trace_customers_are_named_and_no_token_is() {
    let log = log_of_a_bad_day("trace").await;
    assert!(log.contains("Globex-Corp"), "{log}");
    for token in [TOKEN, "fresh-t0ken", "wr0ng-token"] {
        assert!(!log.contains(token), "{token} shows: {log}");
    }
}
