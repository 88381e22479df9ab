//! Records on their way to AWS, and what became of them.

use std::time::Duration;

use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::domain::{
    billing::{
        answer::Reply,
        record::{HoldReason, Outcome},
    },
    time::Hour,
};

const SEALED_THROUGH: &str = "tallyman_sealed_through_timestamp_seconds";
const RECORDS_UNSENT: &str = "tallyman_records_unsent";
const OLDEST_UNSENT: &str = "tallyman_oldest_unsent_seconds";
const DEADLINE: &str = "tallyman_deadline_seconds";
const UNSENT_UNITS: &str = "tallyman_unsent_units";
const RECORDS_HELD: &str = "tallyman_records_held";
const RECORDS_SETTLED: &str = "tallyman_records_settled_total";
const QUANTITY_CAPPED: &str = "tallyman_quantity_capped_total";
const SUBMISSIONS: &str = "tallyman_submissions_total";
const SUBMISSION_SECONDS: &str = "tallyman_submission_seconds";
const LAST_SUCCESS: &str = "tallyman_last_success_timestamp_seconds";
const QUIET: &str = "tallyman_quiet_seconds";

pub(super) fn describe() {
    describe_gauge!(
        SEALED_THROUGH,
        "The end of the last hour that is sealed, in seconds since the Unix epoch."
    );
    describe_gauge!(RECORDS_UNSENT, "Sealed records that AWS has not accepted yet.");
    describe_gauge!(
        OLDEST_UNSENT,
        "Seconds since the end of the oldest hour that is over and not all with AWS, sealed or not; 0 if there is none."
    );
    describe_gauge!(
        DEADLINE,
        "Seconds until AWS refuses what waits, sealed or of an hour that is over; +Inf if nothing waits."
    );
    describe_gauge!(UNSENT_UNITS, "Usage in unsent records, in base units.");
    describe_gauge!(RECORDS_HELD, "Records that wait for a person, by reason.");
    describe_counter!(
        RECORDS_SETTLED,
        "Records by outcome (accepted, presumed, held, rolled_forward, expired, carried, written_off)."
    );
    describe_counter!(
        QUANTITY_CAPPED,
        "Customers' hours that have reached AWS's largest quantity (2147483647); what is above it is billed later."
    );
    describe_counter!(SUBMISSIONS, "Calls to BatchMeterUsage by result.");
    describe_histogram!(SUBMISSION_SECONDS, "Time until AWS answered a call.");
    describe_gauge!(LAST_SUCCESS, "When AWS last accepted a record, in seconds since the Unix epoch.");
    describe_gauge!(QUIET, "Seconds since the last usage event was accepted.");
}

/// A product's counters of records and calls exist from the start, or the first of a kind would not show as growth.
pub(crate) fn announce<'a>(product: &str, dimensions: impl Iterator<Item = &'a str>) {
    for dimension in dimensions {
        capped(product, dimension, 0);
    }
    for outcome in OUTCOMES {
        counter!(RECORDS_SETTLED, "product" => product.to_owned(), "outcome" => outcome).increment(0);
    }
    for result in RESULTS {
        counter!(SUBMISSIONS, "product" => product.to_owned(), "result" => result).increment(0);
    }
}

const ANSWERED: &str = "answered";
const THROTTLED: &str = "throttled";
const NOT_DELIVERED: &str = "not_delivered";
const LOST: &str = "lost";
const BAD_RECORD: &str = "bad_record";
const SETUP: &str = "setup";
const RESULTS: [&str; 6] = [ANSWERED, THROTTLED, NOT_DELIVERED, LOST, BAD_RECORD, SETUP];

pub(crate) fn submitted(product: &str, reply: &Reply, took: Duration) {
    counter!(SUBMISSIONS, "product" => product.to_owned(), "result" => result_of(reply)).increment(1);
    histogram!(SUBMISSION_SECONDS).record(took);
}

