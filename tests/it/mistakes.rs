//! Mistakes in usage, and how each is stopped before AWS has it: through the real binary.

use std::process::Output;

use serde_json::Value;
use tallyman::internals::{Faults, Hour, Sandbox, Timestamp};
use tallyman_client::proto::{
    AdjustRequest, CloseCustomerRequest, LedgerRecord, ListRecordsRequest, RecordState, RecordStreamRequest,
    UsageEvent, ledger_service_client::LedgerServiceClient, rejection::Reason,
};
use tokio_stream::StreamExt;
use tonic::{Code, transport::Channel};

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home, binary},
    clock_at,
    events::{ACME, GLOBEX, billed_units, event, record},
    eventually, sandbox,
};

const SLIP: u64 = 5_000_000_000_000;
/// AWS's largest quantity.
const LARGEST: u64 = 2_147_483_647;

/// The product of other tests, with keys of its own and of its first dimension, `requests`.
fn product(of_product: &str, of_dimension: &str) -> String {
    let keyed = ACCOUNT_PRODUCT.replacen(
        "identity = \"account\"\n",
        &format!("identity = \"account\"\n{of_product}\n"),
        1,
    );
    keyed.replacen("name = \"requests\"\n", &format!("name = \"requests\"\n{of_dimension}\n"), 1)
}

fn cli(home: &Home, args: &[&str]) -> Output {
    let mut command = binary();
    command.args(args).arg("--address").arg(format!("http://{}", home.grpc)).env("USER", "ann");
    command.output().unwrap()
}

/// What a command prints, which must have worked.
fn said(home: &Home, args: &[&str]) -> String {
    let output = cli(home, args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn billed(sandbox: &Sandbox, customer: &str) -> u128 {
    billed_units(sandbox).get(&(customer.to_owned(), "requests".to_owned())).copied().unwrap_or_default()
}

async fn requests(home: &Home, state: RecordState) -> Vec<LedgerRecord> {
    let dimension = "requests".to_owned();
    home.records(ListRecordsRequest { state: state.into(), dimension, ..Default::default() }).await
}

async fn held(home: &Home) -> Vec<LedgerRecord> {
    eventually("a record is held", async || {
        Some(requests(home, RecordState::Held).await).filter(|records| !records.is_empty())
    })
    .await
}

async fn ledger(home: &Home) -> LedgerServiceClient<Channel> {
    LedgerServiceClient::new(home.channel().await.unwrap())
}

/// Waits until an hour of a customer with nothing special about it is billed.
async fn billed_through(sandbox: &Sandbox, hour: &str) {
    let hour = Hour::containing(hour.parse::<Timestamp>().unwrap());
    eventually("hours pass", async || {
        sandbox.billed().into_iter().find(|record| record.account_id == GLOBEX && record.hour >= hour)
    })
    .await;
}

#[tokio::test]
async fn an_event_above_the_largest_quantity_is_rejected_in_a_request_and_in_a_stream() {
    let home = Home::new(&product("", "max_event_quantity = 1000"), "http://127.0.0.1:9", None);
    let _agent = home.start().await;
    let events = || vec![event(ACME, "requests", 1000, ""), event(ACME, "requests", 1001, "slip")];
    let answer = record(&home, events()).await.unwrap();
    assert_eq!((answer.accepted, answer.rejected.len()), (1, 1));
    assert_eq!((answer.rejected[0].index, answer.rejected[0].reason()), (1, Reason::QuantityTooLarge));
    assert!(answer.rejected[0].message.contains("which is 1000"), "{answer:?}");

    let message = |sequence, events| RecordStreamRequest { producer_id: "p".to_owned(), sequence, events };
    let messages = [message(1, events()), message(2, vec![event(ACME, "requests", 5, "slip")])];
    let mut answers =
        home.usage().await.record_stream(tokio_stream::iter(messages)).await.unwrap().into_inner();
    let (mut durable, mut accepted, mut rejected) = (0, 0, Vec::new());
    while let Some(answer) = answers.next().await {
        let answer = answer.unwrap();
        (durable, accepted) = (answer.durable_sequence, accepted + answer.accepted);
        rejected.extend(answer.rejected);
    }
    assert_eq!((durable, accepted, rejected.len()), (2, 2, 1), "the message counts, and so does the id");
    assert_eq!(rejected[0].reason(), Reason::QuantityTooLarge);
    assert_eq!(home.summary().await.unwrap().products[0].dimensions[0].open, "2005");
}

#[tokio::test]
async fn a_suspicious_hour_is_held_before_it_is_sent_and_one_decision_is_about_all_of_it() {
    let clock = clock_at("2026-11-22T10:30:00Z", 600.0);
    let (sandbox, _tasks) = sandbox(clock, Faults::default()).await;
    let home = Home::new(&product("", "hold_above = 1000000"), &sandbox.url(), Some(clock));
    let agent = home.start().await;
    let events = vec![event(ACME, "requests", SLIP, "slip"), event(GLOBEX, "requests", 7, "")];
    record(&home, events).await.unwrap();
    let record_held = held(&home).await.remove(0);
    assert_eq!(
        record_held.reason,
        format!("suspicious: the hour's usage is {SLIP}, and hold_above is 1000000")
    );
    assert_eq!((record_held.attempts, &*record_held.withheld), (0, &*(SLIP - LARGEST).to_string()));
    // A person sees what it is, until when to decide, and what to type.
    let list = said(&home, &["held"]);
    assert!(
        list.contains("decide until 2026-11-23T10:00:00Z") && list.contains("more base units wait with it"),
        "{list}"
    );
    let metric = "tallyman_records_held{product=\"prod-sandbox\",reason=\"suspicious\"}";
    assert_eq!(home.metric(metric).await, Some(1.0));
    assert!(home.metric("tallyman_deadline_seconds").await.unwrap() < 24.0 * 3600.0);
    assert!(home.admin("/").await.unwrap().contains("nothing of it was sent"));
    assert!(home.log().contains("held as suspicious") && !home.log().contains(ACME), "{}", home.log());
    // Later hours are billed, and nothing of it slips through, also over a kill.
    agent.kill();
    let _agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 9, "")]).await.unwrap();
    eventually("the next hour is billed", async || (billed(&sandbox, ACME) == 9).then_some(())).await;
    let id = record_held.id.to_string();
    said(&home, &["held", "write-off", &id, "--reason", "bytes for kilobytes"]);
    let product = &home.summary().await.unwrap().products[0];
    assert_eq!((product.records_held, &*product.dimensions[0].held), (0, "0"));
    let written_off = requests(&home, RecordState::WrittenOff).await;
    assert_eq!(written_off[0].withheld, (SLIP - LARGEST).to_string());
    assert_eq!(billed(&sandbox, ACME), 9);
}

