//! Our errors as gRPC statuses.

use std::{collections::HashMap, time::Duration};

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

use crate::{
    domain::customer::transition::RegistrationRefused,
    engine::{
        billing::{AdjustError, DecideError, PutError},
        committer::{CommitError, Never},
        counting::{CountError, streams::StreamRefusal},
        moves::MoveError,
    },
};

/// By then a commit has made room, unless the disk is stuck.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Whose reasons those in our `ErrorInfo` are.
const ERROR_DOMAIN: &str = "tallyman";

impl<E: Into<Self>> From<CommitError<E>> for Status {
    fn from(error: CommitError<E>) -> Self {
        let error = match error.refusal() {
            Ok(refusal) => return refusal.into(),
            Err(error) => error,
        };
        let text = error.to_string();
        match error {
            CommitError::Full => {
                let details = ErrorDetails::with_retry_info(Some(RETRY_AFTER));
                Self::with_error_details(Code::ResourceExhausted, text, details)
            }
            CommitError::Unavailable(_) => Self::unavailable(text),
            CommitError::Refused(never) => never.into(),
        }
    }
}

impl From<Never> for Status {
    fn from(never: Never) -> Self {
        match never {}
    }
}

impl From<CountError> for Status {
    fn from(error: CountError) -> Self {
        let text = error.to_string();
        match error {
            CountError::Stream(refusal) => refusal.into(),
            CountError::TooManyProducers | CountError::TooManyOfClient | CountError::Full { .. } => {
                Self::resource_exhausted(text)
            }
            CountError::Outdated => {
                let details = ErrorDetails::with_retry_info(Some(RETRY_AFTER));
                Self::with_error_details(Code::ResourceExhausted, text, details)
            }
            CountError::Store(_) => Self::unavailable(text),
        }
    }
}

/// Applications go by the reason of the `google.rpc.ErrorInfo`, and by the sequences in it.
impl From<StreamRefusal> for Status {
    fn from(refusal: StreamRefusal) -> Self {
        let sequences = |producer: &str, sequence: u64, last: u64| {
            vec![
                ("producer_id", producer.to_owned()),
                ("sequence", sequence.to_string()),
                ("durable_sequence", last.to_string()),
            ]
        };
        let (code, metadata) = match &refusal {
            StreamRefusal::Gap { expected } => {
                (Code::FailedPrecondition, vec![("expected_sequence", expected.to_string())])
            }
            StreamRefusal::Diverged { producer, sequence, last }
            | StreamRefusal::TooOld { producer, sequence, last } => {
                (Code::FailedPrecondition, sequences(producer, *sequence, *last))
            }
            StreamRefusal::TakenOver { producer } => {
                (Code::Aborted, vec![("producer_id", producer.to_string())])
            }
            StreamRefusal::Over => (Code::FailedPrecondition, Vec::new()),
        };
        let metadata: HashMap<String, String> =
            metadata.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let details = ErrorDetails::with_error_info(refusal.reason(), ERROR_DOMAIN, metadata);
        Self::with_error_details(code, refusal.to_string(), details)
    }
}

impl From<PutError> for Status {
    fn from(error: PutError) -> Self {
        let text = error.to_string();
        match error {
            PutError::TooMany { .. } => Self::resource_exhausted(text),
            PutError::Taken(_) => Self::already_exists(text),
            PutError::Refused(RegistrationRefused::Sealing | RegistrationRefused::ClockInDoubt) => {
                Self::unavailable(text)
            }
            PutError::UnseenKey | PutError::Refused(RegistrationRefused::SinceAhead { .. }) => {
                Self::invalid_argument(text)
            }
            PutError::Refused(
                RegistrationRefused::SealedEarly
                | RegistrationRefused::BeforeAnother { .. }
                | RegistrationRefused::TooManyReplaced,
            )
            | PutError::DoesNotFit(_)
            | PutError::CarriesOver(_) => Self::failed_precondition(text),
            PutError::Store(_) => Self::unavailable(text),
        }
    }
}

impl From<MoveError> for Status {
    fn from(error: MoveError) -> Self {
        let text = error.to_string();
        match error {
            MoveError::UnknownProduct { .. } | MoveError::AlreadyThere { .. } | MoveError::NoJournal => {
                Self::failed_precondition(text)
            }
            MoveError::Store(_) => Self::unavailable(text),
        }
    }
}

impl From<AdjustError> for Status {
    fn from(error: AdjustError) -> Self {
        let text = error.to_string();
        match error {
            AdjustError::UnknownCustomer { .. } | AdjustError::NotConfigured => Self::not_found(text),
            AdjustError::TooMuch { .. } | AdjustError::Level { .. } => Self::failed_precondition(text),
            AdjustError::IdTaken { .. } => Self::already_exists(text),
            AdjustError::Store(_) => Self::unavailable(text),
        }
    }
}

impl From<DecideError> for Status {
    fn from(error: DecideError) -> Self {
        let text = error.to_string();
        match error {
            DecideError::NotHeld(_) => Self::not_found(text),
            DecideError::TooLate { .. }
            | DecideError::InConflict(_)
            | DecideError::GivenUpIdentity(_)
            | DecideError::LaterIdentity(_)
            | DecideError::Closed(_)
            | DecideError::NotConfigured(_) => Self::failed_precondition(text),
            DecideError::Store(_) => Self::unavailable(text),
        }
    }
}
