//! AWS's contract, clause by clause: through the real binary, against the sandbox.

use std::{collections::BTreeMap, process::Output};

use serde_json::{Value, json};
use tallyman::internals::{BilledRecord, ClockSpec, Faults, Hour, Sandbox, Timestamp};
use tallyman_client::proto::{
    CloseCustomerRequest, Customer, LedgerRecord, ListRecordsRequest, RecordState, UsageEvent,
};

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home, binary},
    clock_at,
    events::{ACME, GLOBEX, billed_units, event, record},
    eventually, sandbox,
};

const INITECH: &str = "345678901234";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn hour(text: &str) -> Hour {
    Hour::containing(at(text))
}

/// An event at a time of its own, so that it belongs to that hour however slow the machine is.
fn timed(customer: &str, dimension: &str, quantity: u64, time: &str) -> UsageEvent {
    let nanos = u64::try_from(at(time).millis()).unwrap() * 1_000_000;
    UsageEvent { time_unix_nano: nanos, ..event(customer, dimension, quantity, "") }
}

fn faults(json: Value) -> Faults {
    serde_json::from_value(json).unwrap()
}

/// Every record of this customer is answered so.
fn answer(customer: &str, answer: &str) -> Faults {
    faults(json!({"rules": [{"customer": customer, "answer": answer}]}))
}

fn billed(sandbox: &Sandbox, customer: &str, dimension: &str, hour: Hour) -> Option<BilledRecord> {
    let is_it = |record: &BilledRecord| {
        (&*record.account_id, &*record.dimension, record.hour) == (customer, dimension, hour)
    };
    sandbox.billed().into_iter().find(is_it)
}

async fn records(home: &Home, state: RecordState, dimension: &str) -> Vec<LedgerRecord> {
    let dimension = dimension.to_owned();
    home.records(ListRecordsRequest { state: state.into(), dimension, ..Default::default() }).await
}

async fn some_records(home: &Home, state: RecordState, dimension: &str) -> Vec<LedgerRecord> {
    eventually(&format!("{dimension} is {state:?}"), async || {
        Some(records(home, state, dimension).await).filter(|records| !records.is_empty())
    })
    .await
}

/// An agent that has half an hour of grace, and a sandbox.
struct Scene {
    sandbox: Sandbox,
    home: Home,
    _tasks: tallyman::internals::Tasks,
}

impl Scene {
    async fn new(product: &str, clock: ClockSpec, faults: Faults) -> Self {
        let (sandbox, tasks) = sandbox(clock, faults).await;
        let mut home = Home::new(product, &sandbox.url(), Some(clock));
        home.set("HOUR__GRACE", "30m");
        Self { sandbox, home, _tasks: tasks }
    }
}

fn units(sandbox: &Sandbox, customer: &str) -> u128 {
    billed_units(sandbox).get(&(customer.to_owned(), "requests".to_owned())).copied().unwrap_or_default()
}

fn cli(home: &Home, args: &[&str]) -> Output {
    binary().args(args).arg("--address").arg(format!("http://{}", home.grpc)).output().unwrap()
}

const AGGREGATES: &str = r#"
[[product]]
code = "prod-sandbox"
identity = "account"
endpoint_url = "ENDPOINT"
[[product.dimension]]
name = "calls"
aggregate = "count"
[[product.dimension]]
name = "peak"
aggregate = "max"
[[product.dimension]]
name = "seats"
aggregate = "latest"
hold = true
[[product.dimension]]
name = "sites"
aggregate = "latest"
[[product.dimension]]
name = "users"
aggregate = "unique"
"#;

