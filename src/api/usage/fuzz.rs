//! What applications send: any bytes as requests, decoded, validated and folded.

use std::{
    collections::{BTreeSet, HashMap},
    fmt::Debug,
    time::Duration,
};

use prost::Message as _;

use super::{
    fold::{Hasher, ValidationContext, fold},
    wire::{Malformed, Message},
};
use crate::{
    base::proto::{RecordRequest, RecordResponse, RecordStreamRequest, Rejection, UsageEvent, raw},
    domain::{
        customer::{identity::Identity, state::CustomerState},
        product::{Catalog, ProductIndex},
        sample::product,
        time::{Hour, UnixNanos},
        usage::event::TimeBounds,
    },
    engine::{
        counting::request::{CountRequest, UsageEntry},
        customers::{Customer, CustomerTable},
        watermark::Watermarks,
    },
};

const NOW: u64 = 1_793_620_800_000_000_000;
/// The largest `grpc.max_events_per_request`.
const MAX_EVENTS: usize = 100_000;
const KNOWN: &str = "acme";
const BOUNDS: TimeBounds =
    TimeBounds { max_age: Duration::from_hours(24), max_future: Duration::from_mins(5) };

/// The first byte says which message it is and what is configured.
pub(crate) fn request(data: &[u8]) -> bool {
    let Some((kind, bytes)) = data.split_first() else { return false };
    let catalog = catalog(kind & 2 == 0, kind & 4 == 0);
    if kind & 1 == 0 {
        let expected = decoded(bytes).map(|request: RecordRequest| RecordStreamRequest {
            events: request.events,
            ..RecordStreamRequest::default()
        });
        let raw = raw::RecordRequest::decode(bytes).expect("any bytes");
        taken(&catalog, expected, Message::of_request(&raw))
    } else {
        let raw = raw::RecordStreamRequest::decode(bytes).expect("any bytes");
        taken(&catalog, decoded(bytes), Message::of_stream(&raw))
    }
}

fn decoded<M: prost::Message + Default + PartialEq + Debug>(bytes: &[u8]) -> Option<M> {
    let message = M::decode(bytes).ok()?;
    assert_eq!(M::decode(&*message.encode_to_vec()).as_ref(), Ok(&message));
    Some(message)
}

/// What prost refuses is refused, and what it takes is taken.
fn taken(
    catalog: &Catalog,
    expected: Option<RecordStreamRequest>,
    message: Result<Message<'_>, Malformed>,
) -> bool {
    let read = message.and_then(|message| Ok((message, events(&message)?)));
    let Some(expected) = expected else {
        assert!(read.is_err(), "prost refuses this: {read:?}");
        return false;
    };
    let (message, events) = read.expect("prost takes this");
    let producer_id = message.producer_id.to_owned();
    assert_eq!(RecordStreamRequest { producer_id, sequence: message.sequence, events }, expected);
    if expected.events.len() > MAX_EVENTS {
        return false;
    }
    counted(catalog, &message, &expected.events);
    true
}

/// The events as prost would have built them.
fn events(message: &Message<'_>) -> Result<Vec<UsageEvent>, Malformed> {
    let mut events = Vec::new();
    message.each_event(|_, event| {
        let names = event.names.texts()?;
        events.push(UsageEvent {
            customer: names.customer.to_owned(),
            dimension: names.dimension.to_owned(),
            quantity: event.quantity,
            time_unix_nano: event.time_unix_nano,
            event_id: str::from_utf8(event.id).expect("it was looked at").to_owned(),
            product: names.product.to_owned(),
            subject: event.subject.to_owned(),
            tags: event.tags.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        });
        Ok(())
    })?;
    assert_eq!(events.len(), message.events);
    Ok(events)
}

fn counted(catalog: &Catalog, message: &Message<'_>, events: &[UsageEvent]) {
    let range = BOUNDS.around(UnixNanos::new(NOW));
    let context = ValidationContext {
        catalog,
        customers: &customers(),
        range,
        watermarks: &Watermarks::all(Hour::FIRST),
        now: UnixNanos::new(NOW).timestamp(),
        hasher: Hasher::new(7),
        permission: None,
    };
    let mut folded = fold(context, message).expect("it was read before");
    let count_request = folded.take_count_request(None);
    let rejected = folded.rejections();
    each_event_counts_once_or_is_rejected(events, &count_request, &rejected);
    sums_are_kept(catalog, events, &count_request, &rejected);
    the_answer_can_be_read(events.len(), rejected);
}

