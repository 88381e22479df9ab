//! What differs from seed to seed, and what all have in common.

use std::{num::NonZeroU64, sync::Arc, time::Duration};

use super::Series;
use crate::{
    domain::{
        billing::{deadline::Window, record::MissedPolicy, seal::events_late_by},
        customer::{identity::IdentityMode, limits::CustomerLimits},
        invariants::Location,
        product::{Aggregate, Catalog, Dimension, DimensionIndex, Product, ProductIndex, QuantityLimits},
        time::Timestamp,
        usage::{
            event::TimeBounds,
            quantity::{Rounding, Unit},
        },
    },
    engine::rules::Rules,
};

/// Longer than any outage, so that what waits for its end is taken.
pub(super) const BOUNDS: TimeBounds =
    TimeBounds { max_age: Duration::from_hours(96), max_future: Duration::from_mins(5) };
pub(super) const PRODUCT: ProductIndex = ProductIndex(0);
pub(super) const CODE: &str = "prod";

/// Key and account. The first one is registered, the others come by their usage. AWS knows the first four alone.
pub(super) const CUSTOMERS: [(&str, &str); 10] = [
    ("acme", "000000000001"),
    ("000000000002", "000000000002"),
    ("000000000003", "000000000003"),
    ("000000000004", "000000000004"),
    ("900000000005", "900000000005"),
    ("900000000006", "900000000006"),
    ("900000000007", "900000000007"),
    ("900000000008", "900000000008"),
    ("900000000009", "900000000009"),
    ("900000000010", "900000000010"),
];

/// So many of them AWS knows.
const KNOWN: usize = 4;

pub(super) fn is_unknown_to_aws(customer: usize) -> bool {
    customer >= KNOWN
}

/// Days begin in the middle of a month, and before the end of one.
const STARTS: [&str; 3] = ["2026-11-18T03:20:00Z", "2026-11-29T20:40:00Z", "2026-11-30T15:10:00Z"];

const GRACE: Duration = Duration::from_mins(5);
/// In hours.
const REVIEWS: [u64; 4] = [0, 0, 2, 9];

pub(super) struct Plan {
    pub(super) start: Timestamp,
    /// So long things happen; then all is quiet.
    pub(super) length: Duration,
    pub(super) customers: usize,
    pub(super) missed: MissedPolicy,
    zero_records: bool,
    /// How long hours wait for a person before they are sealed.
    pub(super) review: Duration,
    /// One in so many commits ends the process.
    pub(super) commits_per_crash: u32,
    /// One in so many calls goes wrong in some way.
    pub(super) calls_per_fault: u32,
}

impl Plan {
    pub(super) fn draw() -> Self {
        Self {
            start: STARTS[fastrand::usize(..STARTS.len())].parse().unwrap(),
            length: Duration::from_hours(fastrand::u64(48..56)),
            customers: fastrand::usize(2..=KNOWN),
            missed: if fastrand::bool() { MissedPolicy::RollForward } else { MissedPolicy::Hold },
            zero_records: fastrand::u8(..4) > 0,
            review: Duration::from_hours(REVIEWS[fastrand::usize(..REVIEWS.len())]),
            commits_per_crash: fastrand::u32(40..200),
            calls_per_fault: fastrand::u32(2..12),
        }
    }

    /// A customer that is used: now and then one that AWS does not know, which may be a slip.
    pub(super) fn some_customer(&self) -> usize {
        if chance(16) { invented_customer() } else { fastrand::usize(..self.customers) }
    }

    pub(super) fn rules(&self) -> Rules {
        let product = Product {
            code: CODE.into(),
            identity: IdentityMode::Account,
            former: None,
            open: true,
            zero_records: self.zero_records,
            review: self.review,
            dimensions: dimensions(),
        };
        Rules {
            catalog: Arc::new(Catalog::new(vec![product])),
            grace: GRACE,
            dedup_window: BOUNDS.max_age + BOUNDS.max_future,
            ids_outlive_events: true,
            window: Window::AWS,
            events_late_by: events_late_by(BOUNDS.max_age, GRACE),
            missed: self.missed,
            receipts_kept: Duration::from_hours(24 * 400),
            customers: CustomerLimits { most: 100, most_unverified: 100, most_new: 100 },
            max_open_buckets: 10_000,
            max_open_subjects: 10_000,
            max_open_tag_sets: 10_000,
        }
    }
}

pub(super) fn invented_customer() -> usize {
    fastrand::usize(KNOWN..CUSTOMERS.len())
}

fn dimensions() -> Vec<Dimension> {
    let dimension = |name: &str, aggregate, unit, decimals| Dimension {
        name: name.into(),
        aggregate,
        unit: Unit::new(NonZeroU64::new(unit).unwrap(), decimals).unwrap(),
        rounding: Rounding::Nearest,
        tags: name == "gb",
        limits: limits(name),
    };
    vec![
        dimension("requests", Aggregate::Sum, 1, 0),
        dimension("gb", Aggregate::Sum, 1000, 0),
        dimension("minutes", Aggregate::Sum, 60, 2),
        dimension("calls", Aggregate::Count, 1, 0),
        dimension("peak", Aggregate::Max, 1, 0),
        dimension("seats", Aggregate::Latest { hold: true }, 1, 0),
        dimension("users", Aggregate::Unique, 1, 0),
    ]
}

/// Of some dimensions a slip is rejected, of some it is held, and of the others it is billed.
fn limits(dimension: &str) -> QuantityLimits {
    let none = QuantityLimits::default();
    match dimension {
        "minutes" => QuantityLimits { max_event_quantity: Some(1_000_000), ..none },
        "requests" | "peak" => QuantityLimits { hold_above: Some(30_000), ..none },
        "gb" => QuantityLimits { hold_above_usual: Some(20), ..none },
        _ => none,
    }
}

impl Series {
    pub(super) fn named(customer: &str, dimension: &str, catalog: &Catalog) -> Self {
        let customer = CUSTOMERS.iter().position(|(key, _)| *key == customer).unwrap();
        let dimension = catalog.find_dimension(PRODUCT, dimension).unwrap();
        Self { customer, dimension: usize::from(dimension.0) }
    }

    pub(super) fn key(self) -> &'static str {
        CUSTOMERS[self.customer].0
    }

    pub(super) fn index(self) -> DimensionIndex {
        DimensionIndex(u16::try_from(self.dimension).unwrap())
    }

    pub(super) fn dimension(self, catalog: &Catalog) -> &Dimension {
        catalog.dimension(PRODUCT, self.index()).unwrap()
    }

    pub(super) fn name(self, catalog: &Catalog) -> String {
        format!("{}/{}", self.key(), self.dimension(catalog).name)
    }

    pub(super) fn place(self, catalog: &Catalog) -> Location {
        Location::series(CODE, self.key(), &self.dimension(catalog).name)
    }
}

/// An account of a customer; each replaces the one before.
pub(super) fn account(customer: usize, number: u32) -> String {
    format!("{number:03}{}", &CUSTOMERS[customer].1[3..])
}

/// One time in `of`.
pub(super) fn chance(of: u32) -> bool {
    fastrand::u32(..of) == 0
}

pub(super) fn mins(from: u64, to: u64) -> Duration {
    Duration::from_secs(fastrand::u64(from * 60..=to * 60))
}
