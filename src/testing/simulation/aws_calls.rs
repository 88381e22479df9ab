//! Calls to AWS: each is checked, and may fail in every way that calls do.

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use tokio::time::sleep;

use super::{
    aws_truth::{Market, Taken, Weather},
    plan::{CUSTOMERS, chance, is_unknown_to_aws},
    world::World,
};
use crate::{
    aws::metering::{MeteringService, RecordBatch, Response},
    domain::{
        billing::{
            answer::{RecordAnswer, Reply},
            culprit::Culprit,
            record::Record,
        },
        invariants,
        time::Timestamp,
    },
};

/// After the agent has been told of a notice, what is under way may still go out.
const UNDER_WAY: Duration = Duration::from_mins(5);

pub(super) struct SimulatedMarketplace(pub(super) Arc<World>);

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Fate {
    Answered,
    /// As answered, but some lines say that something else was the matter.
    Patchy,
    Throttled,
    LostBefore,
    LostAfter,
    NotDelivered,
    Setup,
    SilentBefore,
    SilentAfter,
    /// The agent dies while the call is under way.
    DeadBefore,
    DeadAfter,
}

impl MeteringService for SimulatedMarketplace {
    fn send(&self, records: RecordBatch) -> Pin<Box<dyn Future<Output = Response> + Send + '_>> {
        check(&self.0, &records);
        Box::pin(self.answer(records))
    }

    fn time(&self) -> Pin<Box<dyn Future<Output = Response> + Send + '_>> {
        Box::pin(async {
            sleep(Duration::from_millis(fastrand::u64(5..300))).await;
            match self.0.market().weather(self.0.truth.now()) {
                Weather::Fine | Weather::Throttling | Weather::Failing | Weather::SetupFault => {
                    Response { reply: Reply::Setup("not signed".into()), date: Some(self.0.truth.now()) }
                }
                Weather::Unreachable | Weather::Silent => Reply::NotDelivered("no network".into()).into(),
            }
        })
    }
}

impl SimulatedMarketplace {
    async fn answer(&self, records: RecordBatch) -> Response {
        let world = &*self.0;
        sleep(Duration::from_millis(fastrand::u64(5..300))).await;
        let fate = fate(world);
        let ids: Vec<u64> = records.iter().map(|record| record.id.0).collect();
        world.trace.note(format!("call {ids:?}: {fate:?}"));
        match fate {
            Fate::Answered | Fate::Patchy => {
                let reply = process(world, &records, fate == Fate::Patchy);
                let date = world.truth.now();
                sleep(Duration::from_millis(fastrand::u64(5..300))).await;
                Response { reply, date: Some(date) }
            }
            Fate::Throttled => refused(world, "throttled", Reply::Throttled),
            Fate::Setup => refused(world, "a fault of the set-up", Reply::Setup("AccessDenied".into())),
            Fate::NotDelivered => {
                world.trace.saw("not delivered");
                Reply::NotDelivered("no network".into()).into()
            }
            Fate::LostBefore | Fate::SilentBefore => {
                world.trace.saw("lost before it was processed");
                lost(fate == Fate::SilentBefore).await
            }
            Fate::LostAfter | Fate::SilentAfter => {
                world.trace.saw("lost after it was processed");
                drop(process(world, &records, false));
                lost(fate == Fate::SilentAfter).await
            }
            Fate::DeadBefore | Fate::DeadAfter => {
                world.trace.saw("a crash in a call");
                if fate == Fate::DeadAfter {
                    drop(process(world, &records, false));
                }
                world.crash.notify_one();
                lost(true).await
            }
        }
    }
}

fn refused(world: &World, kind: &'static str, reply: Reply) -> Response {
    world.trace.saw(kind);
    Response { reply, date: Some(world.truth.now()) }
}

async fn lost(is_silent: bool) -> Response {
    if is_silent {
        sleep(Duration::from_secs(fastrand::u64(20..90))).await;
    }
    Reply::Lost("no answer".into()).into()
}

fn fate(world: &World) -> Fate {
    const FAULTS: [Fate; 9] = [
        Fate::Patchy,
        Fate::Patchy,
        Fate::Throttled,
        Fate::LostBefore,
        Fate::LostAfter,
        Fate::LostAfter,
        Fate::NotDelivered,
        Fate::DeadBefore,
        Fate::DeadAfter,
    ];
    let either = |a, b| if fastrand::bool() { a } else { b };
    let weather = world.market().weather(world.truth.now());
    match weather {
        Weather::Fine if !world.is_calm() && chance(world.plan.calls_per_fault) => {
            FAULTS[fastrand::usize(..FAULTS.len())]
        }
        Weather::Fine => Fate::Answered,
        Weather::Throttling => either(Fate::Throttled, Fate::Answered),
        Weather::Failing => either(Fate::LostBefore, Fate::LostAfter),
        Weather::Unreachable => Fate::NotDelivered,
        Weather::SetupFault => Fate::Setup,
        Weather::Silent => either(Fate::SilentBefore, Fate::SilentAfter),
    }
}

