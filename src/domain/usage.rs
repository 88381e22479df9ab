//! What makes an event acceptable, and where it belongs.

use std::time::Duration;

use thiserror::Error;

use super::{
    product::{Catalog, DimensionIndex, ProductIndex},
    time::{Hour, Timestamp},
};

pub const MAX_CUSTOMER_BYTES: usize = 255;
pub const MAX_EVENT_ID_BYTES: usize = 128;

/// A usage event as the application sent it; empty text means not given.
#[derive(Clone, Copy, Debug, Default)]
pub struct Event<'a> {
    pub product: &'a str,
    pub customer: &'a str,
    pub dimension: &'a str,
    pub quantity: u64,
    pub time: Option<Timestamp>,
    pub event_id: &'a str,
    pub has_tags: bool,
}

/// How old and how early events may be.
#[derive(Clone, Copy, Debug)]
pub struct TimeBounds {
    pub max_age: Duration,
    pub max_future: Duration,
}

/// Where an event counts, and for how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    pub product: ProductIndex,
    pub dimension: DimensionIndex,
    /// The hour of its time. It may have been sealed meanwhile.
    pub hour: Hour,
    /// Base units.
    pub amount: u64,
}

/// What became of some events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Counted, late ones included.
    pub accepted: u64,
    /// Not counted again.
    pub duplicates: u64,
    /// Not counted, for a reason that the application is told.
    pub rejected: u64,
    /// Counted in a later hour than their own.
    pub late: u64,
}

impl Counts {
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            accepted: self.accepted.saturating_add(other.accepted),
            duplicates: self.duplicates.saturating_add(other.duplicates),
            rejected: self.rejected.saturating_add(other.rejected),
            late: self.late.saturating_add(other.late),
        }
    }
}

/// Why an event does not count.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    #[error("no product `{code}` is configured: set `product` to one of: {known}")]
    UnknownProduct { code: String, known: String },
    #[error("product `{product}` has no dimension `{name}`: its dimensions are: {known}")]
    UnknownDimension { product: String, name: String, known: String },
    #[error("`customer` must be 1 to {MAX_CUSTOMER_BYTES} bytes without control characters")]
    InvalidCustomer,
    #[error("customer `{customer}` is not known: {why}")]
    UnknownCustomer { customer: String, why: String },
    #[error("`event_id` has {bytes} bytes; at most {MAX_EVENT_ID_BYTES} are allowed")]
    InvalidEventId { bytes: usize },
    #[error("the hour's total would pass 2^64 - 1 base units")]
    QuantityOverflow,
    #[error("the event's time {time} is older than hour.max_age allows: the oldest taken now is {oldest}")]
    TimeTooOld { time: Timestamp, oldest: Timestamp },
    #[error("the event's time {time} is in the future: the latest taken now is {latest}")]
    TimeInFuture { time: Timestamp, latest: Timestamp },
    #[error("dimension `{dimension}` takes no tags: send the event without them")]
    InvalidTags { dimension: String },
    #[error("{limit} is reached ({most}): raise it, or send the event again later")]
    LimitReached { limit: &'static str, most: u64 },
}

/// Finds an event's place, or the first reason why it has none.
pub fn place(
    catalog: &Catalog,
    bounds: &TimeBounds,
    now: Timestamp,
    event: &Event<'_>,
) -> Result<Placed, Refusal> {
    let product_index = catalog.find(event.product).ok_or_else(|| unknown_product(catalog, event))?;
    let dimension_index = catalog
        .find_dimension(product_index, event.dimension)
        .ok_or_else(|| unknown_dimension(catalog, product_index, event))?;
    let dimension = catalog
        .dimension(product_index, dimension_index)
        .ok_or_else(|| unknown_dimension(catalog, product_index, event))?;
    if !is_customer_key(event.customer) {
        return Err(Refusal::InvalidCustomer);
    }
    if event.event_id.len() > MAX_EVENT_ID_BYTES {
        return Err(Refusal::InvalidEventId { bytes: event.event_id.len() });
    }
    if event.has_tags {
        return Err(Refusal::InvalidTags { dimension: event.dimension.to_owned() });
    }
    let time = within(bounds, now, event.time.unwrap_or(now))?;
    Ok(Placed {
        product: product_index,
        dimension: dimension_index,
        hour: Hour::containing(time),
        amount: dimension.aggregate.measure(event.quantity),
    })
}

pub fn is_customer_key(key: &str) -> bool {
    (1..=MAX_CUSTOMER_BYTES).contains(&key.len()) && !key.chars().any(char::is_control)
}

fn within(bounds: &TimeBounds, now: Timestamp, time: Timestamp) -> Result<Timestamp, Refusal> {
    let (oldest, latest) = (now.minus(bounds.max_age), now.plus(bounds.max_future));
    if time < oldest {
        Err(Refusal::TimeTooOld { time, oldest })
    } else if time > latest {
        Err(Refusal::TimeInFuture { time, latest })
    } else {
        Ok(time)
    }
}

