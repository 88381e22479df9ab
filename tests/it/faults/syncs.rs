//! Nothing is answered, and nothing is sent to AWS, before it is on disk: by the system calls of the real agent, in their
//! order.

use std::collections::HashMap;

use tallyman::internals::Faults;
use tallyman_client::proto::{
    CloseCustomerRequest, Customer, PutCustomerRequest, RecordStreamRequest, UsageEvent,
};
use tokio_stream::StreamExt;
use tonic::{Code, Status};

use super::{NOWHERE, disk::Disk};
use crate::support::{
    agent::{ACCOUNT_PRODUCT, Agent, Home},
    clock_at,
    events::{ACME, GLOBEX, event, record},
    eventually, sandbox,
    strace::{self, Call},
};

/// In the middle of an hour, so that nothing is sealed beside what a test asks for.
const MID_HOUR: &str = "2026-11-22T10:20:00Z";

/// Each call whose answer tells of a change.
const CALLS: [&str; 5] = ["usage", "usage with ids", "a stream", "a registration", "a closing"];

async fn ask(home: &Home, call: &str, round: usize) -> Result<(), Status> {
    let id = if call == "usage with ids" { format!("once-{round}") } else { String::new() };
    let usage = vec![event(ACME, "requests", 1, &id)];
    match call {
        "a stream" => stream(home, format!("producer-{round}"), usage).await,
        "a registration" => {
            let customer =
                Customer { key: GLOBEX.to_owned(), since_unix_seconds: since(round), ..Customer::default() };
            let request = PutCustomerRequest { customer: Some(customer) };
            home.customers().await.put_customer(request).await.map(drop)
        }
        "a closing" => {
            let key = format!("33333333333{round}");
            let customer = Customer { key: key.clone(), ..Customer::default() };
            let mut customers = home.customers().await;
            customers.put_customer(PutCustomerRequest { customer: Some(customer) }).await?;
            let request = CloseCustomerRequest { key, ..CloseCustomerRequest::default() };
            customers.close_customer(request).await.map(drop)
        }
        _ => record(home, usage).await.map(drop),
    }
}

/// Another one each time, so that each registration changes something.
fn since(round: usize) -> i64 {
    1_795_000_000 + i64::try_from(round).unwrap()
}

async fn stream(home: &Home, producer_id: String, events: Vec<UsageEvent>) -> Result<(), Status> {
    let message = RecordStreamRequest { producer_id, sequence: 1, events };
    let answers = home.usage().await.record_stream(tokio_stream::iter([message])).await?;
    let answers: Vec<_> = answers.into_inner().collect().await;
    answers.into_iter().try_for_each(|answer| answer.map(drop))
}

/// Starts the agent under strace, or says why it cannot be traced here.
async fn traced(home: &Home) -> Option<(Agent, std::path::PathBuf)> {
    if let Some(obstacle) = strace::obstacle() {
        eprintln!(
            "no process may be traced here, so syncs that fail stand in for syncs that are seen: {obstacle}"
        );
        return None;
    }
    let started = strace::spawn(home);
    eventually("ready", async || home.is_ready().await.then_some(())).await;
    Some(started)
}

/// The calls of a trace that has come to its end.
async fn ended(agent: Agent, trace: &std::path::Path, home: &Home) -> Vec<Call> {
    assert!(agent.terminate().await.success(), "{}", home.log());
    // The tracer writes its last line after the agent has gone.
    eventually("the trace ends", async || {
        let text = std::fs::read_to_string(trace).unwrap();
        text.lines().last()?.contains("+++ exited with 0 +++").then_some(())
    })
    .await;
    strace::calls(trace)
}

fn is_log(call: &Call) -> bool {
    call.about.strip_suffix(".log").is_some() && call.about.contains("/db/")
}

fn is_write(call: &Call) -> bool {
    is_log(call) && call.name.contains("write")
}

/// Acts before which some write of the log had not been synced, each with how many writes there were.
fn unsynced(calls: &[Call], is_act: impl Fn(&Call) -> bool) -> Vec<String> {
    let mut faults = Vec::new();
    for act in calls.iter().filter(|call| is_act(call)) {
        let begun = act.lines.start;
        let writes = calls.iter().filter(|call| is_write(call) && call.lines.start < begun);
        // The last write of each log: what syncs it syncs those before.
        let last: HashMap<&str, &Call> = writes.map(|call| (&*call.about, call)).collect();
        for (log, write) in last {
            let is_sync = |call: &&Call| {
                ["fdatasync", "fsync"].contains(&&*call.name)
                    && (call.about == log && call.result == 0)
                    && (call.lines.start > write.lines.end && call.lines.end < begun)
            };
            if !calls.iter().any(|call| is_sync(&call)) {
                faults.push(format!("{log} was not synced when {} was done: {act:?}", act.name));
            }
        }
    }
    faults
}

