//! How fast records go out, through the real binary.

use std::{collections::BTreeSet, time::Duration};

use serde_json::Value;
use tallyman::internals::{Faults, LoggedCall};
use tallyman_client::proto::UsageEvent;

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home, get},
    clock_at,
    events::{event, record},
    eventually, eventually_within, sandbox,
};

const CUSTOMERS: u64 = 5000;
const DIMENSIONS: [&str; 5] = ["a", "b", "c", "d", "e"];

/// One event of each customer in each dimension, in the first hour of these tests.
fn events_of_all() -> Vec<UsageEvent> {
    let customers = (0..CUSTOMERS).map(|number| format!("{number:012}"));
    customers.flat_map(|customer| DIMENSIONS.map(|name| event(&customer, name, 7, ""))).collect()
}

fn calls_per_second(calls: &[&LoggedCall]) -> f64 {
    let (first, last) = (calls[0], calls[calls.len() - 1]);
    let gaps = u32::try_from(calls.len() - 1).unwrap();
    f64::from(gaps) / last.real.saturating_sub(first.real).as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn with_25000_records_95_percent_of_ten_calls_a_second_are_used_and_under_1_percent_throttled() {
    // Three minutes before the hour's end, and the next hour ends three real minutes later: all is sent by then.
    let clock = clock_at("2026-11-22T10:57:00Z", 20.0);
    let latency = Duration::from_millis(200);
    let ten_calls = Faults { calls_per_second: Some(10), latency, ..Faults::default() };
    let (sandbox, _tasks) = sandbox(clock, ten_calls).await;
    let dimensions = DIMENSIONS.map(|name| format!("[[product.dimension]]\nname = \"{name}\"\n")).concat();
    let product = ACCOUNT_PRODUCT.split("[[product.dimension]]").next().unwrap().to_owned() + &dimensions;
    let mut home = Home::new(&product, &sandbox.url(), Some(clock));
    home.set("HOUR__GRACE", "0s");
    let _agent = home.start().await;
    for events in events_of_all().chunks(5000) {
        assert_eq!(record(&home, events.to_vec()).await.unwrap().accepted, 5000);
    }

    eventually_within(Duration::from_mins(3), "all is billed", async || {
        // The bill is long to look through: not before it may be whole.
        (sandbox.log().len() >= 1000 && sandbox.billed().len() == 25_000).then_some(())
    })
    .await;
    let billed = sandbox.billed();
    assert!(billed.iter().all(|record| record.calls == 1 && record.quantity.to_string() == "7"));
    let hours: BTreeSet<_> = billed.iter().map(|record| record.hour).collect();
    assert_eq!(hours.len(), 1, "{hours:?}");

    let log = sandbox.log();
    let (taken, throttled): (Vec<_>, Vec<_>) = log.iter().partition(|call| call.result == "Answered");
    let rate = calls_per_second(&taken);
    assert!(throttled.len() < 10, "{} of {} calls throttled", throttled.len(), log.len());
    assert!(rate >= 9.5, "{rate:.2} calls a second, {} throttled", throttled.len());
}

/// Two ways into one seller account.
const TWO_ROLES: &str = r#"
[[product]]
code = "prod-one"
identity = "account"
role_arn = "arn:aws:iam::999988887777:role/one"
[[product.dimension]]
name = "requests"
[[product]]
code = "prod-two"
identity = "account"
role_arn = "arn:aws:iam::999988887777:role/two"
external_id = "two"
[[product.dimension]]
name = "requests"
"#;

#[tokio::test(flavor = "multi_thread")]
async fn products_under_two_roles_of_one_account_share_its_pace() {
    let mut home = Home::new(TWO_ROLES, "", Some(clock_at("2026-11-22T10:57:00Z", 60.0)));
    home.set("HOUR__GRACE", "0s");
    home.extra_args = ["--sandbox", "--calls-per-second", "10"].map(str::to_owned).into();
    let _agent = home.start().await;
    let events = |product: &str| {
        let event = |number| UsageEvent {
            product: product.to_owned(),
            ..event(&format!("{number:012}"), "requests", 7, "")
        };
        (0..1000).map(event).collect()
    };
    for product in ["prod-one", "prod-two"] {
        assert_eq!(record(&home, events(product)).await.unwrap().accepted, 1000);
    }
    let log = home.log();
    let url = log.split("url=\"http://").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
    let calls: Value = eventually("both are billed", async || {
        let calls: Value = serde_json::from_str(&get(url, "/_sandbox/calls").await?).ok()?;
        (calls["records"]["Success"] == 2000).then_some(calls)
    })
    .await;
    let throttled = calls["throttled"].as_u64().unwrap();
    assert!(throttled <= 2, "{throttled} of {} calls throttled", calls["calls"]);
}
