//! The records that AWS has not accepted yet, in the order in which they must go out.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use super::{
    batch::{Batch, MAX_RECORDS},
    record::{Delivery, Record, RecordId},
};
use crate::domain::time::{Hour, Timestamp};

/// How many due records are looked at for one batch, so that planning stays cheap when few of them fit together.
const LOOK_AHEAD: usize = 8 * MAX_RECORDS;

/// Pending records with nearest deadline first, and those that back off by when they come back.
///
/// No step looks at all of them, nor copies them as a hash table would do when it grows: there may be a million, and
/// whoever plans has others to serve.
#[derive(Debug, Default)]
pub struct Outbox {
    entries: BTreeMap<RecordId, QueuedRecord>,
    products: BTreeMap<Arc<str>, ProductQueue>,
    backing_off: BTreeSet<(Timestamp, RecordId)>,
    /// Records that backed off until then, or sooner, are among the due ones.
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

impl InFlightBatch {
    /// The product of all its records. Empty for a call without any.
    pub fn product(&self) -> Arc<str> {
        self.entries.first().map(|entry| entry.record.product.clone()).unwrap_or_default()
    }
}

/// Records under way in one request.
#[derive(Debug, Default)]
pub struct InFlightBatch {
    pub entries: Vec<QueuedRecord>,
    other_half: Vec<RecordId>,
}

#[derive(Clone, Debug)]
pub struct QueuedRecord {
    pub record: Arc<Record>,
    pub delivery: Delivery,
    pub deadline: Timestamp,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    BackingOff,
    Due,
    Suspected,
    InFlight,
}

#[derive(Debug, Default)]
struct ProductQueue {
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
    /// The base units by dimension.
    pub units: BTreeMap<Arc<str>, u128>,
}

impl Outbox {
    /// Takes a record in; of one that is known, only the deadline.
    pub fn insert(&mut self, record: Arc<Record>, delivery: Delivery, deadline: Timestamp) {
        let id = record.id;
        let queue = self.products.entry(record.product.clone()).or_default();
        if self.entries.contains_key(&id) {
            return self.set_deadline(id, deadline);
        }
        queue.all.insert((deadline, id));
        let units = queue.units.entry(record.dimension.clone()).or_default();
        *units = units.saturating_add(record.amounts.billed);
        let ids = queue.by_customer.entry(record.customer.clone()).or_default();
        if let Err(index) = ids.binary_search(&id) {
            ids.insert(index, id);
        }
        let stage = if delivery.next_attempt <= self.promoted {
            queue.due.insert((deadline, id));
            Stage::Due
        } else {
            self.backing_off.insert((delivery.next_attempt, id));
            Stage::BackingOff
        };
        self.entries.insert(id, QueuedRecord { record, delivery, deadline, stage });
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes the next batch: records of one product, nearest deadline first. They are in flight until each is
    /// [`remove`](Self::remove)d, [`put_back`](Self::put_back) or [`isolate`](Self::isolate)d, and the batch as a
    /// whole is [`complete`](Self::complete)d.
    pub fn take_batch(&mut self, now: Timestamp) -> Option<InFlightBatch> {
        self.promote(now);
        let Suspect { half, other_half } = self
            .next_suspect(now)
            .or_else(|| self.plan(now).map(|half| Suspect { half, other_half: Vec::new() }))?;
        Some(InFlightBatch { entries: half.into_iter().filter_map(|id| self.take(id)).collect(), other_half })
    }

    /// Whether [`take_batch`](Self::take_batch) would find anything.
    pub fn has_due(&mut self, now: Timestamp) -> bool {
        self.promote(now);
        let in_time = |queue: &ProductQueue| {
            queue.paused_until <= now && queue.due.last().is_some_and(|(deadline, _)| *deadline > now)
        };
        !self.suspects.is_empty() || self.products.values().any(in_time)
    }

    /// Sends nothing of a product until then: its set-up is at fault, and every call would fail as the last one did.
    pub fn pause(&mut self, product: &str, until: Timestamp) {
        if let Some(queue) = self.products.get_mut(product) {
            queue.paused_until = until;
        }
    }

    /// Brings the deadline of a customer's records forward.
    pub fn hasten(&mut self, product: &str, customer: &str, deadline: Timestamp) {
        let ids = self.products.get(product).and_then(|queue| queue.by_customer.get(customer)).cloned();
        for id in ids.into_iter().flatten() {
            if self.entries.get(&id).is_some_and(|entry| entry.deadline > deadline) {
                self.set_deadline(id, deadline);
            }
        }
    }

    fn set_deadline(&mut self, id: RecordId, deadline: Timestamp) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let before = std::mem::replace(&mut entry.deadline, deadline);
        let Some(queue) = self.products.get_mut(&entry.record.product) else { return };
        queue.all.remove(&(before, id));
        queue.all.insert((deadline, id));
        if queue.due.remove(&(before, id)) {
            queue.due.insert((deadline, id));
        }
    }

