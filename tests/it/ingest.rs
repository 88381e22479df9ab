//! What applications send, and what they are told.

use std::time::Duration;

use tallyman::internals::Faults;
use tallyman_client::proto::{
    Customer, GetCustomerRequest, ListCustomersRequest, PutCustomerRequest, RecordRequest,
    RecordStreamRequest, UsageEvent, rejection::Reason,
};
use tokio_stream::StreamExt;
use tonic::Code;

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home},
    events::{ACME, GLOBEX, event, record},
    fast_clock, sandbox,
};

/// An agent whose AWS is nowhere: these tests never get that far.
fn home() -> Home {
    Home::new(ACCOUNT_PRODUCT, "http://127.0.0.1:9", None)
}

#[tokio::test]
async fn each_bad_event_is_told_by_index_and_reason_and_the_others_count() {
    let home = home();
    let _agent = home.start().await;
    let hours = |hours: u64| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::try_from(now.checked_sub(Duration::from_secs(hours * 3600)).unwrap().as_nanos()).unwrap()
    };
    let good = event(ACME, "requests", 1, "");
    let events = vec![
        good.clone(),
        event(ACME, "nonsense", 1, ""),
        event("", "requests", 1, ""),
        event(&"9".repeat(256), "requests", 1, ""),
        event("acme", "requests", 1, ""),
        event(ACME, "requests", 1, &"i".repeat(129)),
        UsageEvent { product: "other".to_owned(), ..good.clone() },
        UsageEvent { time_unix_nano: hours(25), ..good.clone() },
        UsageEvent { time_unix_nano: u64::MAX, ..good.clone() },
        UsageEvent { tags: [("a".to_owned(), "b".to_owned())].into(), ..good.clone() },
        event(GLOBEX, "requests", u64::MAX, ""),
        event(GLOBEX, "requests", u64::MAX, ""),
        good,
    ];
    let answer = record(&home, events).await.unwrap();
    let told: Vec<_> =
        answer.rejected.iter().map(|rejection| (rejection.index, rejection.reason())).collect();
    let expected = [
        (1, Reason::UnknownDimension),
        (2, Reason::InvalidCustomer),
        (3, Reason::InvalidCustomer),
        (4, Reason::UnknownCustomer),
        (5, Reason::InvalidEventId),
        (6, Reason::UnknownProduct),
        (7, Reason::TimeTooOld),
        (8, Reason::TimeInFuture),
        (9, Reason::InvalidTags),
        (11, Reason::QuantityOverflow),
    ];
    assert_eq!(told, expected);
    assert_eq!((answer.accepted, answer.duplicates), (3, 0));
    let overflow =
        record(&home, vec![event(GLOBEX, "requests", 1, ""), event(GLOBEX, "requests", 1, "x")]).await;
    let reasons: Vec<_> =
        overflow.unwrap().rejected.iter().map(tallyman_client::proto::Rejection::reason).collect();
    assert_eq!(reasons, [Reason::QuantityOverflow; 2], "the total so far is on disk, not in the request");
}

#[tokio::test]
async fn an_event_id_counts_once_also_after_a_kill() {
    let home = home();
    let agent = home.start().await;
    let events = vec![
        event(ACME, "requests", 5, "a"),
        event(ACME, "requests", 7, "b"),
        event(ACME, "requests", 5, "a"),
    ];
    let first = record(&home, events.clone()).await.unwrap();
    assert_eq!((first.accepted, first.duplicates), (2, 1));
    agent.kill();
    let _agent = home.start().await;
    let again = record(&home, events).await.unwrap();
    assert_eq!((again.accepted, again.duplicates), (0, 3));
    assert_eq!(home.summary().await.unwrap().products[0].dimensions[0].open, "12");
}

