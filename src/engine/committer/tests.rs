//! The committer over a store that can fail.

use std::time::Duration;

use super::*;
use crate::{
    base::clock::Clock,
    domain::billing::record::MissedPolicy,
    engine::counting::{
        request::{Repeat, StreamPosition},
        streams::StreamRefusal,
    },
    store::{
        Batch, MemoryStore, Pair, ReadTable, Rows, TableId,
        tables::{
            buckets::Buckets,
            producers::{ProducerKey, ProducerRows},
        },
    },
    testing::sample,
};

struct Setup {
    store: Arc<MemoryStore>,
    committer: Committer,
    lifecycle: Lifecycle,
    tasks: Tasks,
}

fn start(store: MemoryStore) -> Setup {
    let (store, customers, tasks) =
        (Arc::new(store), Arc::new(CustomerDirectory::default()), Tasks::default());
    let state =
        EngineState::open(&*store, sample::rules(MissedPolicy::Hold), customers.clone(), Clock::SYSTEM.now())
            .unwrap();
    let lifecycle = Lifecycle::default();
    let committer = Committer::start(
        state,
        store.clone(),
        customers,
        TrustedClock::new(Clock::SYSTEM),
        1000,
        lifecycle.clone(),
        &tasks,
    );
    Setup { store, committer, lifecycle, tasks }
}

fn usage(amount: u128) -> CountRequest {
    let entry = sample::entry("123456789012", 0, Hour::containing(Clock::SYSTEM.now()), amount);
    CountRequest { entries: vec![entry], events: 1, ..CountRequest::default() }
}

fn on_disk(store: &MemoryStore) -> u128 {
    let mut sum = 0;
    store
        .each(Buckets, |_, bucket| {
            sum += bucket.total();
            Ok(())
        })
        .unwrap();
    sum
}

#[tokio::test]
async fn an_answer_means_that_the_usage_is_on_disk() {
    let Setup { store, committer, .. } = start(MemoryStore::default());
    for count in 1..=5 {
        committer.count(usage(7)).await.unwrap().answer().await.unwrap();
        assert_eq!(on_disk(&store.crash()), count * 7);
    }
}

#[tokio::test]
async fn after_a_failed_write_nothing_is_acknowledged_any_more() {
    for landed in [false, true] {
        let Setup { store, committer, lifecycle, .. } = start(MemoryStore::default());
        lifecycle.serve();
        committer.count(usage(7)).await.unwrap().answer().await.unwrap();
        store.fail_after(0, landed);
        let failed = committer.count(usage(5)).await.unwrap().answer().await.unwrap_err();
        assert!(failed.to_string().contains("injected fault"), "{failed}");
        assert!(matches!(lifecycle.get(), Phase::Failed(_)));
        let syncs = store.syncs();
        match committer.count(usage(3)).await {
            Ok(ticket) => assert!(ticket.answer().await.is_err()),
            Err(refused) => assert!(refused.to_string().contains("injected fault"), "{refused}"),
        }
        assert_eq!(store.syncs(), syncs, "a failed write is never followed by another");
        assert_eq!(on_disk(&store.crash()), if landed { 12 } else { 7 });
    }
}

#[tokio::test]
async fn what_gathers_shares_one_write() {
    let Setup { store, committer, .. } = start(MemoryStore::default());
    let before = store.syncs();
    let mut tickets = Vec::new();
    for _ in 0..100 {
        tickets.push(committer.count(usage(1)).await.unwrap());
    }
    for ticket in tickets {
        ticket.answer().await.unwrap();
    }
    assert_eq!(on_disk(&store), 100);
    assert!(store.syncs() - before < 10, "{} writes for 100 requests", store.syncs() - before);
}

#[tokio::test]
async fn the_last_jobs_are_written_before_the_end() {
    let Setup { store, committer, tasks, .. } = start(MemoryStore::default());
    let ticket = committer.count(usage(9)).await.unwrap();
    assert!(tasks.stop(Duration::from_secs(10)).await);
    ticket.answer().await.unwrap();
    assert_eq!(on_disk(&store), 9);
    assert!(matches!(committer.count(usage(1)).await, Err(CommitError::Unavailable(_))));
}

#[tokio::test]
async fn too_much_that_waits_is_refused_and_counts_nothing() {
    let Setup { store, committer, .. } = start(MemoryStore::default());
    let full = CountRequest { events: 1000, ..usage(1) };
    let ticket = committer.count(full).await.unwrap();
    assert!(matches!(committer.count(usage(5)).await, Err(CommitError::Full)));
    ticket.answer().await.unwrap();
    assert_eq!(on_disk(&store), 1);
    assert!(committer.count(usage(5)).await.is_ok(), "room comes back");
}

