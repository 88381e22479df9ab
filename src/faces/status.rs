//! Our errors as gRPC statuses.

use std::time::Duration;

use tonic::Status;
use tonic_types::{ErrorDetails, StatusExt};

use crate::work::{
    books::{DecideError, PutError, RecordError},
    committer::CommitError,
};

/// By then a commit has made room, unless the disk is stuck.
const RETRY_AFTER: Duration = Duration::from_millis(100);

impl From<CommitError> for Status {
    fn from(error: CommitError) -> Self {
        let text = error.to_string();
        match error {
            CommitError::Full => {
                let details = ErrorDetails::with_retry_info(Some(RETRY_AFTER));
                Self::with_error_details(tonic::Code::ResourceExhausted, text, details)
            }
            CommitError::Unavailable(_) => Self::unavailable(text),
        }
    }
}

impl From<RecordError> for Status {
    fn from(error: RecordError) -> Self {
        let text = error.to_string();
        match error {
            RecordError::Gap { .. } => Self::failed_precondition(text),
            RecordError::Foreign(_) => Self::permission_denied(text),
            RecordError::TooManyProducers | RecordError::TooManyOfClient | RecordError::Full => {
                Self::resource_exhausted(text)
            }
            RecordError::Store(_) => Self::unavailable(text),
        }
    }
}

impl From<PutError> for Status {
    fn from(error: PutError) -> Self {
        let text = error.to_string();
        match error {
            PutError::TooMany { .. } => Self::resource_exhausted(text),
            PutError::Taken(_) => Self::already_exists(text),
            PutError::Sealing => Self::unavailable(text),
            PutError::SealedEarly => Self::failed_precondition(text),
        }
    }
}

impl From<DecideError> for Status {
    fn from(error: DecideError) -> Self {
        let text = error.to_string();
        match error {
            DecideError::NotHeld(_) => Self::not_found(text),
            DecideError::TooLate { .. }
            | DecideError::GivenUpIdentity(_)
            | DecideError::Closed(_)
            | DecideError::NotConfigured(_) => Self::failed_precondition(text),
            DecideError::Store(_) => Self::unavailable(text),
        }
    }
}
