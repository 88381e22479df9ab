//! The messages that the agent has not acknowledged, their numbers, and what the agent's responses mean for them. No I/O.
//!
//! A message gets its number when it is first sent, and keeps it. The agent counts a number once and responds to messages
//! in their order, so its last response tells for each message whether it counts.

use std::collections::VecDeque;

use crate::{
    batch::Item,
    error::EndReason,
    proto::{RecordStreamRequest, RecordStreamResponse},
};

#[derive(Debug)]
struct Message {
    sequence: u64,
    items: Vec<Item>,
    /// The number of connections that it was sent on.
    times_sent: u32,
}

impl Message {
    fn request(&self) -> RecordStreamRequest {
        let events = self.items.iter().map(|item| item.event.clone()).collect();
        RecordStreamRequest { producer_id: String::new(), sequence: self.sequence, events }
    }
}

/// The outcome of a message.
#[derive(Debug)]
pub(crate) enum Outcome {
    Acknowledged {
        items: Vec<Item>,
        response: RecordStreamResponse,
    },
    /// The message is on the agent's disk, and its rejections are unknown.
    ResponseLost {
        items: Vec<Item>,
    },
}

#[derive(Debug)]
pub(crate) struct Outbox {
    producer_id: String,
    /// Sent and not acknowledged, oldest first.
    messages: VecDeque<Message>,
    /// The number of the newest message.
    last: u64,
    /// The number that the agent has acknowledged last; `None` before its first response.
    durable: Option<u64>,
}

impl Outbox {
    pub(crate) fn new(producer_id: String) -> Self {
        Self { producer_id, messages: VecDeque::new(), last: 0, durable: None }
    }

    /// The first message of a connection. It asks for the last number that is durable.
    pub(crate) fn handshake(&self) -> RecordStreamRequest {
        RecordStreamRequest { producer_id: self.producer_id.clone(), ..RecordStreamRequest::default() }
    }

    /// Takes in the agent's first response on a connection. Returns the messages to send again: all that have no response,
    /// also those whose numbers are durable. They may be durable by another process, and the agent compares.
    pub(crate) fn resume(&mut self, durable: u64) -> Result<Vec<RecordStreamRequest>, EndReason> {
        match self.durable {
            None => self.last = durable,
            Some(acknowledged) if durable < acknowledged => {
                return Err(EndReason::SequenceWentBack { acknowledged, durable });
            }
            Some(_) if durable > self.last => return Err(self.producer_id_in_use()),
            Some(_) => {}
        }
        self.durable = Some(durable);
        for message in &mut self.messages {
            message.times_sent += 1;
        }
        Ok(self.messages.iter().map(Message::request).collect())
    }

    /// Numbers a new message and keeps it until it is acknowledged.
    pub(crate) fn push(&mut self, items: Vec<Item>) -> RecordStreamRequest {
        self.last += 1;
        let message = Message { sequence: self.last, items, times_sent: 1 };
        let request = message.request();
        self.messages.push_back(message);
        request
    }

    /// Takes in a response. It belongs to the oldest message, since the agent responds in order; `None` if there is none.
    pub(crate) fn acknowledge(
        &mut self,
        response: RecordStreamResponse,
    ) -> Result<Option<Outcome>, EndReason> {
        let is_repeat = response.repeats > 0;
        let is_foreign = |message: &Message| is_repeat && message.times_sent == 1;
        if self.messages.front().is_some_and(is_foreign) {
            // The agent had this number before this process used it.
            return Err(self.producer_id_in_use());
        }
        let Some(Message { sequence, items, .. }) = self.messages.pop_front() else { return Ok(None) };
        self.durable = self.durable.max(Some(sequence));
        Ok(Some(if is_repeat {
            Outcome::ResponseLost { items }
        } else {
            Outcome::Acknowledged { items, response }
        }))
    }

