//! `export` and `reconcile` against a server with canned answers.

use super::{Canned, accepted, held, run_line};
use crate::base::proto::{LedgerRecord, RecordState};

#[tokio::test]
async fn an_export_holds_every_record_of_its_hours_in_either_form() {
    let agent = Canned::default();
    let address = agent.serve().await;
    let line = "export --product prod --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z";
    let csv = run_line(line, &address).await;
    assert_eq!((csv.exit, csv.notes.as_str()), (0, ""));
    let ids: Vec<&str> = csv.out.split("\r\n").map(|row| row.split(',').next().unwrap()).collect();
    assert_eq!(ids, ["id", "7", "8", "12", ""], "{}", csv.out);
    let asked = agent.lists.lock().unwrap().clone();
    assert_eq!((asked[0].product.as_str(), asked[0].state()), ("prod", RecordState::Unspecified));
    let hours = (asked[0].from_unix_seconds, asked[0].to_unix_seconds);
    assert_eq!(hours, (1_793_491_200, 1_796_083_200));
    assert_eq!((asked[0].page_size, asked[1].page_token.as_str()), (1000, "2"));

    let records = run_line("records --output json", &address).await;
    for line in ["export --format jsonl", "export --output json", "export --output json --format jsonl"] {
        assert_eq!(run_line(line, &address).await.out, records.out, "{line}");
    }
    assert!(run_line("export --output json --format csv", &address).await.out.starts_with("id,product,"));
}

#[tokio::test]
async fn an_export_of_no_hours_is_a_header_and_a_wrong_range_is_wrong_usage() {
    let agent = Canned { is_empty: true, ..Canned::default() };
    let address = agent.serve().await;
    let csv = run_line("export", &address).await;
    assert_eq!((csv.exit, csv.out.lines().count()), (0, 1), "{csv:?}");
    assert!(csv.out.starts_with("id,product,customer,") && csv.out.ends_with(",decisions\r\n"));
    assert_eq!(run_line("export --format jsonl", &address).await.out, "");
    let backwards = "--from 2026-11-22T11:00:00Z --to 2026-11-22T10:00:00Z";
    for command in ["export", "reconcile --cloudtrail x.json"] {
        let wrong = run_line(&format!("{command} {backwards}"), &address).await;
        assert_eq!((wrong.exit, wrong.out.as_str()), (64, ""), "{wrong:?}");
        assert!(wrong.notes.contains("is after --to"), "{wrong:?}");
    }
}

#[tokio::test]
async fn pages_too_large_for_an_answer_are_asked_for_in_parts() {
    let agent = Canned { largest_page: 130, ..Canned::default() };
    let address = agent.serve().await;
    let ran = run_line("export", &address).await;
    assert_eq!((ran.exit, ran.out.lines().count()), (0, 4), "{ran:?}");
    let sizes: Vec<u32> = agent.lists.lock().unwrap().iter().map(|request| request.page_size).collect();
    assert_eq!(sizes, [1000, 500, 250, 125, 250, 125]);
}

#[tokio::test]
async fn an_export_that_breaks_off_says_that_it_is_not_whole() {
    let agent = Canned { breaks: true, ..Canned::default() };
    let address = agent.serve().await;
    let ran = run_line("export", &address).await;
    assert_eq!((ran.exit, ran.out.lines().count()), (75, 3), "{ran:?}");
    assert!(ran.notes.contains("only the first 2 records are there"), "{ran:?}");
}

/// CloudTrail's file with AWS's side of the canned records.
fn cloudtrail(lines: &[(&LedgerRecord, &str)]) -> tempfile::NamedTempFile {
    let results: Vec<serde_json::Value> = lines
        .iter()
        .map(|(record, receipt)| {
            serde_json::json!({
                "usageRecord": {
                    "timestamp": record.timestamp_unix_seconds, "dimension": record.dimension,
                    "customerAWSAccountId": record.account_id, "quantityAsDecimal": record.quantity,
                },
                "meteringRecordId": receipt, "status": "Success",
            })
        })
        .collect();
    let event = serde_json::json!({
        "eventSource": "metering-marketplace.amazonaws.com", "eventName": "BatchMeterUsage",
        "eventTime": "2026-11-22T09:06:00Z", "awsRegion": "us-east-1", "eventID": "e-1",
        "requestParameters": {"productCode": "prod"}, "responseElements": {"results": results},
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), serde_json::json!({"Records": [event]}).to_string()).unwrap();
    file
}

#[tokio::test]
async fn a_ledger_that_cloudtrail_confirms_matches() {
    let address = Canned::default().serve().await;
    let file = cloudtrail(&[(&accepted(), "receipt-7")]);
    let line = format!("reconcile --cloudtrail {}", file.path().display());
    let ran = run_line(&line, &address).await;
    assert_eq!((ran.exit, ran.notes.as_str()), (0, ""), "{ran:?}");
    let hours = "hours from 2026-11-22T08:00:00Z to 2026-11-22T09:00:00Z";
    assert_eq!(ran.out, format!("1 record match, 0 differ; {hours}\n"));
    let other = run_line(&format!("{line} --product other --from 2026-11-22T08:00:00Z"), &address).await;
    assert_eq!(other.exit, 1, "no hours are known to end anywhere: {other:?}");
    assert!(other.notes.contains("--from and --to"), "{other:?}");
}

#[tokio::test]
async fn what_either_side_lacks_is_listed() {
    let address = Canned::default().serve().await;
    let stranger = LedgerRecord { account_id: "999999999999".to_owned(), ..accepted() };
    let held = LedgerRecord { timestamp_unix_seconds: held().hour_unix_seconds, ..held() };
    let file = cloudtrail(&[(&held, "receipt-12"), (&stranger, "receipt-9")]);
    let range = "--from 2026-11-22T00:00:00Z --to 2026-11-23T00:00:00Z";
    let line = format!("reconcile {range} --cloudtrail {}", file.path().display());
    let ran = run_line(&line, &address).await;
    let findings: Vec<&str> = ran.out.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(
        findings,
        ["FINDING", "not_accepted_here", "not_in_ledger", "not_in_cloudtrail", "0"],
        "{}",
        ran.out
    );
    assert_eq!(ran.exit, 1);
    assert!(ran.notes.contains("not_accepted_here: AWS has billed it: do not carry it"), "{ran:?}");

    let json = run_line(&format!("{line} --output json"), &address).await;
    let lines: Vec<serde_json::Value> =
        json.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((json.exit, json.notes.as_str(), lines.len()), (1, "", 4));
    assert_eq!((&lines[0]["ledger"]["id"], &lines[0]["ledger"]["state"]), (&12.into(), &"held".into()));
    assert_eq!(lines[1]["cloudtrail"]["account_id"], "999999999999");
    assert_eq!((&lines[2]["ledger"]["receipt"], &lines[2]["cloudtrail"]), (&"receipt-7".into(), &().into()));
    let summary = &lines[3]["summary"];
    assert_eq!((&summary["matched"], &summary["differ"]), (&0.into(), &3.into()), "{summary}");
    assert_eq!(summary["cloudtrail"]["accepted"], 2);
}
