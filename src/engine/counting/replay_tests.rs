//! Events that are sent again, by the defaults of the configuration: as long as an event is taken, its id is known.

use std::{collections::HashMap, time::Duration};

use proptest::prelude::*;

use super::request::{CountRequest, Identified, UsageEntry};
use crate::{
    domain::{
        billing::record::MissedPolicy,
        time::Timestamp,
        usage::{
            event::{self, Measured, Names, RejectReason, TimeBounds, measure},
            locate::locate,
        },
    },
    engine::rules::Rules,
    testing::{harness::Harness, sample},
};

const BOUNDS: TimeBounds =
    TimeBounds { max_age: Duration::from_hours(24), max_future: Duration::from_mins(5) };
const CUSTOMER: &str = "000000000001";

/// An agent whose clock may be wrong.
struct Agent {
    harness: Harness,
    truth: Timestamp,
    /// The seconds by which the clock is ahead of the truth.
    skew: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Counted,
    Duplicate,
    /// Too old, or in the future, by the agent's clock.
    OutOfBounds,
    OlderThanIds,
}

impl Agent {
    fn new() -> Self {
        let mut harness = Harness::new(MissedPolicy::Hold);
        harness.rules = Rules {
            dedup_window: BOUNDS.max_age + BOUNDS.max_future,
            ids_outlive_events: true,
            ..sample::rules(MissedPolicy::Hold)
        };
        harness.crash();
        Self { truth: harness.now, harness, skew: 0 }
    }

    /// Sends an event, by its id and its time; `set_back` seconds pass backwards between its check and its count.
    fn send(&mut self, id: u64, time: Option<Timestamp>, set_back: i64) -> Outcome {
        self.read_clock();
        let Some(measured) = measured(&self.harness.rules, self.harness.now, time) else {
            return Outcome::OutOfBounds;
        };
        self.skew -= set_back;
        self.read_clock();
        let entry = UsageEntry { events: 0, ..sample::entry(CUSTOMER, 0, measured.hour, 1) };
        let (hash, not_before) = (fastrand::Rng::with_seed(id).u128(..), measured.not_before);
        let identified = vec![Identified { hash, usage: measured.usage, entry: 0, index: 0, not_before }];
        let request = CountRequest { entries: vec![entry], identified, events: 1, ..CountRequest::default() };
        let counted = self.harness.write(|state, txn| state.count(&request, txn)).unwrap();
        match &counted.refused[..] {
            [] if counted.counts.values().any(|counts| counts.accepted == 1) => Outcome::Counted,
            [] => Outcome::Duplicate,
            [refused] => {
                assert!(matches!(refused.why, RejectReason::OlderThanIds { .. }), "{refused:?}");
                Outcome::OlderThanIds
            }
            more => panic!("{more:?}"),
        }
    }

    /// Drops what has expired, by whatever the clock says.
    fn drop_expired(&mut self) {
        self.read_clock();
        self.harness.write(|state, txn| state.drop_expired(txn.now, txn));
    }

    fn restart(&mut self) {
        self.read_clock();
        self.harness.crash();
    }

    fn read_clock(&mut self) {
        self.harness.now = shifted(self.truth, self.skew);
    }

    /// Lives as agents do: an hour is sealed each hour, and what has expired is dropped then.
    fn pass(&mut self, time: Duration) {
        let end = self.truth.plus(time);
        while self.truth < end {
            self.truth = self.truth.plus(Duration::from_hours(1)).min(end);
            self.drop_expired();
        }
    }
}

fn shifted(moment: Timestamp, seconds: i64) -> Timestamp {
    let by = Duration::from_secs(seconds.unsigned_abs());
    if seconds < 0 { moment.minus(by) } else { moment.plus(by) }
}

fn measured(rules: &Rules, now: Timestamp, time: Option<Timestamp>) -> Option<Measured> {
    let names = Names { product: "", customer: CUSTOMER, dimension: "requests" };
    let located = locate(&rules.catalog, names, None).unwrap();
    let time = time.map(Into::into);
    let event = event::Event { quantity: 1, time, id: b"id", ..event::Event::default() };
    measure(located.dimension, &BOUNDS.around(now), &event).ok()
}

/// As the field reported it: a queue with ids and times is sent again the next morning.
#[test]
fn a_queue_that_is_replayed_after_fifteen_hours_counts_once() {
    let mut agent = Agent::new();
    let time = agent.truth;
    assert_eq!(agent.send(1, Some(time), 0), Outcome::Counted);
    agent.pass(Duration::from_hours(15));
    agent.restart();
    assert_eq!(agent.send(1, Some(time), 0), Outcome::Duplicate);
}

