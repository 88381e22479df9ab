//! Bytes that change on disk, as the real binary meets them. `worlds::store::rocks::tests` tries many more of them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tallyman::base::proto::ListRecordsRequest;
use tonic::Code;

use super::open_usage;
use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home},
    clock_at,
    events::{ACME, event, record},
    eventually, sandbox,
};

/// So many events that the markers of their ids fill many blocks.
const USES: u32 = 2000;

fn files(home: &Home, extension: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(home.data_dir().join("db")).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|found| found == extension)).collect()
}

/// In a large table, a block that is not read at the start, since only its first row is looked for.
fn damage(table: &Path) {
    let length = usize::try_from(fs::metadata(table).unwrap().len()).unwrap();
    flip(table, if length > 20_000 { length / 2 } else { 10 }, 1);
}

fn flip(path: &Path, offset: usize, mask: u8) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset] ^= mask;
    fs::write(path, bytes).unwrap();
}

/// Without a look of our own, RocksDB takes such a length for a torn end, and drops what was acknowledged.
#[tokio::test]
async fn a_flipped_bit_in_the_log_is_refused_with_the_files_name_and_advice() {
    let home = Home::new(ACCOUNT_PRODUCT, super::NOWHERE, None);
    home.expect_damage();
    let agent = home.start().await;
    for quantity in [1, 10, 30] {
        record(&home, vec![event(ACME, "requests", quantity, "")]).await.unwrap();
    }
    agent.kill();
    let log = files(&home, "log").pop().unwrap();
    // The high byte of the first entry's length.
    flip(&log, 5, 0x40);
    assert_eq!(home.spawn().ended().await.code(), Some(74), "{}", home.log());
    let (text, name) = (home.log(), log.display().to_string());
    assert!(text.contains(&name) && text.contains("restore a backup"), "{text}");
    assert!(!text.contains("panicked"), "{text}");
    flip(&log, 5, 0x40);
    let _agent = home.start().await;
    assert_eq!(open_usage(&home).await, 41);
}

/// One table after the other is damaged. What is read at the start is refused there, and the rest when it is read.
#[tokio::test]
async fn a_flipped_byte_in_any_table_is_refused_or_answered_with_the_fault() {
    let clock = clock_at("2026-11-22T10:59:00Z", 120.0);
    let (sandbox, _tasks) = sandbox(clock, tallyman::faces::sandbox::Faults::default()).await;
    let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    home.expect_damage();
    let agent = home.start().await;
    let one = |index: u32| event(ACME, "requests", 41, &format!("once-{index}"));
    let usage = || (0..USES).map(one).collect();
    record(&home, usage()).await.unwrap();
    eventually("an hour is in the ledger", async || {
        (home.summary().await?.products[0].records_accepted >= 3).then_some(())
    })
    .await;
    record(&home, vec![event(ACME, "requests", 7, "")]).await.unwrap();
    let ledger = ListRecordsRequest { page_size: 3, ..ListRecordsRequest::default() };
    let before = home.records(ledger.clone()).await;
    agent.kill();
    // A start writes all of the log to tables.
    home.start().await.kill();
    let whole = home.path().join("whole");
    copy(&home.data_dir(), &whole);

    let (mut at_start, mut later) = (0, 0);
    for table in &files(&home, "sst") {
        fs::remove_dir_all(home.data_dir()).unwrap();
        copy(&whole, &home.data_dir());
        fs::remove_file(home.path().join("log")).unwrap();
        damage(table);
        let mut agent = home.spawn();
        let is_ready = eventually("ready or ended", async || {
            let ended = agent.child.try_wait().unwrap();
            if let Some(status) = ended {
                assert_eq!(status.code(), Some(74), "{}", home.log());
                return Some(false);
            }
            home.is_ready().await.then_some(true)
        })
        .await;
        let name = table.file_name().unwrap().to_str().unwrap();
        if !is_ready {
            at_start += 1;
            let log = home.log();
            assert!(log.contains(name) && log.contains("restore a backup"), "{log}");
            continue;
        }
        let mut ledger_client = tallyman::base::proto::ledger_service_client::LedgerServiceClient::new(
            home.channel().await.unwrap(),
        );
        match ledger_client.list_records(ledger.clone()).await {
            Ok(page) => assert_eq!(page.into_inner().records, before),
            Err(fault) => {
                later += 1;
                assert_eq!(fault.code(), Code::Unavailable);
                assert!(fault.message().contains(name), "{fault}");
            }
        }
        match record(&home, usage()).await {
            Ok(answer) => assert_eq!((answer.accepted, answer.duplicates), (0, USES.into()), "{name}"),
            Err(fault) => {
                later += 1;
                assert!(fault.message().contains(name), "{fault}");
                assert!(!home.is_ready().await);
                assert_eq!(agent.terminate().await.code(), Some(74), "{}", home.log());
            }
        }
        assert!(!home.log().contains("panicked"), "{}", home.log());
    }
    // The ledger is read later; markers only once there are so many that they lie in runs.
    assert!(at_start >= 4 && later == 1, "{at_start} at the start, {later} later");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &to);
        } else {
            fs::copy(&path, &to).unwrap();
        }
    }
}