    pub(crate) fn producer_id_in_use(&self) -> EndReason {
        EndReason::ProducerIdInUse(self.producer_id.clone())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// The number of events in all messages.
    pub(crate) fn events(&self) -> usize {
        self.messages.iter().map(|message| message.items.len()).sum()
    }

    /// Removes all messages, and returns their items.
    pub(crate) fn drain(&mut self) -> Vec<Item> {
        self.messages.drain(..).flat_map(|message| message.items).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;
    use crate::{UsageEvent, proto::Rejection};

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

    fn repeat(durable_sequence: u64) -> RecordStreamResponse {
        RecordStreamResponse { durable_sequence, repeats: 1, ..RecordStreamResponse::default() }
    }

    /// An outbox after its handshake, with messages of one event each.
    fn outbox(durable: u64, sent: &[&str]) -> Outbox {
        let mut outbox = Outbox::new("app".to_owned());
        outbox.resume(durable).unwrap();
        for name in sent {
            outbox.push(items(&[name]));
        }
        outbox
    }

    #[test]
    fn numbers_go_on_where_the_agent_says() {
        let mut outbox = outbox(41, &[]);
        assert_eq!(outbox.push(items(&["a"])).sequence, 42);
        assert_eq!(outbox.push(items(&["b"])).sequence, 43);
    }

    #[test]
    fn after_a_break_what_was_not_answered_is_sent_again_under_its_number() {
        let mut outbox = outbox(0, &["a", "b", "c"]);
        let outcome = outbox.acknowledge(accepted(1, 1)).unwrap();
        assert!(matches!(outcome, Some(Outcome::Acknowledged { items, .. }) if names(&items) == ["a"]));
        let again = outbox.resume(2).unwrap();
        let again: Vec<_> =
            again.iter().map(|message| (message.sequence, message.events[0].event_id.as_str())).collect();
        assert_eq!(again, [(2, "b"), (3, "c")], "whose the durable number is, the agent tells");
        let outcome = outbox.acknowledge(repeat(2)).unwrap();
        assert!(matches!(outcome, Some(Outcome::ResponseLost { items }) if names(&items) == ["b"]));
        let outcome = outbox.acknowledge(accepted(3, 1)).unwrap();
        assert!(matches!(outcome, Some(Outcome::Acknowledged { items, .. }) if names(&items) == ["c"]));
        assert!(outbox.is_empty() && outbox.resume(3).is_ok());
    }

    #[test]
    fn a_repeat_that_this_client_caused_counts_and_its_rejections_are_unknown() {
        let mut outbox = outbox(0, &["a"]);
        outbox.resume(0).unwrap();
        let outcome = outbox.acknowledge(repeat(1)).unwrap();
        assert!(matches!(outcome, Some(Outcome::ResponseLost { items }) if names(&items) == ["a"]));
        assert!(outbox.is_empty());
    }

    #[test]
    fn a_number_that_another_process_used_is_noticed_and_nothing_is_taken_for_counted() {
        let mut at_once = outbox(0, &["a"]);
        assert_eq!(at_once.acknowledge(repeat(1)).unwrap_err(), EndReason::ProducerIdInUse("app".to_owned()));
        assert_eq!(names(&at_once.drain()), ["a"]);
        let mut after_a_break = outbox(0, &["a"]);
        assert!(matches!(after_a_break.resume(2), Err(EndReason::ProducerIdInUse(_))));
    }

    #[test]
    fn an_agent_that_has_forgotten_is_another_agent() {
        let mut outbox = outbox(7, &["a"]);
        outbox.acknowledge(accepted(8, 1)).unwrap();
        assert_eq!(
            outbox.resume(7).unwrap_err(),
            EndReason::SequenceWentBack { acknowledged: 8, durable: 7 },
            "its messages would be numbered anew"
        );
    }

    #[test]
    fn a_message_of_rejections_alone_is_no_repeat() {
        let mut outbox = outbox(0, &["a"]);
        let rejected = vec![Rejection::default()];
        let response =
            RecordStreamResponse { durable_sequence: 1, rejected, ..RecordStreamResponse::default() };
        assert!(matches!(outbox.acknowledge(response), Ok(Some(Outcome::Acknowledged { .. }))));
    }
}
