//! The submitter against a marketplace that answers as it is told.

use std::collections::BTreeSet;

use super::*;
use crate::{
    base::clock::ClockSpec,
    domain::{
        answer::Line,
        record::{MissedPolicy, Record},
        time::Hour,
    },
    work::{books::Books, delta::Delta, phase::PhaseHandle, roster::Roster, sample, sealer},
    worlds::{
        marketplace::{Records, ScriptedMarketplace},
        store::{MemoryStore, Table},
    },
};

fn duplicates(records: &Records) -> Reply {
    Reply::Answered(records.iter().map(|record| (record.slot(), Line::Duplicate)).collect())
}

fn by_id(call: &[Record]) -> Vec<Record> {
    let mut call = call.to_vec();
    call.sort_by_key(|record| record.id);
    call
}

#[tokio::test]
async fn every_attempt_repeats_the_records_and_a_lost_answer_is_remembered() {
    let mut replies =
        vec![Reply::Lost("time-out".into()), Reply::Throttled, Reply::Setup("denied".into())].into_iter();
    let script = move |records: &Records| replies.next().unwrap_or_else(|| duplicates(records));
    let marketplace = Arc::new(ScriptedMarketplace::new(script));
    let clock = Clock::new(ClockSpec::starting_now("2026-11-22T10:50:00Z".parse().unwrap(), 600.0));
    let (store, roster, tasks) =
        (Arc::new(MemoryStore::default()), Arc::new(Roster::default()), Tasks::default());
    let books = Books::open(&*store, sample::rules(MissedPolicy::Hold), roster.clone(), clock.now()).unwrap();
    let committer =
        Committer::start(books, store.clone(), roster, clock, 1000, PhaseHandle::default(), &tasks);
    let entry = sample::entry("123456789012", 0, Hour::containing(clock.now()), 7);
    let delta = Delta { folded: vec![entry], events: 1, ..Delta::default() };
    committer.record(delta).await.unwrap().answer().await.unwrap().unwrap();
    let options = Options {
        products: vec!["prod".into()],
        catalog: sample::rules(MissedPolicy::Hold).catalog,
        window: Window::AWS,
        pace: Pace::new(100.0),
        concurrency: 4,
    };
    let sealed = sealer::start(committer.clone(), clock, &tasks);
    let board = UnsentBoard::default();
    Submitter::new(options, committer, store.clone(), marketplace.clone(), clock, board)
        .start(sealed, &tasks);

    let settled = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            let settled = load::settled(&*store, Table::Receipts, RecordId(0), 2).unwrap();
            if !settled.is_empty() {
                return settled;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    let calls = marketplace.sent();
    let different: BTreeSet<usize> = (0..4).filter(|call| by_id(&calls[*call]) != by_id(&calls[0])).collect();
    assert!(different.is_empty(), "calls {different:?} differ from the first: {calls:#?}");
    for settled in settled {
        let presumed = matches!(settled.outcome, Outcome::Accepted { presumed: true, .. });
        assert!(presumed && settled.attempts == 4, "{settled:?}");
    }
}
