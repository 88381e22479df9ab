//! Numbered streams: repeats, other events under a number that has counted, and two streams of one producer.

use std::time::Duration;

use tallyman_client::proto::{
    RecordStreamRequest, RecordStreamResponse, UsageEvent, usage_service_client::UsageServiceClient,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use tonic_types::StatusExt;

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Agent, Home},
    events::{ACME, event},
};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(100);

/// An agent whose AWS is nowhere: these tests never get that far.
async fn agent() -> (Home, Agent) {
    let home = Home::new(ACCOUNT_PRODUCT, "http://127.0.0.1:9", None);
    let agent = home.start().await;
    (home, agent)
}

/// A stream of the producer `p` that stays open.
struct Stream {
    messages: mpsc::Sender<RecordStreamRequest>,
    answers: Streaming<RecordStreamResponse>,
}

impl Stream {
    /// Opened by a message of its own, or by one that asks where to resume: then it also returns the answer to that.
    async fn open(home: &Home) -> Self {
        let (messages, outgoing) = mpsc::channel(100);
        let mut usage = UsageServiceClient::new(home.channel().await.unwrap());
        let answers = usage.record_stream(ReceiverStream::new(outgoing)).await.unwrap().into_inner();
        Self { messages, answers }
    }

    async fn resume(home: &Home) -> (Self, u64) {
        let mut stream = Self::open(home).await;
        stream.send(0, Vec::new()).await;
        let durable = stream.answer().await.unwrap().durable_sequence;
        (stream, durable)
    }

    async fn send(&self, sequence: u64, events: Vec<UsageEvent>) {
        let message = RecordStreamRequest { producer_id: "p".to_owned(), sequence, events };
        // The agent may have ended the stream; its answers tell.
        drop(self.messages.send(message).await);
    }

    async fn answer(&mut self) -> Result<RecordStreamResponse, Status> {
        let answer = timeout(PATIENCE, self.answers.message()).await.expect("it does not wait for ever");
        answer.map(|answer| answer.expect("the stream ends with an error, or goes on"))
    }

    /// Sends a message, and tells what was durable, accepted and repeated then.
    async fn counts(&mut self, sequence: u64, quantity: u64) -> Result<(u64, u64, u64), Status> {
        self.send(sequence, usage(quantity)).await;
        self.answer().await.map(|answer| (answer.durable_sequence, answer.accepted, answer.repeats))
    }
}

fn usage(quantity: u64) -> Vec<UsageEvent> {
    vec![event(ACME, "requests", quantity, "")]
}

async fn open_requests(home: &Home) -> u64 {
    home.summary().await.unwrap().products[0].dimensions[0].open.parse().unwrap()
}

/// The code of a refusal, its reason, and a number that comes with it.
fn reason(status: &Status, number: &str) -> (Code, String, Option<u64>) {
    let info = status.get_details_error_info().unwrap_or_else(|| panic!("no ErrorInfo: {status}"));
    assert_eq!(info.domain, "tallyman");
    let number = info.metadata.get(number).map(|number| number.parse().unwrap());
    (status.code(), info.reason, number)
}

#[tokio::test]
async fn other_events_under_a_number_that_counted_are_refused_and_a_repeat_is_told() {
    let (home, agent) = agent().await;
    let (mut stream, _) = Stream::resume(&home).await;
    for sequence in 1..=3 {
        assert_eq!(stream.counts(sequence, 10).await.unwrap(), (sequence, 1, 0));
    }
    assert_eq!(stream.counts(2, 10).await.unwrap(), (3, 0, 1), "a repeat");
    let diverged = stream.counts(2, 11).await.unwrap_err();
    assert_eq!(
        reason(&diverged, "durable_sequence"),
        (Code::FailedPrecondition, "DIVERGED".to_owned(), Some(3))
    );
    assert!(
        diverged.message().contains("producer_id") && diverged.message().contains("message 2"),
        "{diverged}"
    );
    agent.kill();
    let _agent = home.start().await;
    let (mut stream, durable) = Stream::resume(&home).await;
    assert_eq!(durable, 3);
    assert_eq!(stream.counts(3, 10).await.unwrap(), (3, 0, 1), "the digest survives a kill");
    let diverged = stream.counts(1, 11).await.unwrap_err();
    assert_eq!(reason(&diverged, "sequence"), (Code::FailedPrecondition, "DIVERGED".to_owned(), Some(1)));
    assert_eq!(open_requests(&home).await, 30);
    assert_eq!(home.metric("tallyman_stream_repeats_total").await, Some(1.0));
    assert_eq!(home.metric("tallyman_stream_repeats_unverified_total").await, Some(0.0));
    assert_eq!(home.metric("tallyman_stream_refusals_total{reason=\"DIVERGED\"}").await, Some(1.0));
    assert!(home.log().contains("message 1 of producer `p`"), "{}", home.log());
}

/// As the field reported it: it does not ask, and all that it sends has counted before, as something else.
#[tokio::test]
async fn a_producer_that_has_lost_its_count_is_told_before_anything_of_it_is_lost() {
    let (home, _agent) = agent().await;
    let (mut first, _) = Stream::resume(&home).await;
    for sequence in 1..=50 {
        first.counts(sequence, 1).await.unwrap();
    }
    drop(first);
    // It sends without waiting: also what would be the next number counts nothing.
    let mut anew = Stream::open(&home).await;
    for sequence in 1..=60 {
        anew.send(sequence, usage(7)).await;
    }
    let diverged = anew.answer().await.unwrap_err();
    assert_eq!(
        reason(&diverged, "durable_sequence"),
        (Code::FailedPrecondition, "DIVERGED".to_owned(), Some(50))
    );
    assert_eq!(open_requests(&home).await, 50);
    let (mut anew, durable) = Stream::resume(&home).await;
    for sequence in durable + 1..=durable + 60 {
        assert_eq!(anew.counts(sequence, 7).await.unwrap(), (sequence, 1, 0));
    }
    assert_eq!(open_requests(&home).await, 50 + 60 * 7);
}

