//! Counting usage, once.

use std::sync::Arc;

use thiserror::Error;

use crate::{
    domain::{
        bucket::{Bucket, MAX_TOTAL},
        seal::open_hour,
        time::{Hour, Timestamp},
        usage::Refusal,
    },
    work::{
        delta::{CustomerRef, Delta, Entry, Mark, Recorded},
        roster::{Customer, CustomerIndex, IdentityTaken},
    },
    worlds::store::{
        Batch, Store, StoreError, Table, keys,
        values::{Producer, RosterEntry, encode},
    },
};

use super::{Books, Series};

/// Producers are never forgotten, or a late resend would count again; the bound keeps a runaway client from filling
/// memory with new ones.
const MAX_PRODUCERS: usize = 100_000;

/// Why a delta was not counted at all.
#[derive(Debug, Error)]
pub enum RecordError {
    #[error("the sequence has a gap: expected {expected}")]
    Gap { expected: u64 },
    #[error("there are {MAX_PRODUCERS} producers already: reuse a producer_id instead of making new ones")]
    TooManyProducers,
    #[error(
        "limits.max_open_buckets or limits.max_customers is reached: raise it, or send the message again later"
    )]
    Full,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Books {
    /// Counts a delta. Whatever it counts, and the markers that keep it from being counted again, go into one batch.
    pub fn record(
        &mut self,
        delta: &Delta,
        store: &dyn Store,
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<Recorded, RecordError> {
        let mut recorded = Recorded::default();
        if let Some(mark) = &delta.mark {
            let last = self.last_sequence(&mark.producer);
            recorded.durable_sequence = last.max(mark.sequence);
            if mark.sequence <= last {
                return Ok(Recorded { is_repeat: true, ..recorded });
            }
            self.check_mark(mark, last)?;
            self.check_room(delta, now)?;
        }
        for (place, entry) in delta.folded.iter().enumerate() {
            match self.count(entry, now, batch) {
                Ok(late) => recorded.counted(entry, late),
                Err(refusal) => recorded.refused_folds.push((place, refusal)),
            }
        }
        for event in &delta.identified {
            if self.dedup.is_marked(store, event.hash)? {
                recorded.counts.entry(event.entry.product).or_default().duplicates += 1;
                continue;
            }
            match self.count(&event.entry, now, batch) {
                Ok(late) => {
                    self.dedup.mark(event.hash, now, batch);
                    recorded.counted(&event.entry, late);
                }
                Err(refusal) => recorded.refused.push((event.index, refusal)),
            }
        }
        if let Some(mark) = &delta.mark {
            let producer = Producer { sequence: mark.sequence, last_seen: now };
            self.producers.insert(mark.producer.clone(), producer);
            batch.put(Table::Producers, mark.producer.as_bytes(), encode(&producer));
        }
        Ok(recorded)
    }

    /// The last sequence of a producer that was counted; 0 for a new one.
    pub fn last_sequence(&self, producer: &str) -> u64 {
        self.producers.get(producer).map_or(0, |producer| producer.sequence)
    }

    /// A message uses up its sequence, so one that meets a full table is refused as a whole: it can come again. Counts
    /// every unknown bucket and customer as new, thus rather too many than too few.
    fn check_room(&self, delta: &Delta, now: Timestamp) -> Result<(), RecordError> {
        let entries = delta.folded.iter().chain(delta.identified.iter().map(|event| &event.entry));
        let (mut customers, mut buckets) = (0, 0);
        for entry in entries {
            let hour = open_hour(entry.hour, self.watermark, now);
            let known = self.known(entry);
            let series = known.map(|customer| Series { customer, dimension: entry.dimension });
            let is_open = series
                .is_some_and(|series| self.open.get(&hour).is_some_and(|open| open.contains_key(&series)));
            customers += usize::from(known.is_none());
            buckets += usize::from(!is_open);
        }
        let fits = self.open_buckets + buckets <= self.rules.max_open_buckets
            && self.roster.read().len() + customers <= self.rules.max_customers;
        // A message that no empty table could take is counted as far as it goes, or its stream would never get on.
        if fits || buckets > self.rules.max_open_buckets || customers > self.rules.max_customers {
            return Ok(());
        }
        Err(RecordError::Full)
    }

    fn check_mark(&self, mark: &Mark, last: u64) -> Result<(), RecordError> {
        let expected = last.saturating_add(1);
        if mark.sequence > expected {
            return Err(RecordError::Gap { expected });
        }
        if self.producers.len() >= MAX_PRODUCERS && !self.producers.contains_key(&mark.producer) {
            return Err(RecordError::TooManyProducers);
        }
        Ok(())
    }

    /// Adds an entry to its bucket; says whether it was late. A refused entry changes nothing.
    fn count(&mut self, entry: &Entry, now: Timestamp, batch: &mut Batch) -> Result<bool, Refusal> {
        let hour = open_hour(entry.hour, self.watermark, now);
        let known = self.known(entry);
        let series = known.map(|customer| Series { customer, dimension: entry.dimension });
        let bucket = series.and_then(|series| self.open.get(&hour)?.get(&series));
        let has_room = bucket.map_or(entry.amount <= MAX_TOTAL, |bucket| bucket.has_room(entry.amount));
        if !has_room {
            return Err(Refusal::QuantityOverflow);
        }
        if bucket.is_none() && self.open_buckets >= self.rules.max_open_buckets {
            let most = self.rules.max_open_buckets.try_into().unwrap_or(u64::MAX);
            return Err(Refusal::LimitReached { limit: "limits.max_open_buckets", most });
        }
        let customer = match known {
            Some(customer) => customer,
            None => self.register(entry, hour, batch)?,
        };
        self.add(hour, Series { customer, dimension: entry.dimension }, entry);
        Ok(hour != entry.hour)
    }

    fn add(&mut self, hour: Hour, series: Series, entry: &Entry) {
        let bucket = self.open.entry(hour).or_default().entry(series).or_insert_with(|| {
            self.open_buckets += 1;
            Bucket::default()
        });
        bucket.add(entry.amount, entry.events);
        self.touched.insert((hour, series));
        self.note_open(entry.product, series.dimension, entry.amount);
    }

    fn known(&self, entry: &Entry) -> Option<CustomerIndex> {
        match &entry.customer {
            CustomerRef::Known(index) => Some(*index),
            CustomerRef::New { key, .. } => self.roster.read().find(entry.product, key),
        }
    }

    /// Takes a customer into the roster because it was used.
    fn register(&self, entry: &Entry, hour: Hour, batch: &mut Batch) -> Result<CustomerIndex, Refusal> {
        let CustomerRef::New { key, identity } = &entry.customer else {
            unreachable!("known customers are not registered again")
        };
        let customer = Customer {
            product: entry.product,
            key: key.clone(),
            identity: identity.clone(),
            since: None,
            first_hour: hour,
        };
        self.put_customer(customer, batch).map_err(|error| match error {
            PutError::TooMany { most } => Refusal::LimitReached { limit: "limits.max_customers", most },
            error @ (PutError::Taken(_) | PutError::Sealing) => {
                Refusal::UnknownCustomer { customer: key.to_string(), why: error.to_string() }
            }
        })
    }

    /// Adds a customer, or changes the one with its key for the hours that are not sealed yet.
    pub fn put_customer(&self, mut customer: Customer, batch: &mut Batch) -> Result<CustomerIndex, PutError> {
        let mut roster = self.roster.write();
        match roster.find(customer.product, &customer.key).and_then(|index| roster.get(index)) {
            Some(known) if known.identity != customer.identity && self.sealing.is_some() => {
                return Err(PutError::Sealing);
            }
            Some(known) => {
                customer.first_hour = known.first_hour;
                customer.since = customer.since.or(known.since);
            }
            None if roster.len() >= self.rules.max_customers => {
                return Err(PutError::TooMany {
                    most: self.rules.max_customers.try_into().unwrap_or(u64::MAX),
                });
            }
            None => {}
        }
        let code: Arc<str> = self
            .rules
            .catalog
            .product(customer.product)
            .map_or_else(|| "".into(), |product| product.code.clone());
        let entry = RosterEntry {
            identity: customer.identity.clone(),
            since: customer.since,
            first_hour: customer.first_hour,
        };
        let key = keys::roster(&code, &customer.key);
        let index = roster.put(customer).map_err(PutError::Taken)?;
        batch.put(Table::Roster, key, encode(&entry));
        Ok(index)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PutError {
    #[error("limits.max_customers ({most}) is reached")]
    TooMany { most: u64 },
    #[error(transparent)]
    Taken(IdentityTaken),
    /// Half of the hour's customers are sealed already: an identity that moves between customers now could fill one
    /// slot twice.
    #[error("an hour is being sealed: change the identity in a moment")]
    Sealing,
}

impl Recorded {
    fn counted(&mut self, entry: &Entry, late: bool) {
        let counts = self.counts.entry(entry.product).or_default();
        counts.accepted += entry.events;
        if late {
            counts.late += entry.events;
        }
    }
}
