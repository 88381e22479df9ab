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
        delta::{CustomerRef, Delta, Entry, Mark, Recorded, Refused},
        roster::{CustomerIndex, Inner as Roster},
    },
    worlds::store::{Batch, Store, StoreError},
};

use super::{
    Books, MAX_PRODUCERS, PutError, Registration, Series,
    producers::{Foreign, MAX_PRODUCERS_OF_CLIENT},
};

/// So many markers are looked for at once: few enough that what was fetched for the first is still near for the last.
const EXPECTED_AT_ONCE: usize = 64;

/// Why a delta was not counted at all.
#[derive(Debug, Error)]
pub enum RecordError {
    #[error("the sequence has a gap: expected {expected}")]
    Gap { expected: u64 },
    #[error("there are {MAX_PRODUCERS} producers already: reuse a producer_id instead of making new ones")]
    TooManyProducers,
    #[error(
        "this client has {MAX_PRODUCERS_OF_CLIENT} producers already: reuse a producer_id instead of making new ones"
    )]
    TooManyOfClient,
    #[error(transparent)]
    Foreign(#[from] Foreign),
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
        let mut admissions = self.admissions(delta, now);
        if let Some(mark) = &delta.mark {
            let last = self.last_sequence(&mark.producer, mark.client.as_deref())?;
            recorded.durable_sequence = last.max(mark.sequence);
            if mark.sequence <= last {
                return Ok(Recorded { is_repeat: true, ..recorded });
            }
            self.check_mark(mark, last)?;
            self.check_room(delta, &admissions)?;
        }
        self.count_all(delta, &mut admissions, store, now, batch, &mut recorded)?;
        if let Some(mark) = &delta.mark {
            self.producers.advance(mark, now, batch);
        }
        Ok(recorded)
    }

    /// All of them at once: to lock the roster for each would take longer than to count.
    fn admissions(&self, delta: &Delta, now: Timestamp) -> Vec<Admission> {
        let roster = self.roster.read();
        let admission =
            |entry| Admission { place: self.place(entry, &roster, now), admitted: None, duplicates: 0 };
        delta.entries.iter().map(admission).collect()
    }

    fn place(&self, entry: &Entry, roster: &Roster, now: Timestamp) -> Place {
        let customer = match &entry.customer {
            CustomerRef::Known(index) => Some(*index),
            CustomerRef::New(new) => roster.find(entry.product, &new.key),
        };
        Place { customer, hour: self.hour_for(roster, customer, entry.hour, now) }
    }

    /// The last sequence of a producer that was counted; 0 for a new one. No client learns that of another, or may go
    /// on with its numbers: the rightful one's messages would be taken for repeats, and acknowledged without counting.
    pub fn last_sequence(&self, producer: &str, client: Option<&str>) -> Result<u64, RecordError> {
        Ok(self.producers.last_sequence(producer, client)?)
    }

    /// A message uses up its sequence, so one that meets a full table is refused as a whole: it can come again. Counts
    /// every unknown bucket and customer as new, thus rather too many than too few.
    fn check_room(&self, delta: &Delta, admissions: &[Admission]) -> Result<(), RecordError> {
        let (mut customers, mut buckets) = (0, 0);
        for (entry, Admission { place, .. }) in delta.entries.iter().zip(admissions) {
            let series = place.customer.map(|customer| Series { customer, dimension: entry.dimension });
            let is_open = series.is_some_and(|series| self.bucket(place.hour, series).is_some());
            customers += usize::from(place.customer.is_none());
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
        self.producers.check_room(mark)
    }

    fn count_all(
        &mut self,
        delta: &Delta,
        admissions: &mut [Admission],
        store: &dyn Store,
        now: Timestamp,
        batch: &mut Batch,
        recorded: &mut Recorded,
    ) -> Result<(), StoreError> {
        for ((entry, admission), place) in delta.entries.iter().zip(&mut *admissions).zip(0..) {
            if entry.events > 0
                && let Err(why) =
                    self.count(entry, admission, entry.usage, entry.events, store, now, batch)?
            {
                recorded.refused_entries.push(Refused { place, product: entry.product, why });
            }
        }
        for events in delta.identified.chunks(EXPECTED_AT_ONCE) {
            self.dedup.expect(events.iter().map(|event| event.hash));
            for event in events {
                let (entry, admission) =
                    (&delta.entries[event.entry as usize], &mut admissions[event.entry as usize]);
                if self.dedup.is_marked(store, event.hash)? {
                    admission.duplicates += 1;
                    continue;
                }
                match self.count(entry, admission, event.usage, 1, store, now, batch)? {
                    Ok(()) if is_sabotaged(Sabotage::ForgetMarker) => {}
                    Ok(()) => self.dedup.mark(event.hash, now),
                    Err(why) => {
                        recorded.refused.push(Refused { place: event.index, product: entry.product, why });
                    }
                }
            }
        }
        for (entry, admission) in delta.entries.iter().zip(admissions) {
            self.note_counted(entry, admission);
            recorded.note(entry, admission);
        }
        Ok(())
    }

    /// Counts some of an entry's events. What is refused changes nothing.
    #[expect(clippy::too_many_arguments, reason = "what, how much, and where it goes")]
    fn count(
        &mut self,
        entry: &Entry,
        admission: &mut Admission,
        usage: Usage,
        events: u64,
        store: &dyn Store,
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<Result<(), Refusal>, StoreError> {
        let admitted = match &mut admission.admitted {
            Some(admitted) => admitted,
            None => match self.admit(entry, admission.place, usage, store, now, batch) {
                Ok(admitted) => admission.admitted.insert(admitted),
                Err(NotCounted::Refused(why)) => return Ok(Err(why)),
                Err(NotCounted::Store(fault)) => return Err(fault),
            },
        };
        Ok(self.add(entry, admitted, usage, events))
    }

    /// Finds or makes the bucket that takes an entry's events, once one of them is going to count.
    fn admit(
        &mut self,
        entry: &Entry,
        mut place: Place,
        usage: Usage,
        store: &dyn Store,
        now: Timestamp,
        batch: &mut Batch,
    ) -> Result<Admitted, NotCounted> {
        if place.customer.is_none() {
            // Another entry may just have brought the customer in.
            place = self.place(entry, &self.roster.read(), now);
        }
        let Place { customer: known, hour } = place;
        let series = known.map(|customer| Series { customer, dimension: entry.dimension });
        self.check_bucket(series.and_then(|series| self.bucket(hour, series)), &usage)?;
        let is_new_subject = match entry.subject() {
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
        if let Some(subject) = entry.subject().filter(|_| is_new_subject) {
            self.subjects.mark(hour, subject, batch);
            self.open_subjects += 1;
        }
        let series = Series { customer, dimension: entry.dimension };
        let dimension = self.rules.catalog.dimension(entry.product, entry.dimension);
        let aggregate = dimension.map_or(Aggregate::Sum, |dimension| dimension.aggregate);
        let place = self.open_place(hour, series, aggregate);
        Ok(Admitted { hour, series, place, is_new_subject, events: 0, untagged: 0, grown: 0 })
    }

    /// Adds usage to the bucket that takes it.
    fn add(
        &mut self,
        entry: &Entry,
        admitted: &mut Admitted,
        usage: Usage,
        events: u64,
    ) -> Result<(), Refusal> {
        let may_add_tags = self.open_tag_sets < self.rules.max_open_tag_sets;
        let bucket = self.open.get_mut(&admitted.hour).and_then(|open| open.at_mut(admitted.place));
        let bucket = bucket.unwrap_or_else(|| unreachable!("its bucket was opened when it was admitted"));
        if !bucket.has_room(&usage) {
            return Err(Refusal::QuantityOverflow);
        }
        // A subject counts once, with the first of its events.
        let is_counted_already = entry.subject().is_some() && !std::mem::take(&mut admitted.is_new_subject);
        let usage = if is_counted_already { Usage::Unique(0) } else { usage };
        let (before, sets) = (bucket.total(), bucket.tagged.len());
        bucket.usage.absorb(usage);
        bucket.events = bucket.events.saturating_add(events);
        if let Some(tags) = entry.tags() {
            let keeps_tags = (may_add_tags || bucket.tagged.get(tags).is_some())
                && bucket.tagged.add(tags, usage.amount());
            admitted.untagged += if keeps_tags { 0 } else { events };
        }
        self.open_tag_sets += bucket.tagged.len() - sets;
        admitted.grown += signed(bucket.total()) - signed(before);
        admitted.events += events;
        Ok(())
    }

    /// An entry's events are in their bucket.
    fn note_counted(&mut self, entry: &Entry, admission: &Admission) {
        let Some(admitted) = &admission.admitted else { return };
        let Admitted { hour, series, grown, .. } = *admitted;
        if let Some(tags) = entry.tags().filter(|_| admitted.untagged < admitted.events) {
            self.touched_tags.insert((hour, series, tags.clone()));
        }
        let open = self.tally.open_units.entry((entry.product, entry.dimension)).or_default();
        *open = open.saturating_add_signed(grown);
    }

    /// The hour that takes a customer's usage: an earlier one may be sealed, for everyone or for the customer alone.
    pub(super) fn hour_for(
        &self,
        roster: &Roster,
        customer: Option<CustomerIndex>,
        hour: Hour,
        now: Timestamp,
    ) -> Hour {
        let its_own = customer.and_then(|index| roster.sealed_through(index));
        let watermark = its_own.map_or(self.watermark, |its_own| its_own.max(self.watermark));
        open_hour(hour, watermark, now)
    }

    fn check_bucket(&self, bucket: Option<&Bucket>, usage: &Usage) -> Result<(), Refusal> {
        let has_room = match bucket {
            Some(bucket) => bucket.has_room(usage),
            None => usage.amount() <= MAX_TOTAL,
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

    /// Takes a customer into the roster because it was used.
    fn register(&mut self, entry: &Entry, hour: Hour, batch: &mut Batch) -> Result<CustomerIndex, Refusal> {
        let CustomerRef::New(new) = &entry.customer else {
            unreachable!("known customers are not registered again")
        };
        let registration = Registration {
            product: entry.product,
            key: new.key.clone(),
            identity: new.identity.clone(),
            since: None,
            hour,
            reopens: false,
        };
        self.put_customer(registration, batch).map_err(|error| match error {
            PutError::TooMany { most } => Refusal::LimitReached { limit: "limits.max_customers", most },
            error @ (PutError::Taken(_) | PutError::Sealing | PutError::SealedEarly) => {
                Refusal::UnknownCustomer { customer: new.key.to_string(), why: error.to_string() }
            }
        })
    }
}

/// Whose an entry's events are, and the hour that takes them.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// `None` for one that is not known yet.
    customer: Option<CustomerIndex>,
    hour: Hour,
}

/// What becomes of an entry's events.
#[derive(Debug)]
struct Admission {
    place: Place,
    /// The bucket that takes them, once there is one that counts.
    admitted: Option<Admitted>,
    duplicates: u64,
}

#[derive(Debug)]
struct Admitted {
    hour: Hour,
    series: Series,
    /// Where its bucket is: nothing that counts takes one away.
    place: usize,
    /// No event has counted the entry's subject yet.
    is_new_subject: bool,
    events: u64,
    untagged: u64,
    /// By how much the bucket has grown. A level may fall.
    grown: i128,
}

fn signed(amount: u128) -> i128 {
    i128::try_from(amount).unwrap_or(i128::MAX)
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
    fn note(&mut self, entry: &Entry, admission: &Admission) {
        let Admission { admitted, duplicates, .. } = admission;
        if admitted.is_none() && *duplicates == 0 {
            return;
        }
        let counts = self.counts.entry(entry.product).or_default();
        counts.duplicates += duplicates;
        let Some(admitted) = admitted else { return };
        counts.accepted += admitted.events;
        counts.untagged += admitted.untagged;
        if admitted.hour != entry.hour {
            counts.late += admitted.events;
        }
    }
}
