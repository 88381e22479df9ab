//! Customers that AWS does not know, very many of them, beside those that it does: against an AWS that takes ten calls a
//! second, and refuses a whole call for one customer that it does not know. Time is a number.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use super::Outbox;
use crate::domain::{
    billing::{
        answer::{Attempt, RecordAnswer, Reply, Verdict},
        culprit::Culprit,
        deadline::Window,
        outbox::InFlightBatch,
        record::{Delivery, Outcome, Record, RecordId, tests::sample},
    },
    customer::{
        identity::{Identity, IdentityMode},
        standing::Standing,
    },
    time::{Hour, Timestamp},
};

const BETWEEN_CALLS: Duration = Duration::from_millis(100);
const GRACE: Duration = Duration::from_mins(5);
const FIRST: Hour = Hour::from_index(498_704);

/// The customers of an hour: how many of each kind, and whether AWS knows them.
#[derive(Clone, Copy)]
struct Kind {
    name: &'static str,
    customers: u32,
    /// How they come to be known to the agent.
    standing: Standing,
    is_known: bool,
}

/// How long after the end of its hour the last record of a kind was answered, and how many were.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Answered {
    records: u64,
    last: Duration,
}

struct World {
    outbox: Outbox,
    now: Timestamp,
    records: u64,
    /// What AWS's answers have told.
    standings: BTreeMap<Arc<str>, Standing>,
    answered: BTreeMap<&'static str, Answered>,
    kinds: Vec<Kind>,
    calls: u64,
    missed: u64,
}

impl World {
    fn new(kinds: &[Kind]) -> Self {
        Self {
            outbox: Outbox::default(),
            now: FIRST.end(),
            records: 0,
            standings: BTreeMap::new(),
            answered: BTreeMap::new(),
            kinds: kinds.to_vec(),
            calls: 0,
            missed: 0,
        }
    }

    /// An hour is sealed, in which customers of some kinds have used something.
    fn seal(&mut self, hour: Hour, kinds: impl Iterator<Item = Kind>) {
        for kind in kinds {
            for number in 0..kind.customers {
                self.records += 1;
                let customer: Arc<str> = format!("{}-{number}", kind.name).into();
                let standing = *self.standings.entry(customer.clone()).or_insert(kind.standing);
                let identity = Identity::from_key(IdentityMode::CustomerIdentifier, &customer).unwrap();
                let id = RecordId(self.records);
                let timestamp = hour.start();
                let record = Record { id, customer, identity, hour, timestamp, ..sample(1) };
                let deadline = Window::AWS.deadline(hour);
                self.outbox.insert(record.into(), Delivery::default(), deadline, standing);
            }
        }
    }

    /// Makes calls until a moment, or until there is nothing to send.
    fn call_until(&mut self, end: Timestamp) {
        while self.now < end
            && let Some(batch) = self.outbox.take_batch(self.now)
        {
            self.calls += 1;
            let is_apart = batch.entries.iter().all(|entry| {
                (entry.standing == Standing::Verified) == (batch.entries[0].standing == Standing::Verified)
            });
            assert!(is_apart, "a record of a customer that AWS knows is in a batch with others");
            let reply = self.reply(&batch);
            self.take_in(batch, &reply);
            self.now = self.now.plus(BETWEEN_CALLS);
        }
        let missed = self.outbox.missed(end, usize::MAX);
        self.missed += missed.len() as u64;
        for entry in missed {
            self.outbox.remove(entry.record.id);
        }
        self.now = end;
    }

    fn kind_of(&self, record: &Record) -> Kind {
        let name = record.customer.rsplit_once('-').unwrap().0;
        *self.kinds.iter().find(|kind| kind.name == name).unwrap()
    }

    fn reply(&self, batch: &InFlightBatch) -> Reply {
        if !batch.entries.iter().all(|entry| self.kind_of(&entry.record).is_known) {
            return Reply::UnknownIdentity(Culprit::Customer, "InvalidCustomerIdentifierException".into());
        }
        let success = || RecordAnswer::Success { receipt: "r".into() };
        Reply::Answered(batch.entries.iter().map(|entry| (entry.record.slot(), success())).collect())
    }

    /// Settles a batch as the submitter does.
    fn take_in(&mut self, batch: InFlightBatch, reply: &Reply) {
        let records = || batch.entries.iter().map(|entry| &*entry.record);
        let alone = reply.culprit().is_some_and(|culprit| culprit.is_found(records()));
        let mut isolated = Vec::new();
        for entry in &batch.entries {
            let attempt = Attempt {
                slot: &entry.record.slot(),
                before: &entry.delivery,
                alone,
                may_be_late: true,
                deadline: entry.deadline,
                now: self.now,
                random: 0,
            };
            match attempt.judge(reply) {
                Verdict::Settle(outcome) => self.settle(&entry.record, &outcome),
                Verdict::Isolate(delivery) => isolated.push((entry.record.id, delivery)),
                other => panic!("{other:?}"),
            }
        }
        if let Some(culprit) = reply.culprit().filter(|_| !isolated.is_empty()) {
            self.outbox.isolate(&batch, isolated, culprit);
        }
        self.outbox.complete(batch, reply);
    }

