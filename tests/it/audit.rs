//! `tallyman audit` over a running agent and over its folder, before and after someone has been at it.

use std::process::Output;

use serde_json::Value;
use tallyman::internals::{Batch, Faults, ReadTable, Receipts, RecordId, RocksStore, Settled, Store};

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home, binary},
    events::{ACME, GLOBEX, event, record},
    eventually, fast_clock, sandbox,
};

fn audit(args: &[&str]) -> Output {
    binary().args(["audit", "--output", "json"]).args(args).output().unwrap()
}

fn report(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text} {}", String::from_utf8_lossy(&output.stderr)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_audit_finds_nothing_until_someone_has_been_at_the_ledger() {
    let clock = fast_clock(1200.0);
    let (sandbox, _tasks) =
        sandbox(clock, Faults { lose_reply: 0.3, unprocessed: 0.3, ..Faults::default() }).await;
    let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    let agent = home.start().await;
    let mut sent = 0;
    let head = eventually("three hours are billed", async || {
        sent += 1;
        let id = sent.to_string();
        record(&home, vec![event(ACME, "gb_out", 1_234_567, &id), event(GLOBEX, "calls", 1, &id)])
            .await
            .ok()?;
        let output = audit(&["--address", &home.grpc]);
        let report = report(&output);
        assert!(output.status.success(), "{report}");
        let head = format!("{}:{}", report["journal_lines"], report["last_line_hash"].as_str()?);
        let billed = sandbox.billed();
        let is_enough = billed.iter().filter(|record| !record.quantity.is_zero()).count() >= 6;
        is_enough.then_some(head)
    })
    .await;

    let folder = home.data_dir().display().to_string();
    let in_use = audit(&["--data-dir", &folder]);
    assert_eq!(in_use.status.code(), Some(75), "{in_use:?}");
    assert!(String::from_utf8_lossy(&in_use.stderr).contains("in use"), "{in_use:?}");
    assert!(agent.terminate().await.success());

    let at_rest = audit(&["--data-dir", &folder, "--noted", &head]);
    assert!(at_rest.status.success(), "{at_rest:?}");
    let wrong = format!("1:{}", "0".repeat(64));
    assert_eq!(audit(&["--data-dir", &folder, "--noted", &wrong]).status.code(), Some(1));

    home.expect_damage();
    let altered = alter_a_receipt(&home);
    let found = audit(&["--data-dir", &folder]);
    assert_eq!(found.status.code(), Some(1));
    let fault = &report(&found)["faults"][0];
    assert_eq!(fault["invariant"], "I2", "{fault}");
    assert_eq!(fault["record"], altered.record.id.0, "{fault}");
    assert_eq!((&fault["customer"], &fault["dimension"]), (&Value::from(ACME), &Value::from("gb_out")));
}

/// Gives the first receipt that bills something another number of attempts.
fn alter_a_receipt(home: &Home) -> Settled {
    let store = RocksStore::open(&home.data_dir()).unwrap();
    let receipts = store.page(Receipts, RecordId(0), 1000, |_, settled| settled).unwrap();
    let is_wanted =
        |settled: &Settled| settled.record.bills_something() && *settled.record.dimension == *"gb_out";
    let mut settled = receipts.into_iter().find(is_wanted).unwrap();
    settled.attempts += 1;
    let mut batch = Batch::default();
    batch.put(Receipts, settled.record.id, &settled);
    store.commit(batch).unwrap();
    settled
}