fn unknown_product(catalog: &Catalog, event: &Event<'_>) -> Refusal {
    let known = some_names(catalog.products().map(|(_, product)| &*product.code));
    Refusal::UnknownProduct { code: shortened(event.product), known }
}

fn unknown_dimension(catalog: &Catalog, index: ProductIndex, event: &Event<'_>) -> Refusal {
    let product = catalog.product(index);
    let names = product.into_iter().flat_map(|product| &product.dimensions).map(|dimension| &*dimension.name);
    Refusal::UnknownDimension {
        product: product.map_or_else(String::new, |product| product.code.to_string()),
        name: shortened(event.dimension),
        known: some_names(names),
    }
}

/// Enough names to see what was meant: an answer must stay small, or its client cannot read it.
fn some_names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const MOST: usize = 10;
    let mut names: Vec<&str> = names.take(MOST.saturating_add(1)).collect();
    if names.len() > MOST {
        names.truncate(MOST);
        names.push("...");
    }
    names.join(", ")
}

fn shortened(text: &str) -> String {
    const MOST: usize = 64;
    if text.chars().count() <= MOST {
        text.to_owned()
    } else {
        text.chars().take(MOST).chain("...".chars()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        identity::IdentityMode,
        product::{Aggregate, Dimension, Product},
        quantity::Unit,
    };
    use proptest::prelude::*;

    const BOUNDS: TimeBounds =
        TimeBounds { max_age: Duration::from_hours(24), max_future: Duration::from_mins(5) };

    fn catalog() -> Catalog {
        let dimension =
            |name: &str, aggregate| Dimension { name: name.into(), aggregate, unit: Unit::default() };
        Catalog::new(vec![Product {
            code: "prod".into(),
            identity: IdentityMode::Account,
            open: true,
            zero_records: true,
            dimensions: vec![dimension("requests", Aggregate::Sum), dimension("calls", Aggregate::Count)],
        }])
    }

    fn now() -> Timestamp {
        "2026-11-22T10:30:00Z".parse().unwrap()
    }

    const GOOD: Event<'_> = Event {
        product: "",
        customer: "acme",
        dimension: "requests",
        quantity: 7,
        time: None,
        event_id: "",
        has_tags: false,
    };

    fn placed(event: &Event<'_>) -> Result<Placed, Refusal> {
        place(&catalog(), &BOUNDS, now(), event)
    }

    #[test]
    fn sums_take_quantities_and_counts_take_events() {
        assert_eq!(placed(&GOOD).unwrap().amount, 7);
        assert_eq!(placed(&Event { dimension: "calls", ..GOOD }).unwrap().amount, 1);
    }

    #[test]
    fn an_event_without_a_time_happens_now() {
        assert_eq!(placed(&GOOD).unwrap().hour, Hour::containing(now()));
    }

    #[test]
    fn each_fault_has_its_reason() {
        let long = "x".repeat(256);
        assert!(matches!(placed(&Event { product: "other", ..GOOD }), Err(Refusal::UnknownProduct { .. })));
        assert!(matches!(
            placed(&Event { dimension: "Requests", ..GOOD }),
            Err(Refusal::UnknownDimension { .. })
        ));
        for customer in ["", &long, "a\nb"] {
            assert_eq!(placed(&Event { customer, ..GOOD }), Err(Refusal::InvalidCustomer));
        }
        let event_id = &long[..129];
        assert_eq!(placed(&Event { event_id, ..GOOD }), Err(Refusal::InvalidEventId { bytes: 129 }));
        assert!(placed(&Event { event_id: &long[..128], ..GOOD }).is_ok());
        assert!(matches!(placed(&Event { has_tags: true, ..GOOD }), Err(Refusal::InvalidTags { .. })));
    }

    #[test]
    fn the_time_bounds_are_inclusive() {
        let at = |time: Timestamp| placed(&Event { time: Some(time), ..GOOD });
        let moment = Duration::from_millis(1);
        let (oldest, latest) = (now().minus(BOUNDS.max_age), now().plus(BOUNDS.max_future));
        assert!(at(oldest).is_ok() && at(latest).is_ok());
        assert!(matches!(at(oldest.minus(moment)), Err(Refusal::TimeTooOld { .. })));
        assert!(matches!(at(latest.plus(moment)), Err(Refusal::TimeInFuture { .. })));
    }

    proptest! {
        #[test]
        fn no_event_panics(product: String, customer: String, dimension: String, quantity: u64, nanos: u64, event_id: String, has_tags: bool) {
            let time = (nanos > 0).then(|| Timestamp::from_unix_nanos(nanos));
            let event = Event { product: &product, customer: &customer, dimension: &dimension, quantity, time, event_id: &event_id, has_tags };
            if let Err(refusal) = placed(&event) {
                prop_assert!(!refusal.to_string().is_empty());
            }
        }
    }
}
