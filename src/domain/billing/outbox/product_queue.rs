//! What waits of one product, in its order; and what of it one request takes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{QueuedRecord, Stage};
use crate::domain::{
    billing::{
        answer::Reply,
        batch::{Batch, MAX_RECORDS},
        record::RecordId,
    },
    customer::standing::Standing,
    time::Timestamp,
};

/// How many due records are looked at for one batch, so that planning stays cheap when few of them fit together.
const LOOK_AHEAD: usize = 8 * MAX_RECORDS;

type ByDeadline = BTreeSet<(Timestamp, RecordId)>;

#[derive(Debug)]
pub(super) struct ProductQueue {
    /// Until then nothing is sent: AWS refuses the product's set-up, whatever the records.
    pub(super) paused_until: Timestamp,
    due: BTreeMap<Standing, ByDeadline>,
    pub(super) all: ByDeadline,
    /// Each customer's records, sorted.
    by_customer: BTreeMap<Arc<str>, Vec<RecordId>>,
    pub(super) units: BTreeMap<Arc<str>, u128>,
    /// How many customers that AWS may not know go into one call. Where most are unknown, one by one takes half of the
    /// calls that halving takes; where few are, 25 at once takes a twenty-fifth.
    customers_at_once: usize,
}

impl Default for ProductQueue {
    fn default() -> Self {
        Self {
            paused_until: Timestamp::default(),
            due: BTreeMap::new(),
            all: ByDeadline::new(),
            by_customer: BTreeMap::new(),
            units: BTreeMap::new(),
            customers_at_once: MAX_RECORDS,
        }
    }
}

/// Where a record is in its product's queue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    deadline: Timestamp,
    id: RecordId,
    /// The standing with which it is due, if it is.
    due_with: Option<Standing>,
}

impl Place {
    pub(super) fn of(entry: &QueuedRecord) -> Self {
        let due_with = (entry.stage == Stage::Due).then_some(entry.standing);
        Self { deadline: entry.deadline, id: entry.record.id, due_with }
    }
}

impl ProductQueue {
    pub(super) fn add(&mut self, entry: &QueuedRecord) {
        let record = &entry.record;
        let units = self.units.entry(record.dimension.clone()).or_default();
        *units = units.saturating_add(record.amounts.billed);
        let ids = self.by_customer.entry(record.customer.clone()).or_default();
        if let Err(index) = ids.binary_search(&record.id) {
            ids.insert(index, record.id);
        }
        let Place { deadline, id, due_with } = Place::of(entry);
        self.all.insert((deadline, id));
        self.put_due(due_with, deadline, id);
    }

    pub(super) fn remove(&mut self, entry: &QueuedRecord) {
        let Place { deadline, id, due_with } = Place::of(entry);
        self.all.remove(&(deadline, id));
        self.take_due(due_with, deadline, id);
        let record = &entry.record;
        if let Some(units) = self.units.get_mut(&record.dimension) {
            *units = units.saturating_sub(record.amounts.billed);
        }
        let Some(ids) = self.by_customer.get_mut(&record.customer) else { return };
        if let Ok(index) = ids.binary_search(&record.id) {
            ids.remove(index);
        }
        if ids.is_empty() {
            self.by_customer.remove(&record.customer);
        }
    }

    /// Moves a record to where its deadline, standing and stage say now.
    pub(super) fn move_record(&mut self, before: Place, now: Place) {
        if before.deadline != now.deadline {
            self.all.remove(&(before.deadline, before.id));
            self.all.insert((now.deadline, now.id));
        }
        if before != now {
            self.take_due(before.due_with, before.deadline, before.id);
            self.put_due(now.due_with, now.deadline, now.id);
        }
    }

    fn put_due(&mut self, with: Option<Standing>, deadline: Timestamp, id: RecordId) {
        if let Some(standing) = with {
            self.due.entry(standing).or_default().insert((deadline, id));
        }
    }

