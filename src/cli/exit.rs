//! Exit codes, and the failures that lead to them.

use std::{error::Error, io, process::ExitCode};

use tallyman_client::root_cause;
use thiserror::Error;
use tonic::{Code, Status};

use crate::{domain::text::printable, store::StoreError};

/// Exit codes. The larger ones are those of `sysexits.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    Ok,
    /// The work failed, or was refused.
    Failed,
    /// Wrong usage or configuration.
    Usage,
    /// A fault of tallyman.
    Internal,
    /// Something could not be read or written.
    Storage,
    /// Nothing is wrong here; the same command may work later.
    TryLater,
}

impl Exit {
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Usage => 64,
            Self::Internal => 70,
            Self::Storage => 74,
            Self::TryLater => 75,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a client command did not do its work.
#[derive(Debug, Error)]
pub(super) enum Failure {
    #[error("{0}")]
    Usage(String),
    /// What was given, or what the agent answered, makes no sense.
    #[error("{0}")]
    Wrong(String),
    #[error("cannot reach an agent at {address}: {cause}{}; is it running?", certificate_hint(.cause))]
    Unreachable { address: String, cause: String },
    #[error("{}", describe(.0))]
    Call(#[from] Status),
    /// A call that was repeated until its time was up.
    #[error("gave up after {waited}: {cause}. {advice}")]
    GaveUp { waited: String, cause: String, advice: String },
    #[error("{fault}{}", advice(.fault))]
    Store { fault: StoreError },
    #[error("cannot write the output: {0}")]
    Output(#[from] io::Error),
}

impl Failure {
    pub(super) fn exit(&self) -> Exit {
        match self {
            Self::Usage(_) => Exit::Usage,
            Self::Wrong(_) => Exit::Failed,
            Self::Unreachable { .. }
            | Self::GaveUp { .. }
            | Self::Store { fault: StoreError::InUse { .. } } => Exit::TryLater,
            Self::Call(status) => exit_for(status),
            Self::Store { .. } | Self::Output(_) => Exit::Storage,
        }
    }

    /// Whether the reader of the output has gone, as in `tallyman records | head`. That is no fault.
    pub(super) fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }
}

impl From<StoreError> for Failure {
    fn from(fault: StoreError) -> Self {
        Self::Store { fault }
    }
}

/// What to do about a store that cannot be used.
const fn advice(fault: &StoreError) -> &'static str {
    match fault {
        StoreError::InUse { .. } => "; without --data-dir its agent is asked",
        _ => "",
    }
}

fn exit_for(status: &Status) -> Exit {
    if is_connection_fault(status) {
        return Exit::TryLater;
    }
    match status.code() {
        Code::Ok => Exit::Ok,
        Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented => Exit::Failed,
        Code::Unauthenticated | Code::PermissionDenied => Exit::Usage,
        Code::Unavailable
        | Code::ResourceExhausted
        | Code::DeadlineExceeded
        | Code::Cancelled
        | Code::Aborted => Exit::TryLater,
        Code::Unknown | Code::Internal | Code::DataLoss => Exit::Internal,
    }
}

/// Whether the status was made by this client because the call or its answer was lost. A status that an agent sent has
/// no source.
pub(super) fn is_connection_fault(status: &Status) -> bool {
    status.source().is_some()
}

/// A status in words for a person.
pub(super) fn describe(status: &Status) -> String {
    if is_connection_fault(status) {
        let cause = root_cause(status);
        return format!("the connection to the agent failed: {cause}{}", certificate_hint(&cause));
    }
    let message = match status.message() {
        "" => status.code().description().to_owned(),
        message => printable(message),
    };
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => {
            format!("the agent refuses this client: {message} (--token-file names the file with its token)")
        }
        Code::Unimplemented => format!("the agent cannot do this: {message}"),
        Code::Unavailable | Code::ResourceExhausted => format!("the agent takes nothing just now: {message}"),
        _ => message,
    }
}

/// What to do about an agent that asks for a certificate. The TLS library stays behind the transport, so its alert is
/// recognised by its text.
fn certificate_hint(cause: &str) -> &'static str {
    if cause.contains("CertificateRequired") {
        " (--cert-file and --key-file name the certificate of this client)"
    } else {
        ""
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_calls_become_exit_codes() {
        let expected = [
            (Code::InvalidArgument, 1),
            (Code::NotFound, 1),
            (Code::AlreadyExists, 1),
            (Code::FailedPrecondition, 1),
            (Code::Unimplemented, 1),
            (Code::PermissionDenied, 64),
            (Code::Unauthenticated, 64),
            (Code::Internal, 70),
            (Code::Unknown, 70),
            (Code::Unavailable, 75),
            (Code::ResourceExhausted, 75),
            (Code::DeadlineExceeded, 75),
        ];
        for (code, exit) in expected {
            assert_eq!(Failure::from(Status::new(code, "why")).exit().code(), exit, "{code}");
        }
    }

    #[test]
    fn a_lost_connection_is_worth_another_try_whatever_its_code() {
        let mut status = Status::unknown("transport error");
        status.set_source(std::sync::Arc::new(io::Error::other("connection reset by peer")));
        let failure = Failure::from(status);
        assert_eq!(failure.exit(), Exit::TryLater);
        assert_eq!(failure.to_string(), "the connection to the agent failed: connection reset by peer");
    }

    #[test]
    fn a_client_without_a_certificate_is_told_how_to_name_one() {
        let alert = "received fatal alert: CertificateRequired";
        let mut lost = Status::unknown("transport error");
        lost.set_source(std::sync::Arc::new(io::Error::other(alert)));
        let unreachable = Failure::Unreachable { address: "a:1".to_owned(), cause: alert.to_owned() };
        for failure in [Failure::from(lost), unreachable] {
            assert!(failure.to_string().contains("--cert-file and --key-file"), "{failure}");
        }
    }

    #[test]
    fn a_closed_pipe_is_no_fault_and_a_full_disk_is() {
        assert!(Failure::from(io::Error::from(io::ErrorKind::BrokenPipe)).is_closed_pipe());
        let full = Failure::from(io::Error::from(io::ErrorKind::StorageFull));
        assert!(!full.is_closed_pipe());
        assert_eq!(full.exit().code(), 74);
    }

    #[test]
    fn a_status_without_a_message_still_says_something() {
        assert!(!Failure::from(Status::new(Code::NotFound, "")).to_string().is_empty());
    }
}
