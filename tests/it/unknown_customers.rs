//! Customers that AWS does not know: they hold up nobody, cost no more than a call each, and are forgotten once nothing of
//! them is left. Through the real binary, against the sandbox.

use std::{collections::BTreeSet, time::Duration};

use tallyman::internals::{ClockSpec, Faults, Sandbox, Tasks};
use tallyman_client::proto::{
    GetCustomerRequest, LedgerRecord, ListRecordsRequest, RecordState, UsageEvent, customer::Verification,
};

use crate::support::{
    agent::{Home, binary},
    clock_at,
    events::{event, record},
    eventually, eventually_within, sandbox,
};

/// By a customer identifier, any text is a customer; and one that AWS does not know refuses a whole call.
const PRODUCT: &str = r#"
[[product]]
code = "prod-sandbox"
identity = "customer_identifier"
endpoint_url = "ENDPOINT"
[[product.dimension]]
name = "requests"
"#;

const HOUR: i64 = 3600;

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|number| format!("{prefix}-{number}")).collect()
}

/// A use of each of these customers, now.
fn use_of(customers: &[String]) -> Vec<UsageEvent> {
    customers.iter().map(|customer| event(customer, "requests", 1, "")).collect()
}

/// A sandbox that knows these customers alone, and an agent that calls it.
async fn scene(known: &[String], clock: ClockSpec) -> (Home, Sandbox, Tasks) {
    let faults = Faults { known_customers: Some(known.to_vec()), ..Faults::default() };
    let (sandbox, tasks) = sandbox(clock, faults).await;
    let home = Home::new(PRODUCT, &sandbox.url(), Some(clock));
    (home, sandbox, tasks)
}

async fn records(home: &Home, state: RecordState, prefix: &str) -> Vec<LedgerRecord> {
    let mut records = Vec::new();
    let mut page = ListRecordsRequest { state: state.into(), ..ListRecordsRequest::default() };
    loop {
        let mut ledger = tallyman_client::proto::ledger_service_client::LedgerServiceClient::new(
            home.channel().await.unwrap(),
        );
        let answer = ledger.list_records(page.clone()).await.unwrap().into_inner();
        records.extend(answer.records);
        if answer.next_page_token.is_empty() {
            records.retain(|record| record.customer.starts_with(prefix));
            return records;
        }
        page.page_token = answer.next_page_token;
    }
}

fn hours(records: &[LedgerRecord]) -> BTreeSet<i64> {
    records.iter().map(|record| record.hour_unix_seconds).collect()
}

async fn verification(home: &Home, key: &str) -> Verification {
    let request = GetCustomerRequest { key: key.to_owned(), ..GetCustomerRequest::default() };
    home.customers().await.get_customer(request).await.unwrap().into_inner().verification()
}

