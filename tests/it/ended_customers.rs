//! Usage of a customer that has ended: its sender learns it in the answer, the operator from the log, `status` and a metric.

use tallyman_client::proto::{
    CloseCustomerRequest, GetCustomerRequest, RecordResponse, RecordState, RecordStreamRequest,
    customer::State,
};
use tokio_stream::StreamExt;

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home, binary},
    clock_at,
    events::{ACME, GLOBEX, event, record},
    eventually, sandbox,
};
use tallyman::internals::Faults;

async fn used_by_both(home: &Home) -> RecordResponse {
    record(home, vec![event(ACME, "requests", 5, ""), event(GLOBEX, "requests", 3, "")]).await.unwrap()
}

#[tokio::test]
async fn late_usage_of_an_ended_customer_is_told_at_once_and_held_in_the_end() {
    let clock = clock_at("2026-11-22T10:05:00Z", 240.0);
    let (sandbox, _tasks) = sandbox(clock, Faults::default()).await;
    let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    let _agent = home.start().await;
    assert_eq!(used_by_both(&home).await.not_billable, 0);
    let mut customers = home.customers().await;
    let close = CloseCustomerRequest { key: ACME.to_owned(), ..CloseCustomerRequest::default() };
    customers.close_customer(close).await.unwrap();
    eventually("its last hour is sealed", async || {
        let get = GetCustomerRequest { key: ACME.to_owned(), ..GetCustomerRequest::default() };
        let customer = home.customers().await.get_customer(get).await.ok()?.into_inner();
        let is_told = used_by_both(&home).await.not_billable == 1;
        (is_told && customer.state() != State::Active).then_some(())
    })
    .await;
    let message = RecordStreamRequest {
        producer_id: "host-1".to_owned(),
        sequence: 1,
        events: vec![event(ACME, "requests", 1, ""), event(ACME, "calls", 1, "")],
    };
    let mut usage = home.usage().await;
    let mut answers = usage.record_stream(tokio_stream::iter([message])).await.unwrap().into_inner();
    assert_eq!(answers.next().await.unwrap().unwrap().not_billable, 2);

    let run = |args: &[&str]| {
        let output = binary().args(args).args(["--address", &home.grpc]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let emitted = run(&["emit", "--customer", ACME, "--dimension", "requests"]);
    assert!(emitted.contains("accepted 1") && emitted.contains("1 event not billable"), "{emitted}");
    let events = home.summary().await.unwrap().products[0].events_not_billable;
    assert!(events >= 4, "{events}");
    let status = run(&["status"]);
    assert!(status.contains(&format!("{events} events of ended customers")), "{status}");
    let metric = "tallyman_events_not_billable_total{product=\"prod-sandbox\"}";
    assert_eq!(home.metric(metric).await.map(|counted| counted.to_string()), Some(events.to_string()));
    let warnings = home.log().matches("usage of customers that have ended").count();
    assert_eq!(warnings, 1, "once a minute, however often it is sent: {}", home.log());
    assert!(!home.log().contains(ACME), "and no customer is named");
    let held = home.wait_for_records(RecordState::Held).await;
    assert!(held.iter().all(|record| record.customer == ACME && record.reason.starts_with("not_billable")));
}
