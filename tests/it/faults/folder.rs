//! What people do to a data folder, and to the clock.

use std::fs;

use tallyman::faces::sandbox::Faults;
use tonic::Code;

use super::{NOWHERE, open_usage};
use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home},
    clock_at,
    events::{ACME, billed_units, event, record},
    eventually, sandbox,
};

#[tokio::test]
async fn nothing_is_acknowledged_once_the_data_folder_is_deleted() {
    let home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 41, "")]).await.unwrap();
    fs::remove_dir_all(home.data_dir()).unwrap();
    let fault = record(&home, vec![event(ACME, "requests", 1, "")]).await.unwrap_err();
    assert_eq!(fault.code(), Code::Unavailable);
    assert!(fault.message().contains("was deleted or moved"), "{fault}");
    assert!(home.admin("/readyz").await.unwrap().starts_with("HTTP/1.1 503"));
    assert_eq!(agent.terminate().await.code(), Some(74), "{}", home.log());
}

#[tokio::test]
async fn a_data_folder_that_was_moved_goes_on_where_it_is_now() {
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 41, "")]).await.unwrap();
    let moved = home.path().join("moved");
    fs::rename(home.data_dir(), &moved).unwrap();
    let fault = record(&home, vec![event(ACME, "requests", 1, "1")]).await.unwrap_err();
    assert!(fault.message().contains("was deleted or moved"), "{fault}");
    agent.kill();
    home.set("AGENT__DATA_DIR", &moved.display().to_string());
    let _agent = home.start().await;
    // Its client was told that it failed, and sends it again.
    record(&home, vec![event(ACME, "requests", 1, "1")]).await.unwrap();
    assert_eq!(open_usage(&home).await, 42);
}

#[tokio::test]
async fn a_clock_set_back_between_two_runs_bills_everything_once() {
    let before = clock_at("2026-11-22T10:30:00Z", 3600.0);
    let (first_sandbox, _tasks) = sandbox(before, Faults::default()).await;
    let mut home = Home::new(ACCOUNT_PRODUCT, &first_sandbox.url(), Some(before));
    let agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 7, "seven")]).await.unwrap();
    let sealed = eventually("three hours are billed", async || {
        let summary = home.summary().await?;
        let is_billed = summary.products[0].records_accepted >= 9 && summary.products[0].records_unsent == 0;
        is_billed.then_some(summary.sealed_through_unix_seconds)
    })
    .await;
    agent.kill();

    // Two days back: every hour until then was never seen.
    let after = clock_at("2026-11-20T10:30:00Z", 3600.0);
    home.set_clock(after);
    let (second_sandbox, _tasks) = sandbox(after, Faults::default()).await;
    home.configure("", ACCOUNT_PRODUCT, &second_sandbox.url());
    let agent = home.start().await;
    assert!(home.summary().await.unwrap().sealed_through_unix_seconds >= sealed, "no hour is opened again");
    let answer = record(&home, vec![event(ACME, "requests", 7, "seven")]).await.unwrap();
    assert_eq!((answer.accepted, answer.duplicates), (0, 1), "what counted before is known");
    record(&home, vec![event(ACME, "requests", 5, "five")]).await.unwrap();
    agent.kill();

    // The clock is right again, and later than it was.
    let right = clock_at("2026-11-22T18:30:00Z", 3600.0);
    home.set_clock(right);
    let (third_sandbox, _tasks) = sandbox(right, Faults::default()).await;
    home.configure("", ACCOUNT_PRODUCT, &third_sandbox.url());
    let _agent = home.start().await;
    eventually("everything is billed", async || {
        let of = |sandbox| billed_units(sandbox).values().sum::<u128>();
        let sum = of(&first_sandbox) + of(&second_sandbox) + of(&third_sandbox);
        assert!(sum <= 12, "{sum} of 12 were billed");
        (sum == 12).then_some(())
    })
    .await;
    let mut slots: Vec<_> = [&first_sandbox, &second_sandbox, &third_sandbox]
        .iter()
        .flat_map(|sandbox| sandbox.billed())
        .map(|record| (record.dimension, record.hour))
        .collect();
    let all = slots.len();
    slots.sort_unstable();
    slots.dedup();
    assert_eq!(slots.len(), all, "no slot was filled twice");
}
