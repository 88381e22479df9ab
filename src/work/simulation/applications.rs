//! The applications: they send usage, and send it again until it is acknowledged.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Series,
    model::{Event, Sending},
    plan::{CUSTOMERS, PRODUCT, chance, identity, mins},
    world::World,
};
use crate::{
    domain::{
        product::DimensionIndex,
        time::Timestamp,
        usage::{self, Measured, Names, TimeBounds, locate, measure},
    },
    work::{
        books::RecordError,
        committer::Committer,
        delta::{Apart, CustomerRef, Delta, Entry, Identified, Mark, Newcomer, Recorded},
    },
};

const BOUNDS: TimeBounds =
    TimeBounds { max_age: Duration::from_hours(96), max_future: Duration::from_mins(5) };
/// Far inside the dedup window: an application that resends later than that counts twice.
const RESENDS_FOR: Duration = Duration::from_mins(50);
/// The stream's, and the client that it is of.
const PRODUCER: &str = "stream";
const OWNER: &str = "app";
const LONGEST_PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn start(world: &Arc<World>, people: &mut JoinSet<()>) {
    for number in 0..2 {
        let app = Application { world: world.clone(), keys: number << 32, failures: 0 };
        people.spawn(app.send_with_ids());
    }
    let app = Application { world: world.clone(), keys: 9 << 32, failures: 0 };
    people.spawn(app.stream());
}

struct Application {
    world: Arc<World>,
    keys: u64,
    failures: u32,
}

/// A numbered message of a stream.
struct Message {
    sequence: u64,
    events: Vec<Event>,
}

impl Application {
    /// Each event has an id, so that it may be sent as often as need be.
    async fn send_with_ids(mut self) {
        let mut queue: Vec<Event> = Vec::new();
        let mut told: VecDeque<(Event, Timestamp)> = VecDeque::new();
        loop {
            self.pause(queue.is_empty()).await;
            if !self.world.is_calm() {
                queue.extend((0..fastrand::u8(..6)).map(|_| self.event(true)).collect::<Vec<_>>());
            } else if queue.is_empty() {
                return;
            }
            let now = self.world.truth.now();
            told.retain(|(_, at)| now.since(*at) < RESENDS_FOR);
            let again = if chance(3) { told.pop_front() } else { None };
            let repeats: Vec<Event> = again.into_iter().map(|(event, _)| event).collect();
            let acknowledged = self.send(&queue, &repeats).await;
            self.failures = if acknowledged.is_none() { self.failures + 1 } else { 0 };
            let acknowledged = acknowledged.unwrap_or_default();
            let (done, left) =
                queue.drain(..).partition::<Vec<_>, _>(|event| acknowledged.contains(&event.key));
            queue = left;
            told.extend(done.into_iter().map(|event| (event, now)));
        }
    }

    /// Sends events, and some that were acknowledged before. Returns what is acknowledged, if there is an answer.
    async fn send(&self, events: &[Event], repeats: &[Event]) -> Option<Vec<u64>> {
        let committer = self.world.committer()?;
        let mut sent = Vec::new();
        let mut delta = Delta::default();
        for (event, is_new) in
            events.iter().map(|event| (event, true)).chain(repeats.iter().map(|event| (event, false)))
        {
            let Some(placed) = self.place(event) else { continue };
            if is_new {
                self.note_sent(event, &placed);
                sent.push(event.clone());
            }
            let index = u32::try_from(delta.identified.len()).unwrap();
            let entry = entry(&committer, event, placed);
            let (hash, usage) = (event.key.into(), entry.usage);
            delta.identified.push(Identified { hash, usage, entry: index, index });
            delta.entries.push(Entry { events: 0, ..entry });
        }
        if delta.identified.is_empty() {
            return Some(Vec::new());
        }
        delta.events = delta.identified.len();
        let patience = if chance(12) { Duration::from_millis(fastrand::u64(..12)) } else { LONGEST_PATIENCE };
        let answer =
            timeout(patience, async { committer.record(delta).await.ok()?.answer().await.ok() }).await;
        if answer.is_err() {
            self.world.trace.saw("an application that waits no longer");
        }
        let Some(Ok(recorded)) = answer.ok().flatten() else {
            self.note_unanswered(&sent);
            return None;
        };
        self.note_recorded(&recorded);
        let is_refused =
            |index: usize| recorded.refused.iter().any(|refused| refused.place as usize == index);
        let counted =
            sent.iter().enumerate().filter(|(index, _)| !is_refused(*index)).map(|(_, event)| event);
        let counted: Vec<&Event> = counted.collect();
        self.note_acknowledged(&committer, &counted);
        Some(counted.iter().map(|event| event.key).collect())
    }

