//! How AWS refuses a call as a whole.

/// The answer to a refused call. None of the call's records has been metered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Exception {
    pub(super) kind: Kind,
    pub(super) message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    InternalServiceError,
    InvalidLicense,
    InvalidProductCode,
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

impl Kind {
    pub(super) fn because(self, message: impl Into<String>) -> Exception {
        Exception { kind: self, message: message.into() }
    }

    /// The name on the wire. Those that the service's model does not list are common to all of AWS.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::InternalServiceError => "InternalServiceErrorException",
            Self::InvalidLicense => "InvalidLicenseException",
            Self::InvalidProductCode => "InvalidProductCodeException",
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
            Self::InvalidLicense
            | Self::InvalidProductCode
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
