//! What must be true of open buckets, and of whatever has a limit.

use std::collections::HashMap;

use super::{Fault, Invariant, Location, signed};
use crate::domain::{
    billing::record::Record,
    customer::identity::Identity,
    time::Hour,
    usage::bucket::{Bucket, MAX_TOTAL},
};

/// Up to which hour customers are sealed.
#[derive(Debug, Default)]
pub(crate) struct SealedHours {
    /// The watermark: all customers' hours up to it are sealed.
    pub all: Hour,
    /// While the watermark's hour is being sealed, the customer (product, key) up to which it is done.
    #[expect(clippy::option_option, reason = "not begun, begun, or done up to a customer")]
    pub unfinished: Option<Option<(String, String)>>,
    /// The same of products that are sealed on their own, by their code.
    pub products: HashMap<String, SealedUpTo>,
    /// The last sealed hour of each customer that was sealed on its own.
    pub own: HashMap<(String, String), Hour>,
    /// Identities that gave way to another inside an hour, by customer: their part of it is sealed.
    pub parts: HashMap<(String, String), Vec<(Identity, Hour)>>,
}

/// Up to which hour a product's customers are sealed.
#[derive(Clone, Debug, Default)]
pub(crate) struct SealedUpTo {
    pub watermark: Hour,
    #[expect(clippy::option_option, reason = "not begun, begun, or done up to a customer")]
    pub unfinished: Option<Option<(String, String)>>,
}

/// An open bucket and where it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OpenBucket<'a> {
    pub hour: Hour,
    pub product: &'a str,
    pub customer: &'a str,
    pub dimension: &'a str,
    pub bucket: &'a Bucket,
    /// The part of the bucket that has tags, in base units.
    pub tagged: u128,
}

impl SealedHours {
    /// Whether a record's hour is sealed (I7, and I8 for a claim to zero).
    pub(crate) fn record(&self, record: &Record) -> Option<Fault> {
        let own = self.own_of(&record.product, &record.customer);
        let (watermark, _) = self.of_product(&record.product);
        let is_sealed =
            record.hour <= watermark || own.is_some_and(|own| record.hour <= own) || self.is_part(record);
        let invariant =
            if record.bills_something() { Invariant::InTheWindow } else { Invariant::ZeroIsAClaim };
        (!is_sealed).then(|| Fault {
            invariant,
            place: Location::from(record),
            amount: signed(record.amounts.billed),
            what: "a record of an hour that is not sealed".to_owned(),
        })
    }

    /// Whether a bucket's hour is open still: after the seal, no one would ever bill it (I8).
    pub(crate) fn bucket(&self, open: &OpenBucket<'_>) -> Option<Fault> {
        let own = self.own_of(open.product, open.customer);
        let is_sealed = self.is_past(open) || own.is_some_and(|own| open.hour <= own);
        is_sealed.then(|| Fault {
            invariant: Invariant::ZeroIsAClaim,
            place: open.place(),
            amount: signed(open.bucket.total()),
            what: "usage is left in an hour that is sealed".to_owned(),
        })
    }

    fn is_past(&self, open: &OpenBucket<'_>) -> bool {
        let customer = (open.product, open.customer);
        let (watermark, unfinished) = self.of_product(open.product);
        match unfinished {
            Some(done) if open.hour == watermark => {
                done.as_ref().is_some_and(|(product, key)| customer <= (product, key))
            }
            _ => open.hour <= watermark,
        }
    }

    fn of_product(&self, product: &str) -> (Hour, Option<&Option<(String, String)>>) {
        match self.products.get(product) {
            Some(own) => (own.watermark, own.unfinished.as_ref()),
            None => (self.all, self.unfinished.as_ref()),
        }
    }

    fn is_part(&self, record: &Record) -> bool {
        let customer = || (record.product.to_string(), record.customer.to_string());
        let parts = if self.parts.is_empty() { None } else { self.parts.get(&customer()) };
        parts.is_some_and(|parts| {
            parts.iter().any(|(its, hour)| (its, *hour) == (&record.identity, record.hour))
        })
    }

    fn own_of(&self, product: &str, customer: &str) -> Option<Hour> {
        if self.own.is_empty() {
            return None;
        }
        self.own.get(&(product.to_owned(), customer.to_owned())).copied()
    }
}

impl OpenBucket<'_> {
    pub(crate) fn place(&self) -> Location {
        Location { hour: Some(self.hour), ..Location::series(self.product, self.customer, self.dimension) }
    }

    /// Whether its tagged parts fit into it (I1) and its usage below the limit (I9).
    pub(crate) fn faults(&self) -> Vec<Fault> {
        let fault = |invariant, amount, what: &str| Fault {
            invariant,
            place: self.place(),
            amount,
            what: what.to_owned(),
        };
        let (usage, total) = (self.bucket.usage.amount(), self.bucket.total());
        let mut faults = Vec::new();
        if self.tagged > total {
            let too_much = signed(total).saturating_sub(signed(self.tagged));
            faults.push(fault(Invariant::Conservation, too_much, "more is tagged than there is"));
        }
        if usage > MAX_TOTAL {
            faults.push(fault(Invariant::Bounded, 0, "a bucket is above its limit"));
        }
        faults
    }
}

