//! Which messages the agent has not acknowledged, under which numbers, and what its words make of them. No I/O.
//!
//! A message gets its number when it is first sent, and keeps it. The agent counts a number once and answers messages in
//! their order, so what it has said last tells for each message whether it counts.

use std::{collections::VecDeque, mem};

use tokio::sync::OwnedSemaphorePermit;

use super::{report::Ended, settings::Settings};
use crate::base::proto::{RecordStreamRequest, RecordStreamResponse, UsageEvent};

/// A recorded event, and its place in the buffer, which is free again when this is dropped.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) event: UsageEvent,
    bytes: usize,
    _room: OwnedSemaphorePermit,
}

impl Item {
    pub(super) fn new(event: UsageEvent, bytes: usize, room: OwnedSemaphorePermit) -> Self {
        Self { event, bytes, _room: room }
    }
}

/// What the next message will hold.
#[derive(Debug, Default)]
pub(super) struct Forming {
    items: Vec<Item>,
    bytes: usize,
}

impl Forming {
    pub(super) fn push(&mut self, item: Item) {
        self.bytes += item.bytes;
        self.items.push(item);
    }

    /// Whether it takes no more. It leaves room for the largest event, so that no message is ever too large.
    pub(super) fn is_full(&self, settings: &Settings) -> bool {
        self.items.len() >= settings.batch_events
            || self.bytes + super::MAX_EVENT_BYTES > settings.batch_bytes.max(super::MAX_EVENT_BYTES + 1)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn take(&mut self) -> Vec<Item> {
        self.bytes = 0;
        mem::take(&mut self.items)
    }
}

#[derive(Debug)]
struct Message {
    sequence: u64,
    items: Vec<Item>,
    /// On how many connections.
    times_sent: u32,
}

impl Message {
    fn request(&self) -> RecordStreamRequest {
        let events = self.items.iter().map(|item| item.event.clone()).collect();
        RecordStreamRequest { producer_id: String::new(), sequence: self.sequence, events }
    }
}

/// What became of one message, or of several.
#[derive(Debug)]
pub(super) enum Settled {
    Answered {
        items: Vec<Item>,
        answer: RecordStreamResponse,
    },
    /// It is on the agent's disk; what the agent said about it is not known.
    AnswerLost {
        items: Vec<Item>,
    },
}

#[derive(Debug)]
pub(super) struct Outbox {
    producer_id: String,
    /// Sent and not acknowledged, oldest first.
    messages: VecDeque<Message>,
    /// The newest message's number.
    last: u64,
    /// What the agent has acknowledged; `None` before it has said so once.
    durable: Option<u64>,
}

impl Outbox {
    pub(super) fn new(producer_id: String) -> Self {
        Self { producer_id, messages: VecDeque::new(), last: 0, durable: None }
    }

    /// The first message of a connection: it asks where to go on.
    pub(super) fn greeting(&self) -> RecordStreamRequest {
        RecordStreamRequest { producer_id: self.producer_id.clone(), ..RecordStreamRequest::default() }
    }

    /// The agent's first answer on a connection, and with it all that is to be sent again.
    pub(super) fn greeted(&mut self, durable: u64) -> Result<(Vec<Item>, Vec<RecordStreamRequest>), Ended> {
        match self.durable {
            None => self.last = durable,
            Some(acknowledged) if durable < acknowledged => {
                return Err(Ended::Forgotten { acknowledged, durable });
            }
            Some(_) if durable > self.last => return Err(self.shared()),
            Some(_) => {}
        }
        self.durable = Some(durable);
        let mut lost = Vec::new();
        while let Some(message) = self.messages.pop_front_if(|message| message.sequence <= durable) {
            lost.extend(message.items);
        }
        for message in &mut self.messages {
            message.times_sent += 1;
        }
        Ok((lost, self.messages.iter().map(Message::request).collect()))
    }

    /// Numbers a message; from now on it is sent until it is acknowledged.
    pub(super) fn send(&mut self, items: Vec<Item>) -> RecordStreamRequest {
        self.last += 1;
        let message = Message { sequence: self.last, items, times_sent: 1 };
        let request = message.request();
        self.messages.push_back(message);
        request
    }

    /// An answer: it is for the oldest message. Nothing else can be, since the agent answers in order.
    pub(super) fn answered(&mut self, answer: RecordStreamResponse) -> Result<Option<Settled>, Ended> {
        let counted = answer.accepted + answer.duplicates + answer.rejected.len() as u64;
        let is_foreign = |message: &Message| counted == 0 && message.times_sent == 1;
        if self.messages.front().is_some_and(is_foreign) {
            // The agent had the number already, and it did not come from here.
            return Err(self.shared());
        }
        let Some(Message { sequence, items, .. }) = self.messages.pop_front() else { return Ok(None) };
        self.durable = Some(sequence);
        Ok(Some(if counted == 0 {
            Settled::AnswerLost { items }
        } else {
            Settled::Answered { items, answer }
        }))
    }

