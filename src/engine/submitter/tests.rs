//! The submitter against a marketplace that answers as it is told.

use std::collections::BTreeSet;

use super::*;
use crate::{
    aws::metering::{RecordBatch, ScriptedMetering},
    base::clock::ClockSpec,
    domain::{
        billing::{
            answer::RecordAnswer,
            record::{self, MissedPolicy, Outcome, Record, Settled},
        },
        time::Hour,
    },
    engine::{
        counting::request::CountRequest, customers::CustomerDirectory, lifecycle::Lifecycle,
        seal_gate::SealGate, sealer, state::EngineState,
    },
    store::{Batch, MemoryStore, tables::records::Records as RecordRows},
    testing::sample,
};

const FIVE_HOURS: i64 = 5 * 3600;

/// Ten minutes before the end of an hour, which is a second at this speed.
fn spec() -> ClockSpec {
    ClockSpec::starting_now("2071-11-22T10:50:00Z".parse().unwrap(), 600.0)
}

struct Agent {
    store: Arc<MemoryStore>,
    committer: Committer,
    marketplace: Arc<ScriptedMetering>,
    clock: TrustedClock,
    _tasks: Tasks,
}

impl Agent {
    fn start<R: Into<Response>>(
        clock: Clock,
        script: impl FnMut(&RecordBatch) -> R + Send + 'static,
    ) -> Self {
        let (store, customers, tasks) =
            (Arc::new(MemoryStore::default()), Arc::new(CustomerDirectory::default()), Tasks::default());
        let state =
            EngineState::open(&*store, sample::rules(MissedPolicy::Hold), customers.clone(), clock.now())
                .unwrap();
        let phase = Lifecycle::default();
        let clock = TrustedClock::confirmed(clock);
        let committer = Committer::start(state, store.clone(), customers, clock.clone(), 1000, phase, &tasks);
        let options = Options {
            products: vec!["prod".into()],
            catalog: sample::rules(MissedPolicy::Hold).catalog,
            window: Window::AWS,
            rate_limiter: RateLimiter::new(100.0),
            concurrency: 4,
        };
        let marketplace = Arc::new(ScriptedMetering::new(script));
        let sealed = sealer::start(committer.clone(), SealGate::new(clock.clone()), clock.clock(), &tasks);
        let unsent = UnsentStatus::default();
        Submitter::new(options, committer.clone(), store.clone(), marketplace.clone(), clock.clone(), unsent)
            .start(sealed, &tasks);
        Self { store, committer, marketplace, clock, _tasks: tasks }
    }

    async fn use_some(&self) {
        let entry = sample::entry("123456789012", 0, Hour::containing(self.clock.clock().now()), 7);
        let request = CountRequest { entries: vec![entry], events: 1, ..CountRequest::default() };
        self.committer.count(request).await.unwrap().answer().await.unwrap();
    }

    fn held(&self) -> Vec<Settled> {
        RecordReader::new(&*self.store).held(RecordId(0), 10).unwrap()
    }

    fn settled(&self) -> Vec<Settled> {
        RecordReader::new(&*self.store).settled(RecordId(0), 10).unwrap()
    }
}

async fn eventually<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(value) = attempt() {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), wait).await.unwrap()
}

fn duplicates(records: &RecordBatch) -> Reply {
    Reply::Answered(records.iter().map(|record| (record.slot(), RecordAnswer::Duplicate)).collect())
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
    let script = move |records: &RecordBatch| replies.next().unwrap_or_else(|| duplicates(records));
    let agent = Agent::start(Clock::new(spec()), script);
    agent.use_some().await;

    let settled = eventually(|| {
        let settled = agent.settled();
        (!settled.is_empty()).then_some(settled)
    })
    .await;
    let calls = agent.marketplace.sent();
    let different: BTreeSet<usize> = (0..4).filter(|call| by_id(&calls[*call]) != by_id(&calls[0])).collect();
    assert!(different.is_empty(), "calls {different:?} differ from the first: {calls:#?}");
    for settled in settled {
        let presumed = matches!(settled.outcome, Outcome::Accepted { presumed: true, .. });
        assert!(presumed && settled.attempts == 4, "{settled:?}");
    }
}

#[tokio::test]
async fn a_clock_that_jumps_seals_nothing_until_it_is_set_right_and_counting_goes_on() {
    let (clock, steps) = Clock::steppable(spec());
    let agent = Agent::start(clock, |_: &RecordBatch| Reply::NotDelivered("no network".into()));
    let watermark = agent.committer.sealed_through();
    agent.use_some().await;
    steps.by_seconds(FIVE_HOURS);
    eventually(|| agent.clock.doubt()).await;
    agent.use_some().await;
    // By the clock, five hours are over, and soon another one.
    clock.sleep_until("2071-11-22T16:10:00Z".parse().unwrap()).await;
    agent.use_some().await;
    assert_eq!(agent.committer.sealed_through(), watermark);
    steps.by_seconds(-FIVE_HOURS);
    eventually(|| (agent.committer.sealed_through() > watermark).then_some(())).await;
}

