//! Tests of `export` and `reconcile` against a server with canned answers.

use super::{CannedAgent, accepted, held, run_line};
use crate::base::proto::{LedgerRecord, RecordState};

#[tokio::test]
async fn an_export_holds_every_record_of_its_hours_in_either_form() {
    let agent = CannedAgent::default();
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
async fn what_persons_took_from_open_hours_comes_after_the_records_as_a_kind_of_its_own() {
    let address = CannedAgent { has_adjustments: true, ..CannedAgent::default() }.serve().await;
    let csv = run_line("export", &address).await;
    let mut reader = csv::Reader::from_reader(csv.out.as_bytes());
    let kind = reader.headers().unwrap().iter().position(|name| name == "kind").unwrap();
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    let kinds: Vec<_> = rows.iter().map(|row| (&row[0], &row[kind])).collect();
    assert_eq!(kinds, [("7", "record"), ("8", "record"), ("12", "record"), ("3", "adjustment")]);
    let jsonl = run_line("export --format jsonl", &address).await;
    assert_eq!(run_line("records --output json", &address).await.out, jsonl.out);
    let last: serde_json::Value = serde_json::from_str(jsonl.out.lines().last().unwrap()).unwrap();
    assert_eq!((&last["kind"], &last["amount"]), (&"adjustment".into(), &"5000000".into()));
    let table = run_line("records", &address).await;
    assert!(table.out.contains("\nADJUSTMENT  HOUR "), "{}", table.out);
    assert!(!run_line("records --state held", &address).await.out.contains("ADJUSTMENT"));
}

#[tokio::test]
async fn an_export_of_no_hours_is_a_header_and_a_wrong_range_is_wrong_usage() {
    let agent = CannedAgent { is_empty: true, ..CannedAgent::default() };
    let address = agent.serve().await;
    let csv = run_line("export", &address).await;
    assert_eq!((csv.exit, csv.out.lines().count()), (0, 1), "{csv:?}");
    assert!(
        csv.out.starts_with("id,product,customer,")
            && csv.out.ends_with(",decisions,kind,withheld,adjusted,adjustments\r\n")
    );
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
    let agent = CannedAgent { largest_page: 130, ..CannedAgent::default() };
    let address = agent.serve().await;
    let ran = run_line("export", &address).await;
    assert_eq!((ran.exit, ran.out.lines().count()), (0, 4), "{ran:?}");
    let sizes: Vec<u32> = agent.lists.lock().unwrap().iter().map(|request| request.page_size).collect();
    assert_eq!(sizes, [1000, 500, 250, 125, 250, 125]);
}

#[tokio::test]
async fn an_export_that_breaks_off_says_that_it_is_not_whole() {
    let agent = CannedAgent { breaks: true, ..CannedAgent::default() };
    let address = agent.serve().await;
    let ran = run_line("export", &address).await;
    assert_eq!((ran.exit, ran.out.lines().count()), (75, 3), "{ran:?}");
    assert!(ran.notes.contains("only the first 2 records are there"), "{ran:?}");
}

const RECONCILE_ALL: &str = "reconcile --from 2026-11-22T00:00:00Z --to 2026-11-23T00:00:00Z --cloudtrail";

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
        "userIdentity": {"type": "AssumedRole", "arn": "arn:aws:sts::1:assumed-role/old-meter/i-0"},
        "sourceIPAddress": "192.0.2.7", "userAgent": "Boto3/1.44\u{202e}\u{1b}[2J",
        "requestParameters": {"productCode": "prod"}, "responseElements": {"results": results},
    });
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), serde_json::json!({"Records": [event]}).to_string()).unwrap();
    file
}

#[tokio::test]
async fn a_ledger_that_cloudtrail_confirms_matches() {
    let address = CannedAgent::default().serve().await;
    let file = cloudtrail(&[(&accepted(), "receipt-7")]);
    let line = format!("reconcile --cloudtrail {}", file.path().display());
    let ran = run_line(&line, &address).await;
    assert_eq!((ran.exit, ran.notes.as_str()), (0, ""), "{ran:?}");
    let hours = "hours from 2026-11-22T08:00:00Z to 2026-11-22T09:00:00Z";
    assert_eq!(ran.out, format!("1 record match, 0 differ; {hours}\n"));
    let other = run_line(&format!("{line} --product other --from 2026-11-22T08:00:00Z"), &address).await;
    assert_eq!(other.exit, 1, "no hours are known to end anywhere: {other:?}");
    assert!(other.notes.contains("0 acceptances are of other hours, 1 of other products"), "{other:?}");
    assert!(other.notes.contains("--from and --to"), "{other:?}");
}

