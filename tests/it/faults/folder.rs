//! What people do to a data folder, and to the clock.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use tallyman::internals::Faults;
use tonic::Code;

use super::{NOWHERE, open_usage, spawn_after};
use crate::support::{
    agent::{ACCOUNT_PRODUCT, Agent, Home, binary},
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

/// All files and folders below one, itself included, with their modes.
fn modes(path: &Path) -> Vec<(PathBuf, u32)> {
    let found = fs::symlink_metadata(path).unwrap();
    let mut all = vec![(path.to_path_buf(), found.permissions().mode() & 0o7777)];
    if found.is_dir() {
        let below = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
        all.extend(below.flat_map(|path| modes(&path)));
    }
    all
}

#[tokio::test]
async fn customers_and_usage_are_for_the_agents_user_alone_whatever_the_umask() {
    for umask in ["000", "022", "077"] {
        let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
        let socket = home.path().join("tallyman.sock");
        home.set("GRPC__LISTEN", &format!("unix:{}", socket.display()));
        let agent = spawn_after(&format!("umask {umask}"), &home);
        eventually("ready", async || home.is_ready().await.then_some(())).await;
        for (path, mode) in modes(&home.data_dir()) {
            let expected = if path.is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode, expected, "umask {umask}: {} {mode:o}", path.display());
        }
        assert_eq!(modes(&socket)[0].1, 0o660, "umask {umask}");
        assert!(agent.terminate().await.success());
    }
}

#[tokio::test]
async fn a_folder_that_others_could_read_is_closed_to_them() {
    let home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    assert!(home.start().await.terminate().await.success());
    for (path, _) in modes(&home.data_dir()) {
        let mode = if path.is_dir() { 0o755 } else { 0o644 };
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let _agent = home.start().await;
    assert_eq!(modes(&home.data_dir().join("db"))[0].1, 0o700);
}

/// The agent of a configuration file, started in another folder.
fn start_in(current: &Path, home: &Home) -> Agent {
    let mut command = home.command();
    Agent { child: command.current_dir(current).spawn().unwrap() }
}

#[tokio::test]
async fn a_relative_data_folder_is_the_same_one_from_wherever_the_agent_is_started() {
    let home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let text = fs::read_to_string(home.config()).unwrap();
    let relative = text.replace(&home.data_dir().display().to_string(), "data");
    assert_ne!(text, relative);
    fs::write(home.config(), relative).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    for (current, open) in [(home.path(), 0), (elsewhere.path(), 41), (Path::new("/"), 82)] {
        let agent = start_in(current, &home);
        eventually("ready", async || home.is_ready().await.then_some(())).await;
        assert_eq!(open_usage(&home).await, open, "{}", current.display());
        record(&home, vec![event(ACME, "requests", 41, "")]).await.unwrap();
        assert_eq!(home.summary().await.unwrap().data_dir, home.data_dir().display().to_string());
        assert!(agent.terminate().await.success());
    }
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    assert_eq!(home.log().matches("the data folder is new and empty").count(), 1, "{}", home.log());
}

#[test]
fn a_relative_data_folder_without_a_file_is_refused() {
    let current = tempfile::tempdir().unwrap();
    let variables = [
        ("TALLYMAN__AGENT__DATA_DIR", "data"),
        ("TALLYMAN__PRODUCT__0__CODE", "p"),
        ("TALLYMAN__PRODUCT__0__DIMENSION__0__NAME", "d"),
    ];
    for command in ["check", "run"] {
        let output = binary().arg(command).envs(variables).current_dir(current.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(64));
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains("TALLYMAN__AGENT__DATA_DIR: agent.data_dir: must be a whole path"), "{text}");
    }
    assert_eq!(fs::read_dir(current.path()).unwrap().count(), 0);
}