#[tokio::test]
async fn a_jump_that_aws_confirms_is_found_out_without_anything_to_send() {
    let (clock, steps) = Clock::steppable(spec());
    let script =
        move |_: &RecordBatch| Response { reply: Reply::Setup("no".into()), date: Some(clock.now()) };
    let agent = Agent::start(clock, script);
    let five_hours_later = Hour::containing(clock.now().plus(Duration::from_hours(4)));
    steps.by_seconds(FIVE_HOURS);
    eventually(|| (agent.committer.sealed_through() >= five_hours_later).then_some(())).await;
    assert_eq!((agent.marketplace.asked(), agent.marketplace.sent().len()), (1, 0));
}

#[tokio::test]
async fn a_clock_in_doubt_gives_up_no_record_and_sends_none_past_its_deadline() {
    let spec = spec();
    let ((clock, steps), true_clock) = (Clock::steppable(spec), Clock::new(spec));
    let agent = Agent::start(clock, move |records: &RecordBatch| {
        assert!(records.iter().all(|record| clock.now() < Window::AWS.deadline(record.hour)), "{records:?}");
        Response { reply: Reply::Throttled, date: Some(true_clock.now()) }
    });
    agent.use_some().await;
    eventually(|| (!agent.marketplace.sent().is_empty()).then_some(())).await;
    steps.by_seconds(30 * 3600);
    eventually(|| (agent.marketplace.asked() > 0).then_some(())).await;
    assert!(agent.clock.doubt().is_some());
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(agent.held(), []);
    let calls = agent.marketplace.sent().len();
    steps.by_seconds(-30 * 3600);
    eventually(|| (agent.marketplace.sent().len() > calls).then_some(())).await;
}

/// Hours that a wrong clock has sealed: AWS finds those that have not come out of its bounds.
#[tokio::test]
async fn what_aws_finds_too_new_is_not_taken_for_too_old() {
    let (clock, steps) = Clock::steppable(spec());
    steps.by_seconds(FIVE_HOURS);
    let true_clock = Clock::new(spec());
    let agent = Agent::start(clock, move |records: &RecordBatch| {
        let now = true_clock.now();
        let is_new = records.iter().any(|record| record.timestamp > now);
        let reply = if is_new {
            Reply::TooOld("it is in the future".into())
        } else {
            ScriptedMetering::accept(records)
        };
        Response { reply, date: Some(now) }
    });
    agent.use_some().await;
    let tried = |calls: usize| (agent.marketplace.sent().len() >= calls).then_some(());
    eventually(|| tried(2)).await;
    assert!(agent.clock.doubt().is_some());
    steps.by_seconds(-FIVE_HOURS);
    let calls = agent.marketplace.sent().len();
    eventually(|| tried(calls + 2)).await;
    assert!(RecordReader::new(&*agent.store).delivery(RecordId(1)).unwrap().is_some());
    assert_eq!(agent.held(), []);
}

#[tokio::test]
async fn news_of_a_record_that_is_settled_by_now_ends_it_no_second_time() {
    let (store, customers, tasks) =
        (Arc::new(MemoryStore::default()), Arc::new(CustomerDirectory::default()), Tasks::default());
    let (rules, clock) = (sample::rules(MissedPolicy::RollForward), Clock::new(spec()));
    let state = EngineState::open(&*store, rules.clone(), customers.clone(), clock.now()).unwrap();
    let (clock, status) = (TrustedClock::confirmed(clock), UnsentStatus::default());
    let committer =
        Committer::start(state, store.clone(), customers, clock.clone(), 1000, Lifecycle::default(), &tasks);
    let options = Options {
        products: vec!["prod".into()],
        catalog: rules.catalog,
        window: Window::AWS,
        rate_limiter: RateLimiter::new(100.0),
        concurrency: 4,
    };
    let marketplace = Arc::new(ScriptedMetering::new(ScriptedMetering::accept));
    let mut submitter = Submitter::new(options, committer, store.clone(), marketplace, clock, status);
    let mut batch = Batch::default();
    batch.put(RecordRows, RecordId(2), &record::tests::sample(2));
    store.commit(batch).unwrap();
    let resumed = [1, 2].map(|id| (record::tests::sample(id), Delivery::default()));
    assert!(submitter.on_event(Ok(SubmitterEvent::Resumed(Arc::new(resumed.into())))).await.is_ok());
    assert!(submitter.outbox.remove(RecordId(1)).is_none(), "it is settled");
    assert!(submitter.outbox.remove(RecordId(2)).is_some());
}
