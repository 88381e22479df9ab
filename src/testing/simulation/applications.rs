//! The applications: they send usage, and send it again until it is acknowledged.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    Series,
    model::{Event, Moment, Sending},
    plan::{BOUNDS, CUSTOMERS, PRODUCT, chance, invented_customer, is_unknown_to_aws, mins},
    world::World,
};
use crate::{
    domain::{
        product::{Aggregate, DimensionIndex},
        time::{Timestamp, UnixNanos},
        usage::{
            event::{self, Measured, Names, RejectReason, measure},
            locate::locate,
        },
    },
    engine::{
        committer::{CommitError, Committer},
        counting::{
            request::{
                CountRequest, Counted, CustomerRef, Identified, NewCustomer, Split, StreamPosition,
                UsageEntry,
            },
            streams::ProducerStream,
        },
    },
};

/// For as long as an event is taken, its id is known: queues of days ago are sent again.
const RESENDS_FOR: Duration = Duration::from_hours(60);
/// The stream's, and the client that it is of.
const PRODUCER: &str = "stream";
const OWNER: &str = "app";
/// Messages that an application has sent and not seen answered: far fewer than the agent keeps digests of.
pub(super) const MOST_IN_FLIGHT: usize = 8;
const LONGEST_PATIENCE: Duration = Duration::from_secs(30);

pub(super) fn start(world: &Arc<World>, people: &mut JoinSet<()>) {
    for number in 0..2 {
        people.spawn(Application::new(world, number).send_with_ids());
    }
    people.spawn(Application { invents_customers: true, ..Application::new(world, 2) }.send_with_ids());
    people.spawn(Application::new(world, 9).stream());
}

pub(super) struct Application {
    pub(super) world: Arc<World>,
    keys: u64,
    /// What it sends as customers are names that AWS does not know.
    invents_customers: bool,
    pub(super) failures: u32,
}

/// A numbered message of a stream.
pub(super) struct Message {
    pub(super) sequence: u64,
    pub(super) events: Vec<Event>,
}