/// Whether the bytes to a client have data or trailers in them, as each answer has. Headers that begin an answer tell
/// nothing yet.
fn is_answer(call: &Call, grpc: &str) -> bool {
    const DATA: u8 = 0;
    const HEADERS: u8 = 1;
    const END_STREAM: u8 = 1;
    if !call.about.starts_with(&format!("TCP:[{grpc}->")) {
        return false;
    }
    let mut rest = &call.bytes[..];
    while let [high, middle, low, kind, flags, _, _, _, _, behind @ ..] = rest {
        if *kind == DATA || (*kind == HEADERS && flags & END_STREAM != 0) {
            return true;
        }
        let length = u32::from_be_bytes([0, *high, *middle, *low]);
        rest = behind.get(usize::try_from(length).unwrap()..).unwrap_or_default();
    }
    false
}

#[tokio::test]
async fn each_answer_comes_after_the_sync_of_what_it_tells() {
    const ROUNDS: usize = 5;
    let home = Home::new(ACCOUNT_PRODUCT, NOWHERE, Some(clock_at(MID_HOUR, 1.0)));
    let Some((agent, trace)) = traced(&home).await else { return no_answer_without_a_sync().await };
    for round in 0..ROUNDS {
        for call in CALLS {
            ask(&home, call, round).await.unwrap();
        }
    }
    let calls = ended(agent, &trace, &home).await;
    let is_answer = |call: &Call| is_answer(call, &home.grpc);
    let (answers, writes) =
        (calls.iter().filter(|call| is_answer(call)), calls.iter().filter(|it| is_write(it)));
    let (answers, writes) = (answers.count(), writes.count());
    // A closing is two changes.
    let changes = ROUNDS * (CALLS.len() + 1);
    assert!(answers >= changes && writes >= changes, "{answers} answers and {writes} writes were seen");
    assert_eq!(unsynced(&calls, is_answer), Vec::<String>::new());
}

#[tokio::test]
async fn no_record_goes_to_aws_before_its_attempt_is_on_disk() {
    let clock = clock_at("2026-11-22T10:59:50Z", 1.0);
    let (sandbox, _tasks) = sandbox(clock, Faults::default()).await;
    let mut home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    home.set("HOUR__GRACE", "0s");
    let Some((agent, trace)) = traced(&home).await else { return no_answer_without_a_sync().await };
    record(&home, vec![event(ACME, "requests", 7, ""), event(GLOBEX, "calls", 1, "")]).await.unwrap();
    eventually("the hour is billed", async || (sandbox.billed().len() >= 6).then_some(())).await;
    let calls = ended(agent, &trace, &home).await;
    let port = sandbox.url().rsplit(':').next().unwrap().trim_end_matches('/').to_owned();
    let is_submission =
        |call: &Call| call.about.ends_with(&format!(":{port}]")) && call.bytes.starts_with(b"POST ");
    assert!(calls.iter().any(is_submission), "no call of AWS was seen");
    assert_eq!(unsynced(&calls, is_submission), Vec::<String>::new());
}

/// What stands where no process may be traced: an agent that did without a sync would answer.
#[tokio::test]
async fn nothing_is_answered_by_a_disk_that_cannot_sync() {
    no_answer_without_a_sync().await;
}

async fn no_answer_without_a_sync() {
    for call in CALLS {
        let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, Some(clock_at(MID_HOUR, 1.0)));
        let disk = Disk::under(&mut home);
        let agent = home.start().await;
        ask(&home, call, 0).await.unwrap();
        disk.fail("no-sync");
        let refused = ask(&home, call, 1).await.expect_err(call);
        disk.mend();
        assert_eq!(refused.code(), Code::Unavailable, "{call}: {refused}");
        assert_eq!(agent.terminate().await.code(), Some(74), "{call}: {}", home.log());
    }
}

#[test]
fn a_sync_that_is_missing_too_early_or_of_another_log_is_found() {
    let call = |name: &str, about: &str, start: usize, end: usize| Call {
        name: name.to_owned(),
        about: about.to_owned(),
        bytes: Vec::new(),
        result: 0,
        lines: start..end,
    };
    let (log, other) = ("/x/db/1.log", "/x/db/2.log");
    let found = |mut calls: Vec<Call>| {
        calls.push(call("sendto", "client", 9, 9));
        unsynced(&calls, |call| call.about == "client").len()
    };
    assert_eq!(found(vec![]), 0);
    assert_eq!(found(vec![call("write", log, 1, 1)]), 1);
    assert_eq!(found(vec![call("write", log, 1, 1), call("fdatasync", log, 2, 3)]), 0);
    assert_eq!(found(vec![call("write", log, 1, 1), call("fdatasync", other, 2, 3)]), 1);
    assert_eq!(
        found(vec![call("fdatasync", log, 0, 2), call("write", log, 1, 1)]),
        1,
        "it began before the write"
    );
    assert_eq!(found(vec![call("write", log, 1, 1), call("fdatasync", log, 2, 12)]), 1, "it ended too late");
    let failed = Call { result: -1, ..call("fdatasync", log, 2, 3) };
    assert_eq!(found(vec![call("write", log, 1, 1), failed]), 1);
    assert_eq!(
        found(vec![call("write", log, 1, 1), call("fdatasync", log, 2, 3), call("write", log, 4, 4)]),
        1,
        "the last write counts"
    );
}
