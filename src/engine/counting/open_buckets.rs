//! The buckets of the hours that take usage.

use std::collections::{BTreeMap, HashSet};

use foldhash::fast::RandomState;

use crate::{
    domain::{
        product::{Aggregate, Catalog, DimensionIndex, ProductIndex},
        time::Hour,
        usage::{
            bucket::{Bucket, Carry, Lowered, Usage},
            event::RejectReason,
            tags::TagSet,
        },
    },
    engine::{
        customers::{CustomerIndex, CustomerTable},
        open_error::OpenError,
    },
    store::{
        Batch, ReadTable, Rows,
        tables::{buckets::Buckets, tagged::TaggedRows},
    },
};

use super::series::{Series, SeriesFinder, SeriesMap, SeriesNames};

#[derive(Debug, Default)]
pub(super) struct OpenBuckets {
    by_hour: BTreeMap<Hour, SeriesMap<Bucket>>,
    buckets: usize,
    /// The number of buckets of each product and hour that has any.
    by_product: BTreeMap<ProductIndex, BTreeMap<Hour, usize>>,
    /// Distinct subjects that the buckets have counted.
    subjects: u64,
    /// Tagged parts of the buckets.
    tag_sets: usize,
    units: BTreeMap<(ProductIndex, DimensionIndex), u128>,
    /// Buckets, and tagged parts of them, whose change is not in a batch yet.
    dirty: HashSet<(Hour, Series), RandomState>,
    dirty_tags: HashSet<(Hour, Series, TagSet)>,
}

/// The position of an open bucket, which holds until one is taken out.
#[derive(Clone, Copy, Debug)]
pub(super) struct BucketPosition {
    pub(super) hour: Hour,
    pub(super) series: Series,
    index: usize,
}

/// What adding usage has changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Added {
    /// By how much the bucket has grown. A level may fall.
    pub(super) growth: i128,
    /// The tags found no room: the amount is billed untagged.
    pub(super) is_untagged: bool,
}

impl OpenBuckets {
    pub(super) fn load(
        store: &dyn Rows,
        catalog: &Catalog,
        customers: &CustomerTable,
    ) -> Result<Self, OpenError> {
        let mut open = Self::default();
        let mut finder = SeriesFinder::new(catalog, customers);
        let mut fault = None;
        store.each(Buckets, |key, bucket| {
            if let Some((product, series)) = finder.find(key.product, key.customer, key.dimension) {
                open.grow(product, series.dimension, signed(bucket.total()));
                open.buckets += 1;
                open.note_new(product, key.hour);
                open.subjects += bucket.usage.subjects();
                open.by_hour.entry(key.hour).or_default().get_or_insert_with(series, || bucket);
            } else {
                fault.get_or_insert_with(|| OpenError::NotConfigured {
                    what: format!("usage of dimension `{}`", key.dimension),
                    product: key.product.to_owned(),
                });
            }
            Ok(())
        })?;
        TaggedRows::each(store, |key, tags, amount| {
            let series = finder.find(key.product, key.customer, key.dimension).map(|(_, series)| series);
            let bucket = series.and_then(|series| open.by_hour.get_mut(&key.hour)?.get_mut(series));
            if bucket.is_some_and(|bucket| bucket.tagged.add(&tags, amount)) {
                open.tag_sets += 1;
            }
            Ok(())
        })?;
        fault.map_or(Ok(open), Err)
    }

    pub(super) fn len(&self) -> usize {
        self.buckets
    }

    pub(super) fn subjects(&self) -> u64 {
        self.subjects
    }

    /// What is open of each dimension, in base units.
    pub(super) fn units(&self) -> &BTreeMap<(ProductIndex, DimensionIndex), u128> {
        &self.units
    }

    /// The oldest hour of each product that has any.
    pub(super) fn oldest(&self) -> BTreeMap<ProductIndex, Hour> {
        let oldest = |(product, hours): (&ProductIndex, &BTreeMap<Hour, usize>)| {
            hours.first_key_value().map(|(hour, _)| (*product, *hour))
        };
        self.by_product.iter().filter_map(oldest).collect()
    }

