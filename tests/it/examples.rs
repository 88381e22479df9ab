//! The examples, each as its language runs it, against an agent with a sandbox. What a machine has no tools for is named
//! on standard error; nextest shows it (`.config/nextest.toml`).

use std::{
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use tallyman::internals::{Clock, ClockSpec, Faults, Hour};

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home},
    events::{ACME, billed_units},
    eventually,
    python::{cache, interpreter, python, root},
    sandbox,
};

#[tokio::test(flavor = "multi_thread")]
async fn python_bills_once_and_names_what_does_not_count() {
    let example = || python("examples/python/send_usage.py");
    holds(&example, "again in", "event 0: ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rust_bills_once_and_names_what_does_not_count() {
    let binary = PathBuf::from(env!("CARGO_BIN_EXE_tallyman"));
    let example = binary.parent().unwrap().join("examples/send_usage");
    // The client retries without a word.
    holds(&|| Command::new(&example), "", "event order-2-0: ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_bills_once_and_names_what_does_not_count() {
    if !is_there("node") {
        return eprintln!("NOT RUN: there is no node here, so examples/node is not tried");
    }
    let modules = cache().join("node/node_modules");
    assert!(modules.join("@grpc/grpc-js").exists(), "{} is missing: run `make setup`", modules.display());
    let example = || {
        let mut command = Command::new("node");
        command.arg(root().join("examples/node/send_usage.js")).env("NODE_PATH", &modules);
        command
    };
    holds(&example, "again in", "event 0: ").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn go_bills_once_and_names_what_does_not_count() {
    for tool in ["go", "protoc-gen-go", "protoc-gen-go-grpc"] {
        if !is_there(tool) {
            return eprintln!("NOT RUN: there is no {tool} here, so examples/go is not tried");
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let example = build_go(folder.path());
    holds(&|| Command::new(&example), "again in", "event 0: ").await;
}

#[test]
fn each_is_under_sixty_lines() {
    for example in
        ["python/send_usage.py", "node/send_usage.js", "../client/examples/send_usage.rs", "go/send_usage.go"]
    {
        let text = std::fs::read_to_string(root().join("examples").join(example)).unwrap();
        assert!(text.lines().count() < 60, "{example}");
    }
}

/// Begins before the agent does, comes again with the same ids, has events rejected, and is refused as a whole.
async fn holds(example: &dyn Fn() -> Command, again: &str, rejected: &str) {
    let clock = same_hour();
    let (sandbox, _tasks) = sandbox(clock, Faults::default()).await;
    let mut home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    home.set("GRPC__MAX_EVENTS_PER_REQUEST", "3");
    home.set("HOUR__MAX_FUTURE", "1h");
    home.set("HOUR__DEDUP_WINDOW", "7d");
    let run = |dimension: &str, work: &str, quantities: &[&str]| {
        let mut command = example();
        command.args([&home.grpc, ACME, dimension, work]).args(quantities);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };

    let mut early = run("requests", "order-1", &["5", "7", "30"]).spawn().unwrap();
    let mut notes = BufReader::new(early.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains(again) {
        assert_ne!(notes.read_line(&mut said).unwrap(), 0, "it did not try again: {said}");
    }
    let _agent = home.start().await;
    let (code, printed) =
        tokio::task::spawn_blocking(|| text(&early.wait_with_output().unwrap())).await.unwrap();
    notes.read_to_string(&mut said).unwrap();
    said.push_str(&printed);
    assert!(code == 0 && said.contains("accepted 3, duplicates 0, rejected 0"), "{code}: {said}");
    let twice = text(&run("requests", "order-1", &["5", "7", "30"]).output().unwrap());
    assert!(twice.0 == 0 && twice.1.contains("accepted 0, duplicates 3, rejected 0"), "{twice:?}");
    let unknown = text(&run("no such", "order-2", &["1", "1"]).output().unwrap());
    assert!(unknown.0 == 1 && unknown.1.contains(rejected), "{unknown:?}");
    let too_many = text(&run("requests", "order-3", &["1"; 40]).output().unwrap());
    assert!(too_many.0 == 1 && too_many.1.contains("grpc.max_events_per_request"), "{too_many:?}");
    assert!(!too_many.1.contains("again in"), "it is wrong for ever: {too_many:?}");
    eventually("it is billed once", async || {
        let billed = billed_units(&sandbox);
        (billed.get(&(ACME.to_owned(), "requests".to_owned())) == Some(&42)).then_some(())
    })
    .await;
}

/// A minute passes each second, and the hour is the real one: a client may stamp events with the real time.
fn same_hour() -> ClockSpec {
    let start = Hour::containing(Clock::SYSTEM.now()).start().plus(Duration::from_mins(48));
    ClockSpec::starting_now(start, 60.0)
}

fn text(output: &Output) -> (i32, String) {
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    (output.status.code().unwrap(), said)
}

fn is_there(tool: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(tool).is_file())
}

/// As examples/README.md says.
fn build_go(folder: &Path) -> PathBuf {
    let script = format!(
        r#"set -e
        cp "{root}/examples/go/send_usage.go" .
        "{python}" -m grpc_tools.protoc -I "{root}/proto" tallyman/v1/tallyman.proto \
            --go_out=. --go_opt=module=sendusage,Mtallyman/v1/tallyman.proto=sendusage/pb \
            --go-grpc_out=. --go-grpc_opt=module=sendusage,Mtallyman/v1/tallyman.proto=sendusage/pb
        go mod init sendusage && go mod tidy && go build -o send_usage ."#,
        root = root().display(),
        python = interpreter().display(),
    );
    let built = Command::new("bash").args(["-c", &script]).current_dir(folder).output().unwrap();
    let (code, said) = text(&built);
    assert_eq!(code, 0, "{said}");
    folder.join("send_usage")
}
