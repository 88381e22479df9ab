//! What the status page shows, read at one moment. What it costs does not depend on how many records there are.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use crate::{
    base::proto::Summary,
    domain::{
        hours::HourTally,
        product::Product,
        record::{HoldReason, Outcome, Record, RecordId, Settled},
        time::{Hour, Timestamp},
    },
    faces::{
        pulse::Beat,
        summary::{self, summary},
        view::View,
    },
    work::{committer::Status, phase::Phase, submitter::LastAnswer},
    worlds::store::{StoreError, Table, load},
};

use super::strip::{self, HourLine};

/// So many held records are looked at, the oldest ones.
const HELD_READ: usize = 500;
/// So many pending ones, for the customers.
const PENDING_READ: usize = 500;
/// So many customers are named.
const MOST_CUSTOMERS: usize = 20;
/// More than the store keeps.
const MOST_HOURS: usize = 1000;

#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) now: Timestamp,
    pub(super) phase: Phase,
    pub(super) summary: Summary,
    pub(super) sealed_through: Hour,
    pub(super) products: Vec<ProductLine>,
    /// The last 48 hours, oldest first; the last one is under way.
    pub(super) hours: Vec<HourLine>,
    pub(super) held: Held,
    /// The last minutes, oldest first.
    pub(super) beats: Vec<Beat>,
    /// `None` unless they may be shown.
    pub(super) customers: Option<Customers>,
    /// The store could not be read: what it was asked for is missing.
    pub(super) unread: Option<String>,
}

#[derive(Clone, Debug)]
pub(super) struct ProductLine {
    pub(super) code: Arc<str>,
    /// Until when AWS takes all that waits.
    pub(super) deadline: Option<Timestamp>,
    /// For how long the oldest hour that AWS does not have is over.
    pub(super) waits: Duration,
    pub(super) unsent: u64,
    pub(super) held: Vec<(HoldReason, u64)>,
    pub(super) last_answer: Option<LastAnswer>,
}