/// Whether there is no more of something than its limit allows (I9).
pub(crate) fn within(limit: &str, most: u64, found: u64) -> Option<Fault> {
    (found > most).then(|| Fault {
        invariant: Invariant::Bounded,
        place: Location::default(),
        amount: 0,
        what: format!("{limit} is {most}, and there are {found}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        billing::record::{Amounts, tests::sample},
        product::Aggregate,
        usage::bucket::Usage,
    };

    const SEALED: Hour = Hour::from_index(100);

    fn bucket_of(amount: u128) -> Bucket {
        Bucket { usage: Usage::Sum(amount), ..Bucket::new(Aggregate::Sum) }
    }

    fn open<'a>(hour: Hour, customer: &'a str, bucket: &'a Bucket) -> OpenBucket<'a> {
        OpenBucket { hour, product: "prod", customer, dimension: "requests", bucket, tagged: 0 }
    }

    fn watermarks() -> SealedHours {
        SealedHours { all: SEALED, ..SealedHours::default() }
    }

    #[test]
    fn a_sealed_hour_has_records_and_an_open_one_buckets() {
        let (watermarks, bucket) = (watermarks(), bucket_of(7));
        let of = |hour| Record { hour, ..sample(1) };
        assert_eq!(watermarks.record(&of(SEALED)), None);
        assert_eq!(watermarks.record(&of(SEALED.next())).unwrap().invariant, Invariant::InTheWindow);
        let zero = Record { amounts: Amounts::default(), ..of(SEALED.next()) };
        assert_eq!(watermarks.record(&zero).unwrap().invariant, Invariant::ZeroIsAClaim);
        assert_eq!(watermarks.bucket(&open(SEALED.next(), "acme", &bucket)), None);
        let left = watermarks.bucket(&open(SEALED, "acme", &bucket)).unwrap();
        let place = Location { hour: Some(SEALED), ..Location::series("prod", "acme", "requests") };
        assert_eq!((left.amount, left.place), (7, place));
    }

    #[test]
    fn a_customer_that_was_sealed_on_its_own_is_further() {
        let own = HashMap::from([(("prod".to_owned(), "acme".to_owned()), SEALED.next())]);
        let (watermarks, bucket) = (SealedHours { own, ..watermarks() }, bucket_of(7));
        assert_eq!(watermarks.record(&Record { hour: SEALED.next(), ..sample(1) }), None);
        assert!(watermarks.bucket(&open(SEALED.next(), "acme", &bucket)).is_some());
        assert_eq!(watermarks.bucket(&open(SEALED.next(), "other", &bucket)), None);
    }

    #[test]
    fn the_part_of_an_identity_that_gave_way_is_sealed() {
        let part = |identity, hour| {
            let parts = HashMap::from([(("prod".to_owned(), "acme".to_owned()), vec![(identity, hour)])]);
            SealedHours { parts, ..watermarks() }.record(&Record { hour: SEALED.next(), ..sample(1) })
        };
        let other = Identity::Account { account_id: "000000000009".into() };
        assert_eq!(part(sample(1).identity, SEALED.next()), None);
        assert!(part(sample(1).identity, SEALED.next().next()).is_some());
        assert!(part(other, SEALED.next()).is_some());
    }

    #[test]
    fn a_product_that_is_sealed_on_its_own_is_judged_by_its_own_watermark() {
        let behind = SealedUpTo { watermark: Hour::from_index(98), unfinished: None };
        let all = SealedHours { products: [("prod".to_owned(), behind)].into(), ..watermarks() };
        let bucket = bucket_of(7);
        assert_eq!(all.bucket(&open(SEALED, "acme", &bucket)), None);
        assert!(all.bucket(&open(Hour::from_index(98), "acme", &bucket)).is_some());
        assert!(all.record(&Record { hour: SEALED, ..sample(1) }).is_some());
        assert!(all.bucket(&OpenBucket { product: "other", ..open(SEALED, "acme", &bucket) }).is_some());
    }

    #[test]
    fn a_seal_under_way_leaves_the_customers_that_come_later() {
        let bucket = bucket_of(7);
        let under_way = |done| SealedHours { unfinished: Some(done), ..watermarks() };
        assert_eq!(under_way(None).bucket(&open(SEALED, "acme", &bucket)), None);
        let done = under_way(Some(("prod".to_owned(), "b".to_owned())));
        assert!(done.bucket(&open(SEALED, "b", &bucket)).is_some());
        assert_eq!(done.bucket(&open(SEALED, "c", &bucket)), None);
        assert!(done.bucket(&open(Hour::from_index(99), "c", &bucket)).is_some());
    }

    #[test]
    fn no_more_is_tagged_than_there_is() {
        let bucket = bucket_of(5);
        let tagged = |tagged| OpenBucket { tagged, ..open(SEALED, "acme", &bucket) }.faults();
        assert_eq!(tagged(5), []);
        assert_eq!(tagged(7)[0].amount, -2);
    }

    #[test]
    fn limits_hold() {
        assert_eq!(open(SEALED, "acme", &bucket_of(MAX_TOTAL)).faults(), []);
        let bucket = bucket_of(MAX_TOTAL + 1);
        assert_eq!(open(SEALED, "acme", &bucket).faults()[0].invariant, Invariant::Bounded);
        assert_eq!(within("limits.max_customers", 3, 3), None);
        let fault = within("limits.max_customers", 3, 4).unwrap();
        assert_eq!(fault.to_string(), "I9: limits.max_customers is 3, and there are 4");
    }
}