    pub(super) fn is_empty(&self, hour: Hour) -> bool {
        self.by_hour.get(&hour).is_none_or(SeriesMap::is_empty)
    }

    pub(super) fn is_empty_of(&self, product: ProductIndex, hour: Hour) -> bool {
        self.by_product.get(&product).is_none_or(|hours| !hours.contains_key(&hour))
    }

    fn note_new(&mut self, product: ProductIndex, hour: Hour) {
        *self.by_product.entry(product).or_default().entry(hour).or_default() += 1;
    }

    fn note_gone(&mut self, product: ProductIndex, hour: Hour) {
        let Some(hours) = self.by_product.get_mut(&product) else { return };
        if let Some(buckets) = hours.get_mut(&hour) {
            *buckets -= 1;
            if *buckets == 0 {
                hours.remove(&hour);
            }
        }
    }

    /// Whether a customer has had a bucket in the hour.
    pub(super) fn has_had(&self, customer: CustomerIndex, hour: Hour) -> bool {
        self.by_hour.get(&hour).is_some_and(|buckets| buckets.has_had(customer))
    }

    /// Whether a customer has had a bucket in any hour that is open.
    pub(super) fn has_any(&self, customer: CustomerIndex) -> bool {
        self.by_hour.values().any(|buckets| buckets.has_had(customer))
    }

    pub(super) fn get(&self, hour: Hour, series: Series) -> Option<&Bucket> {
        self.by_hour.get(&hour)?.get(series)
    }

    /// Finds or makes a bucket, which is going to change.
    pub(super) fn open(
        &mut self,
        product: ProductIndex,
        hour: Hour,
        series: Series,
        aggregate: Aggregate,
    ) -> BucketPosition {
        self.dirty.insert((hour, series));
        let mut is_new = false;
        let index = self.by_hour.entry(hour).or_default().index_or_insert_with(series, || {
            is_new = true;
            Bucket::new(aggregate)
        });
        if is_new {
            self.buckets += 1;
            self.note_new(product, hour);
        }
        BucketPosition { hour, series, index }
    }

    /// Adds usage to a bucket; no more than `max_tag_sets` tagged parts are kept. What does not fit changes nothing.
    pub(super) fn add(
        &mut self,
        position: BucketPosition,
        usage: Usage,
        events: u64,
        tags: Option<&TagSet>,
        max_tag_sets: usize,
    ) -> Result<Added, RejectReason> {
        let has_tag_room = self.tag_sets < max_tag_sets;
        let bucket = bucket_at(&mut self.by_hour, position);
        if !bucket.has_room(&usage) {
            return Err(RejectReason::QuantityOverflow);
        }
        let (before, sets) = (bucket.total(), bucket.tagged.len());
        bucket.usage.absorb(usage);
        bucket.events = bucket.events.saturating_add(events);
        let is_untagged = tags.is_some_and(|tags| {
            let has_room = has_tag_room || bucket.tagged.get(tags).is_some();
            !(has_room && bucket.tagged.add(tags, usage.amount()))
        });
        self.tag_sets += bucket.tagged.len() - sets;
        Ok(Added { growth: signed(bucket.total()) - signed(before), is_untagged })
    }

    /// A tagged part of the bucket has changed.
    pub(super) fn mark_tags_dirty(&mut self, position: BucketPosition, tags: &TagSet) {
        self.dirty_tags.insert((position.hour, position.series, tags.clone()));
    }

    /// A bucket counts one more subject.
    pub(super) fn add_subject(&mut self) {
        self.subjects += 1;
    }

    /// What is open of a dimension has changed.
    pub(super) fn grow(&mut self, product: ProductIndex, dimension: DimensionIndex, growth: i128) {
        let open = self.units.entry((product, dimension)).or_default();
        *open = open.saturating_add_signed(growth);
    }

