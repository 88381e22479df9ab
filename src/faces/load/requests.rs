//! The requests, encoded ahead.

use prost::{
    Message as _,
    bytes::{Bytes, BytesMut},
};

use super::{Load, Message, Mode};
use crate::base::proto::{RecordRequest, RecordStreamRequest, UsageEvent};

/// Whose usage of what.
#[derive(Clone, Debug)]
pub struct Usage {
    pub product: String,
    /// Each event is of one of them, drawn at random.
    pub dimensions: Vec<String>,
    /// Each event is of one of so many, drawn at random.
    pub customers: u32,
    /// What their keys begin with.
    pub customer_prefix: String,
    pub quantity: u64,
    /// Whether each event has an id of its own.
    pub has_ids: bool,
}

impl Default for Usage {
    fn default() -> Self {
        Self {
            product: String::new(),
            dimensions: vec!["requests".to_owned()],
            customers: 1000,
            customer_prefix: "9".to_owned(),
            quantity: 1,
            has_ids: false,
        }
    }
}

impl Usage {
    /// At least as long as an account id is, so that a product which bills accounts takes it.
    fn key(&self, customer: u32) -> String {
        let width = KEY_LENGTH.saturating_sub(self.customer_prefix.len());
        format!("{}{customer:0width$}", self.customer_prefix)
    }

    fn event(&self, random: &mut fastrand::Rng) -> UsageEvent {
        UsageEvent {
            customer: self.key(random.u32(0..self.customers.max(1))),
            dimension: random.choice(&self.dimensions).cloned().unwrap_or_default(),
            quantity: self.quantity,
            event_id: if self.has_ids { "_".repeat(ID_LENGTH) } else { String::new() },
            product: self.product.clone(),
            ..UsageEvent::default()
        }
    }
}

/// Events of a run, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slice {
    pub(super) first: u64,
    pub(super) events: u64,
}

/// Requests to send in turn.
pub(super) struct Requests {
    /// What no other run has, in its ids and its producers.
    run: [u8; HALF_ID],
    batch: u64,
    patterns: Vec<Pattern>,
}

/// A whole request, of which a shorter one is the beginning.
#[derive(Default)]
struct Pattern {
    body: BytesMut,
    /// Where each event ends.
    ends: Vec<usize>,
    /// Where each id begins; empty without ids.
    ids: Vec<usize>,
}

impl Requests {
    pub(super) fn new(load: &Load) -> Self {
        let batch = u64::from(load.batch);
        let wanted =
            (batch.saturating_mul(FEWEST_PATTERNS)).max(u64::from(load.usage.customers).saturating_mul(4));
        let count = wanted.min(MOST_EVENTS_AHEAD).div_ceil(batch.max(1));
        let mut random = fastrand::Rng::with_seed(SEED);
        let patterns = (0..count).map(|_| Pattern::new(load, &mut random)).collect();
        Self { run: hex(fastrand::u64(..)), batch, patterns }
    }

    pub(super) fn unary(&self, slice: Slice) -> Message {
        Message { head: Bytes::new(), body: self.body(slice) }
    }

    pub(super) fn numbered(&self, slice: Slice, sequence: u64) -> Message {
        let head = RecordStreamRequest { sequence, ..RecordStreamRequest::default() }.encode_to_vec();
        Message { head: head.into(), body: self.body(slice) }
    }

    /// A stream's first message, which asks where to resume.
    pub(super) fn greeting(&self, stream: usize) -> Message {
        let producer_id = format!("bench-{}-{stream}", String::from_utf8_lossy(&self.run));
        let head = RecordStreamRequest { producer_id, ..RecordStreamRequest::default() }.encode_to_vec();
        Message { head: head.into(), body: Bytes::new() }
    }

    fn body(&self, slice: Slice) -> Bytes {
        let turn = slice.first.checked_div(self.batch).unwrap_or_default();
        let place =
            turn.checked_rem(self.patterns.len() as u64).and_then(|place| usize::try_from(place).ok());
        let Some(pattern) = place.and_then(|place| self.patterns.get(place)) else { return Bytes::new() };
        pattern.filled(slice, &self.run)
    }
}

impl Pattern {
    fn new(load: &Load, random: &mut fastrand::Rng) -> Self {
        let mut pattern = Self::default();
        for _ in 0..load.batch {
            let event = load.usage.event(random);
            let before_id = UsageEvent { event_id: String::new(), product: String::new(), ..event.clone() };
            let (start, length) = (pattern.body.len(), event.encoded_len());
            let message = match load.mode {
                Mode::Unary => RecordRequest { events: vec![event] }.encode_to_vec(),
                Mode::Stream => RecordStreamRequest { events: vec![event], ..RecordStreamRequest::default() }
                    .encode_to_vec(),
            };
            if load.usage.has_ids {
                let event_at = start + message.len() - length;
                pattern.ids.push(event_at + before_id.encoded_len() + ID_HEAD);
            }
            pattern.body.extend_from_slice(&message);
            pattern.ends.push(pattern.body.len());
        }
        pattern
    }