#[tokio::test]
async fn a_sequence_is_on_disk_with_what_it_counted() {
    let Setup { store, committer, .. } = start(MemoryStore::default());
    let marked = |sequence| CountRequest {
        position: Some(StreamPosition {
            stream: ProducerStream::new(None, "p".into()),
            sequence,
            digest: sequence * 7,
        }),
        ..usage(4)
    };
    let answer = committer.count(marked(1)).await.unwrap().answer().await.unwrap();
    assert_eq!(answer.durable_sequence, 1);
    let crashed = store.crash();
    let producer = ProducerKey { client: "", name: "p" };
    assert_eq!(crashed.find(ProducerRows, producer).unwrap().unwrap().digests, [7]);
    assert_eq!(on_disk(&crashed), 4);
    let Setup { store, committer, .. } = start(crashed);
    let repeat = committer.count(marked(1)).await.unwrap().answer().await.unwrap();
    assert_eq!(repeat.repeat, Some(Repeat::Same));
    assert_eq!(on_disk(&store), 4);
    let gap = committer.count(marked(3)).await.unwrap().answer().await;
    assert!(matches!(gap, Err(CommitError::Refused(CountError::Stream(StreamRefusal::Gap { expected: 2 })))));
}

#[tokio::test]
async fn what_was_asked_is_announced_although_the_one_who_asked_has_gone() {
    let Setup { committer, .. } = start(MemoryStore::default());
    committer.count(usage(7)).await.unwrap().answer().await.unwrap();
    let mut events = committer.events();
    // Nearly always gone before the answer; the writer has a thread of its own.
    tokio::select! {
        biased;
        _ = committer.close_customer(ProductIndex(0), "123456789012".into(), Clock::SYSTEM.now()) => {}
        () = std::future::ready(()) => {}
    }
    let told = tokio::time::timeout(Duration::from_secs(10), events.recv()).await.unwrap().unwrap();
    assert!(matches!(told, SubmitterEvent::Closing { customer, .. } if &*customer == "123456789012"));
}

/// Notes how it is written to.
#[derive(Default)]
struct Noting {
    store: MemoryStore,
    calls: Mutex<Vec<&'static str>>,
}

impl Noting {
    fn note(&self, call: &'static str) {
        self.calls.lock().unwrap().push(call);
    }

    fn take(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

impl Rows for Noting {
    fn get(&self, table: TableId, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.get(table, key)
    }

    fn scan(&self, table: TableId, from: &[u8], limit: usize) -> Result<Vec<Pair>, StoreError> {
        self.store.scan(table, from, limit)
    }
}

impl Store for Noting {
    fn commit(&self, batch: Batch) -> Result<(), StoreError> {
        self.note("commit");
        self.store.commit(batch)
    }

    fn write(&self, batch: Batch) -> Result<(), StoreError> {
        self.note("write");
        self.store.write(batch)
    }

    fn sync(&self) -> Result<(), StoreError> {
        self.note("sync");
        self.store.sync()
    }

    fn snapshot(&self) -> Box<dyn Rows + '_> {
        self.store.snapshot()
    }

    fn size(&self) -> u64 {
        0
    }
}

/// A submitter that read a record before it is on disk could send what a crash then takes back.
#[tokio::test]
async fn what_others_read_is_synced_before_it_can_be_read_and_usage_need_not_be() {
    let (store, customers, tasks) =
        (Arc::new(Noting::default()), Arc::new(CustomerDirectory::default()), Tasks::default());
    let now = Clock::SYSTEM.now();
    let state =
        EngineState::open(&*store, sample::rules(MissedPolicy::Hold), customers.clone(), now).unwrap();
    let lifecycle = Lifecycle::default();
    let committer = Committer::start(
        state,
        store.clone(),
        customers,
        TrustedClock::new(Clock::SYSTEM),
        1000,
        lifecycle,
        &tasks,
    );
    store.take();
    committer.count(usage(7)).await.unwrap().answer().await.unwrap();
    assert_eq!(store.take(), ["write", "sync"]);
    let later = now.plus(Duration::from_hours(2));
    while committer.seal(later).await.unwrap().more {}
    let calls = store.take();
    assert!(!calls.is_empty() && calls.iter().all(|call| *call == "commit"), "{calls:?}");
    committer.close_customer(ProductIndex(0), "123456789012".into(), now).await.unwrap().unwrap();
    assert_eq!(store.take(), ["commit"]);
}