    fn take_due(&mut self, with: Option<Standing>, deadline: Timestamp, id: RecordId) {
        if let Some(due) = with.and_then(|standing| self.due.get_mut(&standing)) {
            due.remove(&(deadline, id));
        }
    }

    /// A customer's records, sorted.
    pub(super) fn of_customer(&self, customer: &str) -> &[RecordId] {
        self.by_customer.get(customer).map_or(&[], Vec::as_slice)
    }

    /// The next one that may go out, unless the product is paused.
    pub(super) fn nearest(&self, standing: Standing, now: Timestamp) -> Option<(Timestamp, RecordId)> {
        if self.paused_until > now { None } else { self.due_in_time(standing, now).next() }
    }

    fn due_in_time(&self, standing: Standing, now: Timestamp) -> impl Iterator<Item = (Timestamp, RecordId)> {
        let in_time = (now, RecordId(u64::MAX))..;
        self.due.get(&standing).into_iter().flat_map(move |due| due.range(in_time.clone()).copied())
    }

    /// Picks as many due records as one call to AWS may hold.
    pub(super) fn plan(
        &self,
        standing: Standing,
        now: Timestamp,
        entries: &BTreeMap<RecordId, QueuedRecord>,
    ) -> Vec<RecordId> {
        match standing {
            Standing::Verified => self.plan_by_deadline(now, entries),
            Standing::Registered | Standing::SelfNamed | Standing::Refused => {
                self.plan_by_customer(standing, now, entries)
            }
        }
    }

    fn plan_by_deadline(&self, now: Timestamp, entries: &BTreeMap<RecordId, QueuedRecord>) -> Vec<RecordId> {
        let (mut batch, mut ids) = (Batch::default(), Vec::with_capacity(MAX_RECORDS));
        for (_, id) in self.due_in_time(Standing::Verified, now).take(LOOK_AHEAD) {
            if entries.get(&id).is_some_and(|entry| batch.admit(&entry.record)) {
                ids.push(id);
            }
            if batch.is_full() {
                break;
            }
        }
        ids
    }

    /// All that fits of a few customers, so that one answer tells of all records of one that AWS does not know.
    fn plan_by_customer(
        &self,
        standing: Standing,
        now: Timestamp,
        entries: &BTreeMap<RecordId, QueuedRecord>,
    ) -> Vec<RecordId> {
        let (mut batch, mut ids) = (Batch::default(), Vec::with_capacity(MAX_RECORDS));
        let mut customers: BTreeSet<&str> = BTreeSet::new();
        for (_, id) in self.due_in_time(standing, now).take(LOOK_AHEAD) {
            let Some(customer) = entries.get(&id).map(|entry| &*entry.record.customer) else { continue };
            if customers.contains(customer) {
                continue;
            }
            if batch.is_full() || customers.len() >= self.customers_at_once {
                break;
            }
            customers.insert(customer);
            let all = self.of_customer(customer).iter().take(LOOK_AHEAD);
            let due = all.filter_map(|id| entries.get(id)).filter(|entry| {
                entry.stage == Stage::Due && entry.standing == standing && entry.deadline > now
            });
            ids.extend(due.filter(|entry| batch.admit(&entry.record)).map(|entry| entry.record.id));
        }
        ids
    }

    /// AWS's reply to a batch tells how many of the customers that it may not know it does know.
    pub(super) fn learn(&mut self, standing: Standing, reply: &Reply) {
        let at_once = self.customers_at_once;
        self.customers_at_once = match (standing, reply) {
            (Standing::Verified, _)
            | (
                _,
                Reply::Throttled
                | Reply::NotDelivered(_)
                | Reply::Lost(_)
                | Reply::BadRecord(_)
                | Reply::TooOld(_)
                | Reply::Setup(_),
            ) => at_once,
            (_, Reply::Answered(_)) => at_once.saturating_mul(2).min(MAX_RECORDS),
            (_, Reply::UnknownIdentity(..)) => at_once.div_euclid(2).max(1),
        };
    }
}