#[tokio::test]
async fn of_two_live_streams_of_a_producer_the_first_is_ended() {
    let (home, _agent) = agent().await;
    let (mut first, _) = Stream::resume(&home).await;
    assert_eq!(first.counts(1, 10).await.unwrap(), (1, 1, 0));
    let (mut second, durable) = Stream::resume(&home).await;
    assert_eq!(durable, 1);
    // Without having sent anything more.
    let taken_over = first.answer().await.unwrap_err();
    assert_eq!(reason(&taken_over, ""), (Code::Aborted, "TAKEN_OVER".to_owned(), None));
    assert_eq!(second.counts(2, 10).await.unwrap(), (2, 1, 0));
    // A stream that does not ask takes over with its first message that is not refused.
    let mut third = Stream::open(&home).await;
    third.counts(1, 99).await.unwrap_err();
    assert_eq!(second.counts(3, 10).await.unwrap(), (3, 1, 0), "a broken one ends no other");
    let mut fourth = Stream::open(&home).await;
    assert_eq!(fourth.counts(3, 10).await.unwrap(), (3, 0, 1));
    assert_eq!(second.answer().await.unwrap_err().code(), Code::Aborted);
    assert_eq!(open_requests(&home).await, 30);
    assert_eq!(home.metric("tallyman_stream_refusals_total{reason=\"TAKEN_OVER\"}").await, Some(2.0));
}

/// As the field reported it: 315 units were sent, each message was answered as durable, and 108 counted.
#[tokio::test(flavor = "multi_thread")]
async fn two_live_replicas_with_one_producer_lose_and_double_nothing_that_was_acknowledged() {
    let (home, _agent) = agent().await;
    let replica = async |quantity: u64| {
        let (mut acknowledged, mut refused) = (0, 0);
        while acknowledged < 40 * quantity && refused < 2000 {
            let (mut stream, mut last) = Stream::resume(&home).await;
            loop {
                last += 1;
                match stream.counts(last, quantity).await {
                    Ok(told) => {
                        assert_eq!(told, (last, 1, 0), "no message looks like a repeat of the other's");
                        acknowledged += quantity;
                    }
                    Err(status) => {
                        let (code, reason, _) = reason(&status, "");
                        let is_told =
                            code == Code::Aborted || reason == "DIVERGED" || reason == "SEQUENCE_GAP";
                        assert!(is_told, "{status}");
                        refused += 1;
                        break;
                    }
                }
                if acknowledged >= 40 * quantity {
                    break;
                }
            }
        }
        acknowledged
    };
    let (one, two) = tokio::join!(replica(3), replica(5));
    assert_eq!(open_requests(&home).await, one + two);
    assert_eq!((one, two), (120, 200));
}

#[tokio::test]
async fn the_same_events_in_other_bytes_are_a_repeat() {
    let (home, _agent) = agent().await;
    let (mut stream, _) = Stream::resume(&home).await;
    let tagged = |quantity| {
        let tags = [("team", "blue"), ("env", "prod"), ("zone", "eu"), ("tier", "gold")];
        let tags = tags.map(|(key, value)| (key.to_owned(), value.to_owned()));
        UsageEvent { tags: tags.into(), ..event(ACME, "gb_out", quantity, "") }
    };
    stream.send(1, vec![tagged(5), event(ACME, "requests", 3, "")]).await;
    stream.answer().await.unwrap();
    // Each map is written in an order of its own.
    for _ in 0..10 {
        stream.send(1, vec![event(ACME, "requests", 3, ""), tagged(5)]).await;
        assert_eq!(stream.answer().await.unwrap().repeats, 1);
    }
    stream.send(1, vec![event(ACME, "requests", 3, ""), tagged(6)]).await;
    assert_eq!(reason(&stream.answer().await.unwrap_err(), "").1, "DIVERGED");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeat_too_old_to_be_compared_is_refused_and_told_where_to_go_on() {
    let (home, _agent) = agent().await;
    let (mut stream, _) = Stream::resume(&home).await;
    let (messages, mut sent) = (stream.messages.clone(), 0);
    let load = tokio::spawn(async move {
        for sequence in 1..=4200 {
            let message =
                RecordStreamRequest { sequence, events: usage(1), ..RecordStreamRequest::default() };
            messages.send(message).await.unwrap();
        }
    });
    while sent < 4200 {
        sent = stream.answer().await.unwrap().durable_sequence;
    }
    load.await.unwrap();
    for sequence in [4200, 4000, 1000, 105] {
        assert_eq!(
            stream.counts(sequence, 1).await.unwrap(),
            (4200, 0, 1),
            "one of the last 4096: {sequence}"
        );
    }
    let too_old = stream.counts(104, 1).await.unwrap_err();
    let expected = (Code::FailedPrecondition, "SEQUENCE_TOO_OLD".to_owned(), Some(4200));
    assert_eq!(reason(&too_old, "durable_sequence"), expected);
    let (mut stream, _) = Stream::resume(&home).await;
    let diverged = stream.counts(105, 2).await.unwrap_err();
    assert_eq!(reason(&diverged, "").1, "DIVERGED");
    assert_eq!(open_requests(&home).await, 4200);
}
