//! What makes an event acceptable, where it belongs, and the reasons to reject one ([`RejectReason`]).

use std::{sync::Arc, time::Duration};

use thiserror::Error;

use super::{bucket::Usage, tags::TagSet};
use crate::domain::{
    product::{Aggregate, Dimension},
    time::{Hour, Timestamp, UnixNanos},
};

pub(crate) const MAX_CUSTOMER_BYTES: usize = 255;
pub(crate) const MAX_EVENT_ID_BYTES: usize = 128;
pub(crate) const MAX_SUBJECT_BYTES: usize = 256;

/// What an event counts for: a customer's use of one dimension. Empty text means not given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Names<'a> {
    pub product: &'a str,
    pub customer: &'a str,
    pub dimension: &'a str,
}

/// The content of an event beside its names. Empty text means not given.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Event<'a> {
    pub quantity: u64,
    pub time: Option<UnixNanos>,
    pub id: &'a [u8],
    pub subject: &'a str,
    pub tags: &'a [(&'a str, &'a str)],
}

/// How old and how early events may be.
#[derive(Clone, Copy, Debug)]
pub struct TimeBounds {
    pub max_age: Duration,
    pub max_future: Duration,
}

/// The times that an event may have, and what "now" is for events that say no time.
#[derive(Clone, Copy, Debug)]
pub struct TimeRange {
    oldest: Timestamp,
    now: UnixNanos,
    latest: Timestamp,
}

impl TimeBounds {
    pub fn around(&self, now: impl Into<UnixNanos>) -> TimeRange {
        let now = now.into();
        let moment = now.timestamp();
        TimeRange { oldest: moment.minus(self.max_age), now, latest: moment.plus(self.max_future) }
    }
}

/// How much an event counts, and in which hour.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Measured {
    /// The hour of its time. It may have been sealed meanwhile.
    pub hour: Hour,
    /// The time that it told; the end of time if it told none.
    pub told: Timestamp,
    pub usage: Usage,
    pub tags: Option<TagSet>,
    /// The event cannot have been counted before, since its time was in the future then. MIN for one that says no time.
    pub not_before: Timestamp,
}

impl Measured {
    /// Whether it is a distinct subject that counts.
    pub(crate) const fn is_by_subject(&self) -> bool {
        matches!(self.usage, Usage::Unique(_))
    }

    /// Whether its hour alone says with which others of its names it adds up.
    pub(crate) const fn is_plain(&self) -> bool {
        self.tags.is_none() && !self.is_by_subject()
    }
}

/// What became of some events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Counted, late ones included.
    pub accepted: u64,
    /// Events that were counted before, and are not counted again.
    pub duplicates: u64,
    /// Events that are not counted, for a reason that the application is told.
    pub rejected: u64,
    /// Counted in a later hour than their own.
    pub late: u64,
    /// Counted without their tags, for which there was no room.
    pub untagged: u64,
    /// Counted after their customer's last hour was sealed: held as not billable, unless it comes back.
    pub not_billable: u64,
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
            not_billable: self.not_billable.saturating_add(other.not_billable),
        }
    }
}

