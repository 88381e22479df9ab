//! The spans: their names and what they tell, in one place. None ever tells a customer.

use tonic::Code;
use tracing::{Span, field::Empty, info_span};

use crate::{
    base::metrics,
    domain::{billing::answer::Reply, usage::event::Counts},
};

/// Traces are made of this target alone, and logs leave it out.
pub(crate) const TARGET: &str = "tallyman::span";

/// A call to the agent, of the trace that its caller says.
pub(crate) fn call(service: &str, method: &str) -> Span {
    info_span!(
        target: TARGET,
        "call",
        otel.name = format!("{service}/{method}"),
        otel.kind = "server",
        otel.status_code = Empty,
        rpc.system = "grpc",
        rpc.service = service,
        rpc.method = method,
        rpc.grpc.status_code = Empty,
        client = Empty,
        accepted = Empty,
        duplicates = Empty,
        rejected = Empty,
    )
}

/// A message of a stream, from its arrival until its answer.
pub(crate) fn message() -> Span {
    info_span!(
        target: TARGET,
        "RecordStream message",
        otel.kind = "server",
        accepted = Empty,
        duplicates = Empty,
        rejected = Empty,
    )
}

/// Jobs that are written together, from the first one that is traced until their answers. Within the trace of that one;
/// [`Span::follows_from`] links the others.
pub(crate) fn commit(first: &Span) -> Span {
    info_span!(target: TARGET, parent: first, "commit", jobs = Empty, events = Empty)
}

/// A commit's part.
pub(crate) fn write(commit: &Span) -> Span {
    within(commit, || info_span!(target: TARGET, "write"))
}

/// A commit's part.
pub(crate) fn sync(commit: &Span) -> Span {
    within(commit, || info_span!(target: TARGET, "sync"))
}

/// Sealing what is due at a moment: hours, and customers that close.
pub(crate) fn seal() -> Span {
    info_span!(target: TARGET, parent: None, "seal", hours = Empty, records = Empty)
}

/// A batch for AWS, from the note of the attempt until its result is on disk. A call without records, which only asks for
/// the time, is not traced.
pub(crate) fn submission(product: &str, records: usize) -> Span {
    if records == 0 {
        return Span::none();
    }
    info_span!(
        target: TARGET,
        parent: None,
        "submission",
        otel.status_code = Empty,
        product,
        records = integer(records),
        result = Empty,
    )
}

/// The call itself.
pub(crate) fn call_to_aws(submission: &Span) -> Span {
    within(submission, || {
        info_span!(
            target: TARGET,
            "BatchMeterUsage",
            otel.kind = "client",
            rpc.system = "aws-api",
            rpc.service = "MarketplaceMetering",
            rpc.method = "BatchMeterUsage",
        )
    })
}

/// A part of what is traced; of what is not, no part is.
fn within(whole: &Span, part: impl FnOnce() -> Span) -> Span {
    if whole.is_disabled() { Span::none() } else { whole.in_scope(part) }
}

/// Which client the current call is of.
pub(crate) fn note_client(name: &str) {
    Span::current().record("client", name);
}

/// What the current call or message came to.
pub(crate) fn note_counts(counts: Counts) {
    let span = Span::current();
    span.record("accepted", integer(counts.accepted));
    span.record("duplicates", integer(counts.duplicates));
    span.record("rejected", integer(counts.rejected));
}

pub(crate) fn note_group(commit: &Span, jobs: usize, events: usize) {
    commit.record("jobs", integer(jobs));
    commit.record("events", integer(events));
}

pub(crate) fn note_sealed(seal: &Span, hours: u64, records: u64) {
    seal.record("hours", integer(hours));
    seal.record("records", integer(records));
}

pub(crate) fn note_reply(submission: &Span, reply: &Reply) {
    submission.record("result", metrics::result_of(reply));
    if !matches!(reply, Reply::Answered(_)) {
        submission.record("otel.status_code", "ERROR");
    }
}

pub(crate) fn note_status(call: &Span, code: Code) {
    call.record("rpc.grpc.status_code", i64::from(i32::from(code)));
    if is_our_fault(code) {
        call.record("otel.status_code", "ERROR");
    }
}

/// OpenTelemetry's are signed.
fn integer(count: impl TryInto<i64>) -> i64 {
    count.try_into().unwrap_or(i64::MAX)
}

/// Whether a status is the server's fault, by OpenTelemetry's conventions for gRPC servers.
fn is_our_fault(code: Code) -> bool {
    match code {
        Code::Unknown
        | Code::DeadlineExceeded
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unauthenticated => false,
    }
}