/// What waits for a person.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    pub(super) records: u64,
    pub(super) lines: Vec<HeldLine>,
    /// Held records beyond those that the lines were made of.
    pub(super) not_looked_at: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldLine {
    pub(super) product: Arc<str>,
    pub(super) dimension: Arc<str>,
    pub(super) reason: HoldReason,
    pub(super) records: u64,
    /// In base units.
    pub(super) units: u128,
    pub(super) oldest: Hour,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Customers {
    pub(super) lines: Vec<CustomerLine>,
    /// Not all records were looked at, or not all customers are listed.
    pub(super) are_more: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CustomerLine {
    pub(super) product: Arc<str>,
    pub(super) customer: Arc<str>,
    pub(super) unsent: u64,
    pub(super) held: u64,
}

impl Snapshot {
    /// With what was read from the store, or why that could not be read.
    pub(super) fn of(view: &View, read: Result<Read, String>) -> Self {
        let (status, now) = (view.committer.status(), view.clock.now());
        let products: Vec<_> =
            view.catalog.products().map(|(_, product)| product_line(view, &status, product, now)).collect();
        let (read, unread) = match read {
            Ok(read) => (read, None),
            Err(why) => (Read::default(), Some(why)),
        };
        let held = products.iter().flat_map(|product| &product.held).map(|(_, count)| count).sum();
        let unsent: u64 = products.iter().map(|product| product.unsent).sum();
        let customers = view.shows_customers.then(|| customers(&read.pending, &read.held, unsent, held));
        Self {
            now,
            phase: view.phase.get(),
            summary: summary(view),
            sealed_through: status.sealed_through,
            hours: strip::of(&read.hours, status.sealed_through, now),
            held: held_lines(&read.held, held),
            products,
            beats: view.activity.beats(),
            customers,
            unread,
        }
    }

    /// Records that AWS has not accepted yet.
    pub(super) fn unsent(&self) -> u64 {
        self.products.iter().map(|product| product.unsent).sum()
    }

    /// The product whose usage AWS refuses first, and when.
    pub(super) fn nearest_deadline(&self) -> Option<(Timestamp, &ProductLine)> {
        let deadlines = self.products.iter().filter_map(|product| Some((product.deadline?, product)));
        deadlines.min_by_key(|(deadline, _)| *deadline)
    }

    /// For how long the oldest hour that AWS does not have is over.
    pub(super) fn waits(&self) -> Duration {
        self.products.iter().map(|product| product.waits).max().unwrap_or_default()
    }
}

fn product_line(view: &View, status: &Status, product: &Product, now: Timestamp) -> ProductLine {
    let unsent = view.unsent.get(&product.code);
    ProductLine {
        code: product.code.clone(),
        deadline: summary::nearest_deadline(view.window, status, &unsent, now),
        waits: summary::oldest_unsent(status, &unsent, now),
        unsent: status.tally.pending_records.get(&product.code).copied().unwrap_or_default(),
        held: summary::held(status, &product.code).filter(|(_, count)| *count > 0).collect(),
        last_answer: view.unsent.last_answer(&product.code),
    }
}

/// What is read from the store.
#[derive(Default)]
pub(super) struct Read {
    hours: BTreeMap<Hour, HourTally>,
    /// The oldest ones.
    held: Vec<Settled>,
    /// The oldest ones, if customers may be shown.
    pending: Vec<Record>,
}

impl Read {
    /// To be called where it holds nobody up.
    pub(super) fn of(view: &View) -> Result<Self, StoreError> {
        let store = &*view.store;
        let pending = if view.shows_customers {
            load::pending_after(store, RecordId(0), PENDING_READ)?
        } else {
            Vec::new()
        };
        Ok(Self {
            hours: load::hours(store, MOST_HOURS)?,
            held: load::settled(store, Table::Held, RecordId(0), HELD_READ)?,
            pending: pending.into_iter().map(|(record, _)| record).collect(),
        })
    }
}

pub(super) fn held_lines(records: &[Settled], total: u64) -> Held {
    let mut lines: BTreeMap<(Arc<str>, HoldReason, Arc<str>), HeldLine> = BTreeMap::new();
    for settled in records {
        let Outcome::Held { reason, .. } = settled.outcome else { continue };
        let Record { product, dimension, hour, amounts, .. } = &settled.record;
        let line = lines.entry((product.clone(), reason, dimension.clone())).or_insert_with(|| HeldLine {
            product: product.clone(),
            dimension: dimension.clone(),
            reason,
            records: 0,
            units: 0,
            oldest: *hour,
        });
        line.records += 1;
        line.units = line.units.saturating_add(amounts.billed);
        line.oldest = line.oldest.min(*hour);
    }
    let not_looked_at = total.saturating_sub(records.len() as u64);
    Held { records: total, lines: lines.into_values().collect(), not_looked_at }
}

fn customers(pending: &[Record], held: &[Settled], all_unsent: u64, all_held: u64) -> Customers {
    let mut lines: BTreeMap<(Arc<str>, Arc<str>), (u64, u64)> = BTreeMap::new();
    for record in pending {
        lines.entry((record.product.clone(), record.customer.clone())).or_default().0 += 1;
    }
    for settled in held {
        let key = (settled.record.product.clone(), settled.record.customer.clone());
        lines.entry(key).or_default().1 += 1;
    }
    let line = |((product, customer), (unsent, held))| CustomerLine { product, customer, unsent, held };
    let mut lines: Vec<_> = lines.into_iter().map(line).collect();
    lines.sort_by_key(|line| std::cmp::Reverse((line.held, line.unsent)));
    let looked_at_all = all_unsent <= pending.len() as u64 && all_held <= held.len() as u64;
    let are_more = lines.len() > MOST_CUSTOMERS || !looked_at_all;
    lines.truncate(MOST_CUSTOMERS);
    Customers { lines, are_more }
}