#[tokio::test]
async fn each_aggregate_bills_its_amount() {
    let clock = clock_at("2026-11-22T10:56:00Z", 400.0);
    let Scene { sandbox, home, _tasks } = Scene::new(AGGREGATES, clock, Faults::default()).await;
    let agent = home.start().await;
    let mut events = Vec::new();
    for (dimension, quantities) in
        [("calls", [9, 9, 9]), ("peak", [5, 8, 2]), ("seats", [4, 7, 6]), ("sites", [4, 7, 6])]
    {
        events.extend(quantities.map(|quantity| timed(ACME, dimension, quantity, "2026-11-22T10:57:00Z")));
    }
    for subject in ["ann", "bob", "ann"] {
        let user = timed(ACME, "users", 0, "2026-11-22T10:57:00Z");
        events.push(UsageEvent { subject: subject.to_owned(), ..user });
    }
    assert_eq!(record(&home, events.clone()).await.unwrap().accepted, 15);
    // What was counted is known to the next process, too.
    agent.kill();
    let _agent = home.start().await;
    let user = UsageEvent { subject: "bob".to_owned(), ..timed(ACME, "users", 0, "2026-11-22T10:58:00Z") };
    record(&home, vec![user]).await.unwrap();

    let (ten, eleven) = (hour("2026-11-22T10:00:00Z"), hour("2026-11-22T11:00:00Z"));
    let quantity = |dimension: &str, hour| {
        billed(&sandbox, ACME, dimension, hour).map(|record| record.quantity.to_string())
    };
    eventually("the next hour is billed", async || quantity("users", eleven)).await;
    let quantities =
        |hour| ["calls", "peak", "seats", "sites", "users"].map(|name| quantity(name, hour).unwrap());
    assert_eq!(quantities(ten), ["3", "8", "6", "6", "2"]);
    assert_eq!(quantities(eleven), ["0", "0", "6", "0", "0"], "a level that is held stands");
}

#[tokio::test]
async fn tags_split_a_quantity_exactly() {
    let product = ACCOUNT_PRODUCT.replace("decimals = 3", "decimals = 3\ntags = true");
    let product = product.replace("name = \"requests\"", "name = \"requests\"\ntags = true");
    let clock = clock_at("2026-11-22T10:56:00Z", 400.0);
    let Scene { sandbox, home, _tasks } = Scene::new(&product, clock, Faults::default()).await;
    let _agent = home.start().await;
    let tagged = |dimension, team: &str, quantity| UsageEvent {
        tags: [("team".to_owned(), team.to_owned())].into(),
        ..timed(ACME, dimension, quantity, "2026-11-22T10:57:00Z")
    };
    let mut events = vec![tagged("gb_out", "red", 1_500_400), tagged("gb_out", "blue", 250_700)];
    events.push(timed(ACME, "gb_out", 5000, "2026-11-22T10:57:00Z"));
    assert_eq!(record(&home, events).await.unwrap().untagged, 0);
    let many = (0..2600).map(|team| tagged("requests", &format!("team-{team:0>150}"), 3)).collect();
    assert_eq!(record(&home, many).await.unwrap().untagged, 101, "2499 sets and the untagged part");

    let ten = hour("2026-11-22T10:00:00Z");
    let requests = eventually("all is billed", async || billed(&sandbox, ACME, "requests", ten)).await;
    let gb = eventually("all is billed", async || billed(&sandbox, ACME, "gb_out", ten)).await;
    let parts: BTreeMap<String, String> = gb
        .allocations
        .iter()
        .map(|part| (part.tags.get("team").cloned().unwrap_or_default(), part.quantity.to_string()))
        .collect();
    // 1.7561 in all: 400 and 700 base units fill one thousandth more, which goes to the larger remainder.
    let expected = [("", "0.005"), ("blue", "0.251"), ("red", "1.5")];
    assert_eq!(parts, expected.map(|(team, part)| (team.to_owned(), part.to_owned())).into());
    assert_eq!(gb.quantity.to_string(), "1.756");
    assert_eq!((requests.quantity.to_string(), requests.allocations.len()), ("7800".to_owned(), 2500));
    let sum: u64 = requests.allocations.iter().map(|part| part.quantity.micros()).sum();
    assert_eq!(sum, requests.quantity.micros());
}

