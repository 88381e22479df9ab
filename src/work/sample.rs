//! What the tests of this layer share: one product that bills accounts, and entries for it.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use super::{
    books::Rules,
    delta::{CustomerRef, Entry},
};
use crate::domain::{
    deadline::Window,
    identity::{Identity, IdentityMode},
    product::{Aggregate, Catalog, Dimension, DimensionIndex, Product, ProductIndex},
    quantity::Unit,
    record::MissedPolicy,
    time::Hour,
};

/// Dimension 0 is `requests`, billed one by one; dimension 1 is `gb`, billed in thousands.
pub(crate) fn rules(missed: MissedPolicy) -> Rules {
    let dimension = |name: &str, unit| Dimension {
        name: name.into(),
        aggregate: Aggregate::Sum,
        unit: Unit::new(NonZeroU64::new(unit).unwrap(), 0).unwrap(),
    };
    let product = Product {
        code: "prod".into(),
        identity: IdentityMode::Account,
        open: true,
        zero_records: true,
        dimensions: vec![dimension("requests", 1), dimension("gb", 1000)],
    };
    Rules {
        catalog: Arc::new(Catalog::new(vec![product])),
        grace: Duration::from_mins(5),
        dedup_window: Duration::from_hours(2),
        window: Window::AWS,
        missed,
        receipts_kept: Duration::from_hours(24 * 400),
        max_customers: 100,
        max_open_buckets: 10_000,
    }
}

/// One event of a customer that no one has registered.
pub(crate) fn entry(account: &str, dimension: u16, hour: Hour, amount: u128) -> Entry {
    Entry {
        product: ProductIndex(0),
        customer: CustomerRef::New {
            key: account.into(),
            identity: Identity::Account { account_id: account.into() },
        },
        dimension: DimensionIndex(dimension),
        hour,
        amount,
        events: 1,
    }
}