#[tokio::test]
async fn a_request_that_is_wrong_as_a_whole_counts_nothing() {
    let mut home = home();
    home.set("GRPC__MAX_EVENTS_PER_REQUEST", "10");
    let _agent = home.start().await;
    let many = record(&home, vec![event(ACME, "requests", 1, ""); 11]).await.unwrap_err();
    assert_eq!(many.code(), Code::InvalidArgument);
    assert!(many.message().contains("max_events_per_request"), "{many}");
    let large = event(ACME, &"x".repeat(17 << 20), 1, "");
    let large = home.usage().await.record(RecordRequest { events: vec![large] }).await.unwrap_err();
    assert_eq!(large.code(), Code::ResourceExhausted, "{large}");
    assert_eq!(home.summary().await.unwrap().products[0].dimensions[0].open, "0");
}

#[tokio::test]
async fn more_than_may_wait_is_refused_with_a_time_to_retry() {
    use tonic_types::StatusExt;
    let mut home = home();
    home.set("LIMITS__MAX_PENDING_EVENTS", "50");
    let _agent = home.start().await;
    let calls = (0..200).map(|_| record(&home, vec![event(ACME, "requests", 1, ""); 50]));
    let answers = join_all(calls).await;
    let counted: u64 = answers.iter().flatten().map(|answer| answer.accepted).sum();
    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(!refused.is_empty(), "nothing was refused");
    for status in refused {
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert!(status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()));
    }
    assert_eq!(home.summary().await.unwrap().products[0].dimensions[0].open, counted.to_string());
}

async fn join_all<T: Send + 'static>(futures: impl Iterator<Item = impl Future<Output = T>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut pending = false;
        for (future, output) in &mut futures {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    futures.into_iter().filter_map(|(_, output)| output).collect()
}

#[tokio::test]
async fn a_stream_resumes_refuses_gaps_and_counts_repeats_once() {
    let home = home();
    let agent = home.start().await;
    let message = |sequence: u64| RecordStreamRequest {
        producer_id: "p".to_owned(),
        sequence,
        events: if sequence == 0 { Vec::new() } else { vec![event(ACME, "requests", sequence, "")] },
    };
    let send = async |sequences: &[u64]| {
        let messages: Vec<_> = sequences.iter().map(|sequence| message(*sequence)).collect();
        let answers =
            home.usage().await.record_stream(tokio_stream::iter(messages)).await.unwrap().into_inner();
        let told: Vec<_> = answers
            .map(|answer| answer.map(|answer| (answer.durable_sequence, answer.accepted)))
            .collect()
            .await;
        told
    };
    let told = send(&[0, 1, 2, 2, 3, 5]).await;
    let answered: Vec<_> = told.iter().flatten().copied().collect();
    assert_eq!(answered, [(0, 0), (1, 1), (2, 1), (2, 0), (3, 1)]);
    let gap = told.last().unwrap().as_ref().unwrap_err();
    assert_eq!(gap.code(), Code::FailedPrecondition);
    assert!(gap.message().contains('4'), "{gap}");
    agent.kill();
    let _agent = home.start().await;
    let told: Vec<_> = send(&[0, 3, 4]).await.into_iter().flatten().collect();
    assert_eq!(told, [(3, 0), (3, 0), (4, 1)], "the sequence survives a kill");
    assert_eq!(home.summary().await.unwrap().products[0].dimensions[0].open, "10");
}

