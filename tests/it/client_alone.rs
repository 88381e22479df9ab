//! The client for applications by itself: as a package, against no agent at all, and against one that the test plays.

use std::{
    collections::HashMap,
    fs,
    pin::Pin,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use prost::Message as _;
use tallyman::internals::{
    raw,
    usage_service_server::{UsageService, UsageServiceServer},
};
use tallyman_client::proto::{RecordResponse, RecordStreamRequest, RecordStreamResponse};
use tallyman_client::{Client, EndReason, Report, Settings, UsageEvent};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Code, Request, Response, Status, Streaming, transport::Server};
use tonic_types::{ErrorDetails, StatusExt};

use crate::support::{
    agent::free_address,
    events::{ACME, event},
    eventually,
    python::root,
};

fn cargo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO")).current_dir(root()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn an_application_compiles_neither_rocksdb_nor_the_aws_sdk() {
    let tree = cargo(&[
        "tree",
        "--locked",
        "--package",
        "tallyman-client",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
        "--format",
        "{p}",
    ]);
    let crates: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(crates.contains(&"tonic"), "{tree}");
    for name in crates {
        assert!(!name.contains("rocksdb") && !name.starts_with("aws") && name != "tallyman", "{name}");
    }
}

/// It has copies of the proto and of the licence. They are no symbolic links, since not everything that carries a source
/// tree keeps those.
#[test]
fn its_package_is_whole() {
    let list = cargo(&["package", "--locked", "--allow-dirty", "--package", "tallyman-client", "--list"]);
    for file in ["proto/tallyman/v1/tallyman.proto", "LICENSE", "README.md", "examples/send_usage.rs"] {
        assert!(list.lines().any(|line| line == file), "{file} is missing:\n{list}");
    }
    for file in ["proto/tallyman/v1/tallyman.proto", "LICENSE"] {
        let [original, copy] = [root().join(file), root().join("client").join(file)];
        let is_same = fs::read(&original).unwrap() == fs::read(&copy).unwrap();
        assert!(is_same, "{file} was changed: cp {file} client/{file}");
    }
}

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(100);

fn open(settings: Settings) -> (Client, Arc<Mutex<Vec<Report>>>) {
    let reports = Arc::<Mutex<Vec<Report>>>::default();
    let list = reports.clone();
    (Client::open(settings, move |report| list.lock().unwrap().push(report)).unwrap(), reports)
}

fn usage(quantity: u64) -> UsageEvent {
    event(ACME, "requests", quantity, "")
}

/// The events as the client would send them: a shutdown hands them back.
async fn recorded(settings: Settings, events: Vec<UsageEvent>) -> Vec<UsageEvent> {
    let (client, reports) = open(settings);
    for event in events {
        client.record(event).await.unwrap();
    }
    let left = client.shutdown(Duration::ZERO).await.unwrap_err();
    let reports = reports.lock().unwrap();
    let [Report::Unacknowledged { events, sent: false }] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!(events.len() as u64, left.unsent);
    events.clone()
}

fn now_unix_nano() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    now.as_nanos().try_into().unwrap()
}

/// Usage is billed in the hour in which it was recorded, and not in that of its delivery.
#[tokio::test]
async fn an_event_gets_the_time_of_its_recording_unless_it_has_one() {
    let settings = Settings::new(&free_address(), "app").unwrap();
    let before = now_unix_nano();
    let own = UsageEvent { time_unix_nano: 7, ..usage(1) };
    let [stamped, kept] = &recorded(settings.clone(), vec![usage(1), own.clone()]).await[..] else {
        panic!("two were recorded")
    };
    assert!((before..=now_unix_nano()).contains(&stamped.time_unix_nano), "{stamped:?}");
    assert_eq!(kept.time_unix_nano, 7);
    let mut without = settings;
    without.stamp_time = false;
    assert_eq!(recorded(without, vec![usage(1)]).await[0].time_unix_nano, 0);
}

