//! Audits open buckets, customers and producers (I1, I8, I9).

use std::collections::HashMap;

use super::{Audit, AuditError, cursor::Cursor};
use crate::{
    domain::{
        billing::usual::UsualHours,
        invariants::{Fault, Invariant, Location, OpenBucket, within},
    },
    engine::counting::MAX_PRODUCERS,
    store::{
        Table, TableId,
        key::{BucketKey, Key},
        tables::{
            buckets::Buckets, outstanding::OutstandingRows, tagged::TaggedRows, usual_hours::UsualHoursRows,
        },
    },
};

/// The sums of the tagged parts of buckets, by the buckets' keys.
type TaggedSums = HashMap<Vec<u8>, u128>;

impl Audit<'_> {
    pub(super) fn open_buckets(&mut self) -> Result<(), AuditError> {
        let mut tagged = self.tagged_sums()?;
        let mut rows = Cursor::new(self.rows, TableId::Buckets);
        let (mut subjects, mut used) = (0_u64, 0_u64);
        while let Some((key, value)) = rows.next()? {
            self.count_row()?;
            self.report.open_buckets += 1;
            let key_read = match Buckets::decode_key(&key) {
                Ok(key) => key,
                Err(fault) => {
                    self.note_unreadable(Location::default(), &fault);
                    continue;
                }
            };
            let BucketKey { hour, product, customer, dimension } = key_read;
            let place = Location { hour: Some(hour), ..Location::series(product, customer, dimension) };
            let bucket = match Buckets::decode(&value) {
                Ok(bucket) => bucket,
                Err(fault) => {
                    self.note_unreadable(place, &fault);
                    continue;
                }
            };
            let tagged = tagged.remove(&*key).unwrap_or_default();
            let open = OpenBucket { hour, product, customer, dimension, bucket: &bucket, tagged };
            self.note(open.faults());
            self.note(self.watermarks.bucket(&open));
            self.balances.found(&OutstandingRows::encode_key(key_read.series()), bucket.carried.total());
            subjects = subjects.saturating_add(bucket.usage.subjects());
            used += u64::from(bucket.events > 0 && bucket.carried.is_empty());
        }
        self.note(tagged.into_keys().filter_map(|key| Some(without_bucket(BucketKey::read(&key)?))));
        // What earlier hours leave is carried whatever the limit, since to refuse it would be to lose it.
        self.note(limit("limits.max_open_buckets", self.known.limits.open_buckets, used));
        self.note(limit("limits.max_open_subjects", self.known.limits.open_subjects, subjects));
        Ok(())
    }

    fn tagged_sums(&mut self) -> Result<TaggedSums, AuditError> {
        let mut sums = TaggedSums::new();
        let mut rows = Cursor::new(self.rows, TableId::Tagged);
        while let Some((key, value)) = rows.next()? {
            self.count_row()?;
            let bucket = match TaggedRows::decode_key(&key) {
                Ok(key) => key.bucket,
                Err(fault) => {
                    self.note_unreadable(Location::default(), &fault);
                    continue;
                }
            };
            match TaggedRows::decode(&value) {
                Ok(amount) => {
                    let sum = sums.entry(Buckets::encode_key(bucket)).or_default();
                    *sum = sum.saturating_add(amount);
                }
                Err(fault) => {
                    let place = Location::series(bucket.product, bucket.customer, bucket.dimension);
                    self.note_unreadable(place, &fault);
                }
            }
        }
        Ok(sums)
    }

    pub(super) fn customers_and_producers(&mut self) -> Result<(), AuditError> {
        let customers = self.count(TableId::Customers)?;
        self.note(limit("limits.max_customers", self.known.limits.customers, customers));
        let producers = self.count(TableId::Producers)?;
        self.note(within("the most producers", MAX_PRODUCERS as u64, producers));
        Ok(())
    }

    pub(super) fn usual_hours(&mut self) -> Result<(), AuditError> {
        let mut rows = Cursor::new(self.rows, TableId::UsualHours);
        while let Some((key, value)) = rows.next()? {
            self.count_row()?;
            let place = UsualHoursRows::decode_key(&key).map_or_else(
                |_| Location::default(),
                |key| Location::series(key.product, key.customer, key.dimension),
            );
            match UsualHoursRows::decode(&value) {
                Ok(usual) => {
                    let days = u64::try_from(usual.days.len()).unwrap_or(u64::MAX);
                    let fault = within("the most days of usual hours", UsualHours::MOST_DAYS, days);
                    self.note(fault.map(|fault| Fault { place, ..fault }));
                }
                Err(fault) => self.note_unreadable(place, &fault),
            }
        }
        Ok(())
    }

    fn count(&mut self, table: TableId) -> Result<u64, AuditError> {
        let (mut rows, mut count) = (Cursor::new(self.rows, table), 0);
        while rows.next()?.is_some() {
            self.count_row()?;
            count += 1;
        }
        Ok(count)
    }
}

fn limit(name: &str, most: Option<u64>, found: u64) -> Option<Fault> {
    within(name, most?, found)
}

fn without_bucket(key: BucketKey<'_>) -> Fault {
    Fault {
        invariant: Invariant::Conservation,
        place: Location {
            hour: Some(key.hour),
            ..Location::series(key.product, key.customer, key.dimension)
        },
        amount: 0,
        what: "tags are left of a bucket that is gone".to_owned(),
    }
}