    /// Takes a bucket out of its hour.
    pub(super) fn take(
        &mut self,
        hour: Hour,
        series: Series,
        names: &SeriesNames<'_>,
        batch: &mut Batch,
    ) -> Option<Bucket> {
        let bucket = self.by_hour.get_mut(&hour)?.remove(series)?;
        self.buckets -= 1;
        self.subjects = self.subjects.saturating_sub(bucket.usage.subjects());
        self.tag_sets -= bucket.tagged.len();
        if let Some((product, _)) = names.dimension(series) {
            self.note_gone(product, hour);
            self.grow(product, series.dimension, signed(bucket.total()).saturating_neg());
        }
        if let Some(key) = names.bucket_key(hour, series) {
            batch.delete(Buckets, key);
            if !bucket.tagged.is_empty() {
                TaggedRows::delete_of(batch, key);
            }
        }
        Some(bucket)
    }

    /// Moves what an earlier hour left into an open bucket.
    pub(super) fn carry(&mut self, hour: Hour, series: Series, carry: &Carry, names: &SeriesNames<'_>) {
        let Some((product, dimension)) = names.dimension(series).filter(|_| !carry.is_empty()) else {
            return;
        };
        let position = self.open(product, hour, series, dimension.aggregate);
        let bucket = bucket_at(&mut self.by_hour, position);
        let (before, sets) = (bucket.total(), bucket.tagged.len());
        bucket.take_in(carry);
        let growth = signed(bucket.total()) - signed(before);
        self.tag_sets += bucket.tagged.len() - sets;
        self.dirty_tags.extend(carry.tagged.iter().map(|(tags, _)| (hour, series, tags.clone())));
        self.grow(product, series.dimension, growth);
    }

    /// The buckets of a customer and dimension, oldest first.
    pub(super) fn of(&self, series: Series) -> Vec<(Hour, &Bucket)> {
        self.by_hour.iter().filter_map(|(hour, buckets)| Some((*hour, buckets.get(series)?))).collect()
    }

    /// Lowers a bucket by a part of it.
    pub(super) fn lower(&mut self, hour: Hour, series: Series, lowered: &Lowered, names: &SeriesNames<'_>) {
        let Some(bucket) = self.by_hour.get_mut(&hour).and_then(|buckets| buckets.get_mut(series)) else {
            return;
        };
        let (before, sets) = (bucket.total(), bucket.tagged.len());
        bucket.lower(lowered);
        let growth = signed(bucket.total()) - signed(before);
        self.tag_sets -= sets - bucket.tagged.len();
        self.dirty.insert((hour, series));
        self.dirty_tags.extend(lowered.tagged.iter().map(|(tags, _)| (hour, series, tags.clone())));
        if let Some((product, _)) = names.dimension(series) {
            self.grow(product, series.dimension, growth);
        }
    }

    /// Ends an hour, every bucket of which has been taken.
    ///
    /// # Panics
    ///
    /// Should a bucket be left: better to stop than to forget it.
    pub(super) fn end(&mut self, hour: Hour) {
        let left = self.by_hour.remove(&hour);
        assert!(left.is_none_or(|buckets| buckets.is_empty()), "a bucket was left out of its seal");
    }

    /// Puts what has changed into the batch. To be called once, when the batch is otherwise complete.
    pub(super) fn flush(&mut self, names: &SeriesNames<'_>, batch: &mut Batch) {
        for (hour, series) in std::mem::take(&mut self.dirty) {
            if let (Some(bucket), Some(key)) = (self.get(hour, series), names.bucket_key(hour, series)) {
                batch.put(Buckets, key, bucket);
            }
        }
        for (hour, series, tags) in std::mem::take(&mut self.dirty_tags) {
            let (Some(bucket), Some(key)) = (self.get(hour, series), names.bucket_key(hour, series)) else {
                continue;
            };
            match bucket.tagged.get(&tags) {
                Some(amount) => TaggedRows::put(batch, key, &tags, amount),
                // It found no room, or all of it was taken away.
                None => TaggedRows::delete(batch, key, &tags),
            }
        }
    }
}

fn bucket_at(by_hour: &mut BTreeMap<Hour, SeriesMap<Bucket>>, position: BucketPosition) -> &mut Bucket {
    let bucket = by_hour.get_mut(&position.hour).and_then(|buckets| buckets.at_mut(position.index));
    bucket.unwrap_or_else(|| unreachable!("a position is that of a bucket that is there"))
}

fn signed(amount: u128) -> i128 {
    i128::try_from(amount).unwrap_or(i128::MAX)
}
