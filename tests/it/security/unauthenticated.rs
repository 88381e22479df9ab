//! Hostile clients without a token: what they take up, and what is left for others.

use std::{fs, process::Stdio, time::Duration};

use tokio::task::JoinSet;
use tonic::{Code, Request};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest,
};

use super::{NOWHERE, send};
use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home, binary, free_address},
    events::{ACME, event},
    eventually,
    hostile::{Attack, resident_mib},
};

const TOKEN: &str = "s3cret";

fn guarded() -> Home {
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    fs::write(home.path().join("token"), TOKEN).unwrap();
    home.set("GRPC__TOKEN_FILE", &home.path().join("token").display().to_string());
    home
}

async fn is_served(home: &Home) -> bool {
    let Some(channel) = home.channel().await else { return false };
    send(channel, TOKEN, vec![event(ACME, "requests", 1, "")]).await.is_ok()
}

async fn closed(home: &Home, reason: &str) -> f64 {
    home.metric(&format!("tallyman_connections_closed_total{{reason=\"{reason}\"}}")).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn unauthenticated_connections_take_up_little_memory_and_hold_up_nobody() {
    const CONNECTIONS: u64 = 60;
    let home = guarded();
    let agent = home.start().await;
    let settled = home.channel().await.unwrap();
    assert!(is_served(&home).await);
    let before = resident_mib(agent.child.id());
    for kind in ["reflection", "health", "headers", "answers", "watch", "refused"] {
        let connections = CONNECTIONS.to_string();
        let attack =
            Attack::start(kind, &home.grpc, agent.child.id(), &["--connections", &connections]).await;
        for _ in 0..10 {
            assert!(is_served(&home).await, "a new connection beside {kind}");
            send(settled.clone(), TOKEN, vec![event(ACME, "requests", 1, "")]).await.expect(kind);
        }
        // Some wait for `request_timeout`, and none takes more than an eighth of a MiB.
        let grown = resident_mib(agent.child.id()).saturating_sub(before);
        assert!(grown <= CONNECTIONS / 8 + 8, "{kind}: {grown} MiB more than before");
        attack.end();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_without_end_are_sent_away() {
    let home = guarded();
    let agent = home.start().await;
    let mut flooded = 0.0;
    for kind in ["priority", "window", "reset", "unknown", "settings", "ping"] {
        let attack = Attack::start(kind, &home.grpc, agent.child.id(), &["--connections", "4"]).await;
        assert!(is_served(&home).await);
        flooded += 4.0;
        eventually(kind, async || {
            // HTTP/2 itself may end a connection before.
            let ended = closed(&home, "flood").await >= flooded || kind == "reset";
            (ended && home.metric("tallyman_connections ").await <= Some(1.0)).then_some(())
        })
        .await;
        flooded = closed(&home, "flood").await;
        assert_eq!(attack.end()["open"], 0, "{kind}");
    }
}

/// With a client of its own that makes calls, since those of an unauthenticated client end for want of a token.
#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_takes_end_their_connection() {
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    home.set("LIMITS__RESPONSE_TIMEOUT", "2s");
    let agent = home.start().await;
    let resting = home.channel().await.unwrap();
    send(resting.clone(), "", vec![event(ACME, "requests", 1, "")]).await.unwrap();
    let mut stalled = 0.0;
    for kind in ["answers", "reflection", "refused"] {
        let attack =
            Attack::start(kind, &home.grpc, agent.child.id(), &["--connections", "4", "--calls", "4"]).await;
        stalled += 4.0;
        eventually(kind, async || (closed(&home, "stalled").await >= stalled).then_some(())).await;
        drop(attack);
    }
    send(resting, "", vec![event(ACME, "requests", 1, "")]).await.expect("it had nothing to take meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_may_begin_with_many_calls_at_once() {
    let home = guarded();
    let _agent = home.start().await;
    for _ in 0..5 {
        let channel = home.channel().await.unwrap();
        let mut calls = JoinSet::new();
        for _ in 0..200 {
            calls.spawn(send(channel.clone(), TOKEN, vec![event(ACME, "requests", 1, ""); 100]));
        }
        for answer in calls.join_all().await {
            assert_eq!(answer.unwrap().accepted, 100);
        }
    }
    assert_eq!((closed(&home, "flood").await, closed(&home, "stalled").await), (0.0, 0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_whose_token_is_wrong_is_told_so_as_often_as_it_asks() {
    let home = guarded();
    let _agent = home.start().await;
    let channel = home.channel().await.unwrap();
    for _ in 0..50 {
        let refused = send(channel.clone(), "wrong", Vec::new()).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused}");
    }
    assert!(send(channel, TOKEN, Vec::new()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_may_call_is_told_which_services_there_are() {
    let home = guarded();
    let _agent = home.start().await;
    let ask = async |token: &str| {
        let question = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut request = Request::new(tokio_stream::iter([question]));
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        let mut client = ServerReflectionClient::new(home.channel().await.unwrap());
        client.server_reflection_info(request).await?.into_inner().message().await
    };
    assert_eq!(ask("wrong").await.unwrap_err().code(), Code::Unauthenticated);
    assert!(format!("{:?}", ask(TOKEN).await.unwrap()).contains("tallyman.v1.UsageService"));
}

#[tokio::test]
async fn a_sandbox_that_other_machines_reach_says_what_that_means() {
    for (ip, warns) in [("127.0.0.1", false), ("0.0.0.0", true)] {
        let listen = free_address().replace("127.0.0.1", ip);
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut sandbox = binary();
        sandbox.args(["sandbox", "--listen", &listen]).stdin(Stdio::null()).stderr(log.reopen().unwrap());
        let mut sandbox = sandbox.spawn().unwrap();
        let text = eventually("the sandbox is ready", async || {
            let text = fs::read_to_string(log.path()).unwrap();
            text.contains("the sandbox is ready").then_some(text)
        })
        .await;
        sandbox.kill().unwrap();
        sandbox.wait().unwrap();
        assert_eq!(text.contains("WARN") && text.contains("takes any signature"), warns, "{text}");
    }
}

#[tokio::test]
async fn a_token_file_that_is_a_pipe_is_refused_at_once() {
    let home = guarded();
    let token = home.path().join("token");
    fs::remove_file(&token).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&token).status().unwrap().success());
    let mut agent = home.spawn();
    let ended = tokio::time::timeout(Duration::from_mins(1), agent.ended()).await.unwrap();
    assert_eq!(ended.code(), Some(64), "{}", home.log());
    assert!(home.log().contains("token: is no regular file"), "{}", home.log());
}
