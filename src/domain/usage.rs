//! What makes an event acceptable, and where it belongs.

use std::time::Duration;

use thiserror::Error;

use super::{
    bucket::Usage,
    product::{Aggregate, Catalog, Dimension, DimensionIndex, ProductIndex},
    tags::TagSet,
    time::{Hour, Timestamp},
};

pub const MAX_CUSTOMER_BYTES: usize = 255;
pub const MAX_EVENT_ID_BYTES: usize = 128;
pub const MAX_SUBJECT_BYTES: usize = 256;

/// A usage event as the application sent it; empty text means not given.
#[derive(Clone, Debug, Default)]
pub struct Event<'a> {
    pub product: &'a str,
    pub customer: &'a str,
    pub dimension: &'a str,
    pub quantity: u64,
    pub time: Option<Timestamp>,
    pub event_id: &'a str,
    pub subject: &'a str,
    pub tags: Vec<(&'a str, &'a str)>,
}

/// How old and how early events may be.
#[derive(Clone, Copy, Debug)]
pub struct TimeBounds {
    pub max_age: Duration,
    pub max_future: Duration,
}

/// Where an event counts, and for how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub product: ProductIndex,
    pub dimension: DimensionIndex,
    /// The hour of its time. It may have been sealed meanwhile.
    pub hour: Hour,
    pub usage: Usage,
    pub tags: Option<TagSet>,
    /// Whether it counts only once in an hour for each subject.
    pub by_subject: bool,
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
    /// Counted without their tags, for which there was no room.
    pub untagged: u64,
}

impl Counts {
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self {
            accepted: self.accepted.saturating_add(other.accepted),
            duplicates: self.duplicates.saturating_add(other.duplicates),
            rejected: self.rejected.saturating_add(other.rejected),
            late: self.late.saturating_add(other.late),
            untagged: self.untagged.saturating_add(other.untagged),
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
    #[error("dimension `{dimension}` counts distinct subjects: `subject` must say which one this is")]
    MissingSubject { dimension: String },
    #[error("`subject` has {bytes} bytes; at most {MAX_SUBJECT_BYTES} are allowed")]
    InvalidSubject { bytes: usize },
    #[error("{why}")]
    InvalidTags { why: String },
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
    let by_subject = dimension.aggregate == Aggregate::Unique;
    if by_subject {
        check_subject(event)?;
    }
    let tags = tags(dimension, event)?;
    let time = within(bounds, now, event.time.unwrap_or(now))?;
    Ok(Placed {
        product: product_index,
        dimension: dimension_index,
        hour: Hour::containing(time),
        usage: Usage::of(dimension.aggregate, event.quantity, time),
        tags,
        by_subject,
    })
}

fn check_subject(event: &Event<'_>) -> Result<(), Refusal> {
    match event.subject.len() {
        0 => Err(Refusal::MissingSubject { dimension: event.dimension.to_owned() }),
        1..=MAX_SUBJECT_BYTES => Ok(()),
        bytes => Err(Refusal::InvalidSubject { bytes }),
    }
}

fn tags(dimension: &Dimension, event: &Event<'_>) -> Result<Option<TagSet>, Refusal> {
    if !dimension.tags && !event.tags.is_empty() {
        let why = format!(
            "dimension `{}` takes no tags: send the event without them, or set tags = true",
            dimension.name
        );
        return Err(Refusal::InvalidTags { why });
    }
    TagSet::new(event.tags.iter().copied()).map_err(|why| Refusal::InvalidTags { why })
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

/// Enough of a text to recognise it.
pub(super) fn shortened(text: &str) -> String {
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
        product::Product,
        quantity::{Rounding, Unit},
    };
    use proptest::prelude::*;

    const BOUNDS: TimeBounds =
        TimeBounds { max_age: Duration::from_hours(24), max_future: Duration::from_mins(5) };

    fn catalog() -> Catalog {
        let dimension = |name: &str, aggregate| Dimension {
            name: name.into(),
            aggregate,
            unit: Unit::default(),
            rounding: Rounding::Down,
            tags: name == "gb",
        };
        Catalog::new(vec![Product {
            code: "prod".into(),
            identity: IdentityMode::Account,
            former: None,
            open: true,
            zero_records: true,
            dimensions: vec![
                dimension("requests", Aggregate::Sum),
                dimension("calls", Aggregate::Count),
                dimension("users", Aggregate::Unique),
                dimension("gb", Aggregate::Sum),
            ],
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
        subject: "",
        tags: Vec::new(),
    };

    fn placed(event: &Event<'_>) -> Result<Placed, Refusal> {
        place(&catalog(), &BOUNDS, now(), event)
    }

    #[test]
    fn sums_take_quantities_and_counts_take_events() {
        assert_eq!(placed(&GOOD).unwrap().usage, Usage::Sum(7));
        assert_eq!(placed(&Event { dimension: "calls", ..GOOD }).unwrap().usage, Usage::Sum(1));
    }

    #[test]
    fn distinct_subjects_need_a_subject_and_others_do_not_mind_one() {
        let user = Event { dimension: "users", ..GOOD };
        assert!(matches!(placed(&user), Err(Refusal::MissingSubject { .. })));
        let long = "x".repeat(MAX_SUBJECT_BYTES + 1);
        assert_eq!(
            placed(&Event { subject: &long, ..user.clone() }),
            Err(Refusal::InvalidSubject { bytes: MAX_SUBJECT_BYTES + 1 })
        );
        let known = placed(&Event { subject: &long[1..], ..user }).unwrap();
        assert_eq!((known.usage, known.by_subject), (Usage::Unique(1), true));
        assert!(!placed(&Event { subject: &long, ..GOOD }).unwrap().by_subject);
    }

    #[test]
    fn tags_need_a_dimension_that_takes_them_and_the_rules_of_aws() {
        let tagged = |dimension, key| placed(&Event { dimension, tags: vec![(key, "blue")], ..GOOD });
        assert!(matches!(tagged("requests", "team"), Err(Refusal::InvalidTags { .. })));
        assert!(matches!(tagged("gb", "te,am"), Err(Refusal::InvalidTags { .. })));
        assert!(tagged("gb", "team").unwrap().tags.is_some());
        assert_eq!(placed(&Event { dimension: "gb", ..GOOD }).unwrap().tags, None);
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
    }

    #[test]
    fn a_refusal_names_what_there_is_but_stays_short() {
        let names = |count| some_names(["n"; 12].into_iter().take(count)).matches('n').count();
        assert_eq!([1, 10, 12].map(names), [1, 10, 10]);
        assert!(!some_names(["n"; 10].into_iter()).ends_with("..."));
        assert!(some_names(["n"; 11].into_iter()).ends_with("n, ..."));
        assert_eq!(shortened(&"é".repeat(64)), "é".repeat(64));
        assert_eq!(shortened(&"é".repeat(65)), format!("{}...", "é".repeat(64)));
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
        fn no_event_panics(product: String, customer: String, dimension: String, quantity: u64, nanos: u64, texts: (String, String, String, String)) {
            let time = (nanos > 0).then(|| Timestamp::from_unix_nanos(nanos));
            let (event_id, subject, tag) = (&texts.0, &texts.1, (&*texts.2, &*texts.3));
            let event = Event { product: &product, customer: &customer, dimension: &dimension, quantity, time, event_id, subject, tags: vec![tag] };
            if let Err(refusal) = placed(&event) {
                prop_assert!(!refusal.to_string().is_empty());
            }
        }
    }
}
