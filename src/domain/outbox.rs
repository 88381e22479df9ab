//! The records that AWS has not accepted yet, in the order in which they must go out.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use super::{
    batch::{Batch, MAX_RECORDS},
    record::{Delivery, Record, RecordId},
    time::{Hour, Timestamp},
};

/// How many due records are looked at for one batch, so that planning stays cheap when few of them fit together.
const LOOK_AHEAD: usize = 8 * MAX_RECORDS;

/// Pending records with nearest deadline first, and those that back off by when they come back.
#[derive(Debug, Default)]
pub struct Outbox {
    entries: HashMap<RecordId, Entry>,
    products: BTreeMap<Arc<str>, Shelf>,
    backing_off: BTreeSet<(Timestamp, RecordId)>,
    /// Parts of batches that held a bad record.
    suspects: VecDeque<Suspect>,
}

/// Part of a batch that AWS refused for some bad record. Its other half waits for the answer: if this half is good,
/// the other is known to hold the bad record, which saves asking.
#[derive(Debug)]
struct Suspect {
    half: Vec<RecordId>,
    other_half: Vec<RecordId>,
}

/// Records under way in one request.
#[derive(Debug, Default)]
pub struct Flight {
    pub entries: Vec<Entry>,
    other_half: Vec<RecordId>,
}

#[derive(Clone, Debug)]
pub struct Entry {
    pub record: Arc<Record>,
    pub delivery: Delivery,
    pub deadline: Timestamp,
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    BackingOff,
    Due,
    Suspected,
    InFlight,
}

#[derive(Debug, Default)]
struct Shelf {
    /// Until then nothing is sent: AWS refuses the product's set-up, whatever the records.
    paused_until: Timestamp,
    due: BTreeSet<(Timestamp, RecordId)>,
    all: BTreeSet<(Timestamp, RecordId)>,
    units: BTreeMap<Arc<str>, u128>,
}

/// What waits for one product.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unsent {
    pub oldest_hour: Option<Hour>,
    pub nearest_deadline: Option<Timestamp>,
    pub last_error: Option<Arc<str>>,
    /// Base units by dimension.
    pub units: BTreeMap<Arc<str>, u128>,
}

impl Outbox {
    /// Takes a record in; of one that is known, only the deadline.
    pub fn insert(&mut self, record: Arc<Record>, delivery: Delivery, deadline: Timestamp) {
        let id = record.id;
        let shelf = self.products.entry(record.product.clone()).or_default();
        if self.entries.contains_key(&id) {
            return self.set_deadline(id, deadline);
        }
        shelf.all.insert((deadline, id));
        let units = shelf.units.entry(record.dimension.clone()).or_default();
        *units = units.saturating_add(record.amounts.billed);
        self.backing_off.insert((delivery.next_attempt, id));
        self.entries.insert(id, Entry { record, delivery, deadline, place: Place::BackingOff });
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes the next batch: records of one product, nearest deadline first. They are in flight until each is
    /// [`remove`](Self::remove)d, [`put_back`](Self::put_back) or [`isolate`](Self::isolate)d, and the flight as a
    /// whole has [`landed`](Self::landed).
    pub fn take_batch(&mut self, now: Timestamp) -> Option<Flight> {
        self.promote(now);
        let Suspect { half, other_half } = self
            .next_suspect(now)
            .or_else(|| self.plan(now).map(|half| Suspect { half, other_half: Vec::new() }))?;
        Some(Flight { entries: half.into_iter().filter_map(|id| self.take(id)).collect(), other_half })
    }

    /// Whether [`take_batch`](Self::take_batch) would find anything.
    pub fn has_due(&mut self, now: Timestamp) -> bool {
        self.promote(now);
        let in_time = |shelf: &Shelf| {
            shelf.paused_until <= now && shelf.due.last().is_some_and(|(deadline, _)| *deadline > now)
        };
        !self.suspects.is_empty() || self.products.values().any(in_time)
    }

    /// Sends nothing of a product until then: its set-up is at fault, and every call would fail as the last one did.
    pub fn pause(&mut self, product: &str, until: Timestamp) {
        if let Some(shelf) = self.products.get_mut(product) {
            shelf.paused_until = until;
        }
    }

    /// Brings the deadline of a customer's records forward.
    pub fn hasten(&mut self, product: &str, customer: &str, deadline: Timestamp) {
        let Some(shelf) = self.products.get(product) else { return };
        let later = shelf.all.range((deadline, RecordId(u64::MAX))..).copied().collect::<Vec<_>>();
        for (_, id) in later {
            if self.entries.get(&id).is_some_and(|entry| *entry.record.customer == *customer) {
                self.set_deadline(id, deadline);
            }
        }
    }

    fn set_deadline(&mut self, id: RecordId, deadline: Timestamp) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let before = std::mem::replace(&mut entry.deadline, deadline);
        let Some(shelf) = self.products.get_mut(&entry.record.product) else { return };
        shelf.all.remove(&(before, id));
        shelf.all.insert((deadline, id));
        if shelf.due.remove(&(before, id)) {
            shelf.due.insert((deadline, id));
        }
    }

