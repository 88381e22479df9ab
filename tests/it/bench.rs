//! `tallyman bench`, as its user runs it.

use serde_json::Value;

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home, binary},
    clock_at,
};

const NOWHERE: &str = "http://127.0.0.1:9";

/// The exit code, what it printed, and what it said beside that.
fn bench(home: &Home, line: &str) -> (i32, Value, String) {
    let mut command = binary();
    command.args(["bench", "--output", "json", "--address", &home.grpc]).args(line.split_whitespace());
    let output = command.output().unwrap();
    let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
    (output.status.code().unwrap(), report, String::from_utf8(output.stderr).unwrap())
}

/// No hour of it ends during the test.
fn home() -> Home {
    Home::new(ACCOUNT_PRODUCT, NOWHERE, Some(clock_at("2026-11-22T10:10:00Z", 1.0)))
}

fn sandboxed() -> Home {
    let mut home = home();
    home.extra_args.push("--sandbox".to_owned());
    home
}

/// The units that the agent has counted, and of how many customers.
async fn counted(home: &Home) -> (u64, u64) {
    let summary = home.summary().await.unwrap();
    let product = &summary.products[0];
    (product.dimensions[0].open.parse().unwrap(), product.customers)
}

#[tokio::test]
async fn what_bench_sends_counts_exactly_as_often_as_it_says() {
    let home = sandboxed();
    let _agent = home.start().await;
    let runs = [
        ("--mode stream --ids --batch 100 --connections 2 --events 12345", 12_345, 124),
        ("--mode unary --ids --batch 7 --connections 2 --in-flight 3 --events 500", 500, 72),
        ("--mode unary --batch 10 --rate 20000 --events 1005", 1005, 101),
        ("--mode stream --batch 1000 --rate 20000 --events 2000", 2000, 2),
    ];
    let mut units = 0;
    for (line, events, requests) in runs {
        let line = format!("--dimension requests --quantity 3 --customers 20 {line}");
        let (exit, report, notes) = bench(&home, &line);
        assert_eq!((exit, notes.as_str()), (0, ""), "{line}: {report}");
        for key in ["sent", "accepted"] {
            assert_eq!(report[key], events, "{line}: {report}");
        }
        assert_eq!(report["requests"], requests, "{line}: {report}");
        for key in ["duplicates", "rejected", "unanswered"] {
            assert_eq!(report[key], 0, "{line}: {report}");
        }
        let latency = |name: &str| report["latency_ms"][name].as_f64().unwrap();
        assert!(latency("p50") > 0.0 && latency("p50") <= latency("longest"), "{report}");
        units += 3 * events;
        assert_eq!(counted(&home).await, (units, 20), "{line}");
    }
}

#[tokio::test]
async fn an_agent_that_bills_aws_gets_nothing_unless_it_is_meant() {
    let home = home();
    let _agent = home.start().await;
    let (exit, report, notes) = bench(&home, "--dimension requests --events 10");
    assert_eq!((exit, report), (64, Value::Null), "{notes}");
    assert!(notes.contains("bills AWS") && notes.contains("--yes-bill-this"), "{notes}");
    assert_eq!(counted(&home).await, (0, 0));
    let (exit, report, notes) = bench(&home, "--dimension requests --events 10 --yes-bill-this");
    assert_eq!((exit, &report["accepted"]), (0, &Value::from(10)), "{notes}");
    assert_eq!(counted(&home).await.0, 10);
}

#[tokio::test]
async fn events_that_do_not_count_are_no_success() {
    let home = sandboxed();
    let _agent = home.start().await;
    for mode in ["stream", "unary"] {
        let (exit, report, notes) =
            bench(&home, &format!("--dimension requests,nothing --events 1000 --mode {mode}"));
        let number = |key: &str| report[key].as_u64().unwrap();
        assert_eq!(exit, 1, "{mode}: {report} {notes}");
        assert!(number("rejected") > 0 && number("accepted") > 0, "{mode}: {report}");
        assert_eq!(number("rejected") + number("accepted"), 1000, "{mode}: {report}");
    }
    let (exit, report, _) = bench(&home, "--dimension requests --mode unary --batch 20000 --events 20000");
    assert_eq!((exit, &report["unanswered"]), (1, &Value::from(20_000)));
    let fault = report["faults"][0]["message"].as_str().unwrap();
    assert!(fault.contains("max_events_per_request"), "{fault}");
}
