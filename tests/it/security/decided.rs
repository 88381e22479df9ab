//! Who decided about a held record: what the person says, and beside it the client that proved itself.

use std::{
    fs,
    process::{Command, Output},
};

use serde_json::{Value, json};
use tallyman::internals::Faults;

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home, binary},
    clock_at,
    events::{ACME, GLOBEX, event},
    eventually, sandbox,
};

use super::send;

/// Two clients that decide, each with the token of its name.
fn clients(home: &Home) -> String {
    let client = |name: &str| {
        let file = home.path().join(name);
        fs::write(&file, format!("{name}-t0ken")).unwrap();
        format!(
            "[[grpc.client]]\nname = \"{name}\"\ntoken_file = \"{}\"\nroles = [\"meter\", \"read\", \"decide\"]\n",
            file.display()
        )
    };
    client("ops") + &client("finance")
}

/// The command line without a user, as in a container.
fn cli(home: &Home, token: &str, args: &[&str]) -> Command {
    let mut command = binary();
    command.args(args).args(["--address", &home.grpc]).env_remove("USER");
    if !token.is_empty() {
        command.arg("--token-file").arg(home.path().join(token));
    }
    command
}

fn notes(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The records that are held, as JSON.
async fn held(home: &Home, token: &str, records: usize) -> Vec<Value> {
    eventually("records are held", async || {
        let listed = cli(home, token, &["held", "--output", "json"]).output().unwrap();
        let lines = String::from_utf8(listed.stdout).unwrap();
        let records_held: Vec<Value> =
            lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        Some(records_held).filter(|held| held.len() >= records)
    })
    .await
}

fn exported(home: &Home, token: &str) -> Vec<Value> {
    let exported = cli(home, token, &["export", "--format", "jsonl"]).output().unwrap();
    let lines = String::from_utf8(exported.stdout).unwrap();
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn refusing() -> Faults {
    let rules = json!({"rules": [{"dimension": "requests", "answer": "InvalidUsageDimensionException"}]});
    serde_json::from_value(rules).unwrap()
}

#[tokio::test]
async fn a_decision_keeps_the_client_that_proved_itself_beside_the_name_that_it_gave() {
    let clock = clock_at("2026-11-22T10:56:00Z", 400.0);
    let (sandbox, _tasks) = sandbox(clock, refusing()).await;
    let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    home.configure(&clients(&home), ACCOUNT_PRODUCT, &sandbox.url());
    let agent = home.start().await;
    let events = vec![event(ACME, "requests", 7, ""), event(GLOBEX, "requests", 5, "")];
    send(home.channel().await.unwrap(), "ops-t0ken", events).await.unwrap();
    let held = held(&home, "ops", 2).await;
    let ids: Vec<String> = held.iter().map(|record| record["id"].to_string()).collect();

    let decide = |token: &str, by: &[&str], id: &str| {
        let mut command = cli(&home, token, &["held", "write-off", id, "--reason", "a test account"]);
        command.args(by).output().unwrap()
    };
    let nobody = decide("ops", &[], &ids[0]);
    assert_eq!(nobody.status.code(), Some(64), "{nobody:?}");
    assert!(notes(&nobody).contains("--by NAME"), "{nobody:?}");
    assert_eq!(decide("ops", &["--by", " "], &ids[0]).status.code(), Some(64));
    for hidden in ["ann\nbob", "\u{202e}nna", "an\u{200b}n"] {
        let refused = decide("ops", &["--by", hidden], &ids[0]);
        assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    }
    // A client may give the name of a colleague, and is known all the same.
    for (token, id) in [("ops", &ids[0]), ("finance", &ids[1])] {
        let decided = decide(token, &["--by", "ann"], id);
        assert_eq!(decided.status.code(), Some(0), "{decided:?}");
    }
    for (record, client) in [(&ids[0], "ops"), (&ids[1], "finance")] {
        let rows = exported(&home, "ops");
        let row = rows.iter().find(|row| is_record(row, record)).unwrap();
        let decision = &row["decisions"][0];
        assert_eq!((&decision["by"], &decision["client"]), (&"ann".into(), &client.into()), "{row}");
        assert!(home.log().contains(&format!("by=\"ann\" client=\"{client}\"")), "{}", home.log());
    }
    let list = cli(&home, "ops", &["records", "--state", "written_off"]).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(list.contains("by ann (client finance): a test account"), "{list}");
    assert!(agent.terminate().await.success());
}

#[tokio::test]
async fn an_adjustment_keeps_who_made_it_as_a_decision_does() {
    // Without AWS nothing is sealed, so the usage stays open.
    let nowhere = "http://127.0.0.1:9";
    let home = Home::new(ACCOUNT_PRODUCT, nowhere, None);
    home.configure(&clients(&home), ACCOUNT_PRODUCT, nowhere);
    let _agent = home.start().await;
    send(home.channel().await.unwrap(), "ops-t0ken", vec![event(ACME, "requests", 7, "")]).await.unwrap();
    let adjust = |token: &str, by: &[&str]| {
        let line =
            ["adjust", "--customer", ACME, "--dimension", "requests", "--minus", "2", "--reason", "a slip"];
        cli(&home, token, &line).args(by).output().unwrap()
    };
    let nobody = adjust("ops", &[]);
    assert_eq!(nobody.status.code(), Some(64), "{nobody:?}");
    assert!(notes(&nobody).contains("--by NAME"), "{nobody:?}");
    assert_eq!(adjust("ops", &["--by", "an\u{200b}n"]).status.code(), Some(1));
    for client in ["ops", "finance"] {
        let adjusted = adjust(client, &["--by", "ann"]);
        assert_eq!(adjusted.status.code(), Some(0), "{adjusted:?}");
        assert!(home.log().contains(&format!("by=\"ann\" client=\"{client}\"")), "{}", home.log());
    }
    let rows = exported(&home, "ops");
    let who = |client: &str| json!(["adjustment", "ann", client, "2"]);
    let found: Vec<Value> =
        rows.iter().map(|row| json!([row["kind"], row["by"], row["client"], row["amount"]])).collect();
    assert_eq!(found, [who("ops"), who("finance")]);
    let list = cli(&home, "ops", &["records"]).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    assert!(list.contains("ann (client finance)"), "{list}");
}

#[tokio::test]
async fn without_clients_the_name_is_all_there_is() {
    let clock = clock_at("2026-11-22T10:56:00Z", 400.0);
    let (sandbox, _tasks) = sandbox(clock, refusing()).await;
    let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    let _agent = home.start().await;
    send(home.channel().await.unwrap(), "", vec![event(ACME, "requests", 7, "")]).await.unwrap();
    let id = held(&home, "", 1).await[0]["id"].to_string();
    let mut command = cli(&home, "", &["held", "write-off", &id, "--reason", "a test account"]);
    let decided = command.env("USER", "ann").output().unwrap();
    assert_eq!(decided.status.code(), Some(0), "{decided:?}");
    let rows = exported(&home, "");
    let row = rows.iter().find(|row| is_record(row, &id)).unwrap();
    assert_eq!(row["decisions"][0]["by"], "ann");
    assert_eq!(row["decisions"][0]["client"], Value::Null);
}

fn is_record(row: &Value, id: &str) -> bool {
    row["id"].as_u64() == id.parse().ok()
}
