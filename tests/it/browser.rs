//! The status page: over HTTP, and in a browser.

use std::process::Stdio;

use serde_json::Value;
use tallyman::internals::Faults;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home, binary, get},
    clock_at,
    events::{ACME, event, record},
    eventually,
    python::python,
    sandbox,
};

const NOWHERE: &str = "http://127.0.0.1:9";
/// As many as may look at the page at a time.
const VIEWERS: usize = 32;

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_finds_the_status_page_live_true_and_readable() {
    let mut check = python("tests/python/status_page.py");
    check.arg("--binary").arg(binary().get_program()).stdin(Stdio::null());
    let output = check.output().unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test]
async fn the_page_lets_nothing_in_and_tells_machines_the_same() {
    let home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let _agent = home.start().await;
    record(&home, vec![event(ACME, "requests", 3, "")]).await.unwrap();
    let page = home.admin("/").await.unwrap();
    let (head, body) = page.split_once("\r\n\r\n").unwrap();
    let head = head.to_lowercase();
    for part in [
        "content-security-policy: default-src 'none'; script-src 'sha256-",
        "frame-ancestors 'none'",
        "cache-control: no-store",
        "x-content-type-options: nosniff",
        "content-type: text/html; charset=utf-8",
    ] {
        assert!(head.contains(part), "{part} is not in\n{head}");
    }
    assert!(!head.contains("unsafe"), "{head}");
    assert!(body.contains("Is everything billed?") && !body.contains(ACME), "{body}");
    let summary: Value = serde_json::from_str(&get(&home.admin, "/api/summary").await.unwrap()).unwrap();
    assert_eq!(summary["billed"]["answer"], "Yes.");
    assert_eq!(summary["hours"].as_array().unwrap().len(), 48);
    assert_eq!(summary["products"][0]["dimensions"][0]["open"], "3");
    assert!(!summary.to_string().contains(ACME));
}

/// A customer whose usage waits: on the page where that is asked for, and nowhere else.
#[tokio::test]
async fn a_customer_whose_usage_waits_is_named_only_where_it_is_asked_for() {
    for shows in ["false", "true"] {
        let clock = clock_at("2026-11-22T10:58:00Z", 240.0);
        let (sandbox, _tasks) = sandbox(clock, Faults { error: 1.0, ..Faults::default() }).await;
        let mut home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
        home.set("ADMIN__SHOW_CUSTOMERS", shows);
        home.set("HOUR__GRACE", "0s");
        let _agent = home.start().await;
        record(&home, vec![event(ACME, "requests", 3, "")]).await.unwrap();
        eventually("its record waits", async || {
            (home.metric("tallyman_records_unsent{").await > Some(0.0)).then_some(())
        })
        .await;
        let mut page = String::new();
        eventually("the page shows that it waits", async || {
            page = get(&home.admin, "/").await.unwrap();
            page.contains("wait for AWS").then_some(())
        })
        .await;
        assert_eq!(page.contains(ACME), shows == "true", "{page}");
        for machine in ["/api/summary", "/metrics"] {
            let told = get(&home.admin, machine).await.unwrap();
            assert!(!told.contains(ACME), "{machine}: {told}");
        }
    }
}

/// Opens the stream of updates; the first bytes of the answer.
async fn look(home: &Home) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(&home.admin).await.unwrap();
    stream.write_all(b"GET /api/events HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    let mut start = [0; 64];
    let read = stream.read(&mut start).await.unwrap();
    (stream, String::from_utf8_lossy(&start[..read]).into_owned())
}

#[tokio::test]
async fn a_new_viewer_takes_the_place_of_the_first_and_none_of_them_holds_up_the_end() {
    let home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let agent = home.start().await;
    let mut viewers = Vec::new();
    for _ in 0..VIEWERS {
        let (stream, start) = look(&home).await;
        assert!(start.starts_with("HTTP/1.1 200"), "{start}");
        viewers.push(stream);
    }
    let (stream, start) = look(&home).await;
    assert!(start.starts_with("HTTP/1.1 200"), "{start}");
    viewers.push(stream);
    let mut first = Vec::new();
    viewers.remove(0).read_to_end(&mut first).await.unwrap();
    assert!(first.ends_with(b"0\r\n\r\n"), "it made room");
    assert!(home.is_ready().await, "the others are answered all the same");
    assert!(agent.terminate().await.success(), "{}", home.log());
    assert!(!home.log().contains("not finished in time"), "{}", home.log());
    let mut told = Vec::new();
    viewers[0].read_to_end(&mut told).await.unwrap();
    let told = String::from_utf8_lossy(&told).into_owned();
    assert!(told.contains("data: {") && told.ends_with("0\r\n\r\n"), "the stream has no end: {told}");
}