    /// Messages have numbers instead, and the events no times.
    async fn stream(mut self) {
        let (mut unacknowledged, mut last): (VecDeque<Message>, u64) = (VecDeque::new(), 0);
        loop {
            self.pause(unacknowledged.is_empty()).await;
            if !self.world.is_calm() {
                for _ in 0..fastrand::u8(..4) {
                    last += 1;
                    let events = (0..fastrand::u8(1..4)).map(|_| self.event(false)).collect();
                    unacknowledged.push_back(Message { sequence: last, events });
                }
            } else if unacknowledged.is_empty() {
                return;
            }
            let is_answered = self.resume(&mut unacknowledged).await.is_some();
            self.failures = if is_answered { 0 } else { self.failures + 1 };
        }
    }

    /// Asks how far the agent has come, and sends the rest, without waiting between the messages.
    async fn resume(&self, unacknowledged: &mut VecDeque<Message>) -> Option<()> {
        let committer = self.world.committer()?;
        let durable = committer.last_sequence(PRODUCER.into(), Some(OWNER.into())).await.ok()?;
        let Ok(durable) = durable else {
            self.world.trace.fault("I4: the stream's producer is another's".to_owned());
            return None;
        };
        while unacknowledged.front().is_some_and(|message| message.sequence <= durable) {
            self.world.trace.saw("a message that counted without an answer");
            let message = unacknowledged.pop_front()?;
            self.note_acknowledged(&committer, &message.events.iter().collect::<Vec<_>>());
        }
        if durable > 0 && chance(6) {
            self.steal(&committer, durable + 1).await;
        }
        let mut tickets = Vec::new();
        for message in unacknowledged.iter() {
            let delta = self.delta(&committer, message);
            tickets.push(committer.record_patiently(delta).await.ok());
        }
        let mut is_whole = Some(());
        for ticket in tickets {
            let answer = match ticket {
                Some(ticket) => ticket.answer().await.ok(),
                None => None,
            };
            if let Some(Ok(recorded)) = answer {
                let message = unacknowledged.pop_front()?;
                self.note_recorded(&recorded);
                if !recorded.refused_entries.is_empty() {
                    self.world.trace.fault(format!("the stream's events are refused: {recorded:?}"));
                }
                self.note_acknowledged(&committer, &message.events.iter().collect::<Vec<_>>());
            } else {
                is_whole = None;
                break;
            }
        }
        for message in unacknowledged.iter() {
            self.note_unanswered(&message.events);
        }
        is_whole
    }

    /// Another client goes on with the stream's numbers, so that the next message would be taken for a repeat.
    async fn steal(&self, committer: &Committer, sequence: u64) {
        let mark = Mark { producer: PRODUCER.into(), sequence, client: Some("thief".into()) };
        let delta = Delta { mark: Some(mark), ..Delta::default() };
        let Ok(ticket) = committer.record_patiently(delta).await else { return };
        match ticket.answer().await {
            Ok(Err(RecordError::Foreign(_))) => self.world.trace.saw("a thief of numbers is refused"),
            Ok(Err(fault)) => self.world.trace.fault(format!("a thief of numbers is told: {fault}")),
            // Should it have counted, what is acknowledged of the stream will not be there.
            Ok(Ok(_)) | Err(_) => {}
        }
    }

    fn delta(&self, committer: &Committer, message: &Message) -> Delta {
        let entry = |event: &Event| {
            let placed = self.place(event).unwrap();
            self.note_sent(event, &placed);
            entry(committer, event, placed)
        };
        let entries: Vec<Entry> = message.events.iter().map(entry).collect();
        let mark =
            Some(Mark { producer: PRODUCER.into(), sequence: message.sequence, client: Some(OWNER.into()) });
        Delta { events: entries.len(), entries, mark, ..Delta::default() }
    }

    async fn pause(&self, has_time: bool) {
        let longest = 20 << self.failures.min(6);
        let backoff = Duration::from_secs(fastrand::u64(1..longest));
        sleep(if has_time || self.failures == 0 { mins(2, 40) } else { backoff }.min(mins(2, 40))).await;
    }

