use std::time::Duration;

use prost::Message;

use super::*;
use crate::{
    base::proto::{RecordRequest, UsageEvent, rejection::Reason},
    domain::{
        product::Catalog,
        sample::product,
        time::{Hour, Timestamp},
        usage::event::{RejectReason, TimeBounds},
    },
    engine::{
        counting::request::{Counted, Refused},
        customers::CustomerTable,
        watermark::Watermarks,
    },
};

fn folded(open: bool, events: &[UsageEvent]) -> FoldedRequest {
    let bounds = TimeBounds { max_age: Duration::from_hours(24), max_future: Duration::from_mins(5) };
    let now: Timestamp = "2026-11-22T10:30:00Z".parse().unwrap();
    let (catalog, customers) = (Catalog::new(vec![product("prod", open)]), CustomerTable::default());
    let watermarks = Watermarks::all(Hour::containing(now).previous());
    let context = ValidationContext {
        catalog: &catalog,
        customers: &customers,
        range: bounds.around(now),
        watermarks: &watermarks,
        now,
        hasher: Hasher::new(7),
        permission: None,
    };
    let request = RecordRequest { events: events.to_vec() }.encode_to_vec().into();
    fold(context, &wire::Message::of_request(&request).unwrap()).unwrap()
}

fn event(customer: &str, quantity: u64, event_id: &str) -> UsageEvent {
    UsageEvent {
        customer: customer.to_owned(),
        dimension: "requests".to_owned(),
        quantity,
        event_id: event_id.to_owned(),
        ..UsageEvent::default()
    }
}

const A: &str = "123456789012";
const B: &str = "210987654321";

#[test]
fn events_without_ids_are_added_up_and_others_are_not() {
    let folded = folded(true, &[event(A, 1, ""), event(A, 2, ""), event(B, 4, ""), event(A, 8, "x")]);
    let amounts: Vec<_> =
        folded.count_request.entries.iter().map(|entry| (entry.usage.amount(), entry.events)).collect();
    assert_eq!(amounts, [(3, 2), (4, 1)]);
    let [event] = &*folded.count_request.identified else { panic!("one event has an id") };
    assert_eq!((event.entry, event.usage, event.index), (0, Usage::Sum(8), 3));
}

#[test]
fn bad_events_are_told_by_index_and_the_others_count() {
    let folded = folded(true, &[event("", 1, ""), event(A, 2, ""), event("acme", 4, "")]);
    let rejections = folded.rejections();
    let told: Vec<_> = rejections.iter().map(|rejection| (rejection.index, rejection.reason())).collect();
    assert_eq!(told, [(0, Reason::InvalidCustomer), (2, Reason::UnknownCustomer)]);
    assert_eq!(folded.count_request.entries.len(), 1);
    assert!(self::folded(false, &[event(A, 1, "")]).count_request.entries.is_empty(), "not registered");
}

#[test]
fn a_sum_that_overflows_rejects_the_event_that_does_not_fit() {
    let folded = folded(true, &[event(A, u64::MAX, ""), event(A, 1, "")]);
    let rejected = folded.rejections();
    assert_eq!((rejected.len(), rejected[0].index, rejected[0].reason()), (1, 1, Reason::QuantityOverflow));
}

#[test]
fn however_many_events_are_bad_the_answer_can_be_read() {
    let unknown = UsageEvent { dimension: "x".repeat(250), ..event(A, 1, "") };
    let tags = [("k".repeat(20_000), "v".to_owned())].into();
    let ill_tagged = UsageEvent { dimension: "gb".to_owned(), tags, ..event(A, 1, "") };
    for (bad, reason) in [(unknown, Reason::UnknownDimension), (ill_tagged, Reason::InvalidTags)] {
        let rejected = folded(true, &vec![bad; 10_000]).rejections();
        assert_eq!(rejected.len(), 10_000);
        assert!(rejected.iter().all(|rejection| rejection.reason() == reason));
        let size: usize = rejected.iter().map(Message::encoded_len).sum();
        assert!(size < 1 << 20, "{size} bytes");
    }
}

#[test]
fn a_refused_fold_rejects_all_its_events() {
    let mut folded = folded(true, &[event(A, 1, ""), event(B, 2, ""), event(A, 4, "")]);
    let why = RejectReason::QuantityOverflow;
    let refused_entries = vec![Refused { index: 0, product: ProductIndex(0), why }];
    folded.refuse(Counted { refused_entries, ..Counted::default() });
    let indices: Vec<_> = folded.rejections().iter().map(|rejection| rejection.index).collect();
    assert_eq!(indices, [0, 2]);
}

#[test]
fn an_id_means_one_event_of_one_customer_and_dimension() {
    let hash_with = |key, event: &UsageEvent| {
        let names = ["prod", &event.customer, &event.dimension].map(str::as_bytes);
        let mut hasher = Hasher::new(key).of(names);
        hasher.write(event.event_id.as_bytes());
        hasher.finish128().as_u128()
    };
    let hash = |event: &UsageEvent| hash_with(7, event);
    let first = event(A, 1, "x");
    assert_eq!(hash(&first), hash(&event(A, 2, "x")));
    assert_ne!(hash(&first), hash(&event(B, 1, "x")));
    assert_ne!(hash(&first), hash(&UsageEvent { dimension: "calls".to_owned(), ..first.clone() }));
    assert_ne!(hash_with(8, &first), hash(&first));
}

#[test]
fn subjects_fold_only_into_themselves_and_count_once() {
    let user = |subject: &str| UsageEvent {
        dimension: "users".to_owned(),
        subject: subject.to_owned(),
        ..event(A, 9, "")
    };
    let folded = folded(true, &[user("ann"), user("bob"), user("ann")]);
    let amounts: Vec<_> =
        folded.count_request.entries.iter().map(|entry| (entry.usage.amount(), entry.events)).collect();
    assert_eq!(amounts, [(1, 2), (1, 1)]);
}

#[test]
fn of_two_levels_in_one_request_the_later_stands() {
    let seats = |quantity| UsageEvent { dimension: "seats".to_owned(), ..event(A, quantity, "") };
    let folded = folded(true, &[seats(9), seats(4)]);
    assert_eq!(folded.count_request.entries[0].usage.amount(), 4);
}

#[test]
fn sets_of_tags_are_added_up_apart() {
    let tagged = |team: &str, quantity| UsageEvent {
        dimension: "gb".to_owned(),
        tags: [("team".to_owned(), team.to_owned())].into(),
        ..event(A, quantity, "")
    };
    let folded = folded(true, &[tagged("a", 1), tagged("b", 2), tagged("a", 4)]);
    let amounts: Vec<_> = folded.count_request.entries.iter().map(|entry| entry.usage.amount()).collect();
    assert_eq!(amounts, [5, 2]);
}
