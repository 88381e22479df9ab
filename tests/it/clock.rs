//! The clock guard: a clock that cannot be right seals no hour.

use std::time::Duration;

use tallyman::internals::{ClockSpec, Faults};
use tallyman_client::proto::{Rejection, UsageEvent, rejection::Reason};
use tokio::time::sleep;

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home},
    clock_at,
    events::{ACME, billed_units, event, record},
    eventually, sandbox,
};

const SKEW: &str = "tallyman_clock_skew_seconds";
const DAY: i64 = 24 * 3600;

/// Half an hour passes in each real second. Far from any real time, by which the agent would take the sandbox's answers
/// to be dated otherwise.
fn clock() -> ClockSpec {
    clock_at("2071-11-22T10:30:00Z", 1800.0)
}

async fn sealed_through(home: &Home) -> i64 {
    home.summary().await.unwrap().sealed_through_unix_seconds
}

#[tokio::test]
async fn a_clock_that_differs_from_aws_stops_sealing_and_counting_goes_on() {
    let spec = clock();
    let (sandbox, _tasks) = sandbox(spec, Faults::default()).await;
    let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(spec));
    let _agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 3, "")]).await.unwrap();
    let billed = |amount| {
        (billed_units(&sandbox).get(&(ACME.to_owned(), "requests".to_owned())) == Some(&amount)).then_some(())
    };
    eventually("an hour is billed", async || billed(3)).await;
    assert_eq!(home.metric(SKEW).await, Some(0.0));

    // The agent must think that its own clock is a day ahead.
    sandbox.set_faults(Faults { clock_offset: -DAY, ..Faults::default() });
    let skew =
        eventually("the skew is seen", async || home.metric(SKEW).await.filter(|skew| *skew != 0.0)).await;
    assert!((skew - 86_400.0).abs() < 20_000.0, "{skew}");
    let sealed = sealed_through(&home).await;
    for _ in 0..8 {
        record(&home, vec![event(ACME, "requests", 5, "")]).await.unwrap();
        sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(sealed_through(&home).await, sealed, "an hour was sealed by a clock that is wrong");
    assert!(home.is_ready().await);
    let fault = home.summary().await.unwrap().clock_fault;
    assert!(fault.contains("no hour is sealed") && fault.contains("ahead"), "{fault}");
    assert!(home.log().contains("the clock is wrong or has jumped"), "{}", home.log());

    sandbox.set_faults(Faults::default());
    eventually("everything is billed", async || billed(43)).await;
    assert_eq!(home.metric(SKEW).await, Some(0.0));
    assert_eq!(home.summary().await.unwrap().clock_fault, "");
}

/// The agent's clock is three days ahead from its start.
#[tokio::test]
async fn a_start_under_a_wrong_clock_seals_nothing_and_usage_counts_by_the_time_of_aws() {
    let spec = clock();
    let (sandbox, _tasks) = sandbox(spec, Faults { clock_offset: -3 * DAY, ..Faults::default() }).await;
    let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(spec));
    let _agent = home.start().await;
    let sealed = sealed_through(&home).await;
    let now = home.summary().await.unwrap().now_unix_seconds;
    let by_its_clock = spec.start.seconds();
    assert!((now + 3 * DAY - by_its_clock).abs() < DAY, "{now} is not three days before {by_its_clock}");
    let at = |seconds: i64| UsageEvent {
        time_unix_nano: u64::try_from(seconds).unwrap() * 1_000_000_000,
        ..event(ACME, "requests", 3, "")
    };
    let answer =
        record(&home, vec![at(now), at(now + 3 * DAY), event(ACME, "requests", 4, "")]).await.unwrap();
    assert_eq!((answer.accepted, answer.rejected.len(), answer.rejected[0].index), (2, 1, 1), "{answer:?}");
    sleep(Duration::from_secs(4)).await;
    assert_eq!(sealed_through(&home).await, sealed, "an hour was sealed by a clock that is wrong");
    assert!(sandbox.billed().is_empty());
}

