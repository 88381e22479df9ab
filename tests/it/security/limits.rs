//! Limits on connections, requests, streams and events, and what is left for others when a client exceeds them.

use std::{
    fs,
    time::{Duration, Instant},
};

use tallyman_client::proto::{
    RecordRequest, RecordStreamRequest, UsageEvent, usage_service_client::UsageServiceClient,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};
use tokio_stream::{StreamExt, wrappers::ReceiverStream};
use tonic::{Code, codegen::http};
use tonic_types::StatusExt;

use super::{NOWHERE, issue, require_certificates, send};
use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home},
    events::{ACME, event, record},
    eventually,
    hostile::resident_mib,
};

fn usage() -> Vec<UsageEvent> {
    events(1)
}

fn events(number: usize) -> Vec<UsageEvent> {
    vec![event(ACME, "requests", 1, ""); number]
}

fn home(limits: &[(&str, &str)]) -> Home {
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    for (key, value) in limits {
        home.set(&format!("LIMITS__{key}"), value);
    }
    home
}

/// Connections that have said the beginning of something, and no more.
async fn stalled(home: &Home, number: usize, beginning: &[u8]) -> Vec<TcpStream> {
    let mut connections = Vec::new();
    for _ in 0..number {
        let mut connection = TcpStream::connect(&home.grpc).await.unwrap();
        connection.write_all(beginning).await.unwrap();
        connections.push(connection);
    }
    connections
}