/// What must hold of each call, whatever comes of it (I2, I6, I7).
fn check(world: &World, records: &RecordBatch) {
    world.trace.faults(invariants::call(records.iter().map(|record| &**record)));
    for record in records {
        if let Some(first) = world.market().note_sight(record) {
            world.trace.faults(invariants::unchanged(&first, record));
        }
        check_time(world, record);
    }
    check_company(world, records);
}

/// Records of customers that AWS has accepted are in no call with those that it does not know, and wait for none.
fn check_company(world: &World, records: &RecordBatch) {
    let has_unknown = records.iter().any(|record| is_unknown_to_aws(customer_of(record)));
    if !has_unknown {
        return;
    }
    let ledger = world.ledger();
    let long_ago = world.truth.now().minus(UNDER_WAY);
    if let Some(good) = records.iter().find(|record| ledger.is_verified(customer_of(record), long_ago)) {
        world.trace.fault(format!("in a call with customers that AWS does not know: {good:?}"));
    }
    // A call that was prepared before the machine slept goes out when it wakes.
    if let Some(late) = ledger.late(world, long_ago).filter(|_| !world.has_slept_since(long_ago)) {
        world.trace.fault(format!("late, and customers that AWS does not know go before it: {late:?}"));
    }
}

fn customer_of(record: &Record) -> usize {
    CUSTOMERS.iter().position(|(key, _)| *key == &*record.customer).unwrap()
}

fn check_time(world: &World, record: &Record) {
    let (truth, clock) = (world.truth.now(), world.clock.now());
    let customer = customer_of(record);
    let closing = world.closings().get(&customer).copied();
    let is_closing = world.ledger().was_closing(record.id);
    if !is_closing {
        world.trace.faults(invariants::after_its_hour(record, truth));
    }
    let last = closing.filter(|(_, told)| *told < truth.minus(UNDER_WAY));
    let last = last.map_or(Timestamp::MAX, |(noticed, _)| noticed.plus(Duration::from_hours(1)));
    let deadline = world.rules.window.deadline(record.hour).min(last);
    world.trace.faults(invariants::before_its_deadline(record, deadline, clock));
}

/// What AWS makes of a call that reaches it.
fn process(world: &World, records: &[Arc<Record>], is_patchy: bool) -> Reply {
    let now = world.truth.now();
    if records.iter().any(|record| is_unknown_to_aws(customer_of(record))) {
        world.trace.saw("a customer that AWS does not know");
        return Reply::UnknownIdentity(Culprit::Customer, "InvalidCustomerIdentifier".into());
    }
    let mut market = world.market();
    if records.iter().any(|record| market.is_poison(record)) {
        world.trace.saw("a bad record");
        return Reply::BadRecord("InvalidTag".into());
    }
    if !records.iter().all(|record| Market::takes_hour_of(record, now)) {
        world.trace.saw("too old for AWS");
        return Reply::TooOld("TimestampOutOfBounds".into());
    }
    let mut lines = Vec::with_capacity(records.len());
    for record in records {
        let is_other = is_patchy && chance(3);
        if is_other && fastrand::bool() {
            world.trace.saw("an unprocessed line");
            lines.push((record.slot(), RecordAnswer::Unprocessed));
            continue;
        }
        let line = line(world, &mut market, record, now);
        if !is_other {
            lines.push((record.slot(), line));
        } else if fastrand::bool() {
            world.trace.saw("an unknown status");
            lines.push((record.slot(), RecordAnswer::Other("Pondering".into())));
        } else {
            world.trace.saw("a line that is missing");
        }
    }
    Reply::Answered(lines.into_iter().collect())
}

fn line(world: &World, market: &mut Market, record: &Record, now: Timestamp) -> RecordAnswer {
    let account = record.identity.fields().account_id.to_owned();
    if !market.is_subscribed(&account, now) {
        return RecordAnswer::NotSubscribed;
    }
    let was_free = market.taken(record) == Taken::Free;
    match market.take(record) {
        (Taken::By(id), quantity) if id == record.id && quantity == record.quantity => {
            if !was_free {
                world.trace.saw("sent again after it was billed");
            }
            // AWS's documents tell of both.
            if was_free || fastrand::bool() {
                RecordAnswer::Success { receipt: format!("receipt-{id}").into() }
            } else {
                RecordAnswer::Duplicate
            }
        }
        (Taken::By(id), _) if id != record.id => {
            world.trace.fault(format!("I6: record {id} has the slot of {record:?}"));
            RecordAnswer::Duplicate
        }
        _ => RecordAnswer::Duplicate,
    }
}
