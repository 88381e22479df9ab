//! What the tests of this layer share: one product that bills accounts, and entries for it.

use std::{collections::BTreeMap, num::NonZeroU64, sync::Arc, time::Duration};

use crate::{
    domain::{
        billing::{
            deadline::Window,
            hour_tally::HourTally,
            record::{MissedPolicy, RecordId},
        },
        customer::{
            identity::{Identity, IdentityMode},
            limits::CustomerLimits,
            state::CustomerState,
        },
        product::{Aggregate, Catalog, Dimension, DimensionIndex, Product, ProductIndex, QuantityLimits},
        time::{Hour, Timestamp},
        usage::{
            bucket::Usage,
            quantity::{Rounding, Unit},
        },
    },
    engine::{
        billing::{Registration, read_hours, record_reader::RecordReader},
        counting::request::{CustomerRef, NewCustomer, UsageEntry},
        customers::Customer,
        rules::Rules,
    },
    store::Rows,
};

/// Dimension 0 is `requests`, billed one by one; dimension 1 is `gb`, billed in thousands and split by tags; then
/// `seats`, a level that stands, and `users`, distinct ones.
pub(crate) fn rules(missed: MissedPolicy) -> Rules {
    let dimension = |name: &str, aggregate, unit| Dimension {
        name: name.into(),
        aggregate,
        unit: Unit::new(NonZeroU64::new(unit).unwrap(), 0).unwrap(),
        rounding: Rounding::Down,
        tags: name == "gb",
        limits: QuantityLimits::default(),
    };
    let product = Product {
        code: "prod".into(),
        identity: IdentityMode::Account,
        former: None,
        open: true,
        zero_records: true,
        review: Duration::ZERO,
        dimensions: vec![
            dimension("requests", Aggregate::Sum, 1),
            dimension("gb", Aggregate::Sum, 1000),
            dimension("seats", Aggregate::Latest { hold: true }, 1),
            dimension("users", Aggregate::Unique, 1),
        ],
    };
    Rules {
        catalog: Arc::new(Catalog::new(vec![product])),
        grace: Duration::from_mins(5),
        dedup_window: Duration::from_hours(2),
        ids_outlive_events: false,
        window: Window::AWS,
        events_late_by: Duration::from_hours(25),
        missed,
        receipts_kept: Duration::from_hours(24 * 400),
        customers: CustomerLimits { most: 100, most_unverified: 100, most_new: 100 },
        max_open_buckets: 10_000,
        max_open_subjects: 10_000,
        max_open_tag_sets: 10_000,
    }
}

/// The registration of a customer with an account of its own.
pub(crate) fn registration(key: &str, account: &str, hour: Hour) -> Registration {
    let identity = Identity::Account { account_id: account.into() };
    Registration { product: ProductIndex(0), key: key.into(), identity, since: None, hour, reopens: false }
}

/// A customer of the product, with an account of its own.
pub(crate) fn customer(key: &str, account: &str) -> Customer {
    let identity = Identity::Account { account_id: account.into() };
    Customer {
        product: ProductIndex(0),
        key: key.into(),
        state: CustomerState::new(identity, None, Hour::FIRST),
    }
}

/// One event of a customer that no one has registered.
pub(crate) fn entry(account: &str, dimension: u16, hour: Hour, amount: u128) -> UsageEntry {
    UsageEntry {
        product: ProductIndex(0),
        customer: CustomerRef::New(Arc::new(NewCustomer {
            key: account.into(),
            identity: Identity::Account { account_id: account.into() },
        })),
        dimension: DimensionIndex(dimension),
        hour,
        earliest: Timestamp::MAX,
        usage: Usage::Sum(amount),
        events: 1,
        split: None,
    }
}

/// Where the tallies of the last hours are not what a count of the records comes to.
pub(crate) fn hour_faults(store: &dyn Rows) -> Vec<String> {
    let tallies = read_hours(store, usize::MAX).unwrap();
    let oldest = tallies.keys().next().copied().unwrap_or_default();
    let mut counted: BTreeMap<Hour, HourTally> =
        tallies.keys().map(|hour| (*hour, HourTally::default())).collect();
    let records = RecordReader::new(store);
    for (record, _) in records.pending_after(RecordId(0), usize::MAX).unwrap() {
        counted.entry(record.hour).or_default().sealed();
    }
    let settled = records.settled(RecordId(0), usize::MAX).unwrap();
    for settled in settled.into_iter().chain(records.held(RecordId(0), usize::MAX).unwrap()) {
        counted.entry(settled.record.hour).or_default().settled(&settled.outcome);
    }
    let counted = counted.split_off(&oldest);
    let hours = counted.iter().filter(|(hour, tally)| tallies.get(hour) != Some(tally));
    hours.map(|(hour, tally)| format!("{hour}: {:?}, and counted are {tally:?}", tallies.get(hour))).collect()
}
