//! An AWS that is silent, cannot be found, or refuses credentials; and stopping in the middle of a call.

use std::{
    fs,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tallyman::internals::{ClockSpec, Faults};
use tallyman_client::proto::{ListRecordsRequest, RecordState};

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Agent, Home},
    clock_at,
    events::{ACME, GLOBEX, billed_units, event, record},
    eventually,
    raw_server::{RawServer, SILENCE, all_success, results},
    sandbox,
};

/// The shutdown's bounds together, and as much again for a busy machine.
const LONGEST_STOP: Duration = Duration::from_mins(1);

/// Shortly before the end of an hour, with a minute in each half second.
fn clock() -> ClockSpec {
    clock_at("2026-11-22T10:59:00Z", 120.0)
}

async fn last_error(home: &Home) -> String {
    eventually("the summary tells an error", async || {
        let error = home.summary().await?.products.remove(0).last_error;
        (!error.is_empty()).then_some(error)
    })
    .await
}

#[tokio::test]
async fn an_aws_that_never_answers_is_given_up_and_asked_again_while_usage_is_taken() {
    let server = RawServer::start(|number, request| match number {
        1 => (SILENCE, Value::Null),
        // It had carried out what it never answered.
        _ => (200, results(request, "DuplicateRecord")),
    })
    .await;
    let home = Home::new(ACCOUNT_PRODUCT, &server.url, Some(clock()));
    let _agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 3, "")]).await.unwrap();
    eventually("a call is under way", async || (!server.requests().is_empty()).then_some(())).await;
    assert_eq!(record(&home, vec![event(GLOBEX, "requests", 5, "")]).await.unwrap().accepted, 1);
    assert!(home.is_ready().await);
    let accepted = home.wait_for_records(RecordState::Accepted).await;
    assert!(accepted.iter().all(|record| record.presumed && record.attempts == 2), "{accepted:?}");
    assert_eq!(server.requests()[0], server.requests()[1], "the same records once more");
    assert!(home.log().contains("the call failed: it is tried again"), "{}", home.log());
}

#[tokio::test]
async fn a_silent_aws_does_not_hold_the_stop_up_for_long_and_the_next_start_bills_once() {
    let server = RawServer::start(|number, request| match number {
        1 => (SILENCE, Value::Null),
        _ => all_success(request),
    })
    .await;
    let home = Home::new(ACCOUNT_PRODUCT, &server.url, Some(clock()));
    let agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 3, "")]).await.unwrap();
    eventually("a call is under way", async || (!server.requests().is_empty()).then_some(())).await;
    let told = Instant::now();
    assert!(agent.terminate().await.success(), "{}", home.log());
    assert!(told.elapsed() < LONGEST_STOP, "{:?}", told.elapsed());
    assert_eq!(server.requests().len(), 1, "nothing new is sent while it stops");
    let _agent = home.start().await;
    let accepted = home.wait_for_records(RecordState::Accepted).await;
    assert_eq!((accepted[0].attempts, accepted[0].quantity.as_str()), (2, "3"), "{accepted:?}");
    assert_eq!(server.requests()[0], server.requests()[1], "the same records once more");
}

#[tokio::test]
async fn the_answer_that_comes_while_the_agent_stops_is_kept() {
    let clock = clock();
    let (sandbox, _tasks) =
        sandbox(clock, Faults { latency: Duration::from_secs(2), ..Faults::default() }).await;
    let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    let agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 3, "")]).await.unwrap();
    eventually("AWS has carried the call out", async || (!sandbox.billed().is_empty()).then_some(())).await;
    assert!(agent.terminate().await.success(), "{}", home.log());
    let calls = sandbox.log().len();
    assert_eq!(calls, 1);
    sandbox.set_faults(Faults::default());
    let _agent = home.start().await;
    let accepted = home.wait_for_records(RecordState::Accepted).await;
    assert!(accepted.iter().all(|record| record.attempts == 1 && !record.presumed), "{accepted:?}");
    assert_eq!(billed_units(&sandbox).get(&(ACME.to_owned(), "requests".to_owned())), Some(&3));
}

