//! What the status page shows, read at one moment.
//!
//! What a snapshot costs does not depend on how many records there are.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    api::{
        agent_handle::AgentHandle,
        review::Review,
        summary::{self, Waiting, summary},
    },
    base::proto::Summary,
    domain::{
        billing::{
            hour_tally::HourTally,
            record::{HoldReason, Outcome, Record, RecordId, Settled},
        },
        clock_guard::Doubt,
        product::{DimensionIndex, Product, ProductIndex},
        time::{Hour, Timestamp},
    },
    engine::{
        billing::read_hours,
        committer::Status,
        health::{Facts, ProductFacts},
        lifecycle::Phase,
        throughput::Sample,
    },
    store::StoreError,
};

use super::hour_strip::{self, HourLine};

/// How many held records are read, the oldest ones.
const HELD_READ: usize = 500;
/// How many pending records are read, to find their customers.
const PENDING_READ: usize = 500;
/// How many customers are named.
const MOST_CUSTOMERS: usize = 20;
/// How many hours are read: more than the store keeps.
const MOST_HOURS: usize = 1000;

#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) now: Timestamp,
    pub(super) phase: Phase,
    pub(super) summary: Summary,
    /// AWS has not told the time since the start.
    pub(super) is_untold: bool,
    pub(super) sealed_through: Hour,
    pub(super) products: Vec<ProductFacts>,
    /// The last 48 hours, oldest first; the last one is under way.
    pub(super) hours: Vec<HourLine>,
    pub(super) held: Held,
    /// The events of the last five minutes by short spans, oldest first.
    pub(super) samples: Vec<Sample>,
    /// `None` unless customers may be named.
    pub(super) customers: Option<Customers>,
    /// Why the store could not be read. Hours, held records and customers are then missing.
    pub(super) unread: Option<String>,
}

/// The records that wait for a person.
#[derive(Clone, Debug, Default)]
pub(super) struct Held {
    pub(super) records: u64,
    pub(super) lines: Vec<HeldLine>,
    /// How many held records the lines leave out.
    pub(super) not_looked_at: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HeldLine {
    pub(super) product: Arc<str>,
    pub(super) dimension: Arc<str>,
    pub(super) reason: HoldReason,
    pub(super) records: u64,
    /// The amount in base units.
    pub(super) units: u128,
    pub(super) oldest: Hour,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Customers {
    pub(super) lines: Vec<CustomerLine>,
    /// Whether there may be more: not all records were read, or not all customers are listed.
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
    /// Made from the agent's state, and from what was read from the store or why that could not be read.
    pub(super) fn of(agent: &AgentHandle, read: Result<StoreRead, String>) -> Self {
        let (status, now) = (agent.committer.status(), agent.clock.now());
        let products: Vec<_> = agent
            .catalog
            .products()
            .map(|(index, product)| product_facts(agent, &status, (index, product), now))
            .collect();
        let (read, unread) = match read {
            Ok(read) => (read, None),
            Err(why) => (StoreRead::default(), Some(why)),
        };
        let held = products.iter().flat_map(|product| &product.held).map(|(_, count)| count).sum();
        let unsent: u64 = products.iter().map(|product| product.unsent).sum();
        let customers = agent.shows_customers.then(|| customers(&read.pending, &read.held, unsent, held));
        Self {
            now,
            phase: agent.lifecycle.get(),
            summary: summary(agent),
            is_untold: agent.trusted_clock.doubt() == Some(Doubt::Untold),
            sealed_through: status.watermarks.lowest(),
            hours: hour_strip::of(&read.hours, status.watermarks.lowest(), now, |hour| {
                is_in_review(agent, hour, now)
            }),
            held: held_lines(&read.held, held),
            products,
            samples: agent.activity.samples(),
            customers,
            unread,
        }
    }

    fn clock_fault(&self) -> Option<&str> {
        Some(self.summary.clock_fault.as_str()).filter(|fault| !fault.is_empty())
    }

    /// What the agent's health is decided from.
    pub(super) fn facts(&self) -> Facts<'_> {
        Facts {
            now: self.now,
            phase: &self.phase,
            store_fault: self.unread.as_deref(),
            clock_fault: self.clock_fault().filter(|_| !self.is_untold),
            untold: self.clock_fault().filter(|_| self.is_untold),
            sealed_through: self.sealed_through,
            open_buckets: self.summary.open_buckets,
            refused_events: self.samples.iter().map(|sample| sample.refused).sum(),
            recent: hour_strip::recent(&self.hours),
            products: &self.products,
        }
    }
}

fn product_facts(
    agent: &AgentHandle,
    status: &Status,
    (index, product): (ProductIndex, &Product),
    now: Timestamp,
) -> ProductFacts {
    let waiting = Waiting::of(agent, status, index, product);
    ProductFacts {
        code: product.code.clone(),
        deadline: waiting.nearest_deadline(agent.window, now),
        waits: waiting.since(now),
        unsent: status.tally.pending_records.get(&product.code).copied().unwrap_or_default(),
        held: summary::held(status, &product.code).filter(|(_, count)| *count > 0).collect(),
        decide_by: waiting.decide_by,
        capped: capped(status, index, product),
        last_answer: agent.unsent.last_answer(&product.code),
    }
}

/// How many customers have reached AWS's largest quantity in the last sealed hour, by dimension.
fn capped(status: &Status, index: ProductIndex, product: &Product) -> Vec<(Arc<str>, u64)> {
    let dimensions = (0..).map(DimensionIndex).zip(&product.dimensions);
    dimensions
        .map(|(place, dimension)| (dimension.name.clone(), summary::capped(status, index, place)))
        .filter(|(_, customers)| *customers > 0)
        .collect()
}

/// Whether an hour of some product waits for people to look at it.
fn is_in_review(agent: &AgentHandle, hour: Hour, now: Timestamp) -> bool {
    let mut products = agent.catalog.products();
    products.any(|(_, product)| Review::of(agent, product).of_hour(hour, now).is_some())
}

/// What is read from the store.
#[derive(Default)]
pub(super) struct StoreRead {
    hours: BTreeMap<Hour, HourTally>,
    /// The oldest held records.
    held: Vec<Settled>,
    /// The oldest pending records, if customers may be named.
    pending: Vec<Record>,
}

impl StoreRead {
    /// Reads the store, which blocks.
    pub(super) fn of(agent: &AgentHandle) -> Result<Self, StoreError> {
        let records = agent.records();
        let pending = if agent.shows_customers {
            records.pending_after(RecordId(0), PENDING_READ)?
        } else {
            Vec::new()
        };
        Ok(Self {
            hours: read_hours(&*agent.store, MOST_HOURS)?,
            held: records.held(RecordId(0), HELD_READ)?,
            pending: pending.into_iter().map(|(record, _)| record).collect(),
        })
    }
}

pub(super) fn held_lines(records: &[Settled], total: u64) -> Held {
    let mut lines: BTreeMap<(Arc<str>, HoldReason, Arc<str>), HeldLine> = BTreeMap::new();
    for settled in records {
        let Outcome::Held { reason, .. } = settled.outcome else { continue };
        let Record { product, dimension, hour, .. } = &settled.record;
        let line = lines.entry((product.clone(), reason, dimension.clone())).or_insert_with(|| HeldLine {
            product: product.clone(),
            dimension: dimension.clone(),
            reason,
            records: 0,
            units: 0,
            oldest: *hour,
        });
        line.records += 1;
        line.units = line.units.saturating_add(settled.amount());
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
