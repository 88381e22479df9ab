//! The clock guard: a clock that cannot be right seals no hour.

use std::time::Duration;

use tallyman::{base::clock::ClockSpec, faces::sandbox::Faults};
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