    fn settle(&mut self, record: &Record, outcome: &Outcome) {
        let kind = self.kind_of(record);
        let is_accepted = matches!(outcome, Outcome::Accepted { .. });
        assert_eq!(is_accepted, kind.is_known, "{record:?}: {outcome:?}");
        self.outbox.remove(record.id);
        let standing = outcome.standing().unwrap();
        self.standings.insert(record.customer.clone(), standing);
        self.outbox.set_standing(&record.product, &record.customer, standing);
        let answered = self.answered.entry(kind.name).or_default();
        answered.records += 1;
        answered.last = answered.last.max(self.now.since(record.hour.end()));
    }
}

const GOOD: Kind = Kind { name: "good", customers: 5_000, standing: Standing::Verified, is_known: true };
const NEW: Kind = Kind { name: "new", customers: 50, standing: Standing::Registered, is_known: true };
const INVENTED: Kind =
    Kind { name: "invented", customers: 100_000, standing: Standing::SelfNamed, is_known: false };

const TWO_HOURS: Duration = Duration::from_hours(2);

/// 100 000 invented customers use something in each of three hours: at a call for each that is three hours of calls for
/// every hour. Those that AWS knows, and new ones that are registered, do not wait for them.
#[test]
fn customers_that_aws_knows_are_billed_in_time_beside_100_000_that_it_does_not() {
    let mut world = World::new(&[GOOD, NEW, INVENTED]);
    let mut hour = FIRST;
    for number in 0..12_u32 {
        let new = (number < 3).then_some(NEW);
        let invented = (number < 3).then_some(INVENTED);
        world.seal(hour, [Some(GOOD), new, invented].into_iter().flatten());
        world.now = hour.end().plus(GRACE);
        hour = hour.next();
        world.call_until(hour.end().plus(GRACE));
    }
    let answered = |kind: Kind| world.answered[kind.name];
    let (good, new, invented) = (answered(GOOD), answered(NEW), answered(INVENTED));
    assert_eq!((good.records, new.records), (12 * 5_000, 3 * 50));
    assert!(good.last < TWO_HOURS && new.last < TWO_HOURS, "{good:?}, {new:?}");
    assert_eq!((invented.records, world.missed), (300_000, 0), "and no one waits for ever");
    let most = 12 * 5_000 / 25 + 3 * 50 + 300_000;
    assert!(world.calls < most, "a call for each at most, and not two: {}", world.calls);
    assert!(world.outbox.is_empty());
    eprintln!("{} calls; good {good:?}, new {new:?}, invented {invented:?}", world.calls);
}

/// The customers that AWS knows take nearly all calls that there are. The others have a share of them, as long as that
/// makes nobody wait longer than an hour.
#[test]
fn a_share_of_the_calls_is_for_those_that_aws_is_yet_to_answer_for() {
    let good = Kind { customers: 25 * 25, ..GOOD };
    let invented = Kind { customers: 500, ..INVENTED };
    let mut world = World::new(&[good, invented]);
    let mut hour = FIRST;
    for number in 0..8_u32 {
        world.seal(hour, [Some(good), (number == 0).then_some(invented)].into_iter().flatten());
        world.now = hour.end().plus(GRACE);
        // Time for 28 calls an hour, of which the good ones need 25.
        let end = world.now.plus(BETWEEN_CALLS.saturating_mul(28));
        hour = hour.next();
        world.call_until(end);
    }
    let invented = world.answered["invented"].records;
    assert!((8..8 * 4).contains(&invented), "{invented} are answered in the hours with 28 calls");
    world.call_until(world.now.plus(Duration::from_hours(1)));
    let good = world.answered["good"];
    assert_eq!(good.records, 8 * 25 * 25);
    assert!(good.last < TWO_HOURS, "{good:?}");
}

/// Whether AWS knows a few or most of the new ones, it takes far fewer calls than two for each.
#[test]
fn new_customers_are_tried_at_once_as_long_as_aws_knows_them_and_one_by_one_if_not() {
    let calls = |known: u32, unknown: u32| {
        let kind =
            |name, customers, is_known| Kind { name, customers, standing: Standing::SelfNamed, is_known };
        let kinds = [kind("known", known, true), kind("unknown", unknown, false)];
        let mut world = World::new(&kinds);
        world.seal(FIRST, kinds.into_iter());
        world.call_until(FIRST.end().plus(Duration::from_hours(20)));
        assert!(world.outbox.is_empty());
        world.calls
    };
    assert_eq!(calls(1000, 0), 40);
    assert!((1000..1060).contains(&calls(0, 1000)), "{}", calls(0, 1000));
    assert!(calls(960, 40) < 160, "{}", calls(960, 40));
}
