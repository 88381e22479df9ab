//! Messages of numbered streams that did not count.

use metrics::{counter, describe_counter};

const REPEATS: &str = "tallyman_stream_repeats_total";
const UNVERIFIED: &str = "tallyman_stream_repeats_unverified_total";
const REFUSALS: &str = "tallyman_stream_refusals_total";

/// The reasons for which a stream is refused: see `StreamRefusal`.
const REASONS: [&str; 5] = ["SEQUENCE_GAP", "DIVERGED", "SEQUENCE_TOO_OLD", "TAKEN_OVER", "STREAM_OVER"];

pub(super) fn begin() {
    counter!(REPEATS).increment(0);
    counter!(UNVERIFIED).increment(0);
    for reason in REASONS {
        counter!(REFUSALS, "reason" => reason).increment(0);
    }
}

pub(super) fn describe() {
    describe_counter!(
        REPEATS,
        "Messages of streams that had counted before, and were answered without counting again."
    );
    describe_counter!(
        UNVERIFIED,
        "Of those: messages whose events could not be compared with those of the first time."
    );
    describe_counter!(
        REFUSALS,
        "Streams that ended with a refusal, by reason (DIVERGED: other events under a number that had counted)."
    );
}

pub(crate) fn stream_repeated(is_verified: bool) {
    counter!(REPEATS).increment(1);
    if !is_verified {
        counter!(UNVERIFIED).increment(1);
    }
}

pub(crate) fn stream_refused(reason: &'static str) {
    counter!(REFUSALS, "reason" => reason).increment(1);
}
