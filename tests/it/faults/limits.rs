//! Too few file descriptors.

use std::{collections::BTreeSet, fs};

use tallyman_client::proto::RecordRequest;
use tokio::{io::AsyncWriteExt, net::TcpStream};
use tonic::Code;

use super::{NOWHERE, disk::Disk, open_usage, spawn_after};
use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home},
    events::{ACME, event, record},
    eventually,
    hostile::open_files,
};

fn home() -> Home {
    Home::new(ACCOUNT_PRODUCT, NOWHERE, None)
}

/// The write-ahead logs of the store. Each new one is a file that the store must be able to open.
fn logs(home: &Home) -> BTreeSet<String> {
    let entries = fs::read_dir(home.data_dir().join("db")).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.strip_suffix(".log").is_some()).collect()
}

/// A request of many events with ids, which no other has.
fn request(number: u64) -> RecordRequest {
    let id = |index: u64| format!("{number}-{index}-{}", "x".repeat(90));
    RecordRequest { events: (0..2000).map(|index| event(ACME, "requests", 1, &id(index))).collect() }
}

#[tokio::test]
async fn connections_never_take_the_files_of_the_store() {
    let home = home();
    let agent = spawn_after("ulimit -n 256", &home);
    eventually("ready", async || home.is_ready().await.then_some(())).await;
    assert!(home.log().contains("WARN the limit of open files"), "{}", home.log());
    let mut client = home.usage().await;
    let mut acknowledged = client.record(request(0)).await.unwrap().into_inner().accepted;
    let mut crowd = Vec::new();
    for (address, beginning) in
        [(&home.grpc, ""), (&home.admin, "GET /livez HT")].into_iter().cycle().take(600)
    {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.ok();
        crowd.push(stream);
    }
    let (before, mut number) = (logs(&home), 0);
    while logs(&home).is_subset(&before) {
        number += 1;
        assert!(number < 1000, "the store never began a new log");
        acknowledged += client.record(request(number)).await.unwrap().into_inner().accepted;
    }
    assert!(open_files(agent.child.id()) < 256);
    assert!(home.is_ready().await, "a probe finds room");
    acknowledged += record(&home, request(number + 1).events).await.expect("so does a client").accepted;
    drop(crowd);
    agent.kill();
    let _agent = home.start().await;
    assert_eq!(open_usage(&home).await, acknowledged);
}

#[tokio::test]
async fn the_limit_of_open_files_is_raised_as_far_as_the_system_lets_the_agent() {
    let home = home();
    let agent = spawn_after("ulimit -Sn 64; ulimit -Hn 4000", &home);
    eventually("ready", async || home.is_ready().await.then_some(())).await;
    let limits = fs::read_to_string(format!("/proc/{}/limits", agent.child.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert_eq!(line.split_whitespace().nth(3), Some("4000"), "{line}");
    assert!(!home.log().contains("the limit of open files"), "{}", home.log());
}

/// A log that RocksDB could not begin is the end of its writing, and nothing is wrong with the disk.
#[tokio::test]
async fn an_agent_whose_store_finds_no_file_ends_by_itself_and_the_next_one_has_everything() {
    let mut home = home();
    let disk = Disk::under(&mut home);
    let mut agent = home.start().await;
    let mut client = home.usage().await;
    let (mut acknowledged, mut number) = (0, 0);
    disk.fail("no-files");
    let fault = loop {
        match client.record(request(number)).await {
            Ok(answer) => acknowledged += answer.into_inner().accepted,
            Err(fault) => break fault,
        }
        number += 1;
        assert!(number < 1000, "the store never opened a file");
    };
    assert_eq!(fault.code(), Code::Unavailable, "{fault}");
    assert!(fault.message().contains("ulimit -n"), "{fault}");
    assert_eq!(agent.ended().await.code(), Some(75), "{}", home.log());
    disk.mend();
    let _agent = home.start().await;
    let open = open_usage(&home).await;
    assert!(
        open == acknowledged || open == acknowledged + 2000,
        "{open} on disk, {acknowledged} acknowledged"
    );
}
