//! What reaches AWS, through the real binary and over the wire.

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home},
    clock_at,
    events::{ACME, GLOBEX, billed_units, event, record},
    eventually,
    raw_server::{RawServer, SILENCE, all_success, product_that_tells_the_time, results},
    sandbox,
};
use serde_json::{Value, json};
use tallyman::internals::{ClockSpec, Faults};
use tallyman_client::proto::{ListRecordsRequest, RecordState, UsageEvent};

/// Five minutes before the hour's seal, with a minute in each real second and a half.
fn clock() -> ClockSpec {
    clock_at("2026-11-22T10:59:00Z", 120.0)
}

#[tokio::test]
async fn the_wire_carries_exactly_the_fields_of_each_identity() {
    let arn = "arn:aws:license-manager::123456789012:license:l-1";
    let cases = [
        (
            "license",
            format!("account_id = \"{ACME}\"\nlicense_arn = \"{arn}\""),
            vec!["CustomerAWSAccountId", "LicenseArn"],
        ),
        ("account", format!("account_id = \"{ACME}\""), vec!["CustomerAWSAccountId", "ProductCode"]),
        (
            "customer_identifier",
            "customer_identifier = \"cid\"".to_owned(),
            vec!["CustomerIdentifier", "ProductCode"],
        ),
    ];
    for (identity, fields, expected) in cases {
        let server = RawServer::start(|_, request| all_success(request)).await;
        let product = format!(
            "[[product]]\ncode = \"prod\"\nidentity = \"{identity}\"\nendpoint_url = \"{}\"\n\
             [[product.dimension]]\nname = \"requests\"\n[[product.dimension]]\nname = \"gb\"\nunit = 1000\ndecimals = 3\n\
             [[product.customer]]\nkey = \"acme\"\n{fields}\n",
            server.url
        );
        let home = Home::new(&product, "", Some(clock()));
        let _agent = home.start().await;
        record(&home, vec![event("acme", "requests", 3, ""), event("acme", "gb", 1500, "")]).await.unwrap();
        let accepted = home.wait_for_records(RecordState::Accepted).await;
        assert_eq!(accepted.len(), 2, "{}", home.log());
        let request = server.requests().remove(0);
        let mut names: Vec<&str> = request.as_object().unwrap().keys().map(String::as_str).collect();
        for line in request["UsageRecords"].as_array().unwrap() {
            names.extend(line.as_object().unwrap().keys().map(String::as_str));
        }
        names.sort_unstable();
        names.dedup();
        let mut expected =
            [&expected[..], &["Dimension", "Quantity", "QuantityAsDecimal", "Timestamp", "UsageRecords"]]
                .concat();
        expected.sort_unstable();
        assert_eq!(names, expected, "{identity}: {request}");
        for line in request["UsageRecords"].as_array().unwrap() {
            let both = line.get("Quantity").is_some() && line.get("QuantityAsDecimal").is_some();
            assert!(!both, "{line}");
            assert_eq!(line["Timestamp"], json!(clock().start.seconds() - 59 * 60), "the hour's start");
        }
        assert!(request.to_string().contains("\"QuantityAsDecimal\":\"1.5\""), "{request}");
    }
}

#[tokio::test]
async fn retries_repeat_records_exactly_until_they_are_accepted() {
    let server = RawServer::start(|number, request| match number {
        1 => (500, json!({"__type": "InternalServiceErrorException", "message": "x"})),
        2 => (400, json!({"__type": "ThrottlingException", "message": "x"})),
        3 => {
            let lines = &request["UsageRecords"];
            (200, json!({"Results": [], "UnprocessedRecords": lines}))
        }
        4 => (400, json!({"__type": "AccessDeniedException", "message": "x"})),
        _ => all_success(request),
    })
    .await;
    let home = Home::new(ACCOUNT_PRODUCT, &server.url, Some(clock()));
    let _agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 3, "")]).await.unwrap();
    let accepted = home.wait_for_records(RecordState::Accepted).await;
    assert!(accepted.iter().all(|record| record.attempts == 5), "{accepted:?}");
    let sorted = |request: &Value| {
        let mut lines: Vec<String> =
            request["UsageRecords"].as_array().unwrap().iter().map(Value::to_string).collect();
        lines.sort();
        lines
    };
    let requests = server.requests();
    assert!(requests.iter().all(|request| sorted(request) == sorted(&requests[0])), "{requests:?}");
}

#[tokio::test]
async fn a_lost_reply_is_sent_again_and_billed_once() {
    let spec = clock();
    let (sandbox, _tasks) = sandbox(spec, Faults { lose_reply: 1.0, ..Faults::default() }).await;
    let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(spec));
    let agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 3, ""), event(GLOBEX, "requests", 4, "")]).await.unwrap();
    eventually("a reply was lost", async || (!sandbox.billed().is_empty()).then_some(())).await;
    // Also across a kill: the next process finds the outcome unknown, and asks again.
    agent.kill();
    sandbox.set_faults(Faults::default());
    let _agent = home.start().await;
    eventually("all is settled", async || {
        let product = home.summary().await?.products.remove(0);
        (product.records_unsent == 0 && product.records_held == 0).then_some(())
    })
    .await;
    let billed = billed_units(&sandbox);
    assert_eq!(billed.get(&(ACME.to_owned(), "requests".to_owned())), Some(&3));
    assert_eq!(billed.get(&(GLOBEX.to_owned(), "requests".to_owned())), Some(&4));
}