/// Why an event does not count.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RejectReason {
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
    #[error(
        "the quantity {quantity} is above the max_event_quantity of dimension `{dimension}`, which is {most}: correct \
         the event, or raise the limit"
    )]
    QuantityTooLarge { dimension: String, quantity: u64, most: u64 },
    #[error("the event's time {time} is older than hour.max_age allows: the oldest taken now is {oldest}")]
    TimeTooOld { time: Timestamp, oldest: Timestamp },
    #[error("the event's time {time} is in the future: the latest taken now is {latest}")]
    TimeInFuture { time: Timestamp, latest: Timestamp },
    #[error(
        "event ids are known from {known_since} on, and this event is older: whether it was counted is not known any \
         more (the clock was set back, or hour.max_age or hour.dedup_window was raised). To bill it all the same, send \
         it with the present time"
    )]
    OlderThanIds { known_since: Timestamp },
    #[error(
        "the event's time {time} lies before {since}, since when the customer is billed: AWS takes no usage from before"
    )]
    BeforeSince { time: Timestamp, since: Timestamp },
    #[error("dimension `{dimension}` counts distinct subjects: `subject` must say which one this is")]
    MissingSubject { dimension: String },
    #[error("`subject` has {bytes} bytes; at most {MAX_SUBJECT_BYTES} are allowed")]
    InvalidSubject { bytes: usize },
    #[error("{why}")]
    InvalidTags { why: String },
    #[error("client `{client}` may not meter for this: see `{what}` of its [[grpc.client]]")]
    NotAllowed { client: Arc<str>, what: &'static str },
    #[error("{limit} is reached ({most}): raise it, or send the event again later")]
    LimitReached { limit: &'static str, most: u64 },
}

/// Finds an event's hour and amount, or the first reason why it has none.
#[inline]
pub(crate) fn measure(
    dimension: &Dimension,
    range: &TimeRange,
    event: &Event<'_>,
) -> Result<Measured, RejectReason> {
    if event.id.len() > MAX_EVENT_ID_BYTES {
        return Err(RejectReason::InvalidEventId { bytes: event.id.len() });
    }
    if dimension.aggregate == Aggregate::Unique {
        check_subject(dimension, event.subject)?;
    }
    check_quantity(dimension, event.quantity)?;
    let tags = tags(dimension, event.tags)?;
    let at = within(range, event.time)?;
    let usage = Usage::of(dimension.aggregate, event.quantity, at);
    let told = event.time.map(UnixNanos::timestamp);
    let ahead = range.latest.since(range.now.timestamp());
    Ok(Measured {
        hour: Hour::containing(at.timestamp()),
        told: told.unwrap_or(Timestamp::MAX),
        usage,
        tags,
        not_before: told.map_or(Timestamp::MIN, |told| told.minus(ahead)),
    })
}

/// The configuration sees to it that only a dimension that reads quantities has a limit for them.
#[inline]
fn check_quantity(dimension: &Dimension, quantity: u64) -> Result<(), RejectReason> {
    match dimension.limits.max_event_quantity {
        Some(most) if quantity > most => {
            Err(RejectReason::QuantityTooLarge { dimension: dimension.name.to_string(), quantity, most })
        }
        _ => Ok(()),
    }
}

fn check_subject(dimension: &Dimension, subject: &str) -> Result<(), RejectReason> {
    match subject.len() {
        0 => Err(RejectReason::MissingSubject { dimension: dimension.name.to_string() }),
        1..=MAX_SUBJECT_BYTES => Ok(()),
        bytes => Err(RejectReason::InvalidSubject { bytes }),
    }
}

fn tags(dimension: &Dimension, tags: &[(&str, &str)]) -> Result<Option<TagSet>, RejectReason> {
    if tags.is_empty() {
        return Ok(None);
    }
    if !dimension.tags {
        let why = format!(
            "dimension `{}` takes no tags: send the event without them, or set tags = true",
            dimension.name
        );
        return Err(RejectReason::InvalidTags { why });
    }
    TagSet::new(tags.iter().copied()).map_err(|why| RejectReason::InvalidTags { why })
}

pub(crate) fn is_customer_key(key: &str) -> bool {
    (1..=MAX_CUSTOMER_BYTES).contains(&key.len())
        && (key.bytes().all(|byte| byte.is_ascii_graphic()) || !key.chars().any(char::is_control))
}

#[inline]
fn within(range: &TimeRange, time: Option<UnixNanos>) -> Result<UnixNanos, RejectReason> {
    let TimeRange { oldest, now, latest } = *range;
    let Some(at) = time else { return Ok(now) };
    match at.timestamp() {
        time if time < oldest => Err(RejectReason::TimeTooOld { time, oldest }),
        time if time > latest => Err(RejectReason::TimeInFuture { time, latest }),
        _ => Ok(at),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::locate::locate, *};
    use crate::domain::{product::Catalog, sample::product};
    use proptest::prelude::*;

    const BOUNDS: TimeBounds =
        TimeBounds { max_age: Duration::from_hours(24), max_future: Duration::from_mins(5) };

    fn catalog() -> Catalog {
        Catalog::new(vec![product("prod", true)])
    }

    fn now() -> Timestamp {
        "2026-11-22T10:30:00Z".parse().unwrap()
    }

    const ACME: Names<'_> = Names { product: "", customer: "acme", dimension: "requests" };
    const SEVEN: Event<'_> = Event { quantity: 7, time: None, id: b"", subject: "", tags: &[] };

    fn measured(dimension: &str, event: &Event<'_>) -> Result<Measured, RejectReason> {
        let catalog = catalog();
        let located = locate(&catalog, Names { dimension, ..ACME }, None)?;
        measure(located.dimension, &BOUNDS.around(now()), event)
    }

    #[test]
    fn sums_take_quantities_and_counts_take_events() {
        assert_eq!(measured("requests", &SEVEN).unwrap().usage, Usage::Sum(7));
        assert_eq!(measured("calls", &SEVEN).unwrap().usage, Usage::Sum(1));
    }

    #[test]
    fn an_event_above_the_largest_quantity_is_rejected_with_the_limit_and_one_at_it_counts() {
        let mut dimension = product("prod", true).dimensions[0].clone();
        dimension.limits.max_event_quantity = Some(1000);
        let with = |quantity| measure(&dimension, &BOUNDS.around(now()), &Event { quantity, ..SEVEN });
        assert_eq!(with(1000).unwrap().usage, Usage::Sum(1000));
        let refusal = with(1001).unwrap_err().to_string();
        assert!(refusal.contains("1001") && refusal.contains("`requests`, which is 1000"), "{refusal}");
        assert!(with(u64::MAX).is_err());
    }

    #[test]
    fn distinct_subjects_need_a_subject_and_others_do_not_mind_one() {
        let users = |subject| measured("users", &Event { subject, ..SEVEN });
        assert!(matches!(users(""), Err(RejectReason::MissingSubject { .. })));
        let long = "x".repeat(MAX_SUBJECT_BYTES + 1);
        assert_eq!(users(&long), Err(RejectReason::InvalidSubject { bytes: MAX_SUBJECT_BYTES + 1 }));
        assert_eq!(users(&long[1..]).unwrap().usage, Usage::Unique(1));
        assert!(measured("requests", &Event { subject: &long, ..SEVEN }).is_ok());
    }

    #[test]
    fn tags_need_a_dimension_that_takes_them_and_the_rules_of_aws() {
        let tagged = |dimension, key| measured(dimension, &Event { tags: &[(key, "blue")], ..SEVEN });
        assert!(matches!(tagged("requests", "team"), Err(RejectReason::InvalidTags { .. })));
        assert!(matches!(tagged("gb", "te,am"), Err(RejectReason::InvalidTags { .. })));
        assert!(tagged("gb", "team").unwrap().tags.is_some());
        assert_eq!(measured("gb", &SEVEN).unwrap().tags, None);
    }

    #[test]
    fn an_event_without_a_time_happens_now() {
        assert_eq!(measured("requests", &SEVEN).unwrap().hour, Hour::containing(now()));
    }

    #[test]
    fn each_fault_has_its_reason() {
        let long = "x".repeat(256);
        let catalog = catalog();
        let fault = |names| locate(&catalog, names, None).unwrap_err();
        assert!(matches!(fault(Names { product: "other", ..ACME }), RejectReason::UnknownProduct { .. }));
        assert!(matches!(
            fault(Names { dimension: "Requests", ..ACME }),
            RejectReason::UnknownDimension { .. }
        ));
        for customer in ["", &long, "a\nb"] {
            assert_eq!(fault(Names { customer, ..ACME }), RejectReason::InvalidCustomer);
        }
        let with_id = |id| measured("requests", &Event { id, ..SEVEN });
        assert_eq!(with_id(&long.as_bytes()[..129]), Err(RejectReason::InvalidEventId { bytes: 129 }));
        assert!(with_id(&long.as_bytes()[..128]).is_ok());
    }

    #[test]
    fn the_time_bounds_are_inclusive() {
        let at = |time: Timestamp| measured("requests", &Event { time: Some(time.into()), ..SEVEN });
        let moment = Duration::from_millis(1);
        let (oldest, latest) = (now().minus(BOUNDS.max_age), now().plus(BOUNDS.max_future));
        assert!(at(oldest).is_ok() && at(latest).is_ok());
        assert!(matches!(at(oldest.minus(moment)), Err(RejectReason::TimeTooOld { .. })));
        assert!(matches!(at(latest.plus(moment)), Err(RejectReason::TimeInFuture { .. })));
    }

    proptest! {
        #[test]
        fn no_event_panics(product: String, customer: String, dimension: String, quantity: u64, nanos: u64, texts: (String, String, String, String)) {
            let time = (nanos > 0).then(|| UnixNanos::new(nanos));
            let event = Event { quantity, time, id: texts.0.as_bytes(), subject: &texts.1, tags: &[(&texts.2, &texts.3)] };
            let names = Names { product: &product, customer: &customer, dimension: &dimension };
            let catalog = catalog();
            for refusal in [locate(&catalog, names, None).err(), measured("users", &event).err(), measured("gb", &event).err()] {
                prop_assert!(refusal.is_none_or(|refusal| !refusal.to_string().is_empty()));
            }
        }
    }
}
