//! A bucket becomes a record.

use std::{hint::black_box, num::NonZeroU64, time::Duration};

use criterion::Criterion;
use tallyman::internals::{
    Aggregate, BilledCustomer, Bucket, Carried, Dimension, Identity, QuantityLimits, RecordId, Rounding,
    SealContext, Unit, Usage, seal,
};

use crate::hour;

pub(crate) fn bench(criterion: &mut Criterion) {
    let customer = BilledCustomer {
        product: "prod".into(),
        key: "acme".into(),
        identity: Identity::Account { account_id: "123456789012".into() },
        since: None,
    };
    let unit = Unit::new(NonZeroU64::new(1_000_000_000).unwrap(), 3).unwrap();
    let (aggregate, rounding) = (Aggregate::Sum, Rounding::Down);
    let limits = QuantityLimits::default();
    let dimension = Dimension { name: "gb_out".into(), aggregate, unit, rounding, tags: false, limits };
    let bucket = Bucket {
        usage: Usage::Sum(123_456_789_012),
        events: 7,
        carried: Carried::from_origin(hour().previous(), 999_999),
        ..Bucket::new(aggregate)
    };
    let context = SealContext { hour: hour(), claims_zero: true, is_last: false, late_by: Duration::ZERO };
    criterion.bench_function("seal one bucket", |bencher| {
        bencher.iter(|| seal(RecordId(1), context, &customer, &dimension, black_box(&bucket)));
    });
}