impl Application {
    pub(super) fn new(world: &Arc<World>, number: u64) -> Self {
        Self { world: world.clone(), keys: number << 32, invents_customers: false, failures: 0 }
    }

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
        let vacated = committer.customers().read().vacated();
        let mut request = CountRequest { vacated, ..CountRequest::default() };
        for (event, is_new) in
            events.iter().map(|event| (event, true)).chain(repeats.iter().map(|event| (event, false)))
        {
            let Some(placed) = self.place(event) else { continue };
            if is_new {
                self.note_sent(event, &placed);
                sent.push(event.clone());
            }
            let index = u32::try_from(request.identified.len()).unwrap();
            let not_before = placed.not_before;
            let entry = entry(&self.world, &committer, event, placed);
            let (hash, usage) = (event.key.into(), entry.usage);
            request.identified.push(Identified { hash, usage, entry: index, index, not_before });
            request.entries.push(UsageEntry { events: 0, ..entry });
        }
        if request.identified.is_empty() {
            return Some(Vec::new());
        }
        request.events = request.identified.len();
        let patience = if chance(12) { Duration::from_millis(fastrand::u64(..12)) } else { LONGEST_PATIENCE };
        let answer =
            timeout(patience, async { committer.count(request).await.ok()?.answer().await.ok() }).await;
        if answer.is_err() {
            self.world.trace.saw("an application that waits no longer");
        }
        let Some(counted) = answer.ok().flatten() else {
            self.note_unanswered(&sent);
            return None;
        };
        self.note_recorded(&counted);
        let counted_refusals = counted.refused;
        let is_refused =
            |index: usize| counted_refusals.iter().any(|refused| refused.index as usize == index);
        let counted =
            sent.iter().enumerate().filter(|(index, _)| !is_refused(*index)).map(|(_, event)| event);
        let counted: Vec<&Event> = counted.collect();
        self.note_acknowledged(&committer, &counted);
        let from_before = counted_refusals.iter().filter_map(|refused| match refused.why {
            RejectReason::BeforeSince { .. } => sent.get(refused.index as usize),
            _ => None,
        });
        let from_before: Vec<u64> = from_before.map(|event| self.give_up(event)).collect();
        Some(counted.iter().map(|event| event.key).chain(from_before).collect())
    }

    /// The event is from before its customer's time: no one is billed for it.
    fn give_up(&self, event: &Event) -> u64 {
        self.world.trace.tell("an event from before its customer's time", &format!("{:x}", event.key));
        self.world.model().refused(event);
        event.key
    }

    /// Messages have numbers instead, and the events no times.
    async fn stream(mut self) {
        let (mut unacknowledged, mut last): (VecDeque<Message>, u64) = (VecDeque::new(), 0);
        loop {
            self.pause(unacknowledged.is_empty()).await;
            if !self.world.is_calm() {
                for _ in 0..fastrand::u8(..4) {
                    if unacknowledged.len() == MOST_IN_FLIGHT {
                        break;
                    }
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
        let stream = ProducerStream::new(Some(OWNER.into()), PRODUCER.into());
        let durable = committer.open_stream(stream.clone()).await.ok()?;
        // Nobody else has this producer, so that it may take for counted what is durable. Or it makes sure.
        while unacknowledged.front().is_some_and(|message| message.sequence <= durable) && fastrand::bool() {
            self.world.trace.saw("a message that counted without an answer");
            let message = unacknowledged.pop_front()?;
            self.note_acknowledged(&committer, &message.events.iter().collect::<Vec<_>>());
        }
        if chance(6) {
            self.send_as_another_client(&committer).await;
        }
        let mut tickets = Vec::new();
        for message in unacknowledged.iter() {
            let request = self.request(&committer, &stream, message);
            tickets.push(committer.count_patiently(request).await.ok());
        }
        let mut is_whole = Some(());
        for ticket in tickets {
            let answer = match ticket {
                Some(ticket) => Some(ticket.answer().await),
                None => None,
            };
            if let Some(Err(CommitError::Refused(refusal))) = &answer {
                self.world.trace.fault(format!("I4: the producer's own message is refused: {refusal}"));
            }
            if let Some(Ok(counted)) = answer {
                let message = unacknowledged.pop_front()?;
                self.note_recorded(&counted);
                if !counted.refused_entries.is_empty() {
                    self.world.trace.fault(format!("the stream's events are refused: {counted:?}"));
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

    /// Another client has a producer of the same name: each has numbers of its own.
    async fn send_as_another_client(&self, committer: &Committer) {
        let stream = ProducerStream::new(Some("other".into()), PRODUCER.into());
        let Ok(durable) = committer.open_stream(stream.clone()).await else { return };
        let position = StreamPosition { stream, sequence: durable + 1, digest: fastrand::u64(..) };
        let vacated = committer.customers().read().vacated();
        let request = CountRequest { position: Some(position), vacated, ..CountRequest::default() };
        let Ok(ticket) = committer.count_patiently(request).await else { return };
        match ticket.answer().await {
            Ok(_) => self.world.trace.saw("two clients with one producer's name"),
            Err(CommitError::Refused(fault)) => {
                self.world.trace.fault(format!("I4: a client is refused for another's numbers: {fault}"));
            }
            Err(CommitError::Full | CommitError::Unavailable(_)) => {}
        }
    }

    pub(super) fn request(
        &self,
        committer: &Committer,
        stream: &Arc<ProducerStream>,
        message: &Message,
    ) -> CountRequest {
        let entry = |event: &Event| {
            let placed = self.place(event).unwrap();
            self.note_sent(event, &placed);
            entry(&self.world, committer, event, placed)
        };
        let entries: Vec<UsageEntry> = message.events.iter().map(entry).collect();
        let position = Some(StreamPosition {
            stream: stream.clone(),
            sequence: message.sequence,
            digest: message.events.iter().map(|event| event.key).sum(),
        });
        let vacated = committer.customers().read().vacated();
        CountRequest { events: entries.len(), entries, position, vacated, ..CountRequest::default() }
    }

    pub(super) async fn pause(&self, has_time: bool) {
        let longest = 20 << self.failures.min(6);
        let backoff = Duration::from_secs(fastrand::u64(1..longest));
        sleep(if has_time || self.failures == 0 { mins(2, 40) } else { backoff }.min(mins(2, 40))).await;
    }

    pub(super) fn event(&mut self, has_time: bool) -> Event {
        self.keys += 1;
        let catalog = self.world.catalog();
        let dimensions = catalog.products().next().unwrap().1.dimensions.len();
        let customer =
            if self.invents_customers { invented_customer() } else { self.world.plan.some_customer() };
        let mut series = Series { customer, dimension: fastrand::usize(..dimensions) };
        let now = self.world.truth.now();
        let age = if chance(8) { mins(1, 400) } else { Duration::from_secs(fastrand::u64(..120)) };
        // No two at the same moment, or which of two levels stands would be open; but many in one millisecond.
        let moment = Timestamp::from_seconds(now.minus(age).seconds());
        let rest = u32::try_from(self.keys % 1_000_000).unwrap();
        let is_level = matches!(series.dimension(catalog).aggregate, Aggregate::Latest { .. });
        // A level keeps its customer known for as long as an older one may come, and some are to be forgotten.
        if is_level && is_unknown_to_aws(customer) && customer.is_multiple_of(2) {
            series.dimension = 0;
        }
        Event {
            key: self.keys,
            series,
            quantity: if is_level && chance(3) { 0 } else { self.quantity(series) },
            subject: fastrand::u64(..6),
            time: has_time.then(|| UnixNanos::from_parts(moment, rest)),
        }
    }

    /// Mostly what is usual, and now and then a slip.
    fn quantity(&self, series: Series) -> u64 {
        let usual = fastrand::u64(..3000);
        if !chance(150) {
            return usual;
        }
        let slip = fastrand::u64(1_000_000_000..5_000_000_000_000);
        let dimension = series.dimension(self.world.catalog());
        let event = event::Event { quantity: slip, subject: "someone", ..event::Event::default() };
        match measure(dimension, &BOUNDS.around(self.world.clock.now()), &event) {
            Ok(_) => {
                self.world.trace.saw("a slip");
                slip
            }
            Err(RejectReason::QuantityTooLarge { .. }) => {
                self.world.trace.saw("a slip that is rejected");
                usual
            }
            Err(other) => {
                self.world.trace.fault(format!("a slip is rejected: {other}"));
                usual
            }
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
        let usage = event::Event { quantity, time, id: b"", subject: "someone", tags };
        let range = BOUNDS.around(self.world.best_now());
        let placed =
            locate(catalog, names, None).and_then(|located| measure(located.dimension, &range, &usage));
        if placed.is_err() {
            self.world.trace.saw("an event that is refused for now");
        }
        placed.ok()
    }

    fn note_sent(&self, event: &Event, placed: &Measured) {
        let time = event.time.unwrap_or_else(|| self.world.best_now().into());
        let (key, name, hour) = (event.key, event.series.name(self.world.catalog()), placed.hour);
        let quantity = event.quantity;
        let shown = time.timestamp();
        self.world.trace.note(format!("event {key:x}: {quantity} for {name} at {shown} ({hour})"));
        let moment = self.world.moment(event.series.customer);
        self.world.model().sent(event, Sending { hour: placed.hour, time, moment });
    }

    pub(super) fn note_unanswered(&self, events: &[Event]) {
        self.world.trace.tell("events without an answer", &format!("{}", events.len()));
        let latest = self.world.latest_hour();
        for event in events {
            self.world.model().unanswered(event, latest);
        }
    }

    pub(super) fn note_acknowledged(&self, committer: &Committer, events: &[&Event]) {
        let keys: Vec<u64> = events.iter().map(|event| event.key).collect();
        self.world.trace.note(format!("acknowledged {keys:x?}"));
        let sealed_through = committer.sealed_through();
        for event in events {
            let moment = self.world.moment(event.series.customer);
            self.world.model().acknowledged(event, Moment { sealed_through, ..moment });
        }
        self.world.ledger().check_sums(&self.world);
    }

    pub(super) fn note_recorded(&self, counted: &Counted) {
        for counts in counted.counts.values() {
            if counts.late > 0 {
                self.world.trace.saw("a late event");
            }
            if counts.duplicates > 0 {
                self.world.trace.saw("a duplicate");
            }
        }
        if counted.repeat.is_some() {
            self.world.trace.saw("a repeated message");
        }
    }
}

fn entry(world: &World, committer: &Committer, event: &Event, placed: Measured) -> UsageEntry {
    let key = CUSTOMERS[event.series.customer].0;
    let customer = match committer.customers().read().find(PRODUCT, key) {
        Some(index) => CustomerRef::Known(index),
        None => CustomerRef::New(Arc::new(NewCustomer {
            key: key.into(),
            identity: world.identity(event.series.customer),
        })),
    };
    let name = event.series.customer << 8 | event.series.dimension;
    let subject = placed.is_by_subject().then(|| (name as u128) << 64 | u128::from(event.subject));
    UsageEntry {
        product: PRODUCT,
        customer,
        dimension: DimensionIndex(u16::try_from(event.series.dimension).unwrap()),
        hour: placed.hour,
        earliest: placed.told,
        usage: placed.usage,
        events: 1,
        split: Split::of(placed.tags, subject),
    }
}