#[tokio::test]
async fn a_suspicious_hour_that_is_right_is_sent_as_it_is() {
    let clock = clock_at("2026-11-22T10:30:00Z", 600.0);
    let (sandbox, _tasks) = sandbox(clock, Faults::default()).await;
    let home = Home::new(&product("", "hold_above = 100"), &sandbox.url(), Some(clock));
    let _agent = home.start().await;
    record(&home, vec![event(ACME, "requests", LARGEST + 500, "")]).await.unwrap();
    let id = held(&home).await[0].id.to_string();
    assert_eq!(billed(&sandbox, ACME), 0);
    said(&home, &["held", "retry", &id, "--reason", "a migration"]);
    let all = u128::from(LARGEST + 500);
    eventually("all of it is billed", async || (billed(&sandbox, ACME) == all).then_some(())).await;
}

#[tokio::test]
async fn an_adjustment_takes_what_is_carried_once_over_a_kill_and_is_shown_for_ever() {
    let clock = clock_at("2026-11-22T10:30:00Z", 300.0);
    let (sandbox, _tasks) = sandbox(clock, Faults::default()).await;
    let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    let agent = home.start().await;
    record(&home, vec![event(ACME, "requests", SLIP, ""), event(GLOBEX, "requests", 7, "")]).await.unwrap();
    // The first hour is billed at AWS's largest quantity, and everyone is told.
    eventually("the first hour is billed", async || (billed(&sandbox, ACME) > 0).then_some(())).await;
    let capped = "tallyman_quantity_capped_total{product=\"prod-sandbox\",dimension=\"requests\"}";
    assert!(home.metric(capped).await.unwrap() >= 1.0);
    let warned = home.log().matches("has reached AWS's largest quantity").count();
    assert_eq!(warned, 1, "once for an episode: {}", home.log());
    assert!(said(&home, &["status"]).contains("requests: 1 customer reached AWS's largest quantity"));
    let page = home.admin("/").await.unwrap();
    assert!(page.contains("An hour of requests of prod-sandbox has reached"), "{page}");

    let request = |minus: u64| AdjustRequest {
        customer: ACME.to_owned(),
        dimension: "requests".to_owned(),
        minus,
        reason: "bytes for kilobytes".to_owned(),
        decided_by: "ann".to_owned(),
        adjustment_id: "mine".to_owned(),
        ..AdjustRequest::default()
    };
    let open = eventually("what is carried is open", async || {
        let open = home.summary().await?.products[0].dimensions[0].open.parse::<u64>().unwrap();
        (open > LARGEST).then_some(open)
    })
    .await;
    let too_much = AdjustRequest { adjustment_id: String::new(), ..request(open + 1) };
    let refused = ledger(&home).await.adjust(too_much).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("base units of that are open or carried"), "{refused}");
    let minus = open - LARGEST / 2;
    let done = ledger(&home).await.adjust(request(minus)).await.unwrap().into_inner();
    assert!(!done.repeated, "{done:?}");
    // The answer was lost, say: the same again, to this process and to the next.
    assert!(ledger(&home).await.adjust(request(minus)).await.unwrap().into_inner().repeated);
    agent.kill();
    let _agent = home.start().await;
    assert!(ledger(&home).await.adjust(request(minus)).await.unwrap().into_inner().repeated);
    let other = ledger(&home).await.adjust(request(minus + 1)).await.unwrap_err();
    assert_eq!(other.code(), Code::AlreadyExists, "{other}");

    let right = u128::from(SLIP - minus);
    eventually("the rest is billed", async || (billed(&sandbox, ACME) == right).then_some(())).await;
    billed_through(&sandbox, "2026-11-22T14:00:00Z").await;
    assert_eq!(billed(&sandbox, ACME), right);
    let csv = said(&home, &["export"]);
    let mut rows = csv.split("\r\n").filter(|row| row.contains(",\"adjustment\","));
    assert!(rows.next().is_some_and(|row| row.contains(&minus.to_string()) && row.contains("ann")), "{csv}");
    let shown = said(&home, &["records", "--customer", ACME, "--dimension", "requests"]);
    assert!(shown.contains("lowered by") && shown.contains("ADJUSTMENT"), "{shown}");
}