pub(crate) fn result_of(reply: &Reply) -> &'static str {
    match reply {
        Reply::Answered(_) => ANSWERED,
        Reply::Throttled => THROTTLED,
        Reply::NotDelivered(_) => NOT_DELIVERED,
        Reply::Lost(_) => LOST,
        Reply::BadRecord(_) | Reply::TooOld(_) | Reply::UnknownIdentity(..) => BAD_RECORD,
        Reply::Setup(_) => SETUP,
    }
}

const ACCEPTED: &str = "accepted";
const PRESUMED: &str = "presumed";
const HELD: &str = "held";
const ROLLED_FORWARD: &str = "rolled_forward";
const EXPIRED: &str = "expired";
const CARRIED: &str = "carried";
const WRITTEN_OFF: &str = "written_off";
const OUTCOMES: [&str; 7] = [ACCEPTED, PRESUMED, HELD, ROLLED_FORWARD, EXPIRED, CARRIED, WRITTEN_OFF];

pub(crate) fn settled(product: &str, outcome: &Outcome) {
    let outcome = match outcome {
        Outcome::Accepted { presumed: false, .. } => ACCEPTED,
        Outcome::Accepted { presumed: true, .. } => PRESUMED,
        Outcome::Held { .. } => HELD,
        Outcome::RolledForward { .. } => ROLLED_FORWARD,
        Outcome::Expired => EXPIRED,
        Outcome::Carried { .. } => CARRIED,
        Outcome::WrittenOff => WRITTEN_OFF,
    };
    counter!(RECORDS_SETTLED, "product" => product.to_owned(), "outcome" => outcome).increment(1);
}

/// An hour has reached AWS's largest quantity.
pub(crate) fn quantity_capped(product: &str, dimension: &str) {
    capped(product, dimension, 1);
}

fn capped(product: &str, dimension: &str, hours: u64) {
    let (product, dimension) = (product.to_owned(), dimension.to_owned());
    counter!(QUANTITY_CAPPED, "product" => product, "dimension" => dimension).increment(hours);
}

#[expect(clippy::cast_precision_loss, reason = "a metric")]
pub(crate) fn sealed_through(hour: Hour) {
    gauge!(SEALED_THROUGH).set(hour.end().seconds() as f64);
}

/// A product's state, read when someone asks for the metrics.
#[derive(Clone, Debug, Default)]
pub(crate) struct ProductGauges {
    pub product: String,
    pub records_unsent: u64,
    pub oldest_unsent: Duration,
    /// `None` if nothing waits.
    pub deadline: Option<Duration>,
    /// Unsent base units by dimension.
    pub unsent_units: Vec<(String, u128)>,
    pub held: Vec<(HoldReason, u64)>,
    pub last_success: Option<i64>,
    pub quiet: Option<Duration>,
}

#[expect(clippy::cast_precision_loss, reason = "metrics")]
pub(crate) fn product(gauges: &ProductGauges) {
    let product = || gauges.product.clone();
    gauge!(RECORDS_UNSENT, "product" => product()).set(gauges.records_unsent as f64);
    gauge!(OLDEST_UNSENT, "product" => product()).set(gauges.oldest_unsent.as_secs_f64());
    let deadline = gauges.deadline.map_or(f64::INFINITY, |left| left.as_secs_f64());
    gauge!(DEADLINE, "product" => product()).set(deadline);
    for (dimension, units) in &gauges.unsent_units {
        gauge!(UNSENT_UNITS, "product" => product(), "dimension" => dimension.clone()).set(*units as f64);
    }
    for reason in HoldReason::ALL {
        let held = gauges.held.iter().find(|(held, _)| *held == reason).map_or(0, |(_, count)| *count);
        gauge!(RECORDS_HELD, "product" => product(), "reason" => reason.name()).set(held as f64);
    }
    if let Some(seconds) = gauges.last_success {
        gauge!(LAST_SUCCESS, "product" => product()).set(seconds as f64);
    }
    if let Some(quiet) = gauges.quiet {
        gauge!(QUIET, "product" => product()).set(quiet.as_secs_f64());
    }
}
