//! Applications that were given one producer, which they should not have been, and that now and then lose their count.
//!
//! Each goes by what it is told: what is refused counts nothing, and gets new numbers; what is not answered is sent again
//! under its own. So nothing of either may be lost or count twice, however they get in each other's way.

use std::{collections::VecDeque, sync::Arc};

use tokio::task::JoinSet;

use super::{
    applications::{Application, MOST_IN_FLIGHT, Message},
    model::Event,
    plan::chance,
    world::World,
};
use crate::engine::{
    committer::{CommitError, Committer},
    counting::{
        CountError,
        request::CountRequest,
        streams::{ProducerStream, StreamRefusal},
    },
};

/// The producer of both.
const PRODUCER: &str = "shared";

pub(super) fn start(world: &Arc<World>, people: &mut JoinSet<()>) {
    for number in 10..12 {
        people.spawn(Sharer::new(Application::new(world, number)).work());
    }
}

struct Sharer {
    app: Application,
    /// For as long as the agent takes what is sent on it.
    stream: Option<Arc<ProducerStream>>,
    /// Messages that have no number yet.
    queue: VecDeque<Vec<Event>>,
    /// Messages that were sent and not answered.
    sent: VecDeque<Message>,
    /// The last number, as far as this application knows.
    last: u64,
}

/// Messages that wait for a number, so that a long outage leaves no more than an hour's work.
const MOST_QUEUED: usize = 16;

/// What became of a round of messages.
enum End {
    Answered,
    NoAnswer,
    Refused(StreamRefusal),
}

impl Sharer {
    fn new(app: Application) -> Self {
        Self { app, stream: None, queue: VecDeque::new(), sent: VecDeque::new(), last: 0 }
    }

    async fn work(mut self) {
        loop {
            self.app.pause(self.sent.is_empty() && self.queue.is_empty()).await;
            if !self.app.world.is_calm() {
                for _ in 0..fastrand::u8(..4) {
                    if self.queue.len() == MOST_QUEUED {
                        break;
                    }
                    let events = (0..fastrand::u8(1..4)).map(|_| self.app.event(false)).collect();
                    self.queue.push_back(events);
                }
            } else if self.sent.is_empty() && self.queue.is_empty() {
                return;
            }
            let is_answered = self.exchange().await.is_some();
            self.app.failures = if is_answered { 0 } else { self.app.failures + 1 };
        }
    }

    /// Sends all that there is, and takes in what it is told.
    async fn exchange(&mut self) -> Option<()> {
        let committer = self.app.world.committer()?;
        let stream = self.open(&committer).await?;
        while self.sent.len() < MOST_IN_FLIGHT
            && let Some(events) = self.queue.pop_front()
        {
            self.last += 1;
            self.sent.push_back(Message { sequence: self.last, events });
        }
        let requests: Vec<CountRequest> =
            self.sent.iter().map(|message| self.app.request(&committer, &stream, message)).collect();
        let end = self.send(&committer, requests).await;
        match end {
            End::Answered => return Some(()),
            End::NoAnswer => self.stream = None,
            End::Refused(refusal) => self.on_refusal(&refusal),
        }
        for message in &self.sent {
            self.app.note_unanswered(&message.events);
        }
        None
    }

    /// A stream that is open, or a new one.
    async fn open(&mut self, committer: &Committer) -> Option<Arc<ProducerStream>> {
        if let Some(stream) = &self.stream {
            return Some(stream.clone());
        }
        let stream = ProducerStream::new(None, PRODUCER.into());
        if self.sent.is_empty() && chance(4) {
            // It begins anew, and does not ask.
            self.app.world.trace.saw("a producer that has lost its count");
            self.last = 0;
        } else {
            let durable = committer.open_stream(stream.clone()).await.ok()?;
            self.last = self.sent.back().map_or(0, |message| message.sequence).max(durable);
        }
        self.stream = Some(stream.clone());
        Some(stream)
    }

    async fn send(&mut self, committer: &Committer, requests: Vec<CountRequest>) -> End {
        let mut tickets = Vec::new();
        for request in requests {
            tickets.push(committer.count_patiently(request).await.ok());
        }
        for ticket in tickets {
            let Some(ticket) = ticket else { return End::NoAnswer };
            match ticket.answer().await {
                Ok(counted) => {
                    self.app.note_recorded(&counted);
                    let Some(message) = self.sent.pop_front() else { return End::Answered };
                    let events: Vec<&Event> = message.events.iter().collect();
                    self.app.note_acknowledged(committer, &events);
                }
                Err(CommitError::Refused(CountError::Stream(refusal))) => return End::Refused(refusal),
                Err(CommitError::Refused(other)) => {
                    self.app.world.trace.fault(format!("a shared producer is told: {other}"));
                    return End::NoAnswer;
                }
                Err(CommitError::Full | CommitError::Unavailable(_)) => return End::NoAnswer,
            }
        }
        End::Answered
    }

    fn on_refusal(&mut self, refusal: &StreamRefusal) {
        self.stream = None;
        let trace = &self.app.world.trace;
        trace.note(format!("a shared producer is refused: {refusal}"));
        match refusal {
            StreamRefusal::TakenOver { .. } => {
                trace.saw("a stream that is taken over");
                return;
            }
            StreamRefusal::Diverged { .. } => trace.saw("other events under a number that has counted"),
            // Its first number is too old, as it had lost its count: it was never sent before.
            StreamRefusal::TooOld { .. } => trace.saw("a number too old to be compared"),
            StreamRefusal::Gap { .. } | StreamRefusal::Over => {
                trace.fault(format!("a shared producer is told: {refusal}"));
            }
        }
        // Neither that message nor any behind it has counted.
        for message in self.sent.drain(..).rev() {
            for event in &message.events {
                self.app.world.model().refused(event);
            }
            self.queue.push_front(message.events);
        }
    }
}
