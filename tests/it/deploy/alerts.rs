//! Each alert fires on what a running agent tells when its condition is provoked, and no other alert does.

use std::{
    fs,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tallyman::internals::{ClockSpec, Faults};
use tonic::Code;

use super::passes;
use crate::support::{
    agent::{ACCOUNT_PRODUCT, Agent, Home},
    clock_at,
    events::{ACME, GLOBEX, event, record},
    eventually,
    python::python,
    sandbox,
};

/// What `/metrics` told at one moment.
struct Metrics(String);

impl Metrics {
    async fn of(home: &Home) -> Option<Self> {
        let answer = home.admin("/metrics").await?;
        let lines: Vec<_> = answer.lines().filter(|line| line.starts_with("tallyman_")).collect();
        Some(Self(lines.join("\n")))
    }

    fn get(&self, name: &str) -> f64 {
        let values = self.0.lines().filter(|line| line.starts_with(name));
        values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }
}

/// Waits for metrics that show the condition.
async fn told(home: &Home, condition: impl Fn(&Metrics) -> bool) -> Metrics {
    eventually("the metrics show it", async || Metrics::of(home).await.filter(|metrics| condition(metrics)))
        .await
}

/// On these metrics, exactly these alerts fire.
async fn fire(home: &Home, metrics: Metrics, alerts: &[&str]) {
    let now = home.summary().await.map_or(0, |summary| summary.now_unix_seconds);
    let file = home.path().join("metrics");
    // How full this machine's own disk is, no agent can help.
    let is_of_the_disk = |line: &&str| line.starts_with("tallyman_disk_");
    let is_about_the_disk = alerts.iter().any(|alert| alert.starts_with("TallymanDisk"));
    let lines = metrics.0.lines().filter(|line| is_about_the_disk || !is_of_the_disk(line));
    fs::write(&file, lines.collect::<Vec<_>>().join("\n")).unwrap();
    let mut check = python("tests/deploy/fires.py");
    check.arg("--metrics").arg(file).args(["--now", &now.to_string()]).args(alerts);
    passes(&mut check);
}

const UNSENT: &str = "tallyman_records_unsent";

fn faults(faults: Value) -> Faults {
    serde_json::from_value(faults).unwrap()
}

/// Half an hour passes in each real second. Far from any real time.
fn real_time() -> ClockSpec {
    clock_at(&jiff::Timestamp::now().to_string(), 1.0)
}

fn half_hours() -> ClockSpec {
    clock_at("2071-11-22T10:30:00Z", 1800.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_bills_fires_nothing() {
    let clock = half_hours();
    let (sandbox, _tasks) = sandbox(clock, Faults::default()).await;
    let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    let _agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 7, "")]).await.unwrap();
    let metrics = told(&home, |metrics| {
        let is_billed = metrics.get("tallyman_records_settled_total{") > 0.0;
        is_billed && metrics.get(UNSENT) < 1.0 && metrics.get("tallyman_oldest_unsent_seconds") < 3600.0
    })
    .await;
    fire(&home, metrics, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_aws_that_takes_nothing_fires_the_deadlines_and_what_comes_before() {
    let clock = clock_at("2071-11-22T10:30:00Z", 3600.0);
    let (sandbox, _tasks) = sandbox(clock, faults(json!({"refuse": "AccessDeniedException"}))).await;
    let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    let _agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 7, "")]).await.unwrap();
    // All three moments first: promtool takes a while, and the clock does not wait.
    let (oldest, deadline) = ("tallyman_oldest_unsent_seconds", "tallyman_deadline_seconds");
    let an_hour = told(&home, |metrics| metrics.get(oldest) > 4000.0).await;
    let near = told(&home, |metrics| (7200.0..21_600.0).contains(&metrics.get(deadline))).await;
    let imminent = told(&home, |metrics| (0.0..7200.0).contains(&metrics.get(deadline))).await;
    let alerts =
        ["TallymanUnsentPastHour", "TallymanNoSuccess", "TallymanDeadlineNear", "TallymanDeadlineImminent"];
    fire(&home, an_hour, &alerts[..2]).await;
    fire(&home, near, &alerts[..3]).await;
    fire(&home, imminent, &alerts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_aws_does_not_honour_fire_held_and_conflict() {
    let clock = half_hours();
    let rules = json!({"rules": [
        {"customer": ACME, "answer": "CustomerNotSubscribed"},
        {"customer": GLOBEX, "answer": "DuplicateRecord"},
    ]});
    let (sandbox, _tasks) = sandbox(clock, faults(rules)).await;
    let mut home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    home.set("PRODUCT__0__ZERO_RECORDS", "false");
    let _agent = home.start().await;
    let held =
        |reason: &str| format!("tallyman_records_held{{product=\"prod-sandbox\",reason=\"{reason}\"}}");
    record(&home, vec![event(ACME, "requests", 7, "")]).await.unwrap();
    let metrics =
        told(&home, |metrics| metrics.get(&held("not_subscribed")) > 0.0 && metrics.get(UNSENT) < 1.0).await;
    fire(&home, metrics, &["TallymanHeld"]).await;
    record(&home, vec![event(GLOBEX, "requests", 5, "")]).await.unwrap();
    let metrics = told(&home, |metrics| {
        let is_held = metrics.get(&held("not_subscribed")) > 0.0 && metrics.get(&held("conflict")) > 0.0;
        is_held && metrics.get(UNSENT) < 1.0
    })
    .await;
    fire(&home, metrics, &["TallymanHeld", "TallymanConflict"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_that_is_suspicious_and_one_of_the_largest_quantity_fire() {
    let clock = half_hours();
    let (sandbox, _tasks) = sandbox(clock, Faults::default()).await;
    let product = ACCOUNT_PRODUCT.replace("name = \"calls\"", "name = \"calls\"\nhold_above = 1");
    let home = Home::new(&product, &sandbox.url(), Some(clock));
    let _agent = home.start().await;
    let sent = |metrics: &Metrics| {
        metrics.get(UNSENT) < 1.0 && metrics.get("tallyman_oldest_unsent_seconds") < 3600.0
    };
    let capped = "tallyman_quantity_capped_total";
    record(&home, vec![event(ACME, "requests", 2_147_483_647, "")]).await.unwrap();
    let metrics = told(&home, |metrics| metrics.get(capped) > 0.0 && sent(metrics)).await;
    fire(&home, metrics, &["TallymanQuantityCapped"]).await;
    record(&home, vec![event(ACME, "calls", 1, ""), event(ACME, "calls", 1, "")]).await.unwrap();
    let held = "tallyman_records_held{product=\"prod-sandbox\",reason=\"suspicious\"}";
    let metrics = told(&home, |metrics| metrics.get(held) > 0.0 && sent(metrics)).await;
    fire(&home, metrics, &["TallymanQuantityCapped", "TallymanSuspicious"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_differs_from_aws_fires() {
    let clock = half_hours();
    let (sandbox, _tasks) = sandbox(clock, faults(json!({"clock_offset": -86_400}))).await;
    let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    let _agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 7, "")]).await.unwrap();
    let metrics = told(&home, |metrics| {
        let is_sent = metrics.get(UNSENT) < 1.0 && metrics.get("tallyman_oldest_unsent_seconds") < 3600.0;
        metrics.get("tallyman_clock_skew_seconds") > 0.0 && is_sent
    })
    .await;
    fire(&home, metrics, &["TallymanClock"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_that_nobody_seals_fires_the_deadlines_though_no_record_waits() {
    // The month's last hours have until six.
    let clock = clock_at("2071-11-30T21:30:00Z", 3600.0);
    let (sandbox, _tasks) = sandbox(clock, faults(json!({"clock_offset": -86_400}))).await;
    let mut home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    home.set("PRODUCT__0__ZERO_RECORDS", "false");
    let _agent = home.start().await;
    let send = async || record(&home, vec![event(ACME, "requests", 7, "")]).await.unwrap();
    send().await;
    // Only an answer tells the time.
    told(&home, |metrics| metrics.get("tallyman_clock_skew_seconds") > 0.0 && metrics.get(UNSENT) < 1.0)
        .await;
    send().await;
    let deadline = "tallyman_deadline_seconds";
    let imminent = told(&home, |metrics| (0.0..7200.0).contains(&metrics.get(deadline))).await;
    assert!(imminent.get(UNSENT) < 1.0, "{}", imminent.0);
    let sealed_until = home.summary().await.unwrap().sealed_through_unix_seconds + 3600;
    let told = format!("tallyman_sealed_through_timestamp_seconds {sealed_until}");
    assert!(imminent.0.lines().any(|line| line == told), "not {told}: {}", imminent.0);
    let alerts =
        ["TallymanClock", "TallymanUnsentPastHour", "TallymanDeadlineNear", "TallymanDeadlineImminent"];
    fire(&home, imminent, &alerts).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_for_which_there_is_no_room_fire() {
    let (sandbox, _tasks) = sandbox(real_time(), Faults::default()).await;
    let mut home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), None);
    home.set("LIMITS__MAX_PENDING_EVENTS", "50");
    let _agent = home.start().await;
    let refused = "tallyman_events_refused_total";
    assert!(told(&home, |metrics| metrics.0.contains(refused)).await.get(refused) < 1.0, "it begins with 0");
    let send = async || record(&home, vec![event(ACME, "requests", 1, ""); 50]).await;
    let mut events = 0.0;
    eventually("a request is refused", async || {
        let answers = tokio::join!(send(), send(), send());
        for answer in <[_; 3]>::from(answers).iter().filter_map(|answer| answer.as_ref().err()) {
            assert_eq!(answer.code(), Code::ResourceExhausted);
            events += 50.0;
        }
        (events > 0.0).then_some(())
    })
    .await;
    let metrics = told(&home, |metrics| metrics.get(refused) > 0.0).await;
    assert!((metrics.get(refused) - events).abs() < 1.0, "{events} events were refused: {}", metrics.0);
    fire(&home, metrics, &["TallymanBackPressure"]).await;
    eventually("the page tells it, too", async || {
        home.admin("/").await?.contains("found no room").then_some(())
    })
    .await;
}

/// A disk of its own for the agent, in memory, with all but `free` of its 96 MiB taken.
fn on_a_small_disk(home: &mut Home, free: &str) -> Agent {
    let disk = home.path().join("disk");
    fs::create_dir(&disk).unwrap();
    home.set("AGENT__DATA_DIR", &disk.join("data").display().to_string());
    let run = home.command();
    let mut command = Command::new("unshare");
    // Root of a name space of its own may mount, whoever it is outside.
    command.args(["--map-root-user", "--mount", "sh", "-c"]);
    command.arg(format!(
        "mount -t tmpfs -o size=96m none '{disk}' && head -c $((96 - {free}))M /dev/zero >'{disk}/other' && exec \"$0\" \"$@\"",
        disk = disk.display()
    ));
    command.arg(run.get_program()).args(run.get_args());
    for (name, value) in run.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Agent { child: command.stdin(Stdio::null()).spawn().unwrap() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_all_but_full_fires() {
    let (sandbox, _tasks) = sandbox(real_time(), Faults::default()).await;
    let mut home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), None);
    let _agent = on_a_small_disk(&mut home, "12");
    eventually("the agent is ready", async || home.is_ready().await.then_some(())).await;
    let bytes = "tallyman_disk_bytes";
    let metrics = told(&home, |metrics| metrics.get(bytes) > 0.0).await;
    assert!((metrics.get(bytes) - f64::from(96 << 20)).abs() < 1.0, "{}", metrics.0);
    let available = metrics.get("tallyman_disk_available_bytes");
    assert!((1.0..=f64::from(12 << 20)).contains(&available), "{available}");
    fire(&home, metrics, &["TallymanDiskFilling", "TallymanDiskFull"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_counter_of_a_product_exists_before_anything_has_happened() {
    let home = Home::new(ACCOUNT_PRODUCT, "http://127.0.0.1:9", None);
    let _agent = home.start().await;
    let metrics = Metrics::of(&home).await.unwrap();
    let product = "product=\"prod-sandbox\"";
    let labelled = |name: &str, label: &str, values: &[&str]| {
        values.iter().map(|value| (name.to_owned(), format!("{label}=\"{value}\""))).collect::<Vec<_>>()
    };
    let outcomes = ["accepted", "presumed", "held", "rolled_forward", "expired", "carried", "written_off"];
    let results = ["answered", "throttled", "not_delivered", "lost", "bad_record", "setup"];
    let mut expected = labelled("tallyman_events_total", "result", &["accepted", "duplicate", "rejected"]);
    expected.extend(labelled("tallyman_records_settled_total", "outcome", &outcomes));
    expected.extend(labelled("tallyman_submissions_total", "result", &results));
    expected.extend(labelled(
        "tallyman_quantity_capped_total",
        "dimension",
        &["requests", "calls", "gb_out"],
    ));
    for name in
        ["tallyman_events_late_total", "tallyman_events_untagged_total", "tallyman_events_not_billable_total"]
    {
        expected.push((name.to_owned(), String::new()));
    }
    let is_there = |name: &str, label: &str| {
        let is_it = |line: &&str| line.starts_with(&format!("{name}{{")) && line.contains(product);
        metrics.0.lines().filter(is_it).any(|line| line.contains(label) && line.ends_with(" 0"))
    };
    for (name, label) in expected {
        assert!(is_there(&name, &label), "{name} {label} not in {}", metrics.0);
    }
    assert!(metrics.0.lines().any(|line| line == "tallyman_events_refused_total 0"), "{}", metrics.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_failed_fires() {
    let (sandbox, _tasks) = sandbox(real_time(), Faults::default()).await;
    let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), None);
    home.expect_damage();
    let _agent = home.start().await;
    fs::remove_dir_all(home.data_dir()).unwrap();
    let fault = record(&home, vec![event(ACME, "requests", 1, "")]).await.unwrap_err();
    assert_eq!(fault.code(), Code::Unavailable);
    let metrics = told(&home, |metrics| metrics.get("tallyman_store_failed") > 0.0).await;
    fire(&home, metrics, &["TallymanStoreFailed"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_file_that_is_empty_fires() {
    let (sandbox, _tasks) = sandbox(real_time(), Faults::default()).await;
    let mut home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), None);
    let token = home.path().join("token");
    fs::write(&token, "secret").unwrap();
    home.set("GRPC__TOKEN_FILE", &token.display().to_string());
    let _agent = home.start().await;
    fs::write(&token, "").unwrap();
    let metrics = told(&home, |metrics| metrics.get("tallyman_credentials_stale") > 0.0).await;
    fire(&home, metrics, &["TallymanCredentialsStale"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_gone_quiet_fires() {
    let clock = clock_at("2071-11-22T10:30:00Z", 36_000.0);
    let (sandbox, _tasks) = sandbox(clock, Faults::default()).await;
    let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    let _agent = home.start().await;
    let metrics = told(&home, |metrics| metrics.get("tallyman_quiet_seconds") > 90_000.0).await;
    fire(&home, metrics, &["TallymanQuiet"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_rejected_fire() {
    let (sandbox, _tasks) = sandbox(real_time(), Faults::default()).await;
    let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), None);
    let _agent = home.start().await;
    let answer = record(&home, vec![event(ACME, "no_such_dimension", 1, "")]).await.unwrap();
    assert_eq!(answer.rejected.len(), 1);
    let metrics = told(&home, |metrics| metrics.get("tallyman_events_total{") > 0.0).await;
    fire(&home, metrics, &["TallymanEventsRejected"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_is_gone_fires() {
    let home = Home::new(ACCOUNT_PRODUCT, "http://127.0.0.1:9", None);
    home.start().await.kill();
    assert!(Metrics::of(&home).await.is_none());
    fire(&home, Metrics(String::new()), &["TallymanDown"]).await;
}