#[tokio::test]
async fn a_name_that_does_not_resolve_loses_nothing_and_is_told() {
    let mut home = Home::new(ACCOUNT_PRODUCT, "http://metering.invalid", None);
    home.environment.push(("RES_OPTIONS".to_owned(), "timeout:1 attempts:1".to_owned()));
    let agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 3, "")]).await.unwrap();
    let fault = async || {
        let fault = home.summary().await?.clock_fault;
        fault.contains("dns").then_some(fault)
    };
    let fault = eventually("it is told why AWS does not tell the time", fault).await;
    assert!(fault.contains("no hour is sealed until AWS has told the time"), "{fault}");
    assert_eq!(home.metric("tallyman_clock_told").await, Some(0.0));
    assert_eq!(record(&home, vec![event(GLOBEX, "requests", 5, "")]).await.unwrap().accepted, 1);
    assert!(agent.terminate().await.success(), "{}", home.log());
    let _agent = home.start().await;
    let summary = home.summary().await.unwrap();
    assert_eq!((summary.products[0].dimensions[0].open.as_str(), summary.products[0].records_held), ("8", 0));
}

#[tokio::test]
async fn credentials_that_aws_refuses_hold_nothing_and_bill_everything_once_they_are_good_again() {
    const REFUSALS: [(u16, &str); 3] = [
        (400, "ExpiredTokenException"),
        (403, "UnrecognizedClientException"),
        (403, "InvalidSignatureException"),
    ];
    // Which refusal is in force; behind the last one, the credentials are good.
    let refusal = Arc::new(AtomicUsize::new(0));
    let in_force = refusal.clone();
    let server = RawServer::start(move |_, request| match REFUSALS.get(in_force.load(Ordering::Relaxed)) {
        Some((status, code)) => (*status, json!({"__type": code, "message": "no"})),
        None => all_success(request),
    })
    .await;
    let home = Home::new(ACCOUNT_PRODUCT, &server.url, Some(clock()));
    let _agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 3, "")]).await.unwrap();
    for (_, code) in REFUSALS {
        eventually("the refusal is told", async || {
            home.summary().await?.products[0].last_error.contains(code).then_some(())
        })
        .await;
        let product = home.summary().await.unwrap().products.remove(0);
        assert!(product.records_unsent >= 3 && product.records_held == 0, "{product:?}");
        assert!(home.is_ready().await);
        refusal.fetch_add(1, Ordering::Relaxed);
    }
    let accepted = home.wait_for_records(RecordState::Accepted).await;
    assert!(accepted.iter().all(|record| !record.presumed), "{accepted:?}");
    assert!(accepted.iter().any(|record| record.quantity == "3"), "{accepted:?}");
    assert!(home.log().contains("AWS refuses the set-up"), "{}", home.log());
}

#[tokio::test]
async fn credentials_that_go_and_come_back_hold_nothing_and_bill_everything() {
    let clock = clock_at("2026-11-22T10:59:00Z", 1800.0);
    let (sandbox, _tasks) = sandbox(clock, Faults::default()).await;
    let mut home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    let [config, credentials] = ["aws-config", "credentials"].map(|name| home.path().join(name));
    let process = format!("[default]\ncredential_process = cat {}\n", credentials.display());
    fs::write(&config, process).unwrap();
    home.environment.push(("AWS_CONFIG_FILE".to_owned(), config.display().to_string()));
    // They expire so soon that they are asked for before each call.
    let give = || {
        let soon = jiff::Timestamp::now() + Duration::from_secs(5);
        let text = json!({
            "Version": 1, "AccessKeyId": "test", "SecretAccessKey": "test", "SessionToken": "test",
            "Expiration": soon.to_string(),
        });
        fs::write(&credentials, text.to_string()).unwrap();
    };
    give();
    let mut command = home.command();
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    let _agent = Agent { child: command.spawn().unwrap() };
    eventually("ready", async || home.is_ready().await.then_some(())).await;
    let billed = |amount: u128| {
        let units = billed_units(&sandbox).get(&(ACME.to_owned(), "requests".to_owned())).copied();
        (units == Some(amount)).then_some(())
    };
    record(&home, vec![event(ACME, "requests", 3, "")]).await.unwrap();
    eventually("the first hour is billed", async || billed(3)).await;
    fs::remove_file(&credentials).unwrap();
    record(&home, vec![event(ACME, "requests", 5, "")]).await.unwrap();
    let error = last_error(&home).await;
    assert!(error.contains("credentials"), "{error}");
    let product = home.summary().await.unwrap().products.remove(0);
    assert!(product.records_unsent > 0 && product.records_held == 0, "{product:?}");
    give();
    eventually("everything is billed", async || billed(8)).await;
    assert!(home.log().contains("AWS refuses the set-up"), "no call went out: {}", home.log());
    let held = ListRecordsRequest { state: RecordState::Held.into(), ..ListRecordsRequest::default() };
    assert_eq!(home.records(held).await, []);
}