#[tokio::test]
async fn no_hour_is_sealed_before_aws_has_told_the_time() {
    let spec = clock();
    let (sandbox, _tasks) =
        sandbox(spec, Faults { latency: Duration::from_mins(1), ..Faults::default() }).await;
    let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(spec));
    let _agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 3, "")]).await.unwrap();
    let sealed = sealed_through(&home).await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(sealed_through(&home).await, sealed);
    assert_eq!(home.metric("tallyman_clock_told").await, Some(0.0));
    let fault = home.summary().await.unwrap().clock_fault;
    assert!(fault.contains("no hour is sealed until AWS has told the time"), "{fault}");

    sandbox.set_faults(Faults::default());
    eventually("an hour is billed", async || (!sandbox.billed().is_empty()).then_some(())).await;
    assert_eq!(home.metric("tallyman_clock_told").await, Some(1.0));
    assert_eq!(home.summary().await.unwrap().clock_fault, "");
}

#[tokio::test]
async fn a_refusal_tells_the_time_as_well() {
    let spec = clock();
    for faults in [Faults { throttle: 1.0, ..Faults::default() }, Faults { error: 1.0, ..Faults::default() }]
    {
        let (sandbox, _tasks) = sandbox(spec, Faults { clock_offset: DAY, ..faults }).await;
        let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(spec));
        let _agent = home.start().await;
        record(&home, vec![event(ACME, "requests", 3, "")]).await.unwrap();
        eventually("the clock is found to be behind", async || {
            home.metric(SKEW).await.filter(|skew| *skew < 0.0)
        })
        .await;
    }
}

/// As the field reported it, by the defaults: ids and times are as they should be.
#[tokio::test]
async fn a_queue_that_is_replayed_the_next_morning_counts_once() {
    let evening = clock_at("2071-11-22T18:10:00Z", 1.0);
    let mut home = Home::new(ACCOUNT_PRODUCT, "http://127.0.0.1:9", Some(evening));
    let time_unix_nano = u64::try_from(evening.start.millis()).unwrap() * 1_000_000;
    let queue: Vec<_> = (0..20)
        .map(|id| UsageEvent { time_unix_nano, ..event(ACME, "requests", 5, &format!("e{id}")) })
        .collect();
    let agent = home.start().await;
    assert_eq!(record(&home, queue.clone()).await.unwrap().accepted, 20);
    agent.kill();
    // An hour passes in each real second.
    let morning = clock_at("2071-11-23T09:10:00Z", 3600.0);
    let (sandbox, _tasks) = sandbox(morning, Faults::default()).await;
    home.configure("", ACCOUNT_PRODUCT, &sandbox.url());
    home.set_clock(morning);
    let _agent = home.start().await;
    let mut replays = 0;
    let too_old = eventually("it is too old at last", async || {
        let answer = record(&home, queue.clone()).await.ok()?;
        assert_eq!(answer.accepted, 0, "{answer:?}");
        replays += 1;
        let reasons: Vec<_> = answer.rejected.iter().map(Rejection::reason).collect();
        (!reasons.is_empty()).then_some(reasons)
    })
    .await;
    assert_eq!(too_old, [Reason::TimeTooOld; 20]);
    assert!(replays > 3, "{replays}");
    let past = sealed_through(&home).await - morning.start.seconds();
    assert!(past > 7 * 3600, "hours were sealed meanwhile, and what has expired was dropped: {past}");
}

#[tokio::test]
async fn a_shorter_dedup_window_is_told_at_the_start() {
    let mut home = Home::new(ACCOUNT_PRODUCT, "http://127.0.0.1:9", None);
    home.set("HOUR__DEDUP_WINDOW", "2h");
    let _agent = home.start().await;
    let log = home.log();
    let told = log.lines().find(|line| line.contains("hour.dedup_window (2h)")).expect("it is told");
    assert!(told.contains("WARN") && told.contains("billed twice"), "{told}");
}
