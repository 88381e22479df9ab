//! The records that AWS has not accepted yet, in the order in which they must go out.
//!
//! One customer that AWS does not know refuses a whole call. So records go out by the standing of their customers, each
//! in batches of their own: those of customers that AWS has accepted before first, and nobody else can hold them up.
//!
//! - `product_queue`: what is due of a product, and what of it one request takes.
//! - `suspects`: how a refused batch is taken apart.
//! - `turns`: whose turn it is.

mod product_queue;
mod suspects;
mod turns;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    answer::Reply,
    culprit::Culprit,
    record::{Delivery, Record, RecordId},
};
use crate::domain::{
    customer::standing::Standing,
    time::{Hour, Timestamp},
};
use product_queue::{Place, ProductQueue};
use suspects::{Suspect, Suspects};
use turns::Turns;

/// Pending records by standing and with nearest deadline first, and those that back off by when they come back.
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
    /// Parts of batches that AWS refused for some of their records.
    suspects: Suspects,
    turns: Turns,
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
    standing: Standing,
    /// The rest of a refused batch, if this is a half of one.
    rest: Option<(Vec<RecordId>, Culprit)>,
}

#[derive(Clone, Debug)]
pub struct QueuedRecord {
    pub record: Arc<Record>,
    pub delivery: Delivery,
    pub deadline: Timestamp,
    /// That of its customer.
    pub standing: Standing,
    stage: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    BackingOff,
    Due,
    Suspected,
    InFlight,
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
    /// Takes a record in, with the standing of its customer; of one that is known, only deadline and standing.
    pub fn insert(
        &mut self,
        record: Arc<Record>,
        delivery: Delivery,
        deadline: Timestamp,
        standing: Standing,
    ) {
        let id = record.id;
        self.set_standing(&record.product, &record.customer, standing);
        if self.entries.contains_key(&id) {
            return self.set_deadline(id, deadline);
        }
        let is_due = delivery.next_attempt <= self.promoted;
        if !is_due {
            self.backing_off.insert((delivery.next_attempt, id));
        }
        let stage = if is_due { Stage::Due } else { Stage::BackingOff };
        let entry = QueuedRecord { record, delivery, deadline, standing, stage };
        self.products.entry(entry.record.product.clone()).or_default().add(&entry);
        self.entries.insert(id, entry);
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes the next batch: records of one product and standing, nearest deadline first. They are in flight until each
    /// is [`remove`](Self::remove)d, [`put_back`](Self::put_back) or [`isolate`](Self::isolate)d, and the batch as a
    /// whole is [`complete`](Self::complete)d.
    pub fn take_batch(&mut self, now: Timestamp) -> Option<InFlightBatch> {
        let ready = self.ready(now);
        let standing = self.turns.choose(&ready, self.is_behind(now))?;
        let (ids, rest) = match self.suspects.pop(standing) {
            Some(Suspect { half, other_half, culprit }) => (half, Some((other_half, culprit))),
            None => (self.plan(standing, now), None),
        };
        let entries = ids.into_iter().filter_map(|id| self.take(id)).collect();
        Some(InFlightBatch { entries, standing, rest })
    }

    /// Whether [`take_batch`](Self::take_batch) would find anything.
    pub fn has_due(&mut self, now: Timestamp) -> bool {
        !self.ready(now).is_empty()
    }

    /// The standings of which something may go out, best first.
    fn ready(&mut self, now: Timestamp) -> Vec<Standing> {
        self.promote(now);
        self.release_suspects(now);
        let has_due = |standing| self.products.values().any(|queue| queue.nearest(standing, now).is_some());
        let is_ready = |standing: &Standing| self.suspects.has(*standing) || has_due(*standing);
        Standing::ALL.into_iter().filter(is_ready).collect()
    }

    /// Whether a record of a customer that AWS knows has waited so long that no other may go before it.
    fn is_behind(&self, now: Timestamp) -> bool {
        let suspects = self.suspects.ids(Standing::Verified);
        let nearest = self.products.values().filter_map(|queue| queue.nearest(Standing::Verified, now));
        let heads = nearest.map(|(_, id)| id).chain(suspects);
        heads
            .filter_map(|id| self.entries.get(&id))
            .any(|entry| turns::is_late(entry.record.hour, entry.deadline, now))
    }

    /// Sends nothing of a product until then: its set-up is at fault, and every call would fail as the last one did.
    pub fn pause(&mut self, product: &str, until: Timestamp) {
        if let Some(queue) = self.products.get_mut(product) {
            queue.paused_until = until;
        }
    }

    /// Brings the deadline of a customer's records forward.
    pub fn hasten(&mut self, product: &str, customer: &str, deadline: Timestamp) {
        let Some(queue) = self.products.get(product) else { return };
        for id in queue.of_customer(customer).to_vec() {
            if self.entries.get(&id).is_some_and(|entry| entry.deadline > deadline) {
                self.set_deadline(id, deadline);
            }
        }
    }

    fn set_deadline(&mut self, id: RecordId, deadline: Timestamp) {
        self.change(id, |entry| entry.deadline = deadline);
    }

    /// AWS's answer, or a registration, has told how a customer stands: its records go out with others of that standing.
    pub fn set_standing(&mut self, product: &str, customer: &str, standing: Standing) {
        let ids = self.products.get(product).map_or(&[][..], |queue| queue.of_customer(customer));
        let first = ids.first().and_then(|id| self.entries.get(id));
        // All of a customer's stand alike.
        if first.is_none_or(|entry| entry.standing == standing) {
            return;
        }
        let all = ids.to_vec();
        for id in all {
            self.change(id, |entry| entry.standing = standing);
        }
    }

    /// Changes what decides about a record's place in its queue.
    fn change(&mut self, id: RecordId, change: impl FnOnce(&mut QueuedRecord)) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let before = Place::of(entry);
        change(entry);
        if let Some(queue) = self.products.get_mut(&entry.record.product) {
            queue.move_record(before, Place::of(entry));
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

    /// Ends the attempt of a batch that was refused for some of its records: its halves go out next.
    pub fn isolate(
        &mut self,
        batch: &InFlightBatch,
        deliveries: Vec<(RecordId, Delivery)>,
        culprit: Culprit,
    ) {
        let mut ids = Vec::with_capacity(deliveries.len());
        for (id, delivery) in deliveries {
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.stage = Stage::Suspected;
                entry.delivery = delivery;
                ids.push(id);
            }
        }
        self.halve(&ids, culprit, batch.standing);
    }

    /// Ends a batch, by the reply to it as a whole.
    pub fn complete(&mut self, batch: InFlightBatch, reply: &Reply) {
        if let Some(queue) = self.products.get_mut(&batch.product()) {
            queue.learn(batch.standing, reply);
        }
        let Some((rest, culprit)) = batch.rest.filter(|(rest, _)| !rest.is_empty()) else { return };
        if matches!(reply, Reply::Answered(_)) {
            // This half was good: so the other one is known to hold what the batch was refused for.
            self.halve(&rest, culprit, batch.standing);
        } else {
            self.suspects.push(batch.standing, Suspect { half: rest, other_half: Vec::new(), culprit });
        }
    }

    fn halve(&mut self, ids: &[RecordId], culprit: Culprit, standing: Standing) {
        let records = ids.iter().filter_map(|id| self.entries.get(id)).map(|entry| &*entry.record);
        let suspect = Suspect::halved(records.collect(), culprit);
        self.suspects.push(standing, suspect);
    }

    /// Forgets a record that is settled.
    pub fn remove(&mut self, id: RecordId) -> Option<QueuedRecord> {
        let entry = self.entries.remove(&id)?;
        self.backing_off.remove(&(entry.delivery.next_attempt, id));
        if let Some(queue) = self.products.get_mut(&entry.record.product) {
            queue.remove(&entry);
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
            self.change(id, |entry| entry.stage = Stage::Due);
        }
        self.promoted = now;
    }

    /// Ends the suspicion of records that are not to go out with the others of their half: their deadline has passed, or
    /// AWS has told more of their customer since. They are due like any other.
    fn release_suspects(&mut self, now: Timestamp) {
        for standing in Standing::ALL {
            let entries = &self.entries;
            let stays = |id: &RecordId| {
                entries.get(id).is_some_and(|entry| entry.deadline > now && entry.standing == standing)
            };
            for id in self.suspects.release(standing, stays) {
                self.change(id, |entry| entry.stage = Stage::Due);
            }
        }
    }

    /// The product with the nearest deadline, and as many of its due records as one request may hold.
    fn plan(&self, standing: Standing, now: Timestamp) -> Vec<RecordId> {
        let nearest = |queue: &ProductQueue| queue.nearest(standing, now);
        let queues = self.products.values().filter_map(|queue| Some((nearest(queue)?, queue)));
        let next = queues.min_by_key(|(nearest, _)| *nearest);
        next.map_or_else(Vec::new, |(_, queue)| queue.plan(standing, now, &self.entries))
    }

    fn take(&mut self, id: RecordId) -> Option<QueuedRecord> {
        self.change(id, |entry| entry.stage = Stage::InFlight);
        self.entries.get(&id).cloned()
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod unknown_customers;
