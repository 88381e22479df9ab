//! Counts a request: checks ids, limits and customers, then adds its entries to the buckets.

use std::sync::Arc;

use thiserror::Error;

use crate::{
    base::sabotage::{Sabotage, is_sabotaged},
    domain::{
        customer::{
            limits::{CustomersFull, Headcount},
            state::CustomerState,
        },
        product::Aggregate,
        time::{Hour, Timestamp},
        usage::{
            bucket::{Bucket, MAX_TOTAL, Usage},
            event::RejectReason,
        },
    },
    engine::{
        customers::{Customer, CustomerIndex, CustomerTable, TAKEN_BY_ANOTHER},
        watermark::Watermarks,
        write_txn::WriteTxn,
    },
    store::{Rows, StoreError},
};

use super::{
    Counting, MAX_PRODUCERS,
    open_buckets::BucketPosition,
    producers::{MAX_PRODUCERS_OF_CLIENT, Place},
    request::{CountRequest, Counted, CustomerRef, Refused, StreamPosition, UsageEntry},
    series::Series,
    streams::{ProducerStream, StreamRefusal},
};

/// So many dedup keys are looked up at once: few enough that what was fetched for the first is still near for the last.
const PREFETCHED_AT_ONCE: usize = 64;

/// Why a request was not counted at all.
#[derive(Debug, Error)]
pub enum CountError {
    #[error(transparent)]
    Stream(#[from] StreamRefusal),
    #[error("there are {MAX_PRODUCERS} producers already: reuse a producer_id instead of making new ones")]
    TooManyProducers,
    #[error(
        "this client has {MAX_PRODUCERS_OF_CLIENT} producers already: reuse a producer_id instead of making new ones"
    )]
    TooManyOfClient,
    #[error("{limit} is reached ({most}): raise it, or send the message again later")]
    Full { limit: &'static str, most: usize },
    #[error("the request has waited so long that its customers must be looked up again: send it again")]
    Outdated,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Counting {
    /// Counts a request. Its counts, and the dedup keys that keep it from being counted again, go into one batch.
    pub(crate) fn count(
        &mut self,
        request: &CountRequest,
        watermarks: &Watermarks,
        txn: &mut WriteTxn<'_>,
    ) -> Result<Counted, CountError> {
        if self.customers.read().may_mislead(request.vacated) {
            if let Some(position) = &request.position {
                position.stream.end();
            }
            return Err(CountError::Outdated);
        }
        let mut counted = Counted::default();
        let mut admissions = self.admissions(request, watermarks, txn);
        if let Some(position) = &request.position {
            let place = self.place(position, request, &admissions, txn.store);
            let place = place.inspect_err(|_| position.stream.end())?;
            self.producers.take_over(&position.stream);
            if let Place::Repeat { last, how } = place {
                return Ok(Counted { durable_sequence: last, repeat: Some(how), ..counted });
            }
            counted.durable_sequence = position.sequence;
        }
        self.count_entries(request, &mut admissions, watermarks, txn, &mut counted)?;
        self.count_identified(request, &mut admissions, watermarks, txn, &mut counted)?;
        for (entry, admission) in request.entries.iter().zip(&admissions) {
            self.note_counted(entry, admission);
            counted.note(entry, admission);
        }
        if let Some(position) = &request.position {
            self.producers.advance(position, txn.now, txn.batch);
        }
        Ok(counted)
    }

    /// Opens a stream without a message: of its producer's streams only this one counts from now on. Returns the last
    /// sequence that counted; 0 for a new producer.
    pub(crate) fn open_stream(&mut self, stream: &Arc<ProducerStream>) -> u64 {
        self.producers.open(stream)
    }

    /// All of them at once: to lock the customer table for each would take longer than to count.
    fn admissions(
        &self,
        request: &CountRequest,
        watermarks: &Watermarks,
        txn: &WriteTxn<'_>,
    ) -> Vec<Admission> {
        let customers = self.customers.read();
        let admission = |entry| Admission {
            target: Target::of(entry, &customers, watermarks, txn),
            admitted: None,
            duplicates: 0,
        };
        request.entries.iter().map(admission).collect()
    }

    /// What a stream's message is to its producer, unless it cannot count.
    fn place(
        &self,
        position: &StreamPosition,
        request: &CountRequest,
        admissions: &[Admission],
        store: &dyn Rows,
    ) -> Result<Place, CountError> {
        let place = self.producers.place(position, store)?;
        if place == Place::Next {
            self.check_room(request, admissions)?;
        }
        Ok(place)
    }

    /// A message uses up its sequence, so one that meets a full table is refused as a whole: it can come again. Counts
    /// every unknown bucket and customer as new, thus rather too many than too few.
    fn check_room(&self, request: &CountRequest, admissions: &[Admission]) -> Result<(), CountError> {
        let mut new_customers = 0;
        let mut new_buckets = 0;
        for (entry, Admission { target, .. }) in request.entries.iter().zip(admissions) {
            let is_open =
                target.series(entry).is_some_and(|series| self.buckets.get(target.hour, series).is_some());
            new_customers += usize::from(target.customer.is_none());
            new_buckets += usize::from(!is_open);
        }
        // A message that no empty table could take is counted as far as it goes, or its stream would never get on.
        let most_buckets = self.rules.max_open_buckets;
        if self.buckets.len() + new_buckets > most_buckets && new_buckets <= most_buckets {
            return Err(CountError::Full { limit: "limits.max_open_buckets", most: most_buckets });
        }
        self.check_room_for_customers(new_customers)
    }

    /// A limit of the client's own is no reason to refuse a message: it would hold up the client's good usage with the
    /// bad, until a person has seen to it. There the events of those that are too many are rejected.
    fn check_room_for_customers(&self, new: usize) -> Result<(), CountError> {
        let Some(more) = new.checked_sub(1) else { return Ok(()) };
        let (limits, known) = (&self.rules.customers, self.customers.read().headcount(None));
        let headcount = |known: Headcount| Headcount {
            all: known.all.saturating_add(more),
            self_named: known.self_named.saturating_add(more),
            ..known
        };
        let fits_at_all = limits.check_self_named(&headcount(Headcount::default())).is_ok();
        let check = limits.check_self_named(&headcount(known));
        check.or_else(
            |CustomersFull { limit, most, .. }| {
                if fits_at_all { Err(CountError::Full { limit, most }) } else { Ok(()) }
            },
        )
    }

    /// Counts the events without ids.
    fn count_entries(
        &mut self,
        request: &CountRequest,
        admissions: &mut [Admission],
        watermarks: &Watermarks,
        txn: &mut WriteTxn<'_>,
        counted: &mut Counted,
    ) -> Result<(), StoreError> {
        for ((entry, admission), index) in request.entries.iter().zip(admissions).zip(0..) {
            if entry.events > 0
                && let Err(why) = self.count_some(
                    (entry, request.client.as_ref()),
                    admission,
                    (entry.usage, entry.events),
                    watermarks,
                    txn,
                )?
            {
                counted.refused_entries.push(Refused { index, product: entry.product, why });
            }
        }
        Ok(())
    }

    /// Counts the events with ids that were not counted before.
    fn count_identified(
        &mut self,
        request: &CountRequest,
        admissions: &mut [Admission],
        watermarks: &Watermarks,
        txn: &mut WriteTxn<'_>,
        counted: &mut Counted,
    ) -> Result<(), StoreError> {
        for events in request.identified.chunks(PREFETCHED_AT_ONCE) {
            self.dedup.prefetch(events.iter().map(|event| event.hash));
            for event in events {
                let entry = &request.entries[event.entry as usize];
                let admission = &mut admissions[event.entry as usize];
                if self.dedup.contains(txn.store, event.hash)? {
                    admission.duplicates += 1;
                    continue;
                }
                let known_since = self.dedup.known_since();
                if self.rules.ids_outlive_events && event.may_be_forgotten(known_since) {
                    let why = RejectReason::OlderThanIds { known_since };
                    counted.refused.push(Refused { index: event.index, product: entry.product, why });
                    continue;
                }
                let of_client = (entry, request.client.as_ref());
                match self.count_some(of_client, admission, (event.usage, 1), watermarks, txn)? {
                    Ok(()) if is_sabotaged(Sabotage::ForgetDedupKey) => {}
                    // A clock that was set back since the event was looked at makes its id no older.
                    Ok(()) => self.dedup.insert(event.hash, txn.now.max(event.not_before)),
                    Err(why) => {
                        counted.refused.push(Refused { index: event.index, product: entry.product, why });
                    }
                }
            }
        }
        Ok(())
    }

    /// Counts some of an entry's events. What is refused changes nothing.
    fn count_some(
        &mut self,
        (entry, client): (&UsageEntry, Option<&Arc<str>>),
        admission: &mut Admission,
        (usage, events): (Usage, u64),
        watermarks: &Watermarks,
        txn: &mut WriteTxn<'_>,
    ) -> Result<Result<(), RejectReason>, StoreError> {
        let admitted = match &mut admission.admitted {
            Some(admitted) => admitted,
            None => match self.admit((entry, client), admission.target, &usage, watermarks, txn) {
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
        (entry, client): (&UsageEntry, Option<&Arc<str>>),
        mut target: Target,
        usage: &Usage,
        watermarks: &Watermarks,
        txn: &mut WriteTxn<'_>,
    ) -> Result<Admitted, NotCounted> {
        if target.customer.is_none() {
            // Another entry may just have brought the customer in.
            target = Target::of(entry, &self.customers.read(), watermarks, txn);
        }
        if let Some(since) = target.since_after {
            return Err(RejectReason::BeforeSince { time: entry.earliest, since }.into());
        }
        let open = target.series(entry).and_then(|series| self.buckets.get(target.hour, series));
        self.check_bucket(open, usage)?;
        let new_subject = self.new_subject(entry, target.hour, txn)?;
        let customer = match target.customer {
            Some(customer) => customer,
            None => self.add_customer((entry, client), target.hour, txn)?,
        };
        if let Some(subject) = new_subject {
            self.subjects.insert(target.hour, subject, txn.batch);
            self.buckets.add_subject();
        }
        let dimension = self.rules.catalog.dimension(entry.product, entry.dimension);
        let aggregate = dimension.map_or(Aggregate::Sum, |dimension| dimension.aggregate);
        let series = Series { customer, dimension: entry.dimension };
        let bucket = self.buckets.open(entry.product, target.hour, series, aggregate);
        Ok(Admitted { bucket, is_new_subject: new_subject.is_some(), events: 0, untagged: 0, growth: 0 })
    }

    fn check_bucket(&self, bucket: Option<&Bucket>, usage: &Usage) -> Result<(), RejectReason> {
        let has_room = match bucket {
            Some(bucket) => bucket.has_room(usage),
            None => usage.amount() <= MAX_TOTAL,
        };
        if !has_room {
            return Err(RejectReason::QuantityOverflow);
        }
        if bucket.is_none() && self.buckets.len() >= self.rules.max_open_buckets {
            let most = self.rules.max_open_buckets.try_into().unwrap_or(u64::MAX);
            return Err(RejectReason::LimitReached { limit: "limits.max_open_buckets", most });
        }
        Ok(())
    }

    /// An entry's subject, if its hour has not counted it yet.
    fn new_subject(
        &self,
        entry: &UsageEntry,
        hour: Hour,
        txn: &WriteTxn<'_>,
    ) -> Result<Option<u128>, NotCounted> {
        let Some(subject) = entry.subject() else { return Ok(None) };
        if self.subjects.contains(txn.store, hour, subject)? {
            return Ok(None);
        }
        if self.buckets.subjects() >= self.rules.max_open_subjects {
            let most = self.rules.max_open_subjects;
            return Err(RejectReason::LimitReached { limit: "limits.max_open_subjects", most }.into());
        }
        Ok(Some(subject))
    }

    /// Adds usage to the bucket that takes it.
    fn add(
        &mut self,
        entry: &UsageEntry,
        admitted: &mut Admitted,
        usage: Usage,
        events: u64,
    ) -> Result<(), RejectReason> {
        // A subject counts once, with the first of its events.
        let is_counted_already = entry.subject().is_some() && !std::mem::take(&mut admitted.is_new_subject);
        let usage = if is_counted_already { Usage::Unique(0) } else { usage };
        let max_tag_sets = self.rules.max_open_tag_sets;
        let added = self.buckets.add(admitted.bucket, usage, events, entry.tags(), max_tag_sets)?;
        admitted.untagged += if added.is_untagged { events } else { 0 };
        admitted.growth += added.growth;
        admitted.events += events;
        Ok(())
    }

    /// An entry's events are in their bucket.
    fn note_counted(&mut self, entry: &UsageEntry, admission: &Admission) {
        let Some(admitted) = &admission.admitted else { return };
        if let Some(tags) = entry.tags().filter(|_| admitted.untagged < admitted.events) {
            self.buckets.mark_tags_dirty(admitted.bucket, tags);
        }
        self.buckets.grow(entry.product, entry.dimension, admitted.growth);
    }

    /// Makes a customer known because it was used.
    fn add_customer(
        &mut self,
        (entry, client): (&UsageEntry, Option<&Arc<str>>),
        hour: Hour,
        txn: &mut WriteTxn<'_>,
    ) -> Result<CustomerIndex, RejectReason> {
        let now = Hour::containing(txn.now);
        let mut customers = self.customers.write();
        let headcount = Headcount {
            new_of_client: client.map(|client| self.newcomers.of(client, now)),
            ..customers.headcount(client.map(|client| &**client))
        };
        self.rules.customers.check_self_named(&headcount)?;
        let (key, identity) = entry.customer.named(&customers);
        let state = CustomerState::self_named(identity, hour, client.cloned());
        let customer = Customer { product: entry.product, key: key.clone(), state };
        let index = customers.put(customer).map_err(|_| RejectReason::UnknownCustomer {
            customer: key.to_string(),
            why: TAKEN_BY_ANOTHER.to_owned(),
        })?;
        customers.write_row(index, &self.rules.catalog, txn.batch);
        if let Some(client) = client {
            self.newcomers.note(client, now);
        }
        Ok(index)
    }
}

impl From<CustomersFull> for RejectReason {
    fn from(CustomersFull { limit, most, .. }: CustomersFull) -> Self {
        Self::LimitReached { limit, most: most.try_into().unwrap_or(u64::MAX) }
    }
}

/// The customer and the hour that an entry's events are for.
#[derive(Clone, Copy, Debug)]
struct Target {
    /// `None` for one that is not known yet, or was forgotten since the request was read.
    customer: Option<CustomerIndex>,
    hour: Hour,
    /// When the customer's time begins, if one of the events is from before.
    since_after: Option<Timestamp>,
    /// The customer's last hour is sealed.
    is_closed: bool,
}

impl Target {
    fn of(
        entry: &UsageEntry,
        customers: &CustomerTable,
        watermarks: &Watermarks,
        txn: &WriteTxn<'_>,
    ) -> Self {
        let customer = match &entry.customer {
            CustomerRef::Known(index) => customers.current(*index),
            CustomerRef::New(new) => customers.find(entry.product, &new.key),
        };
        let is_closed = customer.is_some_and(|index| customers.is_closed(index));
        let hour = watermarks.open_hour(customers, entry.product, customer, (entry.hour, txn.now));
        let since_after = customer.and_then(|index| customers.since_after(index, entry.earliest, hour));
        Self { customer, hour, since_after, is_closed }
    }

    fn series(self, entry: &UsageEntry) -> Option<Series> {
        self.customer.map(|customer| Series { customer, dimension: entry.dimension })
    }
}

/// What becomes of an entry's events.
#[derive(Debug)]
struct Admission {
    target: Target,
    /// The bucket that takes them, once one of them counts.
    admitted: Option<Admitted>,
    duplicates: u64,
}

#[derive(Debug)]
struct Admitted {
    /// Nothing that counts takes a bucket away.
    bucket: BucketPosition,
    /// No event has counted the entry's subject yet.
    is_new_subject: bool,
    events: u64,
    untagged: u64,
    /// By how much the bucket has grown. A level may fall.
    growth: i128,
}

/// Why an entry does not count.
enum NotCounted {
    Refused(RejectReason),
    Store(StoreError),
}

impl From<RejectReason> for NotCounted {
    fn from(refusal: RejectReason) -> Self {
        Self::Refused(refusal)
    }
}

impl From<StoreError> for NotCounted {
    fn from(fault: StoreError) -> Self {
        Self::Store(fault)
    }
}

impl Counted {
    fn note(&mut self, entry: &UsageEntry, admission: &Admission) {
        let Admission { target, admitted, duplicates } = admission;
        if admitted.is_none() && *duplicates == 0 {
            return;
        }
        let counts = self.counts.entry(entry.product).or_default();
        counts.duplicates += duplicates;
        let Some(admitted) = admitted else { return };
        counts.accepted += admitted.events;
        counts.untagged += admitted.untagged;
        if admitted.bucket.hour != entry.hour {
            counts.late += admitted.events;
        }
        if target.is_closed {
            counts.not_billable += admitted.events;
        }
    }
}
