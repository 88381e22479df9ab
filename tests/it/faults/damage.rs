//! Bytes that change on disk, as the real binary meets them. `store::rocks::tests` tries many more of them.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use tallyman::internals::Sandbox;
use tallyman_client::proto::{ListRecordsRequest, RecordState, RecordStreamRequest, UsageEvent};
use tokio_stream::StreamExt;
use tonic::Code;

use super::open_usage;
use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home, binary},
    clock_at,
    events::{ACME, GLOBEX, event, record},
    eventually, sandbox,
};

/// So many events that the dedup keys of their ids fill many blocks.
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
    let (sandbox, _tasks) = sandbox(clock, tallyman::internals::Faults::default()).await;
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

    let sound = audit(&home);
    assert_eq!(sound.status.code(), Some(0), "{sound:?}");
    let (mut at_start, mut later) = (0, 0);
    for table in &files(&home, "sst") {
        fs::remove_dir_all(home.data_dir()).unwrap();
        copy(&whole, &home.data_dir());
        fs::remove_file(home.path().join("log")).unwrap();
        damage(table);
        assert_damage_is_found(&home, table);
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
        let mut ledger_client = tallyman_client::proto::ledger_service_client::LedgerServiceClient::new(
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
    // The ledger is read later; dedup keys only once there are so many that they lie in runs.
    assert!(at_start >= 4 && later == 1, "{at_start} at the start, {later} later");
}

fn audit(home: &Home) -> std::process::Output {
    binary().args(["audit", "--data-dir"]).arg(home.data_dir()).output().unwrap()
}

/// Whatever file is damaged, the audit of the folder names it, and does not call the folder sound.
fn assert_damage_is_found(home: &Home, file: &Path) {
    let audited = audit(home);
    assert_eq!(audited.status.code(), Some(74), "{}: {audited:?}", file.display());
    let (said, name) =
        (String::from_utf8_lossy(&audited.stderr), file.file_name().unwrap().to_str().unwrap());
    // What leads to a table's blocks is read as the store is opened, which names the list of tables instead.
    assert!(said.contains(name) || said.contains("MANIFEST-"), "{name}: {said}");
}

/// The tables of a store.
const TABLES: [&str; 15] = [
    "meta",
    "buckets",
    "tagged",
    "subjects",
    "marks",
    "mark_runs",
    "producers",
    "records",
    "deliveries",
    "receipts",
    "held",
    "decisions",
    "journal",
    "outstanding",
    "roster",
];

/// The tables whose rows these files have, by what each file says of itself.
fn tables(files: &[PathBuf]) -> BTreeSet<&'static str> {
    let contents: Vec<Vec<u8>> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    let is_named = |table: &&str| {
        // The name of a property ends so, and its value stands behind it.
        let named = format!("name{table}");
        contents.iter().any(|bytes| {
            let behind = bytes.windows(named.len() + 1).filter(|window| window.starts_with(named.as_bytes()));
            behind
                .into_iter()
                .any(|window| !window[named.len()].is_ascii_lowercase() && window[named.len()] != b'_')
        })
    };
    TABLES.into_iter().filter(is_named).collect()
}

const EVERY_KIND: &str = r#"
[[product]]
code = "prod-sandbox"
identity = "account"
endpoint_url = "ENDPOINT"
[[product.dimension]]
name = "requests"
tags = true
[[product.dimension]]
name = "users"
aggregate = "unique"
"#;

/// So many ids that dedup keys are flushed from memory into runs.
const IDS: u32 = 650_000;