#[tokio::test]
async fn a_customer_not_subscribed_is_held_tried_again_slowly_and_billed_when_its_subscription_arrives() {
    let clock = clock_at("2026-11-22T10:56:00Z", 600.0);
    let not_yet = answer(ACME, "CustomerNotSubscribed");
    let Scene { sandbox, home, _tasks } = Scene::new(ACCOUNT_PRODUCT, clock, not_yet).await;
    let _agent = home.start().await;
    record(&home, vec![timed(ACME, "requests", 7, "2026-11-22T10:57:00Z")]).await.unwrap();
    record(&home, vec![timed(GLOBEX, "requests", 5, "2026-11-22T10:57:00Z")]).await.unwrap();
    let held = some_records(&home, RecordState::Held, "requests").await;
    assert_eq!((held.len(), &*held[0].customer), (1, ACME));
    assert!(held[0].reason.starts_with("not_subscribed"), "{}", held[0].reason);
    let thirteen = hour("2026-11-22T12:00:00Z");
    eventually("two hours have passed", async || billed(&sandbox, GLOBEX, "calls", thirteen)).await;
    let of_acme = home.records(ListRecordsRequest { customer: ACME.to_owned(), ..Default::default() }).await;
    let hours: Vec<i64> = of_acme.iter().map(|record| record.hour_unix_seconds).collect();
    assert!(hours.iter().all(|hour| *hour == hours[0]), "zeros meanwhile: {of_acme:#?}");
    let tries = of_acme.iter().map(|record| record.attempts).max().unwrap();
    assert!((2..8).contains(&tries), "{tries} attempts in two hours");

    sandbox.set_faults(Faults::default());
    eventually("the subscription has arrived", async || (units(&sandbox, ACME) == 7).then_some(())).await;
    eventually("zeros are claimed again", async || {
        sandbox.billed().into_iter().find(|record| record.account_id == ACME && record.hour > thirteen)
    })
    .await;
}

#[tokio::test]
async fn a_status_that_aws_may_add_later_is_tried_again_until_it_is_accepted() {
    let clock = clock_at("2026-11-22T10:56:00Z", 600.0);
    let new_status = answer(ACME, "UnderReview");
    let Scene { sandbox, home, _tasks } = Scene::new(ACCOUNT_PRODUCT, clock, new_status).await;
    let _agent = home.start().await;
    record(&home, vec![timed(ACME, "requests", 7, "2026-11-22T10:57:00Z")]).await.unwrap();
    eventually("the status is told", async || {
        let product = home.summary().await?.products.remove(0);
        product.last_error.contains("UnderReview").then_some(())
    })
    .await;
    sandbox.set_faults(Faults::default());
    let accepted = some_records(&home, RecordState::Accepted, "requests").await;
    assert!(accepted[0].attempts > 1 && units(&sandbox, ACME) == 7, "{accepted:?}");
}

#[tokio::test]
async fn twenty_four_good_records_are_billed_beside_a_poison_one() {
    let clock = clock_at("2026-11-22T10:58:00Z", 30.0);
    let poison = answer(GLOBEX, "InvalidCustomerIdentifierException");
    let product = ACCOUNT_PRODUCT.split("[[product.dimension]]\nname = \"calls\"").next().unwrap();
    let Scene { sandbox, mut home, _tasks } = Scene::new(product, clock, poison).await;
    home.set("HOUR__GRACE", "0s");
    let _agent = home.start().await;
    let mut events: Vec<_> = (0..24)
        .map(|number| timed(&format!("{number:012}"), "requests", 1, "2026-11-22T10:58:30Z"))
        .collect();
    events.push(timed(GLOBEX, "requests", 1, "2026-11-22T10:58:30Z"));
    record(&home, events).await.unwrap();
    let held = some_records(&home, RecordState::Held, "requests").await;
    assert_eq!((held.len(), &*held[0].customer), (1, GLOBEX));
    eventually("24 are billed", async || (sandbox.billed().len() == 24).then_some(())).await;
    let calls = sandbox.log();
    assert!(calls.len() <= 10, "{} calls", calls.len());
    let took = calls[calls.len() - 1].at.since(calls[0].at);
    assert!(took.as_secs() < 60, "{took:?}");
}