    fn shared(&self) -> Ended {
        Ended::Shared(self.producer_id.clone())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// The events of all messages.
    pub(super) fn events(&self) -> usize {
        self.messages.iter().map(|message| message.items.len()).sum()
    }

    pub(super) fn give_up(&mut self) -> Vec<Item> {
        self.messages.drain(..).flat_map(|message| message.items).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    fn items(names: &[&str]) -> Vec<Item> {
        let room = Arc::new(Semaphore::new(100));
        let item = |name: &&str| {
            let event = UsageEvent { event_id: (*name).to_owned(), ..UsageEvent::default() };
            Item::new(event, 10, room.clone().try_acquire_owned().unwrap())
        };
        names.iter().map(item).collect()
    }

    fn names(items: &[Item]) -> Vec<&str> {
        items.iter().map(|item| item.event.event_id.as_str()).collect()
    }

    fn accepted(durable_sequence: u64, accepted: u64) -> RecordStreamResponse {
        RecordStreamResponse { durable_sequence, accepted, ..RecordStreamResponse::default() }
    }

    /// An outbox that knows the agent, with messages of one event each.
    fn outbox(durable: u64, sent: &[&str]) -> Outbox {
        let mut outbox = Outbox::new("app".to_owned());
        outbox.greeted(durable).unwrap();
        for name in sent {
            outbox.send(items(&[name]));
        }
        outbox
    }

    #[test]
    fn numbers_go_on_where_the_agent_says() {
        let mut outbox = outbox(41, &[]);
        assert_eq!(outbox.send(items(&["a"])).sequence, 42);
        assert_eq!(outbox.send(items(&["b"])).sequence, 43);
    }

    #[test]
    fn after_a_break_only_what_is_not_durable_is_sent_again_under_its_number() {
        let mut outbox = outbox(0, &["a", "b", "c"]);
        let settled = outbox.answered(accepted(1, 1)).unwrap();
        assert!(matches!(settled, Some(Settled::Answered { items, .. }) if names(&items) == ["a"]));
        let (lost, again) = outbox.greeted(2).unwrap();
        assert_eq!(names(&lost), ["b"], "its answer was lost");
        let again: Vec<_> =
            again.iter().map(|message| (message.sequence, message.events[0].event_id.as_str())).collect();
        assert_eq!(again, [(3, "c")]);
    }

    #[test]
    fn a_repeat_that_this_client_caused_counts_and_its_rejections_are_unknown() {
        let mut outbox = outbox(0, &["a"]);
        outbox.greeted(0).unwrap();
        let settled = outbox.answered(accepted(1, 0)).unwrap();
        assert!(matches!(settled, Some(Settled::AnswerLost { items }) if names(&items) == ["a"]));
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_number_that_another_process_used_is_noticed_and_nothing_is_taken_for_counted() {
        let mut at_once = outbox(0, &["a"]);
        assert_eq!(at_once.answered(accepted(1, 0)).unwrap_err(), Ended::Shared("app".to_owned()));
        assert_eq!(names(&at_once.give_up()), ["a"]);
        let mut after_a_break = outbox(0, &["a"]);
        assert!(matches!(after_a_break.greeted(2), Err(Ended::Shared(_))));
    }

    #[test]
    fn an_agent_that_has_forgotten_is_another_agent() {
        let mut outbox = outbox(7, &["a"]);
        outbox.answered(accepted(8, 1)).unwrap();
        assert_eq!(
            outbox.greeted(7).unwrap_err(),
            Ended::Forgotten { acknowledged: 8, durable: 7 },
            "its messages would be numbered anew"
        );
    }

    #[test]
    fn a_message_of_rejections_alone_is_no_repeat() {
        let mut outbox = outbox(0, &["a"]);
        let rejected = vec![crate::base::proto::Rejection::default()];
        let answer =
            RecordStreamResponse { durable_sequence: 1, rejected, ..RecordStreamResponse::default() };
        assert!(matches!(outbox.answered(answer), Ok(Some(Settled::Answered { .. }))));
    }

    #[test]
    fn a_message_is_full_by_events_or_by_bytes() {
        let mut settings = Settings::new("127.0.0.1:1", "app").unwrap();
        (settings.batch_events, settings.batch_bytes) = (3, 16 << 10);
        let mut forming = Forming::default();
        assert!(!forming.is_full(&settings), "the smallest message takes one event");
        for item in items(&["a", "b"]) {
            forming.push(item);
        }
        assert!(forming.is_full(&settings), "by bytes");
        settings.batch_bytes = 1 << 20;
        assert!(!forming.is_full(&settings));
        for item in items(&["c"]) {
            forming.push(item);
        }
        assert!(forming.is_full(&settings), "by events");
        assert_eq!(names(&forming.take()), ["a", "b", "c"]);
        assert!(forming.is_empty() && forming.bytes == 0);
    }
}