#[tokio::test]
async fn a_person_can_lower_an_hour_that_is_in_review_before_it_is_sealed() {
    let clock = clock_at("2026-11-22T10:30:00Z", 600.0);
    let (sandbox, _tasks) = sandbox(clock, Faults::default()).await;
    let home = Home::new(&product("review = \"3h\"", ""), &sandbox.url(), Some(clock));
    let _agent = home.start().await;
    record(&home, vec![event(ACME, "requests", SLIP, ""), event(GLOBEX, "requests", 7, "")]).await.unwrap();
    let status = eventually("the hour is in review", async || {
        Some(said(&home, &["status"])).filter(|status| status.contains("in review"))
    })
    .await;
    assert!(
        status.contains("until 2026-11-22T14:05:00Z") && status.contains("hour 2026-11-22T10:00:00Z"),
        "{status}"
    );
    assert!(home.admin("/").await.unwrap().contains("is in review until"));
    let waits = home.metric("tallyman_oldest_unsent_seconds").await.unwrap();
    assert!(waits < 1.0, "it is late for nobody: {waits}");
    let late = UsageEvent { time_unix_nano: at("2026-11-22T10:59:00Z"), ..event(ACME, "requests", 2, "") };
    assert_eq!(record(&home, vec![late]).await.unwrap().late, 0, "it is open still");
    let minus = SLIP.to_string();
    let line =
        ["adjust", "--customer", ACME, "--dimension", "requests", "--minus", &minus, "--reason", "slip"];
    let answer = said(&home, &[&line[..], &["--output", "json"]].concat());
    let answer: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!(
        (&answer["left_open"], &answer["hours"][0]["hour"]),
        (&"2".into(), &"2026-11-22T10:00:00Z".into())
    );
    billed_through(&sandbox, "2026-11-22T10:00:00Z").await;
    eventually("two are billed", async || (billed(&sandbox, ACME) == 2).then_some(())).await;
    let sealed = requests(&home, RecordState::Accepted).await;
    assert!(
        sealed.iter().all(|record| record.settled_unix_seconds >= record.hour_unix_seconds + 4 * 3600),
        "{sealed:?}"
    );
}

fn at(text: &str) -> u64 {
    u64::try_from(text.parse::<Timestamp>().unwrap().millis()).unwrap() * 1_000_000
}

#[tokio::test]
async fn a_closed_customers_rest_is_one_held_record_that_says_where_it_came_from() {
    let clock = clock_at("2026-11-22T10:15:00Z", 600.0);
    let (sandbox, _tasks) = sandbox(clock, Faults::default()).await;
    let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    let _agent = home.start().await;
    record(&home, vec![event(ACME, "requests", SLIP, ""), event(GLOBEX, "requests", 7, "")]).await.unwrap();
    let close = CloseCustomerRequest { key: ACME.to_owned(), ..Default::default() };
    home.customers().await.close_customer(close).await.unwrap();
    let record_held = held(&home).await.remove(0);
    let reason = "not_billable: carried from 2026-11-22T10:00:00Z, above AWS's largest quantity";
    assert_eq!(record_held.reason, reason);
    billed_through(&sandbox, "2026-11-22T14:00:00Z").await;
    let all = requests(&home, RecordState::Held).await;
    assert_eq!(all.len(), 1, "one record, and none each hour: {all:#?}");
    let total = all[0].billed.parse::<u64>().unwrap() + all[0].withheld.parse::<u64>().unwrap();
    assert_eq!(total, SLIP - LARGEST);
    said(&home, &["held", "write-off", &record_held.id.to_string(), "--reason", "a slip"]);
    let dimension = home.summary().await.unwrap().products[0].dimensions[0].clone();
    assert_eq!((&*dimension.open, &*dimension.held), ("0", "0"));
    assert_eq!(billed(&sandbox, ACME), u128::from(LARGEST));
}