#[tokio::test]
async fn a_record_that_aws_finds_too_old_rolls_forward() {
    let clock = clock_at("2026-11-22T10:56:00Z", 600.0);
    let too_old = answer(ACME, "TimestampOutOfBoundsException");
    let Scene { sandbox, home, _tasks } = Scene::new(ACCOUNT_PRODUCT, clock, too_old).await;
    let _agent = home.start().await;
    record(&home, vec![timed(ACME, "requests", 7, "2026-11-22T10:57:00Z")]).await.unwrap();
    let rolled = some_records(&home, RecordState::RolledForward, "requests").await;
    sandbox.set_faults(Faults::default());
    eventually("it is billed with a later hour", async || (units(&sandbox, ACME) == 7).then_some(())).await;
    let later = some_records(&home, RecordState::Accepted, "requests").await;
    let later = later.iter().find(|record| record.carried_in == "7").unwrap();
    assert_eq!(later.origins[0].hour_unix_seconds, rolled[0].hour_unix_seconds, "with its origin");
}

/// Uses some every quarter of a second; returns how much that was.
async fn use_for(home: &Home, rounds: u64) -> u128 {
    for round in 0..rounds {
        record(home, vec![event(ACME, "requests", 7, &format!("round-{round}"))]).await.unwrap();
        tokio::time::sleep(std::time::Duration::from_millis(250)).await;
    }
    u128::from(rounds) * 7
}

#[tokio::test]
async fn an_outage_of_three_hours_over_a_months_end_bills_everything() {
    let clock = clock_at("2026-11-30T21:30:00Z", 1200.0);
    let outage = faults(json!({"outage": "2026-11-30T22:20:00Z/2026-12-01T01:20:00Z"}));
    let Scene { sandbox, home, _tasks } = Scene::new(ACCOUNT_PRODUCT, clock, outage).await;
    let _agent = home.start().await;
    let used = use_for(&home, 20).await;
    eventually("everything is billed", async || (units(&sandbox, ACME) == used).then_some(())).await;
    assert!(sandbox.log().iter().any(|call| call.result != "Answered"), "there was no outage");
    for state in [RecordState::RolledForward, RecordState::Held] {
        assert_eq!(records(&home, state, "requests").await, []);
    }
    let november = sandbox.billed().into_iter().filter(|record| record.hour < hour("2026-12-01T00:00:00Z"));
    assert!(
        november.map(|record| record.quantity.micros()).sum::<u64>() > 0,
        "the month that ended is billed"
    );
}