/// An agent's folder with rows in every table: an hour that is billed, one that is open, and what a person decided.
async fn folder_with_every_table(home: &Home, sandbox: &Sandbox) {
    let agent = home.start().await;
    let tagged = |customer: &str| UsageEvent {
        tags: [("team".to_owned(), "red".to_owned())].into(),
        ..event(customer, "requests", 7, "")
    };
    let user = |name: &str| UsageEvent { subject: name.to_owned(), ..event(ACME, "users", 1, "") };
    record(home, vec![tagged(ACME), tagged(GLOBEX), user("one"), user("two")]).await.unwrap();
    let held = home.wait_for_records(RecordState::Held).await;
    let id = held[0].id.to_string();
    let decided = binary()
        .args(["held", "write-off", &id, "--reason", "a test", "--by", "ann", "--address", &home.grpc])
        .output()
        .unwrap();
    assert!(decided.status.success(), "{decided:?}");
    // Another one stays held, and another pending.
    eventually("another is held", async || {
        record(home, vec![tagged(GLOBEX)]).await.unwrap();
        let filter = ListRecordsRequest { state: RecordState::Held.into(), ..ListRecordsRequest::default() };
        (!home.records(filter).await.is_empty()).then_some(())
    })
    .await;
    sandbox.set_faults(serde_json::from_value(serde_json::json!({"error": 1.0})).unwrap());
    eventually("one is pending", async || {
        record(home, vec![tagged(ACME), user("three")]).await.unwrap();
        let filter =
            ListRecordsRequest { state: RecordState::Pending.into(), ..ListRecordsRequest::default() };
        (!home.records(filter).await.is_empty()).then_some(())
    })
    .await;
    for batch in 0..IDS / 10_000 {
        let one = |index: u32| event(ACME, "requests", 1, &format!("{batch}-{index}"));
        record(home, (0..10_000).map(one).collect()).await.unwrap();
    }
    let message = RecordStreamRequest {
        producer_id: "producer".to_owned(),
        sequence: 1,
        events: vec![tagged(ACME), user("four"), event(ACME, "requests", 1, "last")],
    };
    let answers = home.usage().await.record_stream(tokio_stream::iter([message])).await.unwrap();
    let answers: Vec<_> = answers.into_inner().collect().await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    agent.kill();
    // A start writes all of the log to tables.
    home.start().await.kill();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_audit_of_a_folder_finds_a_flipped_byte_in_every_kind_of_file() {
    let clock = clock_at("2026-11-22T10:58:00Z", 120.0);
    let rules = serde_json::json!({"rules": [{"customer": GLOBEX, "answer": "CustomerNotSubscribed"}]});
    let (sandbox, _tasks) = sandbox(clock, serde_json::from_value(rules).unwrap()).await;
    let mut home = Home::new(EVERY_KIND, &sandbox.url(), Some(clock));
    home.set("HOUR__GRACE", "0s");
    home.expect_damage();
    folder_with_every_table(&home, &sandbox).await;

    let sound = audit(&home);
    assert_eq!(sound.status.code(), Some(0), "{sound:?}");
    let said = String::from_utf8_lossy(&sound.stdout);
    let keys =
        said.split_once(" dedup keys").and_then(|(before, _)| before.rsplit(' ').next()?.parse::<u32>().ok());
    assert!(said.contains("every block was read: ") && keys >= Some(IDS), "{said}");
    let found = tables(&files(&home, "sst"));
    // Buckets come and go with their hours, and may have none at the moment.
    let missing: Vec<_> = TABLES.into_iter().filter(|table| !found.contains(table)).collect();
    assert!(missing.is_empty() || missing == ["buckets"], "a table has no file: {missing:?}");

    // A log with something in it, which no table has yet.
    let agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 1, "")]).await.unwrap();
    agent.kill();
    let whole = home.path().join("whole");
    copy(&home.data_dir(), &whole);
    let mut all = [files(&home, "sst"), files(&home, "log")].concat();
    let manifest = fs::read_to_string(home.data_dir().join("db/CURRENT")).unwrap();
    all.push(home.data_dir().join("db").join(manifest.trim_end()));
    for file in &all {
        let bytes = fs::read(file).unwrap();
        if bytes.is_empty() {
            continue;
        }
        // The first block, one in the middle, and of a table what leads to the others. The middle of a small table may be
        // its filter, which RocksDB does without if it is damaged.
        let is_table = file.extension().is_some_and(|it| it == "sst");
        let last = bytes.len() - if is_table { 70 } else { 20 };
        let middle = if is_table && bytes.len() < 1 << 16 { 5 } else { bytes.len() / 2 };
        for offset in [5, middle, last] {
            flip(file, offset, 1);
            assert_damage_is_found(&home, file);
            flip(file, offset, 1);
        }
    }
    assert_eq!(audit(&home).status.code(), Some(0), "all is as it was");
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
