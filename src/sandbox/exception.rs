//! How AWS refuses a call as a whole.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The answer to a refused call. None of the call's records has been metered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exception {
    pub(super) kind: Kind,
    pub(super) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Kind {
    AccessDenied,
    DisabledApi,
    ExpiredToken,
    IncompleteSignature,
    InternalServiceError,
    InvalidCustomerIdentifier,
    InvalidLicense,
    InvalidProductCode,
    InvalidSignature,
    InvalidTag,
    InvalidUsageAllocations,
    InvalidUsageDimension,
    MissingAuthenticationToken,
    RequestTooLarge,
    Serialization,
    ServiceUnavailable,
    Throttling,
    TimestampOutOfBounds,
    UnknownOperation,
    Validation,
}

/// Exceptions that a caller may choose: AWS refuses with them for reasons that the sandbox does not have.
const CHOOSABLE: [Kind; 14] = [
    Kind::AccessDenied,
    Kind::DisabledApi,
    Kind::ExpiredToken,
    Kind::InternalServiceError,
    Kind::InvalidCustomerIdentifier,
    Kind::InvalidLicense,
    Kind::InvalidProductCode,
    Kind::InvalidTag,
    Kind::InvalidUsageAllocations,
    Kind::InvalidUsageDimension,
    Kind::ServiceUnavailable,
    Kind::Throttling,
    Kind::TimestampOutOfBounds,
    Kind::Validation,
];

impl FromStr for Kind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let named = CHOOSABLE.into_iter().find(|kind| kind.name() == name);
        named.ok_or_else(|| format!("must be one of {}, not `{name}`", CHOOSABLE.map(Self::name).join(", ")))
    }
}

impl TryFrom<String> for Kind {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl From<Kind> for String {
    fn from(kind: Kind) -> Self {
        kind.name().to_owned()
    }
}

impl Kind {
    pub(super) fn because(self, message: impl Into<String>) -> Exception {
        Exception { kind: self, message: message.into() }
    }

    /// The name on the wire. Names that no service's model lists are common to all of AWS.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::AccessDenied => "AccessDeniedException",
            Self::DisabledApi => "DisabledApiException",
            Self::ExpiredToken => "ExpiredTokenException",
            Self::IncompleteSignature => "IncompleteSignatureException",
            Self::InternalServiceError => "InternalServiceErrorException",
            Self::InvalidCustomerIdentifier => "InvalidCustomerIdentifierException",
            Self::InvalidLicense => "InvalidLicenseException",
            Self::InvalidProductCode => "InvalidProductCodeException",
            Self::InvalidSignature => "InvalidSignatureException",
            Self::InvalidTag => "InvalidTagException",
            Self::InvalidUsageAllocations => "InvalidUsageAllocationsException",
            Self::InvalidUsageDimension => "InvalidUsageDimensionException",
            Self::MissingAuthenticationToken => "MissingAuthenticationToken",
            Self::Serialization => "SerializationException",
            Self::ServiceUnavailable => "ServiceUnavailable",
            Self::Throttling => "ThrottlingException",
            Self::TimestampOutOfBounds => "TimestampOutOfBoundsException",
            Self::UnknownOperation => "UnknownOperationException",
            // A caller shall see a request that it must make smaller, whichever limit it went over.
            Self::RequestTooLarge | Self::Validation => "ValidationException",
        }
    }

    pub(super) const fn status(self) -> u16 {
        match self {
            Self::InternalServiceError => 500,
            Self::MissingAuthenticationToken => 403,
            Self::RequestTooLarge => 413,
            Self::ServiceUnavailable => 503,
            Self::AccessDenied
            | Self::DisabledApi
            | Self::ExpiredToken
            | Self::IncompleteSignature
            | Self::InvalidCustomerIdentifier
            | Self::InvalidLicense
            | Self::InvalidProductCode
            | Self::InvalidSignature
            | Self::InvalidTag
            | Self::InvalidUsageAllocations
            | Self::InvalidUsageDimension
            | Self::Serialization
            | Self::Throttling
            | Self::TimestampOutOfBounds
            | Self::UnknownOperation
            | Self::Validation => 400,
        }
    }
}

/// A value outside its range or pattern, in the words of AWS: `path` is like
/// `usageRecords.3.member.dimension`.
pub(super) fn violation(path: &str, value: &str, must: &str) -> Exception {
    const SHOWN: usize = 100;
    let value: String = value.chars().take(SHOWN).collect();
    Kind::Validation.because(format!(
        "1 validation error detected: Value '{value}' at '{path}' failed to satisfy constraint: \
         Member must {must}"
    ))
}