    /// Ends all waiting: it was for moments of a clock that has been set since.
    pub fn hurry(&mut self, now: Timestamp) {
        self.promoted = now;
        for queue in self.products.values_mut() {
            queue.paused_until = now;
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
            entry.stage = Stage::BackingOff;
            self.backing_off.insert((delivery.next_attempt, id));
            entry.delivery = delivery;
        }
    }

    /// Ends the attempt of a batch that holds a bad record: its halves go out next.
    pub fn isolate(&mut self, deliveries: Vec<(RecordId, Delivery)>) {
        let mut ids = Vec::with_capacity(deliveries.len());
        for (id, delivery) in deliveries {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.stage = Stage::Suspected;
                entry.delivery = delivery;
                ids.push(id);
            }
        }
        self.halve(ids);
    }

    /// Ends a batch. `was_good` says that AWS took the batch as a whole, whatever it said of its records.
    pub fn complete(&mut self, batch: InFlightBatch, was_good: bool) {
        let other_half = batch.other_half;
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
    pub fn remove(&mut self, id: RecordId) -> Option<QueuedRecord> {
        let entry = self.entries.remove(&id)?;
        self.backing_off.remove(&(entry.delivery.next_attempt, id));
        if let Some(queue) = self.products.get_mut(&entry.record.product) {
            queue.due.remove(&(entry.deadline, id));
            queue.all.remove(&(entry.deadline, id));
            queue.forget(&entry.record.customer, id);
            if let Some(units) = queue.units.get_mut(&entry.record.dimension) {
                *units = units.saturating_sub(entry.record.amounts.billed);
            }
        }
        Some(entry)
    }

    /// Records whose deadline has passed and that are not in flight, at most `limit`.
    pub fn missed(&self, now: Timestamp, limit: usize) -> Vec<QueuedRecord> {
        self.products
            .values()
            .flat_map(|queue| queue.all.iter().take_while(|(deadline, _)| *deadline <= now))
            .filter_map(|(_, id)| self.entries.get(id))
            .filter(|entry| entry.stage != Stage::InFlight)
            .take(limit)
            .cloned()
            .collect()
    }

    /// The next moment after `now` at which there will be something to do: an attempt, or giving a record up.
    pub fn next_event(&self, now: Timestamp) -> Option<Timestamp> {
        let after_now = (now, RecordId(u64::MAX))..;
        let attempt = self.backing_off.range(after_now.clone()).next();
        let deadlines = self.products.values().filter_map(|queue| queue.all.range(after_now.clone()).next());
        let pauses = self.products.values().map(|queue| queue.paused_until).filter(|until| *until > now);
        deadlines.chain(attempt).map(|(at, _)| *at).chain(pauses).min()
    }

    pub fn unsent(&self, product: &str) -> Unsent {
        let Some(queue) = self.products.get(product) else { return Unsent::default() };
        let first = queue.all.first().and_then(|(_, id)| self.entries.get(id));
        Unsent {
            oldest_hour: first.map(|entry| entry.record.hour),
            nearest_deadline: first.map(|entry| entry.deadline),
            last_error: first
                .map(|entry| entry.delivery.last_error.clone())
                .filter(|error| !error.is_empty()),
            units: queue.units.clone(),
        }
    }

    /// Moves what has backed off long enough among the due.
    pub fn promote(&mut self, now: Timestamp) {
        while let Some((at, id)) = self.backing_off.first().copied().filter(|(at, _)| *at <= now) {
            self.backing_off.remove(&(at, id));
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.stage = Stage::Due;
                let queue = self.products.entry(entry.record.product.clone()).or_default();
                queue.due.insert((entry.deadline, id));
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
        let nearest = |queue: &ProductQueue| {
            if queue.paused_until > now { None } else { queue.due.range(in_time.clone()).next().copied() }
        };
        let (_, queue) = self
            .products
            .values()
            .filter_map(|queue| nearest(queue).map(|next| (next, queue)))
            .min_by_key(|(next, _)| *next)?;
        let mut batch = Batch::default();
        let mut ids = Vec::with_capacity(MAX_RECORDS);
        for (_, id) in queue.due.range(in_time).take(LOOK_AHEAD) {
            if self.entries.get(id).is_some_and(|entry| batch.admit(&entry.record)) {
                ids.push(*id);
            }
            if batch.is_full() {
                break;
            }
        }
        Some(ids)
    }

    fn take(&mut self, id: RecordId) -> Option<QueuedRecord> {
        let entry = self.entries.get_mut(&id)?;
        entry.stage = Stage::InFlight;
        if let Some(queue) = self.products.get_mut(&entry.record.product) {
            queue.due.remove(&(entry.deadline, id));
        }
        Some(entry.clone())
    }
}

impl ProductQueue {
    fn forget(&mut self, customer: &str, id: RecordId) {
        let Some(ids) = self.by_customer.get_mut(customer) else { return };
        if let Ok(index) = ids.binary_search(&id) {
            ids.remove(index);
        }
        if ids.is_empty() {
            self.by_customer.remove(customer);
        }
    }
}

#[cfg(test)]
mod tests;
