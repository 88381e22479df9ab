//! Counting usage, once.

use thiserror::Error;

use crate::{
    base::sabotage::{Sabotage, is_sabotaged},
    domain::{
        bucket::{Bucket, MAX_TOTAL, Usage},
        product::Aggregate,
        seal::open_hour,
        time::{Hour, Timestamp},
        usage::Refusal,
    },
    work::{
        delta::{CustomerRef, Delta, Entry, Mark, Recorded},
        roster::CustomerIndex,
    },
    worlds::store::{
        Batch, Store, StoreError, Table,
        values::{Producer, encode},
    },
};

use super::{Books, PutError, Registration, Series};

/// Producers are never forgotten, or a late resend would count again; the bound keeps a runaway client from filling
/// memory with new ones.
pub const MAX_PRODUCERS: usize = 100_000;

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
            match self.count(entry, store, now, batch) {
                Ok(counted) => recorded.counted(entry, &counted),
                Err(NotCounted::Refused(refusal)) => recorded.refused_folds.push((place, refusal)),
                Err(NotCounted::Store(fault)) => return Err(fault.into()),
            }
        }
        for event in &delta.identified {
            if self.dedup.is_marked(store, event.hash)? {
                recorded.counts.entry(event.entry.product).or_default().duplicates += 1;
                continue;
            }
            match self.count(&event.entry, store, now, batch) {
                Ok(counted) => {
                    if !is_sabotaged(Sabotage::ForgetMarker) {
                        self.dedup.mark(event.hash, now);
                    }
                    recorded.counted(&event.entry, &counted);
                }
                Err(NotCounted::Refused(refusal)) => recorded.refused.push((event.index, refusal)),
                Err(NotCounted::Store(fault)) => return Err(fault.into()),
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
            let known = self.known(entry);
            let hour = self.hour_for(known, entry.hour, now);
            let series = known.map(|customer| Series { customer, dimension: entry.dimension });
            let is_open = series.is_some_and(|series| self.bucket(hour, series).is_some());
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

    /// Adds an entry to its bucket. A refused entry changes nothing.
    fn count(
        &mut self,
        entry: &Entry,
        store: &dyn Store,
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<Counted, NotCounted> {
        let known = self.known(entry);
        let hour = self.hour_for(known, entry.hour, now);
        let series = known.map(|customer| Series { customer, dimension: entry.dimension });
        self.check_bucket(series.and_then(|series| self.bucket(hour, series)), entry)?;
        let is_new_subject = match entry.subject {
            Some(subject) => !self.subjects.is_marked(store, hour, subject)?,
            None => false,
        };
        if is_new_subject && self.open_subjects >= self.rules.max_open_subjects {
            let most = self.rules.max_open_subjects;
            return Err(Refusal::LimitReached { limit: "limits.max_open_subjects", most }.into());
        }
        let customer = match known {
            Some(customer) => customer,
            None => self.register(entry, hour, batch)?,
        };
        if let Some(subject) = entry.subject.filter(|_| is_new_subject) {
            self.subjects.mark(hour, subject, batch);
            self.open_subjects += 1;
        }
        let usage = if entry.subject.is_some() && !is_new_subject { Usage::Unique(0) } else { entry.usage };
        let keeps_tags = self.add(hour, Series { customer, dimension: entry.dimension }, entry, usage);
        Ok(Counted { is_late: hour != entry.hour, keeps_tags })
    }

    /// The hour that takes a customer's usage: an earlier one may be sealed, for everyone or for the customer alone.
    pub(super) fn hour_for(&self, customer: Option<CustomerIndex>, hour: Hour, now: Timestamp) -> Hour {
        let roster = self.roster.read();
        let standing = customer.and_then(|index| roster.get(index)).map(|customer| &customer.standing);
        let watermark = standing.map_or(self.watermark, |standing| standing.watermark(self.watermark));
        open_hour(hour, watermark, now)
    }

    fn check_bucket(&self, bucket: Option<&Bucket>, entry: &Entry) -> Result<(), Refusal> {
        let has_room = match bucket {
            Some(bucket) => bucket.has_room(&entry.usage),
            None => entry.usage.amount() <= MAX_TOTAL,
        };
        if !has_room {
            return Err(Refusal::QuantityOverflow);
        }
        if bucket.is_none() && self.open_buckets >= self.rules.max_open_buckets {
            let most = self.rules.max_open_buckets.try_into().unwrap_or(u64::MAX);
            return Err(Refusal::LimitReached { limit: "limits.max_open_buckets", most });
        }
        Ok(())
    }

    /// Adds usage to an open bucket; says whether there was room for its tags.
    fn add(&mut self, hour: Hour, series: Series, entry: &Entry, usage: Usage) -> bool {
        let dimension = self.rules.catalog.dimension(entry.product, series.dimension);
        let aggregate = dimension.map_or(Aggregate::Sum, |dimension| dimension.aggregate);
        let may_add_tags = self.open_tag_sets < self.rules.max_open_tag_sets;
        let bucket = self.open_bucket(hour, series, aggregate);
        let (before, sets_before) = (bucket.total(), bucket.tagged.len());
        bucket.usage.absorb(usage);
        bucket.events = bucket.events.saturating_add(entry.events);
        let keeps_tags = entry.tags.as_ref().is_none_or(|tags| {
            (may_add_tags || bucket.tagged.get(tags).is_some()) && bucket.tagged.add(tags, usage.amount())
        });
        let (after, sets) = (bucket.total(), bucket.tagged.len());
        self.open_tag_sets += sets - sets_before;
        if let Some(tags) = entry.tags.as_ref().filter(|_| keeps_tags) {
            self.touched_tags.insert((hour, series, tags.clone()));
        }
        self.note_open(entry.product, series.dimension, before, after);
        keeps_tags
    }

    fn known(&self, entry: &Entry) -> Option<CustomerIndex> {
        match &entry.customer {
            CustomerRef::Known(index) => Some(*index),
            CustomerRef::New { key, .. } => self.roster.read().find(entry.product, key),
        }
    }

    /// Takes a customer into the roster because it was used.
    fn register(&mut self, entry: &Entry, hour: Hour, batch: &mut Batch) -> Result<CustomerIndex, Refusal> {
        let CustomerRef::New { key, identity } = &entry.customer else {
            unreachable!("known customers are not registered again")
        };
        let registration = Registration {
            product: entry.product,
            key: key.clone(),
            identity: identity.clone(),
            since: None,
            hour,
            reopens: false,
        };
        self.put_customer(registration, batch).map_err(|error| match error {
            PutError::TooMany { most } => Refusal::LimitReached { limit: "limits.max_customers", most },
            error @ (PutError::Taken(_) | PutError::Sealing | PutError::SealedEarly) => {
                Refusal::UnknownCustomer { customer: key.to_string(), why: error.to_string() }
            }
        })
    }
}

/// What became of an entry that counts.
struct Counted {
    is_late: bool,
    keeps_tags: bool,
}

/// Why an entry does not count.
enum NotCounted {
    Refused(Refusal),
    Store(StoreError),
}

impl From<Refusal> for NotCounted {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for NotCounted {
    fn from(fault: StoreError) -> Self {
        Self::Store(fault)
    }
}

impl Recorded {
    fn counted(&mut self, entry: &Entry, counted: &Counted) {
        let counts = self.counts.entry(entry.product).or_default();
        counts.accepted += entry.events;
        if counted.is_late {
            counts.late += entry.events;
        }
        if !counted.keeps_tags {
            counts.untagged += entry.events;
        }
    }
}