/// Waits until the agent has closed them all.
async fn closed(connections: Vec<TcpStream>) {
    for mut connection in connections {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(Duration::from_mins(1), connection.read_to_end(&mut rest)).await;
        drop(read.expect("a stalled connection is closed in bounded time"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_stall_at_their_beginning_hold_up_nobody_and_are_closed() {
    let home = home(&[("HANDSHAKE_TIMEOUT", "3s"), ("MAX_CONNECTIONS", "40")]);
    let _agent = home.start().await;
    let settled = home.channel().await.unwrap();
    assert!(send(settled.clone(), "", usage()).await.is_ok());
    for beginning in
        [&b""[..], b"PRI * HTTP/2.0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0", b"GET / HTTP/1.1\r\n"]
    {
        let unauthenticated = stalled(&home, 200, beginning).await;
        // More than max_connections: each new one evicts an unauthenticated one.
        for _ in 0..20 {
            record(&home, usage()).await.expect("a new connection is served");
            send(settled.clone(), "", usage()).await.expect("one that is there goes on");
        }
        closed(unauthenticated).await;
    }
    assert!(
        home.metric("tallyman_connections_closed_total{reason=\"crowded_out\"}").await >= Some(160.0 * 3.0)
    );
    assert_eq!(home.metric("tallyman_connections_closed_total{reason=\"full\"}").await, Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_never_begins_is_closed_though_there_is_room() {
    let mut home = home(&[("HANDSHAKE_TIMEOUT", "1s")]);
    issue(home.path(), "ca", &["server", "app"]);
    require_certificates(&mut home, "server", "ca");
    let _agent = home.start().await;
    // Half of a TLS ClientHello: a record of 512 bytes that does not come.
    closed(stalled(&home, 20, &[0x16, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3]).await).await;
    eventually("all are counted", async || {
        let slow = home.metric("tallyman_connections_closed_total{reason=\"slow\"}").await;
        (slow == Some(20.0)).then_some(())
    })
    .await;
    let app = super::connect(&home, "ca", "app").await.unwrap();
    assert!(send(app, "", usage()).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn authenticated_connections_are_not_evicted() {
    let home = home(&[("MAX_CONNECTIONS", "3")]);
    let _agent = home.start().await;
    let mut settled = Vec::new();
    for _ in 0..3 {
        let channel = home.channel().await.unwrap();
        send(channel.clone(), "", usage()).await.unwrap();
        settled.push(channel);
    }
    assert!(record_on_a_new_connection(&home).await.is_none(), "the limit is reached");
    for channel in &settled {
        send(channel.clone(), "", usage()).await.expect("none is evicted");
    }
    assert_eq!(home.metric("tallyman_connections ").await, Some(3.0));
    assert!(home.log().contains("limits.max_connections"), "{}", home.log());
    settled.pop();
    eventually("a permit is free", async || record_on_a_new_connection(&home).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_an_authenticated_call_protects_a_connection_from_eviction() {
    let mut home = home(&[("MAX_CONNECTIONS", "3")]);
    fs::write(home.path().join("token"), "s3cret").unwrap();
    home.set("GRPC__TOKEN_FILE", &home.path().join("token").display().to_string());
    let _agent = home.start().await;
    let mut unauthenticated = Vec::new();
    for token in ["wrong", "", "wrong"] {
        let channel = home.channel().await.unwrap();
        let mut health = tonic_health::pb::health_client::HealthClient::new(channel.clone());
        health.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap();
        assert_eq!(send(channel.clone(), token, usage()).await.unwrap_err().code(), Code::Unauthenticated);
        unauthenticated.push(channel);
    }
    let mut authenticated = Vec::new();
    for _ in 0..3 {
        let channel = home.channel().await.unwrap();
        send(channel.clone(), "s3cret", usage()).await.expect("unauthenticated connections keep nobody out");
        authenticated.push(channel);
    }
    assert_eq!(home.metric("tallyman_connections_closed_total{reason=\"crowded_out\"}").await, Some(3.0));
    home.channel().await.map(drop).unwrap_or_default();
    eventually("a fourth is refused", async || {
        (home.metric("tallyman_connections_closed_total{reason=\"full\"}").await >= Some(1.0)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_gives_no_sign_of_life_is_left_and_one_that_rests_is_not() {
    let home = home(&[("KEEPALIVE_INTERVAL", "1s"), ("KEEPALIVE_TIMEOUT", "1s")]);
    let _agent = home.start().await;
    // HTTP/2 does not speak up by itself where it only reads.
    let (client, resting) = raw(&home).await;
    let mut beginning = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    beginning.extend(frame(4, 0, 0, &[]));
    closed(stalled(&home, 3, &beginning).await).await;
    let mut client = client.ready().await.unwrap();
    let (answer, mut body) = client.send_request(call(&home, "Record"), false).unwrap();
    body.send_data(vec![0; 5].into(), true).unwrap();
    assert_eq!(status(answer).await, Code::Ok as i32);
    assert!(!resting.is_finished());
}

async fn record_on_a_new_connection(home: &Home) -> Option<()> {
    send(home.channel().await?, "", usage()).await.ok().map(drop)
}

type Raw = h2::client::SendRequest<tonic::codegen::Bytes>;

/// A client that speaks HTTP/2 as it likes.
async fn raw(home: &Home) -> (Raw, tokio::task::JoinHandle<Result<(), h2::Error>>) {
    let stream = TcpStream::connect(&home.grpc).await.unwrap();
    let (client, connection) = h2::client::handshake(stream).await.unwrap();
    (client, tokio::spawn(connection))
}

fn call(home: &Home, method: &str) -> http::Request<()> {
    let uri = format!("http://{}/tallyman.v1.UsageService/{method}", home.grpc);
    let request =
        http::Request::post(uri).header("content-type", "application/grpc").header("te", "trailers");
    request.body(()).unwrap()
}

/// What a call comes to: the status that gRPC was told.
async fn status(answer: h2::client::ResponseFuture) -> i32 {
    let status = |headers: &http::HeaderMap| headers.get("grpc-status")?.to_str().ok()?.parse().ok();
    let answer = tokio::time::timeout(Duration::from_mins(1), answer).await.expect("it ends").unwrap();
    if let Some(status) = status(answer.headers()) {
        return status;
    }
    let mut body = answer.into_body();
    while let Some(data) = body.data().await {
        data.unwrap();
    }
    status(&body.trailers().await.unwrap().unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_stalls_in_its_middle_ends_and_a_stream_may_rest_between_messages() {
    let home = home(&[("REQUEST_TIMEOUT", "1s"), ("MAX_STREAMS_PER_CONNECTION", "50")]);
    let _agent = home.start().await;
    let (messages, stream) = mpsc::channel(1);
    let message = |sequence| RecordStreamRequest { producer_id: "p".to_owned(), sequence, events: usage() };
    messages.send(message(1)).await.unwrap();
    let resting = home.usage().await.record_stream(ReceiverStream::new(stream)).await.unwrap();
    let mut resting = resting.into_inner();
    assert_eq!(resting.next().await.unwrap().unwrap().durable_sequence, 1);

    let (client, _connection) = raw(&home).await;
    let mut client = client.ready().await.unwrap();
    let (mut answers, mut bodies) = (Vec::new(), Vec::new());
    for method in ["Record", "RecordStream"] {
        // Of a message of 100 bytes, some; and nothing at all, which only a stream may do.
        for beginning in [&[0, 0, 0, 0, 100, 1, 2, 3][..], &[0, 0]] {
            let (answer, mut body) = client.send_request(call(&home, method), false).unwrap();
            body.send_data(beginning.to_vec().into(), false).unwrap();
            answers.push(answer);
            bodies.push(body);
        }
    }
    let (answer, body) = client.send_request(call(&home, "Record"), false).unwrap();
    answers.push(answer);
    bodies.push(body);
    record(&home, usage()).await.expect("others are served");
    for answer in answers {
        assert_eq!(status(answer).await, Code::DeadlineExceeded as i32);
    }
    assert_eq!(client.current_max_send_streams(), 50, "as the agent has told it by now");
    messages.send(message(2)).await.unwrap();
    assert_eq!(resting.next().await.unwrap().unwrap().durable_sequence, 2, "it rested longer than that");
    assert_eq!(home.summary().await.unwrap().products[0].dimensions[0].open, "3");
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// HTTP/2 by hand: a client opens calls and takes them back, as fast as it can write.
fn rapid_reset(calls: u32) -> Vec<u8> {
    let path = b"/tallyman.v1.UsageService/Record";
    // POST, http, the path, and content-type as literals that no table keeps.
    let mut headers = vec![0x83, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
    headers.extend(path);
    headers.extend([0x0f, 0x10, 16]);
    headers.extend(b"application/grpc");
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    bytes.extend(frame(4, 0, 0, &[]));
    for call in 0..calls {
        let stream = 2 * call + 1;
        bytes.extend(frame(1, 4, stream, &headers));
        bytes.extend(frame(3, 0, stream, &[0, 0, 0, 8]));
    }
    bytes
}

/// Attacks until the agent ends the connection, and tells with which code it said goodbye.
async fn attack(home: &Home) -> Option<u32> {
    let (mut reader, mut writer) = TcpStream::connect(&home.grpc).await.unwrap().into_split();
    let attack = rapid_reset(50_000);
    let writing = tokio::spawn(async move { writer.write_all(&attack).await.map(|()| writer) });
    let mut code = None;
    loop {
        let mut head = [0; 9];
        if reader.read_exact(&mut head).await.is_err() {
            break;
        }
        let mut payload = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
        if reader.read_exact(&mut payload).await.is_err() {
            break;
        }
        if head[3] == 7 {
            code = Some(u32::from_be_bytes(payload[4..8].try_into().unwrap()));
        }
    }
    drop(writing.await);
    code
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_opened_and_reset_by_the_thousand_end_their_connection_and_nothing_else() {
    const ENHANCE_YOUR_CALM: u32 = 11;
    let home = home(&[]);
    let agent = home.start().await;
    let settled = home.channel().await.unwrap();
    send(settled.clone(), "", usage()).await.unwrap();
    let before = resident_mib(agent.child.id());
    let mut told = Vec::new();
    for _ in 0..5 {
        let attacked = tokio::join!(attack(&home), attack(&home), async {
            for _ in 0..20 {
                send(settled.clone(), "", usage()).await.expect("others are served");
            }
        });
        told.extend([attacked.0, attacked.1]);
    }
    record(&home, usage()).await.expect("a new connection is served");
    let grown = resident_mib(agent.child.id()).saturating_sub(before);
    assert!(grown < 100, "{grown} MiB more than before");
    // A goodbye may be lost where the agent closes while the client is still writing.
    assert!(told.contains(&Some(ENHANCE_YOUR_CALM)), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_too_much_waits_and_the_others_do_not() {
    let home = Home::new("", NOWHERE, None);
    let folder = home.path().display();
    let client = |name: &str, rate: &str| {
        fs::write(home.path().join(name), name).unwrap();
        format!("[[grpc.client]]\nname = \"{name}\"\ntoken_file = \"{folder}/{name}\"\n{rate}\n")
    };
    let clients = client("busy", "events_per_second = 10") + &client("other", "");
    home.configure(&clients, ACCOUNT_PRODUCT, NOWHERE);
    let _agent = home.start().await;
    let channel = home.channel().await.unwrap();
    send(channel.clone(), "busy", events(30)).await.expect("a request passes whole");
    let refused = send(channel.clone(), "busy", events(1)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    let wait = refused.get_details_retry_info().and_then(|info| info.retry_delay).unwrap();
    assert!(wait > Duration::ZERO && wait <= Duration::from_secs(3), "{wait:?}");
    for _ in 0..20 {
        send(channel.clone(), "other", events(100)).await.expect("the other client is not slowed down");
    }
    let throttled = home.metric("tallyman_events_throttled_total{client=\"busy\"}").await;
    assert_eq!(throttled, Some(1.0));
    tokio::time::sleep(wait).await;
    eventually("it passes again", async || send(channel.clone(), "busy", events(1)).await.ok()).await;

    // A stream is not refused. It needs as long as its events are worth, less what was saved.
    let message =
        |sequence| RecordStreamRequest { producer_id: "p".to_owned(), sequence, events: events(10) };
    let mut request = tonic::Request::new(tokio_stream::iter((1..=4).map(message)));
    request.metadata_mut().insert("authorization", "Bearer busy".parse().unwrap());
    let began = Instant::now();
    let answers = UsageServiceClient::new(channel).record_stream(request).await.unwrap().into_inner();
    let accepted: Vec<_> = answers.map(|answer| answer.unwrap().accepted).collect().await;
    assert_eq!(accepted, [10; 4]);
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_message_is_as_large_as_it_may_be_and_no_larger() {
    let home = home(&[("MAX_MESSAGE_BYTES", "65536")]);
    let _agent = home.start().await;
    let large = |bytes: usize| RecordRequest { events: vec![event(ACME, &"x".repeat(bytes), 1, "")] };
    let refused = home.usage().await.record(large(70_000)).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
    assert_eq!(home.usage().await.record(large(60_000)).await.unwrap().into_inner().rejected.len(), 1);
}