#[tokio::test]
async fn an_event_gets_an_id_of_its_own_unless_it_has_one() {
    let settings = Settings::new(&free_address(), "app").unwrap();
    let own = event(ACME, "requests", 1, "mine");
    let ids: Vec<_> = recorded(settings.clone(), vec![usage(1), usage(1), own.clone()])
        .await
        .into_iter()
        .map(|event| event.event_id)
        .collect();
    assert!(!ids[0].is_empty() && !ids[1].is_empty() && ids[0] != ids[1], "{ids:?}");
    assert_eq!(ids[2], "mine");
    let mut without = settings;
    without.event_ids = false;
    assert_eq!(recorded(without, vec![usage(1)]).await[0].event_id, "");
}

/// An agent that says nothing about the messages of its first stream, but for the greeting.
#[derive(Clone, Default)]
struct Mute(Arc<Mutex<Heard>>);

#[derive(Default)]
struct Heard {
    streams: usize,
    /// The numbers of the messages of each stream.
    messages: Vec<Vec<u64>>,
}

impl Mute {
    fn serve(self) -> String {
        let address = free_address();
        let serving = Server::builder().add_service(UsageServiceServer::new(self));
        tokio::spawn(serving.serve(address.parse().unwrap()));
        address
    }
}

#[tonic::async_trait]
impl UsageService for Mute {
    async fn record(&self, _: Request<raw::RecordRequest>) -> Result<Response<RecordResponse>, Status> {
        Err(Status::unimplemented("the client streams"))
    }

    type RecordStreamStream = Pin<Box<dyn Stream<Item = Result<RecordStreamResponse, Status>> + Send>>;