/// At twenty calls a second 400 unknown customers take 20 seconds, at four minutes a second 80 minutes; and twice that, if
/// each were looked for by halving. Their keys come first in every order.
#[tokio::test(flavor = "multi_thread")]
async fn hundreds_of_them_delay_no_record_of_the_others_and_cost_a_call_each_and_no_zeros() {
    let (good, invented) = (names("good", 25), names("aaa-invented", 400));
    let (mut home, sandbox, _tasks) = scene(&good, clock_at("2026-11-22T10:50:00Z", 240.0)).await;
    home.set("SUBMISSION__REQUESTS_PER_SECOND", "20");
    let _agent = home.start().await;
    assert_eq!(record(&home, use_of(&good)).await.unwrap().accepted, 25);
    let accepted = async || records(&home, RecordState::Accepted, "good").await;
    eventually("AWS accepts the good ones", async || (accepted().await.len() == 25).then_some(())).await;
    assert_eq!(verification(&home, &good[0]).await, Verification::Verified);

    let both = [use_of(&invented), use_of(&good)].concat();
    assert_eq!(record(&home, both).await.unwrap().accepted, 425);
    let bound = Duration::from_mins(2);
    let held = eventually_within(bound, "all of the invented are held", async || {
        Some(records(&home, RecordState::Held, "aaa").await).filter(|held| held.len() == 400)
    })
    .await;
    assert!(held.iter().all(|record| record.reason.starts_with("unknown_customer")), "{}", held[0].reason);
    assert_eq!(verification(&home, &invented[0]).await, Verification::Refused);
    let used = *hours(&held).first().unwrap();
    let accepted = accepted().await;
    let of_that_hour: Vec<_> = accepted.iter().filter(|record| record.hour_unix_seconds == used).collect();
    assert_eq!(of_that_hour.len(), 25);
    let late = of_that_hour.iter().map(|record| record.settled_unix_seconds - used - HOUR).max().unwrap();
    assert!(late < 2 * HOUR, "a good record was accepted {late} s after its hour");
    let refused = sandbox.log().iter().filter(|call| call.result.starts_with("InvalidCustomer")).count();
    assert!((400..450).contains(&refused), "{refused} refused calls for 400 customers");

    let later = eventually("two more hours are sealed", async || {
        let accepted = records(&home, RecordState::Accepted, "good").await;
        Some(hours(&accepted)).filter(|hours| hours.last() >= Some(&(used + 2 * HOUR)))
    })
    .await;
    assert!(later.contains(&(used + HOUR)), "the good ones have their zeros");
    for state in [RecordState::Held, RecordState::Expired, RecordState::Pending] {
        let of_later = records(&home, state, "aaa").await;
        assert!(of_later.iter().all(|record| record.hour_unix_seconds == used), "{state:?}: {of_later:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_forgotten_once_nothing_of_them_is_left_and_whoever_comes_back_begins_anew() {
    let good = names("good", 1);
    let (home, sandbox, _tasks) = scene(&good, clock_at("2026-11-22T10:50:00Z", 240.0)).await;
    let agent = home.start().await;
    let strangers = names("stranger", 2);
    record(&home, [use_of(&good), use_of(&strangers)].concat()).await.unwrap();
    let held = eventually("the strangers are held", async || {
        Some(records(&home, RecordState::Held, "stranger").await).filter(|held| held.len() == 2)
    })
    .await;
    let known = async || home.summary().await.map(|summary| summary.products[0].customers);
    let sealed = async || home.summary().await.map(|summary| summary.sealed_through_unix_seconds);
    let before = sealed().await.unwrap();
    eventually("an hour passes", async || sealed().await.filter(|now| *now > before)).await;
    assert_eq!(known().await, Some(3), "a held record waits for a person");
    let decide = |record: &LedgerRecord| {
        let mut command = binary();
        command.args([
            "held",
            "write-off",
            &record.id.to_string(),
            "--reason",
            "never a customer",
            "--by",
            "ann",
        ]);
        command.args(["--address", &home.grpc]).output().unwrap()
    };
    assert!(decide(&held[0]).status.success());
    eventually("the one of whom nothing is left is forgotten", async || {
        (known().await == Some(2)).then_some(())
    })
    .await;
    agent.terminate().await;
    let faults = Faults { known_customers: None, ..Faults::default() };
    sandbox.set_faults(faults);
    let _agent = home.start().await;
    assert_eq!(known().await, Some(2), "and stays so");
    let back = strangers.iter().find(|stranger| **stranger == held[0].customer).cloned();
    record(&home, use_of(back.as_slice())).await.unwrap();
    assert_eq!(verification(&home, &held[0].customer).await, Verification::Unverified);
    assert_eq!(verification(&home, &held[1].customer).await, Verification::Refused);
    eventually("AWS knows it by now", async || {
        let accepted = records(&home, RecordState::Accepted, "stranger").await;
        (!accepted.is_empty() && accepted[0].customer == held[0].customer).then_some(())
    })
    .await;
}
