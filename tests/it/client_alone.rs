//! The client of the library, against no agent at all and against one that the test plays.

use std::{
    pin::Pin,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use tallyman::{
    base::proto::{
        RecordRequest, RecordResponse, RecordStreamRequest, RecordStreamResponse,
        usage_service_server::{UsageService, UsageServiceServer},
    },
    client::{Client, Report, Settings, UsageEvent},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use crate::support::{
    agent::free_address,
    events::{ACME, event},
    eventually,
};

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
    async fn record(&self, _: Request<RecordRequest>) -> Result<Response<RecordResponse>, Status> {
        Err(Status::unimplemented("the client streams"))
    }

    type RecordStreamStream = Pin<Box<dyn Stream<Item = Result<RecordStreamResponse, Status>> + Send>>;

    async fn record_stream(
        &self,
        request: Request<Streaming<RecordStreamRequest>>,
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
    settings.answer_timeout = Duration::from_millis(700);
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