fn each_event_counts_once_or_is_rejected(
    events: &[UsageEvent],
    count_request: &CountRequest,
    rejected: &[Rejection],
) {
    let folded: u64 = count_request.entries.iter().map(|entry| entry.events).sum();
    let identified = count_request.identified.iter().map(|event| event.index);
    let indices: BTreeSet<u32> = rejected.iter().map(|rejection| rejection.index).chain(identified).collect();
    let told = rejected.len() + count_request.identified.len();
    assert_eq!(indices.len(), told, "an event was told of twice");
    assert!(indices.last().is_none_or(|last| (*last as usize) < events.len()));
    assert_eq!(folded, (events.len() - told) as u64);
    assert_eq!(count_request.events, events.len());
}

/// What the accepted events of sums and counts add up to is what is handed over, product by product.
fn sums_are_kept(
    catalog: &Catalog,
    events: &[UsageEvent],
    count_request: &CountRequest,
    rejected: &[Rejection],
) {
    let rejected: BTreeSet<u32> = rejected.iter().map(|rejection| rejection.index).collect();
    let mut sums: HashMap<ProductIndex, i128> = HashMap::new();
    let accepted = (0..).zip(events).filter(|(index, _)| !rejected.contains(index));
    for (_, event) in accepted {
        let sent = match &*event.dimension {
            "requests" | "gb" => event.quantity,
            "calls" => 1,
            _ => continue,
        };
        let product = catalog.find(&event.product).expect("the product of an accepted event");
        *sums.entry(product).or_default() += i128::from(sent);
    }
    let identified = count_request
        .identified
        .iter()
        .map(|event| (&count_request.entries[event.entry as usize], event.usage));
    let usage = count_request.entries.iter().map(|entry| (entry, entry.usage)).chain(identified);
    for (entry, usage) in usage.filter(|(entry, _)| adds_up(catalog, entry)) {
        let amount = i128::try_from(usage.amount()).expect("a small amount");
        *sums.entry(entry.product).or_default() -= amount;
    }
    assert!(sums.values().all(|left| *left == 0), "{sums:?}");
}

fn adds_up(catalog: &Catalog, entry: &UsageEntry) -> bool {
    catalog.dimension(entry.product, entry.dimension).expect("its dimension").aggregate.adds_up()
}

/// A client that cannot read the answer would send the good events again.
fn the_answer_can_be_read(events: usize, rejected: Vec<Rejection>) {
    let size = RecordResponse { rejected, ..RecordResponse::default() }.encoded_len();
    assert!(size <= (512 << 10) + 16 * events, "{size} bytes for {events} events");
}

fn catalog(is_open: bool, is_alone: bool) -> Catalog {
    let codes: &[&str] = if is_alone { &["prod"] } else { &["prod", "other"] };
    Catalog::new(codes.iter().map(|code| product(code, is_open)).collect())
}

fn customers() -> CustomerTable {
    let mut customers = CustomerTable::default();
    let identity = Identity::Account { account_id: "999999999999".into() };
    let state = CustomerState::new(identity, None, Hour::FIRST);
    let put = customers.put(Customer { product: ProductIndex(0), key: KNOWN.into(), state });
    assert!(put.is_ok());
    customers
}

pub(crate) fn requests() -> Vec<Vec<u8>> {
    let event = |dimension: &str, event_id: &str| UsageEvent {
        customer: KNOWN.to_owned(),
        dimension: dimension.to_owned(),
        quantity: 7,
        event_id: event_id.to_owned(),
        product: "prod".to_owned(),
        subject: "ann".to_owned(),
        ..UsageEvent::default()
    };
    let tags = [("team".to_owned(), "blue".to_owned()), ("env".to_owned(), "a b".to_owned())];
    let events = vec![
        event("requests", ""),
        event("requests", "x"),
        UsageEvent { customer: "123456789012".to_owned(), ..event("calls", "") },
        UsageEvent { tags: tags.into(), quantity: u64::MAX, ..event("gb", "") },
        UsageEvent { time_unix_nano: NOW - 3_600_000_000_000, ..event("peak", "") },
        event("seats", ""),
        event("users", ""),
        event("users", ""),
        UsageEvent { product: "other".to_owned(), ..event("requests", "") },
        UsageEvent { time_unix_nano: 1, ..event("nothing", "") },
        UsageEvent { quantity: u64::MAX, ..event("requests", "") },
    ];
    let request = RecordRequest { events: events.clone() }.encode_to_vec();
    let message =
        RecordStreamRequest { producer_id: "host-1".to_owned(), sequence: 3, events }.encode_to_vec();
    let seed = |kind: u8, message: &[u8]| [&[kind], message].concat();
    vec![seed(0, &request), seed(2, &request), seed(4, &request), seed(1, &message), seed(5, &message)]
}