    async fn record_stream(
        &self,
        request: Request<Streaming<raw::RecordStreamRequest>>,
    ) -> Result<Response<Self::RecordStreamStream>, Status> {
        let (answers, stream) = mpsc::channel(100);
        let (heard, mut messages) = (self.0.clone(), request.into_inner());
        tokio::spawn(async move {
            let this = {
                let mut heard = heard.lock().unwrap();
                heard.streams += 1;
                heard.messages.push(Vec::new());
                heard.streams - 1
            };
            while let Ok(Some(message)) = messages.message().await {
                let message = RecordStreamRequest::decode(message.bytes()).unwrap();
                let sequence = message.sequence;
                if sequence > 0 {
                    heard.lock().unwrap().messages[this].push(sequence);
                }
                if sequence == 0 || this > 0 {
                    let answer = RecordStreamResponse {
                        durable_sequence: sequence,
                        accepted: message.events.len() as u64,
                        ..RecordStreamResponse::default()
                    };
                    drop(answers.send(Ok(answer)).await);
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// No more messages wait for their answers than may, and an agent that is there and does not answer is left for a new
/// connection, on which the same messages go out under their numbers.
#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_not_answered_in_time_go_out_again_on_a_new_connection() {
    let agent = Mute::default();
    let mut settings = Settings::new(&agent.clone().serve(), "app").unwrap();
    (settings.batch_events, settings.in_flight) = (1, 3);
    settings.batch_time = Duration::ZERO;
    settings.response_timeout = Duration::from_millis(700);
    let (client, reports) = open(settings);
    for quantity in 1..=5 {
        client.record(usage(quantity)).await.unwrap();
    }
    timeout(PATIENCE, client.flush()).await.expect("it does not wait for ever").unwrap();
    let heard = agent.0.lock().unwrap();
    assert_eq!(heard.messages, [vec![1, 2, 3], vec![1, 2, 3, 4, 5]]);
    assert_eq!((client.totals().accepted, reports.lock().unwrap().len()), (5, 0));
}

/// What fills no message goes when its time has come, without a flush; and when nobody holds the client any more.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_recorded_leaves_by_itself() {
    let agent = Mute::default();
    agent.0.lock().unwrap().streams = 1;
    agent.0.lock().unwrap().messages.push(Vec::new());
    let address = agent.clone().serve();
    let (client, _) = open(Settings::new(&address, "app").unwrap());
    client.record(usage(1)).await.unwrap();
    eventually("it is acknowledged", async || (client.totals().accepted == 1).then_some(())).await;

    let mut settings = Settings::new(&address, "other").unwrap();
    settings.batch_time = Duration::from_millis(300);
    let (client, _) = open(settings);
    for _ in 0..3 {
        client.record(usage(1)).await.unwrap();
    }
    drop(client);
    eventually("it is sent though its client is gone", async || {
        (agent.0.lock().unwrap().messages[1..] == [vec![1], vec![1]]).then_some(())
    })
    .await;
}

/// An agent that leaves the first stream without an answer, and says on the next one that the number is used up.
#[derive(Clone)]
struct UsedUp {
    streams: Arc<Mutex<usize>>,
    by: UsedBy,
}

#[derive(Clone, Copy)]
enum UsedBy {
    /// By another process, which has sent other events under it.
    Another,
    /// By the message itself, whose answer was lost.
    Itself,
}

impl UsedUp {
    fn serve(by: UsedBy) -> String {
        let address = free_address();
        let agent = Self { streams: Arc::default(), by };
        let serving = Server::builder().add_service(UsageServiceServer::new(agent));
        tokio::spawn(serving.serve(address.parse().unwrap()));
        address
    }
}

#[tonic::async_trait]
impl UsageService for UsedUp {
    async fn record(&self, _: Request<raw::RecordRequest>) -> Result<Response<RecordResponse>, Status> {
        Err(Status::unimplemented("the client streams"))
    }

    type RecordStreamStream = Pin<Box<dyn Stream<Item = Result<RecordStreamResponse, Status>> + Send>>;

    async fn record_stream(
        &self,
        request: Request<Streaming<raw::RecordStreamRequest>>,
    ) -> Result<Response<Self::RecordStreamStream>, Status> {
        let (answers, stream) = mpsc::channel(100);
        let (streams, by, mut messages) = (self.streams.clone(), self.by, request.into_inner());
        tokio::spawn(async move {
            let before = std::mem::replace(&mut *streams.lock().unwrap(), 1);
            let durable_sequence = u64::from(before != 0);
            let greeting = RecordStreamResponse { durable_sequence, ..RecordStreamResponse::default() };
            drop(messages.message().await);
            drop(answers.send(Ok(greeting)).await);
            let message = messages.message().await.unwrap().unwrap();
            let message = RecordStreamRequest::decode(message.bytes()).unwrap();
            assert_eq!((message.sequence, message.events.len()), (1, 1));
            if before == 0 {
                return;
            }
            let answer = if matches!(by, UsedBy::Itself) {
                Ok(RecordStreamResponse {
                    durable_sequence: 1,
                    repeats: 1,
                    ..RecordStreamResponse::default()
                })
            } else {
                let details = ErrorDetails::with_error_info("DIVERGED", "tallyman", HashMap::new());
                let code = Code::FailedPrecondition;
                Err(Status::with_error_details(code, "other events were counted", details))
            };
            drop(answers.send(answer).await);
            messages.message().await.ok();
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

/// What is durable may be another's: a client that took it for its own would lose what it holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_not_answered_is_sent_again_though_its_number_is_durable() {
    let (client, reports) = open(Settings::new(&UsedUp::serve(UsedBy::Another), "app").unwrap());
    client.record(usage(7)).await.unwrap();
    let left = timeout(PATIENCE, client.flush()).await.expect("it does not try for ever").unwrap_err();
    let EndReason::Diverged { producer_id, why } = &left.reason else { panic!("{left}") };
    assert_eq!((&**producer_id, &**why, left.sent), ("app", "other events were counted", 1));
    assert_eq!(client.ended(), Some(left));
    let reports = reports.lock().unwrap();
    let [Report::Unacknowledged { events, sent: true }] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!(events[0].quantity, 7);
}

/// Whether the agent rejected some of its events is not known any more, so each is told once, and none is called accepted.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_counted_and_whose_answer_was_lost_is_told() {
    let (client, reports) = open(Settings::new(&UsedUp::serve(UsedBy::Itself), "app").unwrap());
    client.record(usage(7)).await.unwrap();
    timeout(PATIENCE, client.flush()).await.expect("it is settled").unwrap();
    assert_eq!((client.totals().accepted, client.totals().responses_lost), (0, 1));
    let reports = reports.lock().unwrap();
    let [Report::ResponseLost { events }] = &reports[..] else { panic!("{reports:?}") };
    assert_eq!(events[0].quantity, 7);
}
