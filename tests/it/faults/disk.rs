//! Disks that fill up, turn read-only, fail to sync, or cannot be read.

use std::{
    fs::{self, File},
    os::unix::fs::MetadataExt,
    path::PathBuf,
    process::Command,
};

use tallyman_client::proto::{RecordRequest, usage_service_client::UsageServiceClient};
use tokio::task::JoinSet;
use tonic::{Code, Status};

use super::{NOWHERE, open_usage, spawn_after};
use crate::support::{
    agent::{ACCOUNT_PRODUCT, Agent, Home},
    events::{ACME, GLOBEX, event, record},
    eventually,
};

/// A disk that fails while its fault file says so: see `disk.c`.
pub(super) struct Disk {
    fault: PathBuf,
}

impl Disk {
    /// Puts the disk under the home's data folder.
    pub(super) fn under(home: &mut Home) -> Self {
        let [library, fault] = ["disk.so", "fault"].map(|name| home.path().join(name));
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/faults/disk.c");
        let mut cc = Command::new("cc");
        cc.args(["-shared", "-fPIC", "-O1", "-Wall", "-o"]).arg(&library).arg(source).arg("-ldl");
        assert!(cc.status().unwrap().success(), "a C compiler is needed, as it is for the agent itself");
        let folder = home.data_dir();
        for (name, path) in
            [("LD_PRELOAD", &library), ("TEST_FAULT_FILE", &fault), ("TEST_FAULT_FOLDER", &folder)]
        {
            home.environment.push((name.to_owned(), path.display().to_string()));
        }
        Self { fault }
    }

    pub(super) fn fail(&self, how: &str) {
        // In one step, since the agent may be reading it.
        let new = self.fault.with_extension("new");
        fs::write(&new, how).unwrap();
        fs::rename(new, &self.fault).unwrap();
    }

    pub(super) fn mend(&self) {
        fs::remove_file(&self.fault).unwrap();
    }

    /// Takes away what no sync has brought to the disk; says how many bytes of the logs stay.
    fn cut_power(&self, home: &Home) -> u64 {
        let mut stays = 0;
        for entry in fs::read_dir(home.data_dir().join("db")).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "log") {
                let log = File::options().write(true).open(path).unwrap();
                let note = self.fault.with_extension(log.metadata().unwrap().ino().to_string());
                let synced = fs::read_to_string(note).map_or(0, |text| text.parse().unwrap());
                log.set_len(synced).unwrap();
                stays += synced;
            }
        }
        stays
    }
}

/// The agent has stopped taking usage, says so everywhere, and stays that way until it is stopped.
async fn assert_failed_for_good(home: &Home, agent: Agent, fault: &Status, cause: &str) {
    assert_eq!(fault.code(), Code::Unavailable, "{fault}");
    assert!(fault.message().contains("store has failed") && fault.message().contains(cause), "{fault}");
    let again = record(home, vec![event(GLOBEX, "requests", 1, "")]).await.unwrap_err();
    assert_eq!(again.code(), Code::Unavailable, "after a failed write nothing is taken");
    assert!(home.admin("/readyz").await.unwrap().starts_with("HTTP/1.1 503"));
    assert!(home.admin("/livez").await.unwrap().starts_with("HTTP/1.1 200"));
    assert!(home.summary().await.unwrap().fault.contains(cause));
    assert_eq!(home.metric("tallyman_store_failed").await, Some(1.0));
    assert_eq!(agent.terminate().await.code(), Some(74), "{}", home.log());
    assert!(home.log().contains("no usage is taken until a restart"), "{}", home.log());
}

#[tokio::test]
async fn a_full_disk_acknowledges_nothing_and_loses_nothing() {
    let home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    // A file that reaches the limit answers writes with an error, as a full disk does.
    let agent = spawn_after("ulimit -f 600", &home);
    eventually("ready", async || home.is_ready().await.then_some(())).await;
    let mut acknowledged = 0_u64;
    let fault = loop {
        let id = |index: u64| format!("{acknowledged}-{index}-{}", "x".repeat(90));
        let events = (0..200).map(|index| event(ACME, "requests", 1, &id(index))).collect();
        match record(&home, events).await {
            Ok(answer) => acknowledged += answer.accepted,
            Err(fault) => break fault,
        }
        assert!(acknowledged < 10_000_000, "the disk never filled");
    };
    assert_failed_for_good(&home, agent, &fault, "").await;

    let _agent = home.start().await;
    let open = open_usage(&home).await;
    // The request that failed may be on disk or not; it was not acknowledged, and its ids make a resend safe.
    assert!(
        open == acknowledged || open == acknowledged + 200,
        "{open} on disk, {acknowledged} acknowledged"
    );
}

