//! What a failed call means, whichever service it was for.

use std::{error::Error as StdError, sync::Arc};

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

/// Some errors quote whole chains of others; this many characters of them are kept, of their beginning and their end
/// together.
const LONGEST_ERROR: usize = 300;
/// The end of a chain is its cause.
const LONGEST_CAUSE: usize = 160;
const LEFT_OUT: &str = " [...] ";

/// Why a call brought no result. The texts say so in one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::aws) enum Failure {
    /// Refused for its rate; nothing was processed.
    Throttled,
    /// The request did not reach AWS, for instance for want of a connection.
    NotDelivered(Arc<str>),
    /// The request may have been processed: a time-out, a broken connection, a 5xx.
    Lost(Arc<str>),
    /// No credentials, or a request that the SDK cannot build; nothing was processed.
    Setup(Arc<str>),
    /// Refused with this exception, empty if AWS named none; nothing was processed. The service knows its own
    /// exceptions. All others, such as a denied access, are faults of the set-up.
    Refused { exception: Box<str>, text: Arc<str> },
}

impl<E> From<&SdkError<E, HttpResponse>> for Failure
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    fn from(error: &SdkError<E, HttpResponse>) -> Self {
        let text: Arc<str> = describe(error).into();
        match error {
            SdkError::ServiceError(service) => {
                let status = service.raw().status().as_u16();
                Self::answered(service.err().code().unwrap_or_default(), status, text)
            }
            // An answer without AWS's error code, for instance a proxy's.
            SdkError::ResponseError(response) => Self::answered("", response.raw().status().as_u16(), text),
            SdkError::ConstructionFailure(_) => Self::Setup(text),
            SdkError::DispatchFailure(_) if has_cause::<CredentialsError>(error) => Self::Setup(text),
            SdkError::DispatchFailure(_) if never_connected(error) => Self::NotDelivered(text),
            // A time-out, a broken connection, an answer that is no answer: AWS may have processed the call.
            _ => Self::Lost(text),
        }
    }
}

impl Failure {
    /// Names the host that a call did not reach, or that did not answer it.
    #[must_use]
    pub(in crate::aws) fn at(self, host: &str) -> Self {
        match self {
            Self::NotDelivered(text) => Self::NotDelivered(format!("{host}: {text}").into()),
            Self::Lost(text) if !text.starts_with(ANSWERED) => Self::Lost(format!("{host}: {text}").into()),
            Self::Lost(_) | Self::Throttled | Self::Setup(_) | Self::Refused { .. } => self,
        }
    }

    fn answered(exception: &str, status: u16, text: Arc<str>) -> Self {
        match exception {
            "ThrottlingException"
            | "Throttling"
            | "TooManyRequestsException"
            | "RequestLimitExceeded"
            | "SlowDown" => Self::Throttled,
            _ if status == 429 => Self::Throttled,
            "InternalServiceErrorException" => Self::Lost(text),
            // A 200 that cannot be read, and a server's time-out, may have been processed.
            _ if !(400..500).contains(&status) || status == 408 => Self::Lost(text),
            _ => Self::Refused { exception: exception.into(), text },
        }
    }
}

/// One line that says what went wrong, causes included.
fn describe<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: ProvideErrorMetadata + StdError + 'static,
{
    if let SdkError::ServiceError(service) = error {
        let (code, message) = (service.err().code(), service.err().message());
        let status = service.raw().status().as_u16();
        let code = code.map_or_else(|| format!("HTTP {status}"), str::to_owned);
        return shortened(&format!("{ANSWERED}{code} {}", message.unwrap_or_default()));
    }
    let text = causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ");
    without_its_middle(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

/// The beginning of what AWS itself has said.
const ANSWERED: &str = "AWS: ";

/// A chain of causes, short enough to be kept with a record: its beginning says what failed, its end says why.
fn without_its_middle(text: &str) -> String {
    let length = text.chars().count();
    if length <= LONGEST_ERROR {
        return text.to_owned();
    }
    let beginning = text.chars().take(LONGEST_ERROR - LONGEST_CAUSE - LEFT_OUT.len());
    beginning.chain(LEFT_OUT.chars()).chain(text.chars().skip(length - LONGEST_CAUSE)).collect()
}

/// The beginning of a text from AWS, short enough to be kept with a record.
pub(in crate::aws) fn shortened(text: &str) -> String {
    text.chars().take(LONGEST_ERROR).collect()
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let cause = next?;
        next = cause.source();
        Some(cause)
    })
}

fn has_cause<E: StdError + 'static>(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(<dyn StdError>::is::<E>)
}

/// Whether the request surely did not leave this machine.
fn never_connected(error: &(dyn StdError + 'static)) -> bool {
    causes(error).any(|cause| {
        cause
            .downcast_ref::<hyper_util::client::legacy::Error>()
            .is_some_and(hyper_util::client::legacy::Error::is_connect)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(exception: &str, status: u16) -> Failure {
        Failure::answered(exception, status, "".into())
    }

    #[test]
    fn a_refusal_for_the_rate_is_known_by_its_name_or_status() {
        assert_eq!(answered("ThrottlingException", 400), Failure::Throttled);
        assert_eq!(answered("", 429), Failure::Throttled);
    }

    #[test]
    fn whatever_may_have_been_processed_is_lost() {
        assert_eq!(answered("InternalServiceErrorException", 500), Failure::Lost("".into()));
        for status in [503, 200, 408] {
            assert_eq!(answered("", status), Failure::Lost("".into()));
        }
    }

    #[test]
    fn a_long_chain_keeps_its_beginning_and_its_cause() {
        let chain = format!("dispatch failure: {} the metadata timed out", "no credentials: ".repeat(40));
        let kept = without_its_middle(&chain);
        assert_eq!(kept.chars().count(), 300);
        assert!(
            kept.starts_with("dispatch failure: no cred") && kept.ends_with("the metadata timed out"),
            "{kept}"
        );
        assert_eq!(without_its_middle("short"), "short");
    }

    #[test]
    fn the_host_is_named_where_it_gave_no_answer() {
        let at = |failure: Failure| failure.at("host");
        assert_eq!(
            at(Failure::NotDelivered("refused".into())),
            Failure::NotDelivered("host: refused".into())
        );
        assert_eq!(at(Failure::Lost("timed out".into())), Failure::Lost("host: timed out".into()));
        for answered in [Failure::Lost("AWS: HTTP 503 ".into()), Failure::Setup("no credentials".into())] {
            assert_eq!(at(answered.clone()), answered);
        }
    }

    #[test]
    fn every_other_exception_is_left_to_the_service() {
        for (exception, status) in [("", 403), ("AccessDeniedException", 400), ("NewException", 400)] {
            let refused = Failure::Refused { exception: exception.into(), text: "".into() };
            assert_eq!(answered(exception, status), refused);
        }
    }
}
