//! Open buckets, customers and producers (I1, I8, I9).

use std::collections::HashMap;

use super::{Audit, AuditError, cursor::Cursor};
use crate::{
    domain::{
        bucket::Bucket,
        invariants::{Fault, Invariant, OpenBucket, Place, within},
    },
    work::books::MAX_PRODUCERS,
    worlds::store::{
        Table,
        keys::{self, BucketKey},
        values::{Number, decode},
    },
};

/// The sums of the tagged parts of buckets, by the buckets' keys.
type TaggedSums = HashMap<Vec<u8>, u128>;

impl Audit<'_> {
    pub(super) fn open_buckets(&mut self) -> Result<(), AuditError> {
        let mut tagged = self.tagged_sums()?;
        let mut rows = Cursor::new(self.rows, Table::Buckets);
        let (mut subjects, mut used) = (0_u64, 0_u64);
        while let Some((key, value)) = rows.next()? {
            self.count_row()?;
            self.report.open_buckets += 1;
            let Some(BucketKey { hour, product, customer, dimension }) = BucketKey::decode(&key) else {
                self.note([strange_key("bucket")]);
                continue;
            };
            let place = Place { hour: Some(hour), ..Place::series(product, customer, dimension) };
            let bucket = match decode::<Bucket>(&value) {
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
            self.balances.found(&keys::series(product, customer, dimension), bucket.carried.total());
            subjects = subjects.saturating_add(bucket.usage.subjects());
            used += u64::from(bucket.carried.is_empty());
        }
        self.note(tagged.into_keys().filter_map(|key| Some(without_bucket(BucketKey::decode(&key)?))));
        // What earlier hours leave is carried whatever the limit, since to refuse it would be to lose it.
        self.note(limit("limits.max_open_buckets", self.known.limits.open_buckets, used));
        self.note(limit("limits.max_open_subjects", self.known.limits.open_subjects, subjects));
        Ok(())
    }

    fn tagged_sums(&mut self) -> Result<TaggedSums, AuditError> {
        let mut sums = TaggedSums::new();
        let mut rows = Cursor::new(self.rows, Table::Tagged);
        while let Some((key, value)) = rows.next()? {
            self.count_row()?;
            let Some((bucket, _)) = keys::decode_tagged(&key) else {
                self.note([strange_key("tagged part of a bucket")]);
                continue;
            };
            match decode::<Number>(&value) {
                Ok(Number(amount)) => {
                    let sum = sums.entry(bucket.encode()).or_default();
                    *sum = sum.saturating_add(amount);
                }
                Err(fault) => {
                    let place = Place::series(bucket.product, bucket.customer, bucket.dimension);
                    self.note_unreadable(place, &fault);
                }
            }
        }
        Ok(sums)
    }

    pub(super) fn customers_and_producers(&mut self) -> Result<(), AuditError> {
        let customers = self.count(Table::Roster)?;
        self.note(limit("limits.max_customers", self.known.limits.customers, customers));
        let producers = self.count(Table::Producers)?;
        self.note(within("the most producers", MAX_PRODUCERS as u64, producers));
        Ok(())
    }

    fn count(&mut self, table: Table) -> Result<u64, AuditError> {
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

fn strange_key(what: &str) -> Fault {
    Fault {
        invariant: Invariant::Frozen,
        place: Place::default(),
        amount: 0,
        what: format!("the key of a {what} makes no sense"),
    }
}

fn without_bucket(key: BucketKey<'_>) -> Fault {
    Fault {
        invariant: Invariant::Conservation,
        place: Place { hour: Some(key.hour), ..Place::series(key.product, key.customer, key.dimension) },
        amount: 0,
        what: "tags are left of a bucket that is gone".to_owned(),
    }
}