#[test]
fn at_the_very_end_of_its_time_an_event_is_a_duplicate_and_then_it_is_too_old() {
    for (early, grace) in [(0, 0), (300, 0), (0, 300), (300, 300)] {
        let mut agent = Agent::new();
        let time = agent.truth.plus(Duration::from_secs(early));
        assert_eq!(agent.send(1, Some(time), 0), Outcome::Counted);
        agent.pass(Duration::from_hours(24) + Duration::from_secs(early));
        assert_eq!(agent.send(1, Some(time), 0), Outcome::Duplicate);
        agent.pass(Duration::from_millis(1) + Duration::from_secs(grace));
        assert_eq!(agent.send(1, Some(time), 0), Outcome::OutOfBounds);
    }
}

/// It is taken at any time, so its id is known for the window and not for ever.
#[test]
fn an_event_that_says_no_time_counts_once_within_the_window() {
    let mut agent = Agent::new();
    assert_eq!(agent.send(1, None, 0), Outcome::Counted);
    agent.pass(BOUNDS.max_age + BOUNDS.max_future);
    assert_eq!(agent.send(1, None, 0), Outcome::Duplicate);
    for hour in 0..48 {
        agent.send(100 + hour, None, 0);
        agent.pass(Duration::from_hours(1));
    }
    assert_eq!(agent.send(1, None, 0), Outcome::Counted);
}

#[derive(Clone, Debug)]
enum Act {
    /// A new event, so many seconds old.
    Send {
        age: i64,
        set_back: i64,
    },
    /// One of the events before, or its retry.
    Replay {
        which: prop::sample::Index,
        set_back: i64,
    },
    Pass {
        minutes: u64,
    },
    SetClock {
        skew: i64,
    },
    Drop,
    Restart,
}

fn acts(steps: bool) -> impl Strategy<Value = Vec<Act>> {
    let most: i64 = if steps { 40 * 3600 } else { 0 };
    let set_back = move || prop_oneof![9 => Just(0), 1 => 0..=most];
    let act = prop_oneof![
        6 => (-400..90_000_i64, set_back()).prop_map(|(age, set_back)| Act::Send { age, set_back }),
        6 => (any::<prop::sample::Index>(), set_back()).prop_map(|(which, set_back)| Act::Replay { which, set_back }),
        4 => (0..400_u64).prop_map(|minutes| Act::Pass { minutes }),
        2 => (-most..=most).prop_map(|skew| Act::SetClock { skew }),
        1 => Just(Act::SetClock { skew: 0 }),
        3 => Just(Act::Drop),
        1 => Just(Act::Restart),
    ];
    prop::collection::vec(act, 1..120)
}

/// Returns how many events were refused since their ids may be forgotten.
fn live(acts: Vec<Act>) -> Result<usize, TestCaseError> {
    let mut agent = Agent::new();
    let mut events: Vec<Timestamp> = Vec::new();
    let (mut counted, mut refused) = (HashMap::<usize, u32>::new(), 0);
    for act in acts {
        let (sent, set_back) = match act {
            Act::Send { age, set_back } => {
                events.push(shifted(agent.truth, -age));
                (Some(events.len() - 1), set_back)
            }
            Act::Replay { which, set_back } if !events.is_empty() => {
                (Some(which.index(events.len())), set_back)
            }
            Act::Replay { .. } => (None, 0),
            Act::Pass { minutes } => {
                agent.pass(Duration::from_secs(60 * minutes));
                (None, 0)
            }
            Act::SetClock { skew } => {
                agent.skew = skew;
                (None, 0)
            }
            Act::Drop => {
                agent.drop_expired();
                (None, 0)
            }
            Act::Restart => {
                agent.restart();
                (None, 0)
            }
        };
        let Some(event) = sent else { continue };
        match agent.send(event as u64, Some(events[event]), set_back) {
            Outcome::Counted => *counted.entry(event).or_default() += 1,
            Outcome::OlderThanIds => refused += 1,
            Outcome::Duplicate | Outcome::OutOfBounds => {}
        }
        prop_assert!(counted.values().all(|times| *times == 1), "event {} counts twice", event);
    }
    Ok(refused)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_event_with_a_time_counts_twice_whatever_the_clock_does(acts in acts(true)) {
        live(acts)?;
    }

    #[test]
    fn by_a_right_clock_no_event_is_refused_for_its_id(acts in acts(false)) {
        prop_assert_eq!(live(acts)?, 0);
    }
}