    fn event(&mut self, has_time: bool) -> Event {
        self.keys += 1;
        let catalog = self.world.catalog();
        let dimensions = catalog.products().next().unwrap().1.dimensions.len();
        let series = Series {
            customer: fastrand::usize(..self.world.plan.customers),
            dimension: fastrand::usize(..dimensions),
        };
        let now = self.world.truth.now();
        let age = if chance(8) { mins(1, 400) } else { Duration::from_secs(fastrand::u64(..120)) };
        // No two at the same moment: which of two levels stands would be open.
        let moment = now.minus(age).seconds() * 1000 + i64::try_from(self.keys % 1000).unwrap();
        Event {
            key: self.keys,
            series,
            quantity: fastrand::u64(..3000),
            subject: fastrand::u64(..6),
            time: has_time.then(|| Timestamp::from_millis(moment)),
        }
    }

    fn place(&self, event: &Event) -> Option<Measured> {
        let dimension = event.series.dimension(self.world.catalog());
        let tags = match event.key % 3 {
            1 if dimension.tags => &[("team", "red")][..],
            2 if dimension.tags => &[("team", "blue")][..],
            _ => &[],
        };
        let (catalog, customer) = (self.world.catalog(), CUSTOMERS[event.series.customer].0);
        let names = Names { product: "", customer, dimension: &dimension.name };
        let Event { quantity, time, .. } = *event;
        let usage = usage::Event { quantity, time, event_id: b"", subject: "someone", tags };
        let range = BOUNDS.around(self.world.clock.now());
        let placed = locate(catalog, names).and_then(|located| measure(located.dimension, &range, &usage));
        if placed.is_err() {
            self.world.trace.saw("an event that is refused for now");
        }
        placed.ok()
    }

    fn note_sent(&self, event: &Event, placed: &Measured) {
        let latest = self.world.latest_hour();
        let time = event.time.unwrap_or_else(|| self.world.clock.now());
        let (key, name, hour) = (event.key, event.series.name(self.world.catalog()), placed.hour);
        let quantity = event.quantity;
        self.world.trace.note(format!("event {key:x}: {quantity} for {name} at {time} ({hour})"));
        self.world.model().sent(event, Sending { hour: placed.hour, time, latest });
    }

    fn note_unanswered(&self, events: &[Event]) {
        self.world.trace.tell("events without an answer", &format!("{}", events.len()));
        let latest = self.world.latest_hour();
        for event in events {
            self.world.model().unanswered(event, latest);
        }
    }

    fn note_acknowledged(&self, committer: &Committer, events: &[&Event]) {
        let keys: Vec<u64> = events.iter().map(|event| event.key).collect();
        self.world.trace.note(format!("acknowledged {keys:x?}"));
        let (sealed_through, latest) = (committer.sealed_through(), self.world.latest_hour());
        for event in events {
            self.world.model().acknowledged(event, sealed_through, latest);
        }
        self.world.ledger().check_sums(&self.world);
    }

    fn note_recorded(&self, recorded: &Recorded) {
        for counts in recorded.counts.values() {
            if counts.late > 0 {
                self.world.trace.saw("a late event");
            }
            if counts.duplicates > 0 {
                self.world.trace.saw("a duplicate");
            }
        }
        if recorded.is_repeat {
            self.world.trace.saw("a repeated message");
        }
    }
}

fn entry(committer: &Committer, event: &Event, placed: Measured) -> Entry {
    let key = CUSTOMERS[event.series.customer].0;
    let customer = match committer.roster().read().find(PRODUCT, key) {
        Some(index) => CustomerRef::Known(index),
        None => CustomerRef::New(Arc::new(Newcomer {
            key: key.into(),
            identity: identity(event.series.customer),
        })),
    };
    let name = event.series.customer << 8 | event.series.dimension;
    let subject = placed.is_by_subject().then(|| (name as u128) << 64 | u128::from(event.subject));
    Entry {
        product: PRODUCT,
        customer,
        dimension: DimensionIndex(u16::try_from(event.series.dimension).unwrap()),
        hour: placed.hour,
        usage: placed.usage,
        events: 1,
        apart: Apart::of(placed.tags, subject),
    }
}
