//! Credentials that were accepted and no longer are: certificates that are revoked by a list, certificates that expire,
//! and tokens that leave their file.

use std::fs;

use tallyman_client::proto::{
    RecordStreamRequest, RecordStreamResponse, usage_service_client::UsageServiceClient,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming, transport::Channel};

use super::{NOWHERE, connect, issue, require_certificates, send};
use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home},
    events::{ACME, event},
    eventually,
};

/// A stream that stays open.
struct Open {
    messages: mpsc::Sender<RecordStreamRequest>,
    answers: Streaming<RecordStreamResponse>,
    last: u64,
}

impl Open {
    async fn new(channel: Channel, token: &str, producer: &str) -> Self {
        let (messages, outgoing) = mpsc::channel(9);
        let first =
            RecordStreamRequest { producer_id: producer.to_owned(), ..RecordStreamRequest::default() };
        messages.send(first).await.unwrap();
        let mut request = Request::new(ReceiverStream::new(outgoing));
        if !token.is_empty() {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        let answers = UsageServiceClient::new(channel).record_stream(request).await.unwrap().into_inner();
        let mut open = Self { messages, answers, last: 0 };
        assert_eq!(open.answers.message().await.unwrap().unwrap().durable_sequence, 0);
        open
    }

    async fn goes_on(&mut self) -> bool {
        self.last += 1;
        let events = vec![event(ACME, "requests", 1, "")];
        let message = RecordStreamRequest { sequence: self.last, events, ..RecordStreamRequest::default() };
        self.messages.send(message).await.is_ok()
            && matches!(self.answers.message().await, Ok(Some(answer)) if answer.accepted == 1)
    }

    /// Waits for the end of the stream, on which nothing is sent.
    async fn end(&mut self) -> Option<Status> {
        self.answers.message().await.err()
    }
}

fn require_list(home: &mut Home, list: &str) {
    home.set("GRPC__TLS__CLIENT_CRL", &home.path().join(format!("{list}.crl")).display().to_string());
}

async fn is_served(home: &Home, certificate: &str) -> bool {
    let Ok(channel) = connect(home, "ca", certificate).await else { return false };
    send(channel, "", vec![event(ACME, "requests", 1, "")]).await.is_ok()
}

/// The label keeps its first name: alerts and dashboards name it.
const CLOSED: &str = "tallyman_connections_closed_total{reason=\"withdrawn\"}";

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_on_a_list_is_refused_and_its_connection_ends() {
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let folder = home.path().to_owned();
    issue(&folder, "ca", &["server", "app", "other", "third"]);
    issue(&folder, "ca", &["--revoke", "list", "3", "third"]);
    issue(&folder, "ca", &["--revoke", "next", "3", "third", "app"]);
    require_certificates(&mut home, "server", "ca");
    require_list(&mut home, "list");
    let _agent = home.start().await;
    assert!(!is_served(&home, "third").await, "it is on the list from the start");
    let (app, other) =
        (connect(&home, "ca", "app").await.unwrap(), connect(&home, "ca", "other").await.unwrap());
    let mut of_app = Open::new(app.clone(), "", "a").await;
    let mut of_other = Open::new(other, "", "o").await;
    assert!(of_app.goes_on().await && of_other.goes_on().await);

    fs::rename(folder.join("next.crl"), folder.join("list.crl")).unwrap();
    let ended = of_app.end().await.unwrap();
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    assert!(ended.message().contains("connect again"), "{ended}");
    let called = send(app, "", vec![event(ACME, "requests", 1, "")]).await.unwrap_err();
    assert_eq!(called.code(), Code::Unavailable, "on what is left of the connection: {called}");
    assert!(!is_served(&home, "app").await);
    eventually("the connection is closed", async || (home.metric(CLOSED).await == Some(1.0)).then_some(()))
        .await;
    assert!(of_other.goes_on().await, "a valid certificate is not affected");
    assert!(is_served(&home, "other").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_list_changes_nothing_and_an_old_one_stays_in_force_and_is_logged() {
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let folder = home.path().to_owned();
    issue(&folder, "ca", &["server", "app", "other"]);
    issue(&folder, "unknown", &[]);
    issue(&folder, "ca", &["--revoke", "list", "3", "app"]);
    issue(&folder, "ca", &["--revoke", "old", "-3", "app"]);
    issue(&folder, "unknown", &["--revoke", "of-unknown", "3"]);
    require_certificates(&mut home, "server", "ca");
    require_list(&mut home, "list");
    let _agent = home.start().await;
    let open_to_other_alone = async || !is_served(&home, "app").await && is_served(&home, "other").await;
    assert!(open_to_other_alone().await);
    let expires = "tallyman_crl_expiry_timestamp_seconds";
    let good_until = home.metric(expires).await.unwrap();

    fs::copy(folder.join("of-unknown.crl"), folder.join("list.crl")).unwrap();
    eventually("a list without the authority is reported", async || {
        (home.metric("tallyman_credentials_stale").await == Some(1.0)).then_some(())
    })
    .await;
    assert!(home.log().contains("no list of `ca`"), "{}", home.log());
    assert!(open_to_other_alone().await, "the list before is in force");

    fs::copy(folder.join("old.crl"), folder.join("list.crl")).unwrap();
    eventually("the old list is reported", async || {
        home.log().contains("client_crl should have been replaced").then_some(())
    })
    .await;
    assert!(open_to_other_alone().await, "an old list admits and refuses the same certificates as before");
    let days = (good_until - home.metric(expires).await.unwrap()) / 86400.0;
    assert!((5.9..6.1).contains(&days), "{days}");
    let told = home.log().lines().filter(|line| line.contains("should have been replaced")).count();
    assert_eq!(told, 1, "{}", home.log());
}

#[tokio::test]
async fn a_list_that_would_refuse_everyone_is_refused_at_the_start() {
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let folder = home.path().to_owned();
    issue(&folder, "ca", &["server"]);
    issue(&folder, "ca", &["--revoke", "good", "3"]);
    // Another authority of the same name.
    fs::create_dir(folder.join("impostor")).unwrap();
    issue(&folder.join("impostor"), "ca", &["--revoke", "list", "3"]);
    issue(&folder, "other", &["--revoke", "others", "3"]);
    require_certificates(&mut home, "server", "ca");
    require_list(&mut home, "list");
    let read = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    let good = read("good.crl");
    for (list, words) in [
        (String::new(), "there is no list in the file"),
        (read("ca.crt"), "there is no list in the file"),
        (good.replace("-----\nM", "-----\nA"), "a list cannot be read"),
        (read("others.crl"), "no list of `ca`"),
        (good.clone() + &good, "two lists of `ca`"),
        (read("impostor/list.crl"), "the list of `ca` is not signed by it"),
    ] {
        fs::write(folder.join("list.crl"), &list).unwrap();
        let output = home.command().stderr(std::process::Stdio::piped()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(words), "{words}: {told}");
    }
    fs::remove_file(folder.join("list.crl")).unwrap();
    assert!(!home.command().output().unwrap().status.success(), "there is none");
    fs::write(folder.join("list.crl"), good + &read("others.crl")).unwrap();
    drop(home.start().await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_ends_with_its_certificate() {
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let folder = home.path().to_owned();
    issue(&folder, "ca", &["server", "lasting"]);
    require_certificates(&mut home, "server", "ca");
    let _agent = home.start().await;
    let mut lasting = Open::new(connect(&home, "ca", "lasting").await.unwrap(), "", "l").await;
    issue(&folder, "ca", &["--seconds", "10", "short"]);
    let mut short = Open::new(connect(&home, "ca", "short").await.unwrap(), "", "s").await;
    assert!(short.goes_on().await && lasting.goes_on().await);
    let ended = short.end().await.unwrap();
    assert_eq!(ended.code(), Code::Unavailable, "{ended}");
    eventually("the connection is closed", async || (home.metric(CLOSED).await == Some(1.0)).then_some(()))
        .await;
    assert!(lasting.goes_on().await);
}

#[tokio::test]
async fn a_stream_ends_when_its_token_is_revoked() {
    let mut home = Home::new(ACCOUNT_PRODUCT, NOWHERE, None);
    let file = home.path().join("token");
    fs::write(&file, "old\nnew\n").unwrap();
    home.set("GRPC__TOKEN_FILE", file.to_str().unwrap());
    let _agent = home.start().await;
    let channel = home.channel().await.unwrap();
    let (mut old, mut new) =
        (Open::new(channel.clone(), "old", "o").await, Open::new(channel, "new", "n").await);
    assert!(old.goes_on().await && new.goes_on().await);
    fs::write(&file, "new\n").unwrap();
    let ended = old.end().await.unwrap();
    assert_eq!(ended.code(), Code::Unauthenticated, "{ended}");
    assert!(new.goes_on().await);
}