#[tokio::test]
async fn a_duplicate_is_ours_after_a_lost_reply_and_a_conflict_otherwise() {
    let server = RawServer::start(|number, request| {
        let is_acme = request.to_string().contains(ACME);
        match (number, is_acme) {
            (1, true) => (500, json!({"__type": "InternalServiceErrorException"})),
            _ => (200, results(request, "DuplicateRecord")),
        }
    })
    .await;
    for (customer, state) in [(ACME, RecordState::Accepted), (GLOBEX, RecordState::Held)] {
        let home = Home::new(ACCOUNT_PRODUCT, &server.url, Some(clock()));
        let _agent = home.start().await;
        record(&home, vec![event(customer, "requests", 3, "")]).await.unwrap();
        let settled = home.wait_for_records(state).await;
        assert!(
            settled.iter().all(|record| record.presumed == (state == RecordState::Accepted)),
            "{settled:?}"
        );
        if state == RecordState::Held {
            assert!(settled[0].reason.starts_with("conflict"), "{}", settled[0].reason);
            let held = "tallyman_records_held{product=\"prod-sandbox\",reason=\"conflict\"}";
            assert_eq!(home.metric(held).await, Some(3.0));
        }
    }
}

#[tokio::test]
async fn a_duplicate_after_a_kill_in_the_middle_of_a_call_is_ours() {
    let server = RawServer::start(|number, request| match number {
        1 => (SILENCE, Value::Null),
        _ => (200, results(request, "DuplicateRecord")),
    })
    .await;
    let home = Home::new(ACCOUNT_PRODUCT, &server.url, Some(clock()));
    let agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 3, "")]).await.unwrap();
    eventually("a call is under way", async || (!server.requests().is_empty()).then_some(())).await;
    agent.kill();
    let _agent = home.start().await;
    let accepted = home.wait_for_records(RecordState::Accepted).await;
    assert!(accepted.iter().all(|record| record.presumed && record.attempts == 2), "{accepted:?}");
}

#[tokio::test]
async fn one_bad_record_is_held_and_the_others_are_billed() {
    let server = RawServer::start(|_, request| {
        let has_bad = request.to_string().contains(GLOBEX);
        if has_bad {
            (400, json!({"__type": "InvalidCustomerIdentifierException", "message": "no such customer"}))
        } else {
            all_success(request)
        }
    })
    .await;
    let product = ACCOUNT_PRODUCT.split("[[product.dimension]]\nname = \"calls\"").next().unwrap();
    let home = Home::new(product, &server.url, Some(clock()));
    let _agent = home.start().await;
    let mut events: Vec<_> =
        (0..24).map(|number| event(&format!("{number:012}"), "requests", 1, "")).collect();
    events.push(event(GLOBEX, "requests", 1, ""));
    record(&home, events).await.unwrap();
    let held = home.wait_for_records(RecordState::Held).await;
    assert_eq!((held.len(), held[0].customer.as_str()), (1, GLOBEX));
    assert!(held[0].reason.contains("no such customer"), "{}", held[0].reason);
    eventually("24 are billed", async || {
        let filter =
            ListRecordsRequest { state: RecordState::Accepted.into(), ..ListRecordsRequest::default() };
        (home.records(filter).await.len() == 24).then_some(())
    })
    .await;
    assert!(server.requests().len() <= 10, "{} calls", server.requests().len());
}

#[tokio::test]
async fn an_unreachable_aws_loses_nothing_and_is_told() {
    let server = RawServer::start(|_, request| all_success(request)).await;
    let products = format!("{ACCOUNT_PRODUCT}{}", product_that_tells_the_time(&server.url));
    let mut home = Home::new(&products, "http://127.0.0.1:9", Some(clock()));
    let agent = home.start().await;
    let usage = UsageEvent { product: "prod-sandbox".to_owned(), ..event(ACME, "requests", 3, "") };
    record(&home, vec![usage]).await.unwrap();
    let error = eventually("the summary tells the error", async || {
        let products = home.summary().await?.products;
        let error = products.into_iter().find(|product| product.code == "prod-sandbox")?.last_error;
        (!error.is_empty()).then_some(error)
    })
    .await;
    assert!(error.to_lowercase().contains("connect"), "{error}");
    // So AWS cannot have billed the record, and a missed deadline may roll it forward.
    let summary = home.admin("/api/summary").await.unwrap();
    assert!(summary.contains("\"not_delivered\""), "{summary}");
    assert_eq!(home.metric("tallyman_records_unsent{product=\"prod-sandbox\"}").await, Some(3.0));
    assert_eq!(
        home.metric("tallyman_unsent_units{product=\"prod-sandbox\",dimension=\"requests\"}").await,
        Some(3.0)
    );
    let deadline = home.metric("tallyman_deadline_seconds{product=\"prod-sandbox\"}").await.unwrap();
    assert!(deadline > 3600.0 && deadline < 86_400.0, "{deadline}");
    agent.kill();
    let later = clock_at("2026-11-22T13:00:00Z", 60.0);
    let (sandbox, _tasks) = sandbox(later, Faults::default()).await;
    home.set_clock(later);
    home.configure("", &products, &sandbox.url());
    let _agent = home.start().await;
    eventually("the outage is over", async || {
        (billed_units(&sandbox).get(&(ACME.to_owned(), "requests".to_owned())) == Some(&3)).then_some(())
    })
    .await;
}