    /// Ends all waiting: it was for moments of a clock that has been set since.
    pub fn hurry(&mut self, now: Timestamp) {
        for shelf in self.products.values_mut() {
            shelf.paused_until = now;
        }
        for (_, id) in std::mem::take(&mut self.backing_off) {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.delivery.next_attempt = now;
                self.backing_off.insert((now, id));
            }
        }
    }

    /// Ends a record's attempt: it will be tried again at `delivery.next_attempt`.
    pub fn put_back(&mut self, id: RecordId, delivery: Delivery) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.place = Place::BackingOff;
            self.backing_off.insert((delivery.next_attempt, id));
            entry.delivery = delivery;
        }
    }

    /// Ends the attempt of a batch that holds a bad record: its halves go out next.
    pub fn isolate(&mut self, deliveries: Vec<(RecordId, Delivery)>) {
        let mut ids = Vec::with_capacity(deliveries.len());
        for (id, delivery) in deliveries {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.place = Place::Suspected;
                entry.delivery = delivery;
                ids.push(id);
            }
        }
        self.halve(ids);
    }

    /// Ends a flight. `was_good` says that AWS took the batch as a whole, whatever it said of its records.
    pub fn landed(&mut self, flight: Flight, was_good: bool) {
        let other_half = flight.other_half;
        if was_good && other_half.len() > 1 {
            self.halve(other_half);
        } else if !other_half.is_empty() {
            self.suspects.push_back(Suspect { half: other_half, other_half: Vec::new() });
        }
    }

    fn halve(&mut self, mut half: Vec<RecordId>) {
        let other_half = half.split_off(half.len() / 2);
        if half.is_empty() {
            self.suspects.push_back(Suspect { half: other_half, other_half: half });
        } else {
            self.suspects.push_back(Suspect { half, other_half });
        }
    }

    /// Forgets a record that is settled.
    pub fn remove(&mut self, id: RecordId) -> Option<Entry> {
        let entry = self.entries.remove(&id)?;
        self.backing_off.remove(&(entry.delivery.next_attempt, id));
        if let Some(shelf) = self.products.get_mut(&entry.record.product) {
            shelf.due.remove(&(entry.deadline, id));
            shelf.all.remove(&(entry.deadline, id));
            if let Some(units) = shelf.units.get_mut(&entry.record.dimension) {
                *units = units.saturating_sub(entry.record.amounts.billed);
            }
        }
        Some(entry)
    }

    /// Records whose deadline has passed and that are not in flight, at most `limit`.
    pub fn missed(&self, now: Timestamp, limit: usize) -> Vec<Entry> {
        self.products
            .values()
            .flat_map(|shelf| shelf.all.iter().take_while(|(deadline, _)| *deadline <= now))
            .filter_map(|(_, id)| self.entries.get(id))
            .filter(|entry| entry.place != Place::InFlight)
            .take(limit)
            .cloned()
            .collect()
    }

    /// The next moment after `now` at which there will be something to do: an attempt, or giving a record up.
    pub fn next_event(&self, now: Timestamp) -> Option<Timestamp> {
        let after_now = (now, RecordId(u64::MAX))..;
        let attempt = self.backing_off.range(after_now.clone()).next();
        let deadlines = self.products.values().filter_map(|shelf| shelf.all.range(after_now.clone()).next());
        let pauses = self.products.values().map(|shelf| shelf.paused_until).filter(|until| *until > now);
        deadlines.chain(attempt).map(|(at, _)| *at).chain(pauses).min()
    }

    pub fn unsent(&self, product: &str) -> Unsent {
        let Some(shelf) = self.products.get(product) else { return Unsent::default() };
        let first = shelf.all.first().and_then(|(_, id)| self.entries.get(id));
        Unsent {
            oldest_hour: first.map(|entry| entry.record.hour),
            nearest_deadline: first.map(|entry| entry.deadline),
            last_error: first
                .map(|entry| entry.delivery.last_error.clone())
                .filter(|error| !error.is_empty()),
            units: shelf.units.clone(),
        }
    }

    /// Moves what has backed off long enough among the due.
    fn promote(&mut self, now: Timestamp) {
        while let Some((at, id)) = self.backing_off.first().copied().filter(|(at, _)| *at <= now) {
            self.backing_off.remove(&(at, id));
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.place = Place::Due;
                let shelf = self.products.entry(entry.record.product.clone()).or_default();
                shelf.due.insert((entry.deadline, id));
            }
        }
    }

    fn next_suspect(&mut self, now: Timestamp) -> Option<Suspect> {
        while let Some(Suspect { mut half, mut other_half }) = self.suspects.pop_front() {
            let in_time = |id: &RecordId| self.entries.get(id).is_some_and(|entry| entry.deadline > now);
            half.retain(in_time);
            other_half.retain(in_time);
            if half.is_empty() {
                half = std::mem::take(&mut other_half);
            }
            if !half.is_empty() {
                return Some(Suspect { half, other_half });
            }
        }
        None
    }

    /// The product with the nearest deadline, and as many of its due records as one request may hold.
    fn plan(&self, now: Timestamp) -> Option<Vec<RecordId>> {
        let in_time = (now, RecordId(u64::MAX))..;
        let nearest = |shelf: &Shelf| {
            if shelf.paused_until > now { None } else { shelf.due.range(in_time.clone()).next().copied() }
        };
        let (_, shelf) = self
            .products
            .values()
            .filter_map(|shelf| nearest(shelf).map(|next| (next, shelf)))
            .min_by_key(|(next, _)| *next)?;
        let mut batch = Batch::default();
        let mut ids = Vec::with_capacity(MAX_RECORDS);
        for (_, id) in shelf.due.range(in_time).take(LOOK_AHEAD) {
            if self.entries.get(id).is_some_and(|entry| batch.admit(&entry.record)) {
                ids.push(*id);
            }
            if batch.is_full() {
                break;
            }
        }
        Some(ids)
    }

    fn take(&mut self, id: RecordId) -> Option<Entry> {
        let entry = self.entries.get_mut(&id)?;
        entry.place = Place::InFlight;
        if let Some(shelf) = self.products.get_mut(&entry.record.product) {
            shelf.due.remove(&(entry.deadline, id));
        }
        Some(entry.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{deadline::Window, identity::Identity, record::tests::sample};
    use proptest::prelude::*;
    use std::time::Duration;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_seconds(seconds)
    }

    fn record(id: u64, hour: u32) -> Arc<Record> {
        let hour = Hour::from_index(hour);
        let identity = Identity::Account { account_id: format!("{id:012}").into() };
        Arc::new(Record { identity, hour, ..sample(id) })
    }

    fn outbox(records: impl IntoIterator<Item = (u64, i64)>) -> Outbox {
        let mut outbox = Outbox::default();
        for (id, deadline) in records {
            outbox.insert(record(id, 1), Delivery::default(), at(deadline));
        }
        outbox
    }

    fn ids(flight: Option<Flight>) -> Vec<u64> {
        flight.into_iter().flat_map(|flight| flight.entries).map(|entry| entry.record.id.0).collect()
    }

    fn deliveries(entries: &[Entry]) -> Vec<(RecordId, Delivery)> {
        entries.iter().map(|entry| (entry.record.id, entry.delivery.clone())).collect()
    }

    #[test]
    fn the_nearest_deadline_goes_first_and_25_at_a_time() {
        let mut outbox = outbox((1..=30).map(|id| (id, 1000 - i64::try_from(id).unwrap())));
        assert_eq!(ids(outbox.take_batch(at(1))), (6..=30).rev().collect::<Vec<u64>>());
        assert_eq!(ids(outbox.take_batch(at(1))), [5, 4, 3, 2, 1]);
        assert!(outbox.take_batch(at(1)).is_none());
    }

    #[test]
    fn what_backs_off_comes_back_and_not_before() {
        let mut outbox = outbox([(1, 1000)]);
        let _in_flight = outbox.take_batch(at(1));
        outbox.put_back(RecordId(1), Delivery { next_attempt: at(50), ..Delivery::default() });
        assert_eq!(outbox.next_event(at(1)), Some(at(50)));
        assert!(outbox.take_batch(at(49)).is_none());
        assert_eq!(ids(outbox.take_batch(at(50))), [1]);
    }

    #[test]
    fn a_paused_product_lets_others_pass_and_comes_back() {
        let mut outbox = outbox([(1, 100)]);
        let other = Record { product: "other".into(), ..(*record(2, 1)).clone() };
        outbox.insert(Arc::new(other), Delivery::default(), at(900));
        outbox.pause("prod", at(50));
        assert_eq!(ids(outbox.take_batch(at(1))), [2]);
        assert!(!outbox.has_due(at(49)) && outbox.take_batch(at(49)).is_none());
        assert_eq!(outbox.next_event(at(1)), Some(at(50)));
        assert_eq!(ids(outbox.take_batch(at(50))), [1]);
    }

    #[test]
    fn a_clock_that_was_set_back_holds_nothing_up() {
        let mut outbox = outbox([(1, 100_000)]);
        let _in_flight = outbox.take_batch(at(50_000));
        outbox.put_back(RecordId(1), Delivery { next_attempt: at(50_060), ..Delivery::default() });
        outbox.pause("prod", at(50_060));
        assert!(!outbox.has_due(at(20)));
        outbox.hurry(at(20));
        assert_eq!(ids(outbox.take_batch(at(20))), [1]);
        outbox.remove(RecordId(1));
        assert!(outbox.backing_off.is_empty());
    }

    #[test]
    fn nothing_is_sent_past_its_deadline() {
        let mut outbox = outbox([(1, 100), (2, 200)]);
        assert_eq!(ids(outbox.take_batch(at(100))), [2]);
        let missed =
            |now| outbox.missed(at(now), 10).iter().map(|entry| entry.record.id.0).collect::<Vec<u64>>();
        assert_eq!(missed(100), [1]);
        assert_eq!(missed(500), [1], "a record in flight is not given up");
    }

    #[test]
    fn a_bad_record_is_found_within_ten_calls_and_the_rest_goes_out() {
        for bad in 1..=25 {
            let mut outbox = outbox((1..=25).map(|id| (id, 1000)));
            let (mut calls, mut good) = (0, 0);
            while let Some(flight) = outbox.take_batch(at(1)) {
                calls += 1;
                let has_bad = flight.entries.iter().any(|entry| entry.record.id.0 == bad);
                if has_bad && flight.entries.len() > 1 {
                    outbox.isolate(deliveries(&flight.entries));
                } else {
                    good += if has_bad { 0 } else { flight.entries.len() };
                    for entry in &flight.entries {
                        outbox.remove(entry.record.id);
                    }
                }
                outbox.landed(flight, !has_bad);
            }
            assert_eq!(good, 24);
            assert!(calls <= 10, "{calls} calls for {bad}");
            assert!(outbox.is_empty());
        }
    }

    #[test]
    fn unsent_tells_what_waits() {
        let mut outbox = outbox([(1, 1000), (2, 900)]);
        let unsent = outbox.unsent("prod");
        assert_eq!(unsent.nearest_deadline, Some(at(900)));
        assert_eq!(unsent.units.get("requests"), Some(&10));
        outbox.remove(RecordId(2));
        assert_eq!(outbox.unsent("prod").units.get("requests"), Some(&5));
    }

    proptest! {
        /// Whatever is answered in whatever order, each record is in flight at most once at a time, and none vanishes.
        #[test]
        fn no_record_is_lost_or_sent_twice_at_once(answers in proptest::collection::vec((0..4_u8, 0..90_u64), 1..200)) {
            let mut outbox = Outbox::default();
            for id in 1..=60 {
                let hour = Hour::from_index(u32::try_from(id % 3).unwrap());
                outbox.insert(record(id, hour.index()), Delivery::default(), Window::AWS.deadline(hour));
            }
            let (mut flights, mut settled, mut now) = (VecDeque::<Flight>::new(), BTreeSet::new(), at(0));
            for (answer, passed) in answers {
                now = now.plus(Duration::from_secs(passed));
                if let Some(flight) = outbox.take_batch(now) {
                    for entry in &flight.entries {
                        let id = entry.record.id;
                        prop_assert!(flights.iter().flat_map(|other| &other.entries).all(|other| other.record.id != id));
                        prop_assert!(!settled.contains(&id));
                        prop_assert!(entry.delivery.next_attempt <= now && now < entry.deadline);
                    }
                    flights.push_back(flight);
                }
                if answer == 0 { continue }
                let Some(flight) = flights.pop_front() else { continue };
                match answer {
                    1 => for entry in &flight.entries {
                        settled.insert(entry.record.id);
                        outbox.remove(entry.record.id);
                    },
                    2 => outbox.isolate(deliveries(&flight.entries)),
                    _ => for entry in &flight.entries {
                        let next_attempt = now.plus(Duration::from_secs(30));
                        outbox.put_back(entry.record.id, Delivery { next_attempt, ..entry.delivery.clone() });
                    },
                }
                outbox.landed(flight, answer == 1);
            }
            prop_assert_eq!(outbox.len() + settled.len(), 60);
            let places = outbox.entries.values().filter(|entry| entry.place == Place::Suspected).count();
            let suspects: usize = outbox.suspects.iter().map(|suspect| suspect.half.len() + suspect.other_half.len()).sum();
            let waiting: usize = flights.iter().map(|flight| flight.other_half.len()).sum();
            prop_assert_eq!(places, suspects + waiting, "a suspect is out of reach");
        }
    }
}
