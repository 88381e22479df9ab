//! The client for applications, against real agents.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tallyman::internals::Faults;
use tallyman_client::{Client, EndReason, RecordErrorKind, RejectionReason, Report, Settings, UsageEvent};
use tokio::time::timeout;

use crate::{
    security::{issue, require_certificates},
    support::{
        agent::{ACCOUNT_PRODUCT, Home, signal},
        clock_at,
        events::{ACME, GLOBEX, Sums, billed_units, event},
        eventually, fast_clock, sandbox,
    },
};

/// Longer than anything here takes, on a disk that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(100);

/// What a client has reported.
#[derive(Clone, Default)]
struct Reports(Arc<Mutex<Vec<Report>>>);

impl Reports {
    fn take(&self) -> Vec<Report> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn settings(home: &Home, producer: &str) -> Settings {
    let mut settings = Settings::new(&home.grpc, producer).unwrap();
    settings.batch_time = Duration::from_millis(5);
    // Agents of tests have clocks of their own.
    settings.stamp_time = false;
    settings
}

fn open(settings: Settings) -> (Client, Reports) {
    let reports = Reports::default();
    let list = reports.0.clone();
    let client = Client::open(settings, move |report| list.lock().unwrap().push(report)).unwrap();
    (client, reports)
}

fn usage(customer: &str, quantity: u64) -> UsageEvent {
    event(customer, "requests", quantity, "")
}

async fn open_requests(home: &Home) -> u64 {
    home.summary().await.unwrap().products[0].dimensions[0].open.parse().unwrap()
}

fn agent_without_aws() -> Home {
    Home::new(ACCOUNT_PRODUCT, "http://127.0.0.1:9", None)
}

/// Events reach the agent in batches, and a rejection names its event.
#[tokio::test(flavor = "multi_thread")]
async fn events_are_acknowledged_and_rejections_come_back() {
    let home = agent_without_aws();
    let _agent = home.start().await;
    let (client, reports) = open(settings(&home, "app"));
    let unknown = |number: u64| event(ACME, "no such dimension", number, &format!("its own id {number}"));
    let mut bad = Vec::new();
    for quantity in 1..=1000 {
        client.record(usage(ACME, quantity)).await.unwrap();
        if quantity % 100 == 50 {
            bad.push(unknown(quantity));
            client.try_record(unknown(quantity)).unwrap();
        }
    }
    timeout(PATIENCE, client.flush()).await.unwrap().unwrap();
    assert_eq!((client.unacknowledged(), client.totals().accepted, client.totals().rejected), (0, 1000, 10));
    let rejected = reports.take().into_iter().map(|report| match report {
        Report::Rejected { event, reason: RejectionReason::UnknownDimension, message } => {
            assert!(message.contains("no such dimension"), "{message}");
            *event
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(rejected.collect::<Vec<_>>(), bad, "each with the id that it had");
    assert_eq!(open_requests(&home).await, 500_500);
    let large = UsageEvent { subject: "x".repeat(20_000), ..usage(ACME, 1) };
    assert_eq!(client.record(large).await.unwrap_err().kind, RecordErrorKind::TooLarge);
    client.shutdown(PATIENCE).await.unwrap();
    assert_eq!(client.record(usage(ACME, 1)).await.unwrap_err().kind, RecordErrorKind::Closed);
    assert_eq!(reports.take(), []);
}

/// The agent is killed again and again under load, without event ids: numbers alone keep the bill exact.
#[tokio::test(flavor = "multi_thread")]
async fn kill9_of_the_agent_under_a_clients_load_bills_exactly() {
    let clock = fast_clock(1800.0);
    let (sandbox, _tasks) = sandbox(clock, Faults { lose_reply: 0.1, ..Faults::default() }).await;
    let mut home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    home.set("SUBMISSION__REQUESTS_PER_SECOND", "100");
    let mut with = settings(&home, "killed");
    (with.event_ids, with.batch_events, with.buffer) = (false, 20, 2000);
    let (client, reports) = open(with);

    let done = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(record_until(done.clone(), client.clone()));
    for _ in 0..8 {
        let agent = home.start().await;
        let before = client.totals().accepted;
        eventually("the agent takes some", async || (client.totals().accepted > before + 500).then_some(()))
            .await;
        agent.kill();
    }
    let agent = home.start().await;
    done.store(true, Ordering::Relaxed);
    let (recorded, events) = load.await.unwrap();
    timeout(PATIENCE, client.flush()).await.unwrap().unwrap();
    client.shutdown(PATIENCE).await.unwrap();
    let totals = client.totals();
    assert_eq!(totals.accepted + totals.responses_lost, events, "{totals:?}");
    let lost = reports.take().into_iter().map(|report| match report {
        Report::ResponseLost { events } => events.len() as u64,
        other => panic!("{other:?}"),
    });
    assert_eq!(lost.sum::<u64>(), totals.responses_lost, "each is told");
    eventually("everything is billed", async || (billed_units(&sandbox) == recorded).then_some(())).await;
    assert!(agent.terminate().await.success(), "{}", home.log());
}

/// What it has recorded, and how many events that were.
async fn record_until(done: Arc<AtomicBool>, client: Client) -> (Sums, u64) {
    let (mut sums, mut events) = (Sums::new(), 0);
    while !done.load(Ordering::Relaxed) {
        for _ in 0..20 {
            let customer = if events % 3 == 0 { ACME } else { GLOBEX };
            let quantity = events % 50 + 1;
            client.record(usage(customer, quantity)).await.unwrap();
            *sums.entry((customer.to_owned(), "requests".to_owned())).or_default() += u128::from(quantity);
            events += 1;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    (sums, events)
}

/// A restarted application goes on under the numbers that the agent knows; of two at a time, the later one goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_producer_goes_on_after_a_restart_and_is_not_shared() {
    let home = agent_without_aws();
    let _agent = home.start().await;
    for run in 1..=3 {
        let (client, _) = open(settings(&home, "app"));
        for _ in 0..10 {
            client.record(usage(ACME, 1)).await.unwrap();
            client.flush().await.unwrap();
        }
        client.shutdown(PATIENCE).await.unwrap();
        assert_eq!(open_requests(&home).await, run * 10, "each run counts once");
    }

    let ((one, reports), (other, _)) = (open(settings(&home, "app")), open(settings(&home, "app")));
    for client in [&one, &other] {
        client.record(usage(ACME, 1)).await.unwrap();
        client.flush().await.unwrap();
    }
    // The other's stream has taken over: this one ends, and takes no turn to end the other's.
    let ended = eventually("it is told", async || one.ended()).await;
    assert_eq!(ended.reason, EndReason::ProducerIdInUse("app".to_owned()));
    assert_eq!(one.record(usage(ACME, 1)).await.unwrap_err().kind, RecordErrorKind::Closed);
    assert_eq!(reports.take(), [], "it held nothing");
    for _ in 0..5 {
        other.record(usage(ACME, 1)).await.unwrap();
        other.flush().await.unwrap();
    }
    assert_eq!((open_requests(&home).await, other.ended()), (37, None));

    // One that holds events gives them back.
    let mut with = settings(&home, "app");
    with.batch_time = Duration::from_hours(1);
    let (third, reports) = open(with);
    third.record(usage(ACME, 1)).await.unwrap();
    third.flush().await.unwrap();
    third.record(usage(ACME, 7)).await.unwrap();
    let (fourth, _) = open(settings(&home, "app"));
    fourth.record(usage(ACME, 1)).await.unwrap();
    fourth.flush().await.unwrap();
    let left = eventually("it is told", async || third.ended()).await;
    assert_eq!((left.reason, left.unsent), (EndReason::ProducerIdInUse("app".to_owned()), 1));
    let reported = reports.take();
    let [Report::Unacknowledged { events, sent: false }] = &reported[..] else { panic!("{reported:?}") };
    assert_eq!((events.len(), events[0].quantity), (1, 7));
    assert_eq!(open_requests(&home).await, 39, "what came back did not count");
}

/// A stream ends with `UNAVAILABLE` while the agent drains; what was on its way goes out again to the next one.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_stops_and_starts_loses_and_doubles_nothing() {
    let home = agent_without_aws();
    let mut with = settings(&home, "app");
    (with.batch_events, with.event_ids) = (3, false);
    let (client, _) = open(with);
    let load = tokio::spawn({
        let client = client.clone();
        async move {
            for number in 0..3000_u64 {
                client.record(usage(ACME, 1)).await.unwrap();
                if number % 10 == 0 {
                    tokio::task::yield_now().await;
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
        }
    });
    for stop in 1..=3 {
        let agent = home.start().await;
        eventually("some is taken", async || (client.totals().accepted > stop * 200).then_some(())).await;
        assert!(agent.terminate().await.success(), "{}", home.log());
    }
    let _agent = home.start().await;
    load.await.unwrap();
    client.shutdown(PATIENCE).await.unwrap();
    assert_eq!(open_requests(&home).await, 3000);
}

/// An agent that takes nothing for a while fills the buffer: `record` waits, `try_record` refuses, and nothing is lost.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_stands_still_slows_the_sender() {
    let home = agent_without_aws();
    let agent = home.start().await;
    let mut with = settings(&home, "app");
    (with.buffer, with.batch_events, with.in_flight) = (100, 10, 4);
    let (client, _) = open(with);
    client.record(usage(ACME, 1)).await.unwrap();
    client.flush().await.unwrap();
    signal("STOP", agent.child.id());
    eventually("each of its threads has stopped", async || has_stopped(agent.child.id()).then_some(())).await;
    for _ in 0..100 {
        client.record(usage(ACME, 1)).await.unwrap();
    }
    let refused = client.try_record(usage(ACME, 7)).unwrap_err();
    assert_eq!(
        (refused.kind, refused.event.quantity),
        (RecordErrorKind::BufferFull, 7),
        "the event comes back"
    );
    let waiting = client.record(usage(ACME, 1));
    let mut waiting = std::pin::pin!(waiting);
    assert!(timeout(Duration::from_millis(200), &mut waiting).await.is_err(), "it waits");
    assert_eq!(client.unacknowledged(), 100);
    signal("CONT", agent.child.id());
    waiting.await.unwrap();
    client.flush().await.unwrap();
    assert_eq!(open_requests(&home).await, 102);
}

fn has_stopped(pid: u32) -> bool {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let state = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("stat")).unwrap();
    threads.map(|thread| state(thread.unwrap())).all(|state| state.contains(") T "))
}

/// A flush does not wait for others to fill the message, whenever it comes: on one thread, before the task has run.
#[tokio::test]
async fn a_flush_is_not_kept_waiting() {
    let home = agent_without_aws();
    let _agent = home.start().await;
    for number in 0..20 {
        let mut with = settings(&home, &format!("app-{number}"));
        with.batch_time = Duration::from_hours(1);
        let (client, _) = open(with);
        for _ in 0..3 {
            client.try_record(usage(ACME, 1)).unwrap();
        }
        timeout(PATIENCE, client.flush()).await.unwrap().unwrap();
    }
    assert_eq!(open_requests(&home).await, 60);
}

/// `RESOURCE_EXHAUSTED` ends the stream; the message comes again until there is room for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_agent_slows_the_sender_until_there_is_room() {
    let clock = clock_at("2026-11-22T10:48:00Z", 240.0);
    let (sandbox, _tasks) = sandbox(clock, Faults::default()).await;
    let mut home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    home.set("LIMITS__MAX_OPEN_BUCKETS", "1");
    home.set("PRODUCT__0__ZERO_RECORDS", "false");
    home.set("HOUR__GRACE", "0s");
    let _agent = home.start().await;
    let mut with = settings(&home, "app");
    (with.buffer, with.batch_events) = (5, 1);
    let (client, reports) = open(with);
    client.record(usage(ACME, 1)).await.unwrap();
    client.flush().await.unwrap();
    for _ in 0..5 {
        client.record(usage(GLOBEX, 1)).await.unwrap();
    }
    assert_eq!(client.try_record(usage(GLOBEX, 1)).unwrap_err().kind, RecordErrorKind::BufferFull);
    assert_eq!(client.totals().accepted, 1);
    // The hour ends, and its bucket makes room.
    timeout(PATIENCE, client.flush()).await.unwrap().unwrap();
    let expected: Sums = [(ACME, 1), (GLOBEX, 5)]
        .into_iter()
        .map(|(customer, units)| ((customer.to_owned(), "requests".to_owned()), units))
        .collect();
    eventually("all is billed", async || (billed_units(&sandbox) == expected).then_some(())).await;
    assert_eq!(reports.take(), [], "nothing was rejected");
}

/// A shutdown brings out what is in the buffer; one that cannot says what is left and hands it back.
#[tokio::test(flavor = "multi_thread")]
async fn a_shutdown_flushes_and_says_what_is_left() {
    let home = agent_without_aws();
    let agent = home.start().await;
    let mut with = settings(&home, "app");
    // Only the shutdown sends it.
    with.batch_time = Duration::from_hours(1);
    let (client, reports) = open(with);
    for _ in 0..7 {
        client.record(usage(ACME, 1)).await.unwrap();
    }
    client.shutdown(PATIENCE).await.unwrap();
    assert_eq!((open_requests(&home).await, reports.take().len()), (7, 0));

    let (client, reports) = open(settings(&home, "other"));
    client.record(usage(ACME, 1)).await.unwrap();
    client.flush().await.unwrap();
    agent.kill();
    for _ in 0..5 {
        client.record(usage(ACME, 1)).await.unwrap();
    }
    let left = client.shutdown(Duration::from_millis(300)).await.unwrap_err();
    assert_eq!((left.reason, left.sent + left.unsent), (EndReason::DeadlinePassed, 5));
    let handed_back = reports.take().into_iter().map(|report| match report {
        Report::Unacknowledged { events, .. } => {
            assert!(events.iter().all(|event| !event.event_id.is_empty()), "an id, to be sent again with");
            events.len()
        }
        other => panic!("{other:?}"),
    });
    assert_eq!(handed_back.sum::<usize>(), 5);
}

/// Tries are bounded in time, and what will never be taken is not tried again.
#[tokio::test(flavor = "multi_thread")]
async fn a_client_gives_up_at_last_and_at_once_where_there_is_no_hope() {
    let home = agent_without_aws();
    let mut with = settings(&home, "app");
    with.give_up_after = Duration::from_millis(500);
    let (client, reports) = open(with.clone());
    client.record(usage(ACME, 1)).await.unwrap();
    let left = timeout(PATIENCE, client.flush()).await.unwrap().unwrap_err();
    assert!(matches!(left.reason, EndReason::GaveUp { .. }) && left.unsent == 1, "{left}");
    assert!(
        matches!(&reports.take()[..], [Report::Unacknowledged { events, sent: false }] if events.len() == 1)
    );
    assert_eq!(client.try_record(usage(ACME, 1)).unwrap_err().kind, RecordErrorKind::Closed);

    let mut home = agent_without_aws();
    home.set("GRPC__MAX_EVENTS_PER_REQUEST", "2");
    let _agent = home.start().await;
    (with.batch_time, with.give_up_after) = (Duration::from_hours(1), Duration::from_hours(1));
    with.address = home.grpc.parse().unwrap();
    let (client, _) = open(with);
    // So many that they are not in messages of two.
    for _ in 0..40 {
        client.record(usage(ACME, 1)).await.unwrap();
    }
    let left = timeout(PATIENCE, client.flush()).await.unwrap().unwrap_err();
    assert!(left.to_string().contains("max_events_per_request"), "{left}");
}

/// The way to an agent that only some may call; and ids of the application's own.
#[tokio::test(flavor = "multi_thread")]
async fn a_socket_and_a_token_lead_to_the_agent_and_ids_count_once() {
    let mut home = agent_without_aws();
    let (socket, token) = (home.path().join("tallyman.sock"), home.path().join("token"));
    std::fs::write(&token, "s3cret\n").unwrap();
    home.set("GRPC__LISTEN", &format!("unix:{}", socket.display()));
    home.set("GRPC__TOKEN_FILE", token.to_str().unwrap());
    let agent = home.start().await;
    let mut with = settings(&home, "app");
    with.address = format!("unix:{}", socket.display()).parse().unwrap();
    with.give_up_after = Duration::from_millis(500);
    let (refused, _) = open(with.clone());
    refused.record(usage(ACME, 1)).await.unwrap();
    let left = timeout(PATIENCE, refused.flush()).await.unwrap().unwrap_err();
    assert!(left.to_string().contains("token"), "{left}");

    with.credentials.token_file = Some(token.clone());
    let (client, _) = open(with);
    for id in ["a", "b", "a"] {
        client.record(event(ACME, "requests", 1, id)).await.unwrap();
    }
    client.flush().await.unwrap();
    assert_eq!((client.totals().accepted, client.totals().duplicates), (2, 1));

    // The token is changed, and so the agent is started anew: an application need not be.
    agent.kill();
    std::fs::write(&token, "fresh").unwrap();
    let _agent = home.start().await;
    client.record(usage(ACME, 1)).await.unwrap();
    timeout(PATIENCE, client.flush()).await.unwrap().unwrap();
    assert_eq!(client.totals().accepted, 3);
}

/// Over TLS, to an agent that asks for a certificate; one that another authority vouches for is not talked to.
#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_leads_to_the_agent_and_only_to_the_right_one() {
    let mut home = agent_without_aws();
    issue(home.path(), "ca", &["server", "app"]);
    issue(home.path(), "other", &[]);
    require_certificates(&mut home, "server", "ca");
    let _agent = home.start().await;
    let port = home.grpc.rsplit_once(':').unwrap().1;
    let mut with = settings(&home, "app");
    with.address = format!("https://localhost:{port}").parse().unwrap();
    with.give_up_after = Duration::from_millis(500);
    let file = |name: &str| Some(home.path().join(name));
    let sent = async |settings: Settings| {
        let (client, _) = open(settings);
        client.record(usage(ACME, 1)).await.unwrap();
        timeout(PATIENCE, client.flush()).await.unwrap().map_err(|left| left.to_string())
    };
    with.credentials.ca_file = file("ca.crt");
    assert!(sent(with.clone()).await.is_err(), "without a certificate of its own");
    (with.credentials.cert_file, with.credentials.key_file) = (file("app.crt"), file("app.key"));
    sent(with.clone()).await.unwrap();
    with.credentials.ca_file = file("other.crt");
    let fault = sent(with).await.unwrap_err();
    assert!(fault.contains("certificate"), "{fault}");
    assert_eq!(home.metric("tallyman_events_total{result=\"accepted\"").await, Some(1.0));
}
