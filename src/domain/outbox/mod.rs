//! The records that AWS has not accepted yet, in the order in which they must go out.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
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
///
/// No step looks at all of them, nor copies them as a hash table would do when it grows: there may be a million, and
/// whoever plans has others to serve.
#[derive(Debug, Default)]
pub struct Outbox {
    entries: BTreeMap<RecordId, Entry>,
    products: BTreeMap<Arc<str>, Shelf>,
    backing_off: BTreeSet<(Timestamp, RecordId)>,
    /// What had backed off until then is among the due.
    promoted: Timestamp,
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

impl Flight {
    /// That of all its records. Empty for a call without any.
    pub fn product(&self) -> Arc<str> {
        self.entries.first().map(|entry| entry.record.product.clone()).unwrap_or_default()
    }
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
    /// Each customer's records, sorted.
    by_customer: BTreeMap<Arc<str>, Vec<RecordId>>,
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
        let ids = shelf.by_customer.entry(record.customer.clone()).or_default();
        if let Err(place) = ids.binary_search(&id) {
            ids.insert(place, id);
        }
        let place = if delivery.next_attempt <= self.promoted {
            shelf.due.insert((deadline, id));
            Place::Due
        } else {
            self.backing_off.insert((delivery.next_attempt, id));
            Place::BackingOff
        };
        self.entries.insert(id, Entry { record, delivery, deadline, place });
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
        let ids = self.products.get(product).and_then(|shelf| shelf.by_customer.get(customer)).cloned();
        for id in ids.into_iter().flatten() {
            if self.entries.get(&id).is_some_and(|entry| entry.deadline > deadline) {
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
        self.promoted = now;
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
            shelf.forget(&entry.record.customer, id);
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
    pub fn promote(&mut self, now: Timestamp) {
        while let Some((at, id)) = self.backing_off.first().copied().filter(|(at, _)| *at <= now) {
            self.backing_off.remove(&(at, id));
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.place = Place::Due;
                let shelf = self.products.entry(entry.record.product.clone()).or_default();
                shelf.due.insert((entry.deadline, id));
            }
        }
        self.promoted = now;
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

impl Shelf {
    fn forget(&mut self, customer: &str, id: RecordId) {
        let Some(ids) = self.by_customer.get_mut(customer) else { return };
        if let Ok(place) = ids.binary_search(&id) {
            ids.remove(place);
        }
        if ids.is_empty() {
            self.by_customer.remove(customer);
        }
    }
}

#[cfg(test)]
mod tests;
