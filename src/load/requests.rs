//! The requests, encoded ahead of the run or one by one.

use prost::{
    Message as _,
    bytes::{Bytes, BytesMut},
};

use super::{Load, Message, Mode};
use crate::base::proto::{RecordRequest, RecordStreamRequest, UsageEvent};

/// The usage that the events report.
#[derive(Clone, Debug)]
pub struct Usage {
    pub product: String,
    /// Each event is of one of these dimensions, drawn at random.
    pub dimensions: Vec<String>,
    /// Each event is of one of so many customers, drawn at random.
    pub customers: u32,
    /// The beginning of every customer's key.
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
    /// A customer's key, at least as long as an account id: a product that bills accounts takes it.
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

/// Consecutive events of a run, by their numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct EventRange {
    pub(super) first: u64,
    pub(super) events: u64,
}

/// Requests to send in turn.
pub(super) struct Requests {
    /// Unique to this run: part of its event ids and producer ids.
    run: [u8; HALF_ID],
    batch: u64,
    templates: Vec<Template>,
    /// What requests are built from, if each is encoded anew.
    anew: Option<(Mode, Usage)>,
}

/// An encoded request. A shorter request is its beginning.
#[derive(Default)]
struct Template {
    body: BytesMut,
    /// The position at which each event ends.
    ends: Vec<usize>,
    /// The position at which each id begins; empty without ids.
    ids: Vec<usize>,
}

impl Requests {
    pub(super) fn new(load: &Load) -> Self {
        let batch = u64::from(load.batch);
        let wanted =
            (batch.saturating_mul(FEWEST_TEMPLATES)).max(u64::from(load.usage.customers).saturating_mul(4));
        let anew = load.encodes_anew.then(|| (load.mode, load.usage.clone()));
        let count = if anew.is_some() { 0 } else { wanted.min(MOST_EVENTS_AHEAD).div_ceil(batch.max(1)) };
        let mut random = fastrand::Rng::with_seed(SEED);
        let templates = (0..count).map(|_| Template::new(load, &mut random)).collect();
        Self { run: hex(fastrand::u64(..)), batch, templates, anew }
    }

    pub(super) fn unary(&self, range: EventRange) -> Message {
        Message { head: Bytes::new(), body: self.body(range) }
    }

    pub(super) fn numbered(&self, range: EventRange, sequence: u64) -> Message {
        let head = RecordStreamRequest { sequence, ..RecordStreamRequest::default() }.encode_to_vec();
        Message { head: head.into(), body: self.body(range) }
    }

    /// A stream's first message, which asks where to resume.
    pub(super) fn opening(&self, stream: usize) -> Message {
        let producer_id = format!("bench-{}-{stream}", String::from_utf8_lossy(&self.run));
        let head = RecordStreamRequest { producer_id, ..RecordStreamRequest::default() }.encode_to_vec();
        Message { head: head.into(), body: Bytes::new() }
    }

    fn body(&self, range: EventRange) -> Bytes {
        if let Some((mode, usage)) = &self.anew {
            return encode(*mode, self.events(usage, range)).into();
        }
        let turn = range.first.checked_div(self.batch).unwrap_or_default();
        let place =
            turn.checked_rem(self.templates.len() as u64).and_then(|place| usize::try_from(place).ok());
        let Some(template) = place.and_then(|place| self.templates.get(place)) else { return Bytes::new() };
        template.filled(range, &self.run)
    }
}

impl Requests {
    fn events(&self, usage: &Usage, range: EventRange) -> Vec<UsageEvent> {
        let mut random = fastrand::Rng::with_seed(SEED ^ range.first);
        let mut event = |number| {
            let mut event = usage.event(&mut random);
            if usage.has_ids {
                event.event_id = [self.run, hex(number)].concat().into_iter().map(char::from).collect();
            }
            event
        };
        (range.first..).take(usize::try_from(range.events).unwrap_or(usize::MAX)).map(&mut event).collect()
    }
}

fn encode(mode: Mode, events: Vec<UsageEvent>) -> Vec<u8> {
    match mode {
        Mode::Unary => RecordRequest { events }.encode_to_vec(),
        Mode::Stream => RecordStreamRequest { events, ..RecordStreamRequest::default() }.encode_to_vec(),
    }
}

impl Template {
    fn new(load: &Load, random: &mut fastrand::Rng) -> Self {
        let mut template = Self::default();
        for _ in 0..load.batch {
            let event = load.usage.event(random);
            let before_id = UsageEvent { event_id: String::new(), product: String::new(), ..event.clone() };
            let (start, length) = (template.body.len(), event.encoded_len());
            let message = encode(load.mode, vec![event]);
            if load.usage.has_ids {
                let event_at = start + message.len() - length;
                template.ids.push(event_at + before_id.encoded_len() + ID_HEAD);
            }
            template.body.extend_from_slice(&message);
            template.ends.push(template.body.len());
        }
        template
    }

    /// The first events of the template, with ids of their own.
    fn filled(&self, range: EventRange, run: &[u8; HALF_ID]) -> Bytes {
        let events = usize::try_from(range.events).unwrap_or(usize::MAX);
        let end = events.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or_default();
        let mut body = BytesMut::from(&self.body[..end]);
        for (&at, number) in self.ids.iter().take(events).zip(range.first..) {
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

/// The length of an AWS account id.
const KEY_LENGTH: usize = 12;
const ID_LENGTH: usize = 2 * HALF_ID;
const HALF_ID: usize = 16;
/// The id's tag and length.
const ID_HEAD: usize = 2;
const FEWEST_TEMPLATES: u64 = 16;
/// Some 200 MB of templates.
const MOST_EVENTS_AHEAD: u64 = 4_000_000;
/// The same for every run, so that two runs draw the same customers.
const SEED: u64 = 7;

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, time::Duration};

    use super::*;

    fn requests(mode: Mode, has_ids: bool) -> Requests {
        prepared(mode, has_ids, false)
    }

    fn prepared(mode: Mode, has_ids: bool, encodes_anew: bool) -> Requests {
        let dimensions = vec!["requests".to_owned(), "gb_out".to_owned()];
        let product = "prod".to_owned();
        let usage = Usage { product, dimensions, customers: 5, quantity: 300, has_ids, ..Usage::default() };
        Requests::new(&Load {
            mode,
            usage,
            encodes_anew,
            batch: 10,
            in_flight: 1,
            most_events: 1000,
            duration: Duration::from_secs(1),
            rate: 0,
        })
    }

    fn decoded(requests: &Requests, first: u64, events: u64) -> Vec<UsageEvent> {
        RecordRequest::decode(requests.unary(EventRange { first, events }).body).unwrap().events
    }

    #[test]
    fn ahead_or_anew_they_decode_to_events_that_differ_in_their_ids() {
        for encodes_anew in [false, true] {
            let requests = prepared(Mode::Unary, true, encodes_anew);
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
        let opening = read(requests.opening(3));
        assert!(opening.producer_id.ends_with("-3") && opening.sequence == 0, "{opening:?}");
        let message = read(requests.numbered(EventRange { first: 990, events: 10 }, 99));
        assert_eq!((message.sequence, message.events.len()), (99, 10));
        assert!(message.events[9].event_id.ends_with("3e7"), "{message:?}");
    }

    #[test]
    fn a_longer_prefix_makes_a_longer_key() {
        let usage = Usage { customer_prefix: "load-test-customer-".to_owned(), ..Usage::default() };
        assert_eq!(usage.key(17), "load-test-customer-17");
    }
}
