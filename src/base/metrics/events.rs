//! Events, and the commits that take them to disk.

use std::time::Duration;

use metrics::{Counter, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::domain::usage::event::Counts;

const EVENTS: &str = "tallyman_events_total";
const EVENTS_LATE: &str = "tallyman_events_late_total";
const EVENTS_UNTAGGED: &str = "tallyman_events_untagged_total";
const EVENTS_NOT_BILLABLE: &str = "tallyman_events_not_billable_total";
const EVENTS_REFUSED: &str = "tallyman_events_refused_total";
const COMMIT_SECONDS: &str = "tallyman_commit_seconds";
const COMMIT_EVENTS: &str = "tallyman_commit_events";
const OPEN_BUCKETS: &str = "tallyman_open_buckets";

pub(super) fn begin() {
    refused(0);
    unknown_product_rejected(0);
}

pub(super) fn describe() {
    describe_counter!(EVENTS, "Usage events by result (accepted, duplicate, rejected).");
    describe_counter!(
        EVENTS_LATE,
        "Accepted events that were counted in a later hour, since theirs was sealed."
    );
    describe_counter!(
        EVENTS_UNTAGGED,
        "Accepted events that are billed untagged, since their tags found no room."
    );
    describe_counter!(
        EVENTS_NOT_BILLABLE,
        "Accepted events of customers that had ended, which are held as not billable unless they subscribe again."
    );
    describe_counter!(
        EVENTS_REFUSED,
        "Events of requests that were refused whole (RESOURCE_EXHAUSTED), since too many waited for a commit."
    );
    describe_histogram!(COMMIT_SECONDS, "Time to write and sync one group of requests.");
    describe_histogram!(COMMIT_EVENTS, "Events in one commit.");
    describe_gauge!(OPEN_BUCKETS, "Buckets of hours that are not sealed.");
}

/// The counters of a product's events. Looked up once, since each request adds to them.
#[derive(Clone, Debug)]
pub(crate) struct EventCounters {
    accepted: Counter,
    duplicates: Counter,
    rejected: Counter,
    late: Counter,
    untagged: Counter,
    not_billable: Counter,
}

impl EventCounters {
    pub(crate) fn of(product: &str) -> Self {
        let result = |result| counter!(EVENTS, "result" => result, "product" => product.to_owned());
        Self {
            accepted: result("accepted"),
            duplicates: result("duplicate"),
            rejected: result("rejected"),
            late: counter!(EVENTS_LATE, "product" => product.to_owned()),
            untagged: counter!(EVENTS_UNTAGGED, "product" => product.to_owned()),
            not_billable: counter!(EVENTS_NOT_BILLABLE, "product" => product.to_owned()),
        }
    }

    pub(crate) fn add(&self, counts: Counts) {
        self.accepted.increment(counts.accepted);
        self.duplicates.increment(counts.duplicates);
        self.rejected.increment(counts.rejected);
        self.late.increment(counts.late);
        self.untagged.increment(counts.untagged);
        self.not_billable.increment(counts.not_billable);
    }
}

/// Events of a request for which there was no room. Its products do not matter: it is refused before any is looked at.
pub(crate) fn refused(events: u64) {
    counter!(EVENTS_REFUSED).increment(events);
}

/// Events that name no known product.
pub(crate) fn unknown_product_rejected(events: u64) {
    counter!(EVENTS, "result" => "rejected", "product" => "").increment(events);
}

#[expect(clippy::cast_precision_loss, reason = "a metric")]
pub(crate) fn committed(events: usize, took: Duration, open_buckets: usize) {
    histogram!(COMMIT_SECONDS).record(took);
    histogram!(COMMIT_EVENTS).record(events as f64);
    gauge!(OPEN_BUCKETS).set(open_buckets as f64);
}