    /// The first events of the pattern, with ids of their own.
    fn filled(&self, slice: Slice, run: &[u8; HALF_ID]) -> Bytes {
        let events = usize::try_from(slice.events).unwrap_or(usize::MAX);
        let end = events.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or_default();
        let mut body = BytesMut::from(&self.body[..end]);
        for (&at, number) in self.ids.iter().take(events).zip(slice.first..) {
            body[at..at + HALF_ID].copy_from_slice(run);
            body[at + HALF_ID..at + ID_LENGTH].copy_from_slice(&hex(number));
        }
        body.freeze()
    }
}

fn hex(number: u64) -> [u8; HALF_ID] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; HALF_ID];
    for (pair, byte) in text.chunks_exact_mut(2).zip(number.to_be_bytes()) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    text
}

/// That of an AWS account id.
const KEY_LENGTH: usize = 12;
const ID_LENGTH: usize = 2 * HALF_ID;
const HALF_ID: usize = 16;
/// The id's tag and length.
const ID_HEAD: usize = 2;
const FEWEST_PATTERNS: u64 = 16;
/// Some 200 MB of patterns.
const MOST_EVENTS_AHEAD: u64 = 4_000_000;
/// Two runs draw the same customers.
const SEED: u64 = 7;

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;

    fn requests(mode: Mode, has_ids: bool) -> Requests {
        let dimensions = vec!["requests".to_owned(), "gb_out".to_owned()];
        let product = "prod".to_owned();
        let usage = Usage { product, dimensions, customers: 5, quantity: 300, has_ids, ..Usage::default() };
        Requests::new(&Load {
            mode,
            usage,
            batch: 10,
            in_flight: 1,
            most_events: 1000,
            duration: Duration::from_secs(1),
            rate: 0,
        })
    }

    fn decoded(requests: &Requests, first: u64, events: u64) -> Vec<UsageEvent> {
        RecordRequest::decode(requests.unary(Slice { first, events }).body).unwrap().events
    }

    #[test]
    fn what_is_patched_decodes_to_events_that_differ_in_their_ids() {
        let requests = requests(Mode::Unary, true);
        let mut ids = BTreeSet::new();
        let mut keys = BTreeSet::new();
        for turn in 0..40 {
            let events = decoded(&requests, turn * 10, 10);
            assert_eq!(events.len(), 10);
            for event in events {
                assert_eq!((event.product.as_str(), event.quantity), ("prod", 300));
                assert!(["requests", "gb_out"].contains(&event.dimension.as_str()), "{event:?}");
                assert_eq!((event.event_id.len(), event.customer.len()), (32, 12), "{event:?}");
                keys.insert(event.customer);
                ids.insert(event.event_id);
            }
        }
        assert_eq!((ids.len(), keys.len()), (400, 5));
        assert!(keys.contains("900000000004"), "{keys:?}");
    }

    #[test]
    fn runs_share_no_id() {
        let (one, other) = (requests(Mode::Unary, true), requests(Mode::Unary, true));
        assert_ne!(decoded(&one, 0, 1)[0].event_id, decoded(&other, 0, 1)[0].event_id);
    }

    #[test]
    fn the_last_request_may_be_shorter_and_ids_may_be_left_out() {
        let requests = requests(Mode::Unary, false);
        let events = decoded(&requests, 20, 3);
        assert_eq!(events.len(), 3);
        assert!(events.iter().all(|event| event.event_id.is_empty()));
    }

    #[test]
    fn a_streams_messages_have_a_number_and_its_greeting_a_name() {
        let requests = requests(Mode::Stream, true);
        let read = |message: Message| {
            RecordStreamRequest::decode([message.head, message.body].concat().as_slice()).unwrap()
        };
        let greeting = read(requests.greeting(3));
        assert!(greeting.producer_id.ends_with("-3") && greeting.sequence == 0, "{greeting:?}");
        let message = read(requests.numbered(Slice { first: 990, events: 10 }, 99));
        assert_eq!((message.sequence, message.events.len()), (99, 10));
        assert!(message.events[9].event_id.ends_with("3e7"), "{message:?}");
    }

    #[test]
    fn a_longer_prefix_makes_a_longer_key() {
        let usage = Usage { customer_prefix: "load-test-customer-".to_owned(), ..Usage::default() };
        assert_eq!(usage.key(17), "load-test-customer-17");
    }
}