#[tokio::test]
async fn a_disk_that_turns_read_only_stops_the_agent_and_loses_nothing() {
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let disk = Disk::under(&mut home);
    let agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 41, "")]).await.unwrap();
    disk.fail("read-only");
    let fault = record(&home, vec![event(ACME, "requests", 1, "")]).await.unwrap_err();
    disk.mend();
    assert_failed_for_good(&home, agent, &fault, "Read-only file system").await;
    let _agent = home.start().await;
    assert_eq!(open_usage(&home).await, 41);
}

#[tokio::test]
async fn a_power_cut_takes_nothing_that_was_acknowledged() {
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let disk = Disk::under(&mut home);
    disk.fail("power-cut");
    let mut acknowledged = 0;
    for round in 0..2 {
        let agent = home.start().await;
        // One after the other, which are synced where they are written; then many at once, which are synced beside it.
        for _ in 0..5 {
            record(&home, vec![event(ACME, "requests", 1, "")]).await.unwrap();
        }
        let channel = home.channel().await.unwrap();
        let mut requests = JoinSet::new();
        for _ in 0..50 {
            let mut usage = UsageServiceClient::new(channel.clone());
            requests.spawn(async move {
                usage.record(RecordRequest { events: vec![event(ACME, "requests", 1, "")] }).await
            });
        }
        for answer in requests.join_all().await {
            assert_eq!(answer.unwrap().into_inner().accepted, 1);
        }
        acknowledged += 55;
        agent.kill();
        assert!(disk.cut_power(&home) > 0, "nothing was synced in round {round}");
    }
    let _agent = home.start().await;
    assert_eq!(open_usage(&home).await, acknowledged);
}

/// The kernel may drop what it could not write, and then a second sync succeeds.
#[tokio::test]
async fn a_failed_sync_is_never_tried_again() {
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let disk = Disk::under(&mut home);
    let agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 41, "")]).await.unwrap();
    disk.fail("no-sync");
    let fault = record(&home, vec![event(ACME, "requests", 1, "")]).await.unwrap_err();
    disk.mend();
    assert_failed_for_good(&home, agent, &fault, "Input/output error").await;
    let _agent = home.start().await;
    let open = open_usage(&home).await;
    assert!(open == 41 || open == 42, "{open}");
}

#[tokio::test]
async fn a_read_only_data_folder_is_refused_at_the_start_with_its_name() {
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let disk = Disk::under(&mut home);
    disk.fail("read-only");
    let refused = async || {
        assert_eq!(home.spawn().ended().await.code(), Some(74), "{}", home.log());
        let (log, folder) = (home.log(), home.data_dir().display().to_string());
        assert!(log.contains(&folder) && log.contains("Read-only file system"), "{log}");
        assert!(!log.contains("ready") && !log.contains("panicked"), "{log}");
    };
    refused().await;
    disk.mend();
    let agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 41, "")]).await.unwrap();
    agent.kill();
    fs::remove_file(home.path().join("log")).unwrap();
    disk.fail("read-only");
    refused().await;
    disk.mend();
    let _agent = home.start().await;
    assert_eq!(open_usage(&home).await, 41);
}

#[tokio::test]
async fn a_disk_that_cannot_be_read_is_told_at_the_start_and_nothing_is_lost() {
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let disk = Disk::under(&mut home);
    for _ in 0..2 {
        // The second start writes what the first one left in the log to tables.
        let agent = home.start().await;
        record(&home, vec![event(ACME, "requests", 41, "")]).await.unwrap();
        agent.kill();
    }
    disk.fail("bad-sector");
    assert_eq!(home.spawn().ended().await.code(), Some(74), "{}", home.log());
    assert!(home.log().contains("Input/output error") && home.log().contains(".sst"), "{}", home.log());
    disk.mend();
    let _agent = home.start().await;
    assert_eq!(open_usage(&home).await, 82);
}