#[tokio::test]
async fn an_outage_longer_than_the_window_loses_nothing() {
    let clock = clock_at("2026-11-20T08:10:00Z", 9000.0);
    let outage = faults(json!({"outage": "2026-11-20T08:00:00Z/2026-11-21T20:00:00Z"}));
    let Scene { sandbox, home, _tasks } = Scene::new(ACCOUNT_PRODUCT, clock, outage).await;
    let _agent = home.start().await;
    let used = use_for(&home, 8).await;
    let held_units = |held: &[LedgerRecord]| -> u128 {
        held.iter().map(|record| record.billed.parse::<u128>().unwrap()).sum()
    };
    let held = eventually("everything is billed or held", async || {
        let held = records(&home, RecordState::Held, "requests").await;
        (units(&sandbox, ACME) + held_units(&held) == used).then_some(held)
    })
    .await;
    // A 503 does not say that nothing was processed: to bill such usage elsewhere is for a person to decide.
    assert!(
        !held.is_empty() && held.iter().all(|record| record.reason.starts_with("outcome_unknown")),
        "{held:?}"
    );
    let ids: Vec<String> = held.iter().map(|record| record.id.to_string()).collect();
    let mut carry = vec!["held", "carry", "--reason", "AWS has none of them", "--by", "ann"];
    carry.extend(ids.iter().map(String::as_str));
    assert!(cli(&home, &carry).status.success());
    eventually("everything is billed", async || (units(&sandbox, ACME) == used).then_some(())).await;
    // The agent knows of it a moment after the sandbox.
    eventually("carried usage shows its origin", async || {
        let later = records(&home, RecordState::Accepted, "requests").await;
        let origins: Vec<i64> =
            later.iter().flat_map(|record| &record.origins).map(|origin| origin.hour_unix_seconds).collect();
        held.iter().all(|record| origins.contains(&record.hour_unix_seconds)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_closing_customer_is_sealed_early_once_and_in_time() {
    let clock = clock_at("2026-11-22T10:15:00Z", 400.0);
    let Scene { sandbox, mut home, _tasks } = Scene::new(ACCOUNT_PRODUCT, clock, Faults::default()).await;
    home.set("HOUR__GRACE", "5m");
    let _agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 7, ""), event(GLOBEX, "requests", 5, "")]).await.unwrap();
    let close = CloseCustomerRequest { key: ACME.to_owned(), ..Default::default() };
    let closed = home.customers().await.close_customer(close.clone()).await.unwrap().into_inner();
    let again = home.customers().await.close_customer(close).await.unwrap().into_inner();
    assert_eq!(closed.last_hour_ends_unix_seconds, again.last_hour_ends_unix_seconds, "once");
    let last = some_records(&home, RecordState::Accepted, "requests").await.remove(0);
    assert_eq!((&*last.customer, &*last.quantity), (ACME, "7"));
    assert!(last.settled_unix_seconds < closed.last_hour_ends_unix_seconds, "{last:?}");
    let seal = last.hour_unix_seconds + 3600;
    assert!(last.settled_unix_seconds < seal, "sealed before its hour was over");

    record(&home, vec![event(ACME, "requests", 3, "")]).await.unwrap();
    let held = some_records(&home, RecordState::Held, "requests").await;
    assert!(held[0].reason.starts_with("not_billable") && held[0].usage == "3", "{held:?}");
    let twelve = hour("2026-11-22T12:00:00Z");
    eventually("hours pass", async || billed(&sandbox, GLOBEX, "requests", twelve)).await;
    let of_acme: Vec<_> = sandbox.billed().into_iter().filter(|record| record.account_id == ACME).collect();
    assert_eq!(of_acme.len(), 3, "one record of each dimension, no zeros after: {of_acme:#?}");
    assert!(of_acme.iter().all(|record| record.calls == 1));
}

#[tokio::test]
async fn held_records_are_retried_carried_and_written_off_by_a_person() {
    let clock = clock_at("2026-11-22T10:56:00Z", 400.0);
    let refuse =
        faults(json!({"rules": [{"dimension": "requests", "answer": "InvalidUsageDimensionException"}]}));
    let Scene { sandbox, home, _tasks } = Scene::new(ACCOUNT_PRODUCT, clock, refuse).await;
    let _agent = home.start().await;
    let amounts = [(ACME, 7), (GLOBEX, 11), (INITECH, 13)];
    let events =
        amounts.map(|(customer, amount)| timed(customer, "requests", amount, "2026-11-22T10:57:00Z"));
    record(&home, events.to_vec()).await.unwrap();
    let held = eventually("three are held", async || {
        Some(records(&home, RecordState::Held, "requests").await).filter(|held| held.len() >= 3)
    })
    .await;
    sandbox.set_faults(Faults::default());
    let id = |customer: &str| held.iter().find(|record| record.customer == customer).unwrap().id.to_string();
    let unexplained = cli(&home, &["held", "retry", &id(ACME)]);
    assert_eq!(unexplained.status.code(), Some(64), "a reason is needed");
    for (action, customer) in [("retry", ACME), ("carry", GLOBEX), ("write-off", INITECH)] {
        let args = ["held", action, &id(customer), "--reason", "the dimension was missing", "--by", "ann"];
        let decided = cli(&home, &args);
        assert_eq!(decided.status.code(), Some(0), "{decided:?}");
        assert_eq!(cli(&home, &args).status.code(), Some(1), "{action}: it is not held any more");
    }
    eventually("both are billed", async || {
        (units(&sandbox, ACME) == 7 && units(&sandbox, GLOBEX) == 11).then_some(())
    })
    .await;
    assert_eq!(units(&sandbox, INITECH), 0);
    let ten = hour("2026-11-22T10:00:00Z");
    assert!(billed(&sandbox, ACME, "requests", ten).is_some(), "sent again as it was");
    assert!(billed(&sandbox, GLOBEX, "requests", ten).is_none(), "billed with a later hour");
    for (state, kind) in [
        (RecordState::Accepted, "RETRY"),
        (RecordState::Carried, "CARRY"),
        (RecordState::WrittenOff, "WRITE_OFF"),
    ] {
        let decided: Vec<_> = records(&home, state, "requests").await;
        let decided = decided.iter().find(|record| !record.decisions.is_empty()).unwrap();
        let note = &decided.decisions[0];
        assert_eq!(
            (note.decision().as_str_name(), &*note.decided_by, &*note.held_for),
            (kind, "ann", "refused")
        );
        assert!(note.decided_unix_seconds > 0 && note.reason == "the dimension was missing");
    }
}

#[tokio::test]
async fn no_customer_hour_goes_out_under_two_identities() {
    let clock = clock_at("2026-11-22T10:15:00Z", 400.0);
    let Scene { sandbox, home, _tasks } = Scene::new(ACCOUNT_PRODUCT, clock, Faults::default()).await;
    let agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 7, ""), event(GLOBEX, "requests", 2, "")]).await.unwrap();
    agent.kill();
    let license = ACCOUNT_PRODUCT.replace("identity = \"account\"", "identity = \"license\"");
    home.configure("", &license, &sandbox.url());
    let _agent = home.start().await;
    let customer = Customer {
        key: ACME.to_owned(),
        account_id: ACME.to_owned(),
        license_arn: "arn:aws:license-manager::123456789012:license:l-1".to_owned(),
        ..Customer::default()
    };
    let put = tallyman_client::proto::PutCustomerRequest { customer: Some(customer) };
    home.customers().await.put_customer(put).await.unwrap();
    let (ten, eleven) = (hour("2026-11-22T10:00:00Z"), hour("2026-11-22T11:00:00Z"));
    record(&home, vec![event(ACME, "requests", 5, "")]).await.unwrap();
    record(&home, vec![timed(GLOBEX, "requests", 3, "2026-11-22T10:20:00Z")]).await.unwrap();
    eventually("the hour of the change is billed", async || billed(&sandbox, ACME, "requests", ten)).await;
    record(&home, vec![event(GLOBEX, "requests", 9, "")]).await.unwrap();
    eventually("the next hour is billed", async || billed(&sandbox, ACME, "requests", eleven)).await;
    let of_acme = sandbox.billed().into_iter().filter(|record| record.account_id == ACME);
    for record in of_acme {
        let is_license = record.product.is_empty() && !record.license_arn.is_empty();
        assert_eq!(is_license, record.hour > ten, "{record:#?}");
    }
    assert_eq!(units(&sandbox, ACME), 12);
    let held = some_records(&home, RecordState::Held, "requests").await;
    assert!(held[0].reason.starts_with("no_identity"), "{held:?}");
    assert_eq!((&*held[0].customer, &*held[0].usage), (GLOBEX, "9"));
    assert_eq!(units(&sandbox, GLOBEX), 5);
}
