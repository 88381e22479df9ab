//! Traces, as a collector and an application of OpenTelemetry's own making see them.
#![cfg(feature = "otlp")]

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdin, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::Value;
use tallyman::internals::Faults;
use tallyman_client::proto::RecordState;

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home, free_address},
    events::{ACME, event, record},
    eventually, fast_clock,
    python::{python, root},
    sandbox,
};

const CUSTOMER: &str = "314159265358";
const CALL: &str = "tallyman.v1.UsageService/Record";

/// Ends with its standard input, at the end of the test.
struct Collector {
    process: Child,
    _stdin: ChildStdin,
    port: String,
    spans: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    fn start(options: &[&str]) -> Self {
        let mut command = python("tests/python/collector.py");
        command.args(options).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let stdin = process.stdin.take().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let port = lines.next().unwrap().unwrap();
        let spans = Arc::default();
        let gathered: Arc<Mutex<Vec<Value>>> = Arc::clone(&spans);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                gathered.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        Self { process, _stdin: stdin, port, spans }
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn spans(&self) -> Vec<Value> {
        self.spans.lock().unwrap().clone()
    }

    fn named(&self, name: &str) -> Vec<Value> {
        self.spans().into_iter().filter(|span| span["name"] == name).collect()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// Lets an application send usage, and returns the spans that it did so in.
fn send_traced(home: &Home) -> Value {
    let mut application = python("tests/python/traced_client.py");
    application.arg("--agent").arg(&home.grpc).arg("--proto-dir").arg(root().join("proto"));
    let output = application.args(["--customer", CUSTOMER]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The names of a span's children, in the order of the alphabet.
fn children<'a>(spans: &'a [Value], of: &Value) -> Vec<&'a str> {
    let mut names: Vec<_> = spans
        .iter()
        .filter(|span| span["parent"] == of["span"])
        .map(|span| {
            assert_eq!(span["trace"], of["trace"]);
            span["name"].as_str().unwrap()
        })
        .collect();
    names.sort_unstable();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_sees_requests_commits_seals_and_calls_to_aws_and_no_customer() {
    let clock = fast_clock(600.0);
    let (sandbox, _tasks) = sandbox(clock, Faults::default()).await;
    let collector = Collector::start(&[]);
    let mut home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    home.set("TELEMETRY__OTLP_ENDPOINT", &collector.url());
    home.set("TELEMETRY__SAMPLE_RATIO", "0");
    home.environment.push(("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "100".to_owned()));
    home.environment.push(("OTEL_RESOURCE_ATTRIBUTES".to_owned(), "deployment.environment=test".to_owned()));
    let _agent = home.start().await;

    let told = send_traced(&home);
    home.wait_for_records(RecordState::Accepted).await;
    for name in ["seal", "submission", "commit", CALL] {
        eventually(name, async || (!collector.named(name).is_empty()).then_some(())).await;
    }
    let is_whole = |spans: &[Value]| {
        let submission = spans.iter().find(|span| span["name"] == "submission").unwrap();
        children(spans, submission).contains(&"commit")
    };
    eventually("a submission and its commits", async || is_whole(&collector.spans()).then_some(())).await;

    // Only the call that its caller traces, as a child of the caller's span.
    let calls = collector.named(CALL);
    assert_eq!(calls.len(), 1, "{calls:?}");
    let call = &calls[0];
    assert_eq!([&call["trace"], &call["parent"]], [&told["sampled"][0], &told["sampled"][1]]);
    let attributes = &call["attributes"];
    assert_eq!(
        [&attributes["accepted"], &attributes["rejected"], &attributes["rpc.grpc.status_code"]],
        [2, 0, 0]
    );
    assert_eq!(call["resource"]["service.name"], "tallyman");
    assert_eq!(call["resource"]["deployment.environment"], "test");
    assert!(collector.named("RecordStream message").is_empty(), "their ratio is 0");

    let spans = collector.spans();
    assert_eq!(children(&spans, call), ["commit"]);
    let commit = spans.iter().find(|span| span["parent"] == call["span"]).unwrap();
    assert_eq!(children(&spans, commit), ["sync", "write"]);
    assert_eq!(commit["attributes"]["events"], 2);
    let seal = &collector.named("seal")[0];
    assert!(seal["attributes"]["hours"].as_i64().unwrap() > 0, "{seal}");
    let submission = &collector.named("submission")[0];
    assert_eq!(
        [&submission["attributes"]["product"], &submission["attributes"]["result"]],
        ["prod-sandbox", "answered"]
    );
    assert_eq!(children(&spans, submission), ["BatchMeterUsage", "commit", "commit"]);
    for span in &spans {
        assert!(!span.to_string().contains(CUSTOMER), "{span}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_streams_messages_are_traces_of_their_own_that_lead_back_to_it() {
    let collector = Collector::start(&[]);
    let mut home = Home::new(ACCOUNT_PRODUCT, "http://127.0.0.1:9", None);
    home.set("TELEMETRY__OTLP_ENDPOINT", &collector.url());
    home.set("TELEMETRY__SAMPLE_RATIO", "1");
    let agent = home.start().await;
    let told = send_traced(&home);
    // What is left goes out at the end.
    assert!(agent.terminate().await.success());
    eventually("the messages' spans", async || {
        (collector.named("RecordStream message").len() == 2).then_some(())
    })
    .await;
    let messages = collector.named("RecordStream message");
    for message in &messages {
        assert_eq!(message["links"], Value::Array(vec![told["stream"][1].clone()]), "{message}");
        assert_eq!([&message["parent"], &message["attributes"]["accepted"]], [&Value::from(""), &1.into()]);
    }
    assert_ne!(messages[0]["trace"], messages[1]["trace"]);
    let calls = collector.named(CALL);
    assert_eq!(calls.len(), 2, "not the one whose caller says that it is not traced: {calls:?}");
    assert!(calls.iter().any(|call| call["parent"] == ""), "a broken header is none");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_behind_tls_must_be_known_to_the_machines_authorities() {
    let folder = tempfile::tempdir().unwrap();
    let mut certificates = python("tests/python/certificates.py");
    assert!(certificates.arg(folder.path()).args(["ca", "server"]).status().unwrap().success());
    let collector = Collector::start(&["--tls", folder.path().to_str().unwrap()]);
    for (authorities, fate) in [("ca.crt", "sent"), ("server.key", "lost")] {
        let mut home = Home::new(ACCOUNT_PRODUCT, "http://127.0.0.1:9", None);
        home.set("TELEMETRY__OTLP_ENDPOINT", &format!("https://127.0.0.1:{}", collector.port));
        home.set("TELEMETRY__SAMPLE_RATIO", "1");
        let file = folder.path().join(authorities).display().to_string();
        home.environment.push(("SSL_CERT_FILE".to_owned(), file));
        home.environment.push(("OTEL_BSP_SCHEDULE_DELAY".to_owned(), "50".to_owned()));
        let _agent = home.start().await;
        eventually(fate, async || {
            record(&home, vec![event(ACME, "requests", 1, "")]).await.unwrap();
            let metric = format!("tallyman_spans_total{{fate=\"{fate}\"}}");
            (home.metric(&metric).await? > 0.0).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_or_never_answers_delays_nothing_and_is_told_once() {
    let stuck = Collector::start(&["--stuck"]);
    for endpoint in [format!("http://{}", free_address()), stuck.url()] {
        let mut home = Home::new(ACCOUNT_PRODUCT, "http://127.0.0.1:9", None);
        home.set("TELEMETRY__OTLP_ENDPOINT", &endpoint);
        home.set("TELEMETRY__SAMPLE_RATIO", "1");
        for (name, value) in [("OTEL_BSP_SCHEDULE_DELAY", "50"), ("OTEL_BSP_MAX_QUEUE_SIZE", "8")] {
            home.environment.push((name.to_owned(), value.to_owned()));
        }
        let agent = home.start().await;
        let told = "the trace collector takes no spans";
        eventually("a warning", async || {
            assert_eq!(record(&home, vec![event(ACME, "requests", 1, "")]).await.unwrap().accepted, 1);
            home.log().contains(told).then_some(())
        })
        .await;
        eventually("a count of what is lost", async || {
            (home.metric("tallyman_spans_total{fate=\"lost\"}").await? > 0.0).then_some(())
        })
        .await;
        assert!(agent.terminate().await.success(), "{}", home.log());
        assert_eq!(home.log().matches(told).count(), 1, "{}", home.log());
        assert!(!home.log().contains("ERROR"), "{}", home.log());
    }
}