#[tokio::test]
async fn customers_are_registered_and_one_identity_is_billed_once() {
    let home = home();
    let _agent = home.start().await;
    let mut customers = home.customers().await;
    let acme = Customer { key: "acme".to_owned(), account_id: ACME.to_owned(), ..Customer::default() };
    customers.put_customer(PutCustomerRequest { customer: Some(acme.clone()) }).await.unwrap();
    assert_eq!(record(&home, vec![event("acme", "requests", 1, "")]).await.unwrap().accepted, 1);
    let other = Customer { key: "other".to_owned(), ..acme };
    let taken = customers.put_customer(PutCustomerRequest { customer: Some(other) }).await.unwrap_err();
    assert_eq!(taken.code(), Code::AlreadyExists);
    let by_account = record(&home, vec![event(ACME, "requests", 1, "")]).await.unwrap();
    assert_eq!(by_account.rejected[0].reason(), Reason::UnknownCustomer, "two keys would fill one slot");
    record(&home, vec![event(GLOBEX, "requests", 1, "")]).await.unwrap();
    let list =
        customers.list_customers(ListCustomersRequest { page_size: 1, ..Default::default() }).await.unwrap();
    let list = list.into_inner();
    assert_eq!(list.customers[0].key, GLOBEX, "an event registers an open product's customer");
    let next = ListCustomersRequest { page_size: 1, page_token: list.next_page_token, ..Default::default() };
    assert_eq!(customers.list_customers(next).await.unwrap().into_inner().customers[0].key, "acme");
    let missing = GetCustomerRequest { key: "nobody".to_owned(), ..GetCustomerRequest::default() };
    assert_eq!(customers.get_customer(missing).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn late_events_are_counted_in_the_current_hour_and_told() {
    let clock = fast_clock(3600.0);
    let (sandbox, _tasks) = sandbox(clock, Faults::default()).await;
    let home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    let _agent = home.start().await;
    crate::support::eventually("an hour is sealed", async || {
        let sealed = home.summary().await?.sealed_through_unix_seconds;
        (sealed >= clock.start.seconds() - 1800).then_some(())
    })
    .await;
    let time_unix_nano = u64::try_from(clock.start.millis()).unwrap() * 1_000_000;
    let late = UsageEvent { time_unix_nano, ..event(ACME, "requests", 9, "") };
    let answer = record(&home, vec![late]).await.unwrap();
    assert_eq!((answer.accepted, answer.late), (1, 1));
}

#[tokio::test]
async fn a_token_lets_only_those_in_who_have_it() {
    let mut home = home();
    let token = home.path().join("token");
    std::fs::write(&token, "s3cret\n").unwrap();
    home.set("GRPC__TOKEN_FILE", &token.display().to_string());
    let _agent = home.start().await;
    let refused = record(&home, vec![event(ACME, "requests", 1, "")]).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let mut request = tonic::Request::new(RecordRequest { events: vec![event(ACME, "requests", 1, "")] });
    request.metadata_mut().insert("authorization", "Bearer s3cret".parse().unwrap());
    assert_eq!(home.usage().await.record(request).await.unwrap().into_inner().accepted, 1);
}

#[tokio::test]
async fn a_full_table_refuses_events_by_name_and_stream_messages_as_a_whole() {
    let mut home = home();
    home.set("LIMITS__MAX_OPEN_BUCKETS", "2");
    let _agent = home.start().await;
    let three =
        vec![event(ACME, "requests", 1, ""), event(ACME, "calls", 1, ""), event(ACME, "gb_out", 1, "")];
    let answer = record(&home, three).await.unwrap();
    assert_eq!((answer.accepted, answer.rejected[0].reason()), (2, Reason::LimitReached));
    assert!(answer.rejected[0].message.contains("max_open_buckets"));
    let events = vec![event(ACME, "requests", 1, ""), event(GLOBEX, "requests", 1, "")];
    let message = RecordStreamRequest { producer_id: "p".to_owned(), sequence: 1, events };
    let stream = home.usage().await.record_stream(tokio_stream::iter([message])).await.unwrap();
    let refused = stream.into_inner().next().await.unwrap().unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let resume = RecordStreamRequest { producer_id: "p".to_owned(), ..RecordStreamRequest::default() };
    let mut stream =
        home.usage().await.record_stream(tokio_stream::iter([resume])).await.unwrap().into_inner();
    assert_eq!(stream.next().await.unwrap().unwrap().durable_sequence, 0, "the sequence is not used up");
}