#[tokio::test]
async fn what_compared_nothing_is_not_green() {
    let address = CannedAgent { is_empty: true, ..CannedAgent::default() }.serve().await;
    let of_november = cloudtrail(&[(&accepted(), "receipt-7")]);
    let empty = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(empty.path(), r#"{"Records": []}"#).unwrap();
    let december = "--from 2026-12-01T00:00:00Z --to 2027-01-01T00:00:00Z";
    for (file, outside) in
        [(&of_november, "1 acceptance in the files lies outside these hours"), (&empty, "")]
    {
        let line = format!("reconcile {december} --cloudtrail {}", file.path().display());
        let ran = run_line(&line, &address).await;
        assert_eq!(ran.exit, 1, "{ran:?}");
        assert!(ran.out.starts_with("0 records match, 0 differ; hours from 2026-12-01"), "{ran:?}");
        assert!(ran.notes.contains("nothing was compared") && ran.notes.contains(outside), "{ran:?}");
        let json = run_line(&format!("{line} --output json"), &address).await;
        let summary: serde_json::Value = serde_json::from_str(&json.out).unwrap();
        let number = u64::from(!outside.is_empty());
        assert_eq!((json.exit, &summary["summary"]["cloudtrail"]["outside_hours"]), (1, &number.into()));
    }
    let open_ended =
        format!("reconcile --from 2026-12-01T00:00:00Z --cloudtrail {}", of_november.path().display());
    let ran = run_line(&open_ended, &address).await;
    assert_eq!(ran.exit, 1, "{ran:?}");
    assert!(ran.notes.contains("1 acceptances are of other hours"), "{ran:?}");
}

#[tokio::test]
async fn another_amount_of_a_held_record_is_one_finding_with_both_amounts_and_the_other_sender() {
    let address = CannedAgent::default().serve().await;
    let theirs = LedgerRecord {
        timestamp_unix_seconds: held().hour_unix_seconds,
        quantity: "99".to_owned(),
        ..held()
    };
    let file = cloudtrail(&[(&theirs, "receipt-12"), (&accepted(), "receipt-7")]);
    let line = format!("{RECONCILE_ALL} {}", file.path().display());
    let ran = run_line(&line, &address).await;
    assert_eq!(ran.exit, 1);
    let rows: Vec<Vec<&str>> = ran.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 3, "{}", ran.out);
    assert_eq!((rows[1][0], &rows[1][5..8]), ("conflict", &["12", "5", "99"][..]), "{}", ran.out);
    assert_eq!(rows[1].last(), Some(&"arn:aws:sts::1:assumed-role/old-meter/i-0"));
    assert_eq!(rows[2][..4], ["1", "record", "match,", "1"]);
    assert!(ran.notes.contains("write the record off; if it does not, carry it"), "{ran:?}");
    assert!(!ran.notes.contains("retry"), "{ran:?}");
    let sender = "was sent by arn:aws:sts::1:assumed-role/old-meter/i-0 from 192.0.2.7 with Boto3/1.44";
    for what in ["what differs", "what matches"] {
        assert!(ran.notes.contains(&format!("{what} {sender}")), "{ran:?}");
    }
    let json = run_line(&format!("{line} --output json"), &address).await;
    let lines: Vec<serde_json::Value> =
        json.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let finding = &lines[0];
    assert_eq!((&finding["finding"], lines.len()), (&"conflict".into(), 2), "{finding}");
    assert_eq!(
        (&finding["ledger"]["quantity"], &finding["cloudtrail"]["quantity"]),
        (&"5".into(), &"99".into())
    );
    let sender = &finding["cloudtrail"]["sender"];
    assert_eq!(sender["source_ip_address"], "192.0.2.7");
    assert_eq!(sender["arn"], "arn:aws:sts::1:assumed-role/old-meter/i-0");
    assert_eq!(lines[1]["summary"]["matched_senders"][0]["records"], 1);
}

#[tokio::test]
async fn what_either_side_lacks_is_listed() {
    let address = CannedAgent::default().serve().await;
    let stranger = LedgerRecord { account_id: "999999999999".to_owned(), ..accepted() };
    let held = LedgerRecord { timestamp_unix_seconds: held().hour_unix_seconds, ..held() };
    let file = cloudtrail(&[(&held, "receipt-12"), (&stranger, "receipt-9")]);
    let line = format!("{RECONCILE_ALL} {}", file.path().display());
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
