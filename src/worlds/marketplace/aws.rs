//! AWS itself, through its SDK. The only file that knows the SDK.

use std::{
    error::Error as StdError,
    future::Future,
    pin::Pin,
    sync::{Arc, OnceLock},
    time::Duration,
};

use aws_config::{
    BehaviorVersion, Region, SdkConfig, retry::RetryConfig, sts::AssumeRoleProvider, timeout::TimeoutConfig,
};
use aws_credential_types::provider::{SharedCredentialsProvider, error::CredentialsError};
use aws_sdk_marketplacemetering::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::batch_meter_usage::{BatchMeterUsageError, BatchMeterUsageOutput},
    types::{UsageRecord, UsageRecordResult, UsageRecordResultStatus},
};
use aws_smithy_http_client::{
    Builder as HttpClientBuilder,
    tls::{Provider, rustls_provider::CryptoMode},
};
use aws_smithy_runtime_api::{
    box_error::BoxError,
    client::{
        interceptors::{Intercept, context::BeforeDeserializationInterceptorContextRef, dyn_dispatch_hint},
        orchestrator::HttpResponse,
        runtime_components::RuntimeComponents,
    },
};
use aws_smithy_types::{DateTime, body::SdkBody, config_bag::ConfigBag, date_time::Format};

use super::{
    Marketplace, Records, Response,
    wire::{self, Echo},
};
use crate::{
    base::config::Connection,
    domain::{
        answer::{Line, Reply},
        time::Timestamp,
    },
};

/// Real seconds. AWS answers within one; a call that takes longer than this is better tried anew.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Some errors quote whole chains of others; this many characters of them are kept with each record.
const LONGEST_ERROR: usize = 300;
const ROLE_SESSION: &str = "tallyman";

/// One seller account in one region.
#[derive(Clone, Debug)]
pub struct AwsMarketplace {
    client: Client,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// AWS's standard chain: environment, profile, SSO, web identity, container, instance.
    Standard,
    /// Made up, for the sandbox.
    Sandbox,
}

impl AwsMarketplace {
    /// Builds the client. Credentials are looked for at the first call, so that a fault there waits like any other.
    pub async fn connect(connection: &Connection, credentials: Credentials) -> Self {
        let tls = Provider::Rustls(CryptoMode::Ring);
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .http_client(HttpClientBuilder::new().tls_provider(tls).build_https())
            .region(Region::new(connection.region.clone()))
            .retry_config(RetryConfig::disabled())
            .timeout_config(
                TimeoutConfig::builder()
                    .connect_timeout(CONNECT_TIMEOUT)
                    .operation_timeout(CALL_TIMEOUT)
                    .build(),
            );
        if credentials == Credentials::Sandbox {
            loader = loader.test_credentials();
        }
        let shared = loader.load().await;
        let mut config = aws_sdk_marketplacemetering::config::Builder::from(&shared);
        if let Some(url) = &connection.endpoint_url {
            config = config.endpoint_url(url);
        }
        if let (Some(role), Credentials::Standard) = (&connection.role_arn, credentials) {
            config = config.credentials_provider(assume_role(&shared, role, connection).await);
        }
        Self { client: Client::from_conf(config.build()) }
    }

    /// Over something else than the network.
    #[cfg(any(test, fuzzing))]
    pub(super) fn over(http: aws_smithy_runtime_api::client::http::SharedHttpClient) -> Self {
        let credentials = aws_credential_types::Credentials::new("id", "key", None, None, "made up");
        let config = aws_sdk_marketplacemetering::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .retry_config(RetryConfig::disabled())
            .credentials_provider(credentials)
            .http_client(http);
        Self { client: Client::from_conf(config.build()) }
    }

    async fn call(&self, records: &Records) -> Response {
        let body = wire::body(records);
        let date = DateReader::default();
        let request = self.client.batch_meter_usage().set_usage_records(Some(Vec::new())).customize();
        let answer = request
            .mutate_request(move |request| {
                request.headers_mut().insert("content-length", body.len().to_string());
                *request.body_mut() = SdkBody::from(body.as_str());
            })
            .interceptor(date.clone())
            .send()
            .await;
        let reply = match answer {
            Ok(output) => read_output(records, &output),
            Err(error) => read_error(&error),
        };
        Response { reply, date: date.0.get().copied() }
    }
}

impl Marketplace for AwsMarketplace {
    fn send(&self, records: Records) -> Pin<Box<dyn Future<Output = Response> + Send + '_>> {
        Box::pin(async move { self.call(&records).await })
    }
}

/// Keeps the `Date` of an answer, whatever else becomes of it: the SDK's outputs do not show it.
#[derive(Clone, Debug, Default)]
struct DateReader(Arc<OnceLock<Timestamp>>);

#[dyn_dispatch_hint]
impl Intercept for DateReader {
    fn name(&self) -> &'static str {
        "DateReader"
    }

    fn read_after_transmit(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        if let Some(date) = context.response().headers().get("date").and_then(read_date) {
            self.0.get_or_init(|| date);
        }
        Ok(())
    }
}

fn read_date(header: &str) -> Option<Timestamp> {
    let date = DateTime::from_str(header, Format::HttpDate).ok()?;
    Some(Timestamp::from_seconds(date.secs()))
}

async fn assume_role(shared: &SdkConfig, role: &str, connection: &Connection) -> SharedCredentialsProvider {
    let mut role = AssumeRoleProvider::builder(role)
        .configure(shared)
        .region(Region::new(connection.region.clone()))
        .session_name(ROLE_SESSION);
    if let Some(external_id) = &connection.external_id {
        role = role.external_id(external_id);
    }
    SharedCredentialsProvider::new(role.build().await)
}

fn read_output(records: &Records, output: &BatchMeterUsageOutput) -> Reply {
    let results =
        output.results().iter().filter_map(|result| Some((echo(result.usage_record()?), line(result))));
    let unprocessed = output.unprocessed_records().iter().map(|record| (echo(record), Line::Unprocessed));
    Reply::Answered(wire::match_lines(records, results.chain(unprocessed)))
}

fn echo(record: &UsageRecord) -> Echo<'_> {
    Echo {
        account_id: record.customer_aws_account_id().unwrap_or_default(),
        license_arn: record.license_arn().unwrap_or_default(),
        customer_identifier: record.customer_identifier(),
        dimension: record.dimension(),
        timestamp: Timestamp::from_seconds(record.timestamp().secs()),
    }
}

fn line(result: &UsageRecordResult) -> Line {
    match result.status() {
        Some(UsageRecordResultStatus::Success) => {
            Line::Success { receipt: result.metering_record_id().unwrap_or_default().into() }
        }
        Some(UsageRecordResultStatus::CustomerNotSubscribed) => Line::NotSubscribed,
        Some(UsageRecordResultStatus::DuplicateRecord) => Line::Duplicate,
        Some(other) => Line::Other(shortened(other.as_str()).into()),
        None => Line::Other("".into()),
    }
}

fn read_error(error: &SdkError<BatchMeterUsageError, HttpResponse>) -> Reply {
    let text: Arc<str> = describe(error).into();
    match error {
        SdkError::ServiceError(service) => {
            let status = service.raw().status().as_u16();
            classify(service.err().code().unwrap_or_default(), status, text)
        }
        // An answer without AWS's error code, for instance a proxy's.
        SdkError::ResponseError(response) => classify("", response.raw().status().as_u16(), text),
        SdkError::ConstructionFailure(_) => Reply::Setup(text),
        SdkError::DispatchFailure(_) if has_cause::<CredentialsError>(error) => Reply::Setup(text),
        SdkError::DispatchFailure(_) if never_connected(error) => Reply::NotDelivered(text),
        // A time-out, a broken connection, an answer that is no answer: AWS may have processed the call.
        _ => Reply::Lost(text),
    }
}

/// What an exception means (design: "Answers"). Unknown ones wait like a fault of the set-up: nothing is held for
/// want of our knowing better.
fn classify(code: &str, status: u16, text: Arc<str>) -> Reply {
    match code {
        "ThrottlingException"
        | "Throttling"
        | "TooManyRequestsException"
        | "RequestLimitExceeded"
        | "SlowDown" => Reply::Throttled,
        _ if status == 429 => Reply::Throttled,
        "InternalServiceErrorException" => Reply::Lost(text),
        // A 200 that cannot be read, and a server's time-out, may have been processed.
        _ if !(400..500).contains(&status) || status == 408 => Reply::Lost(text),
        "TimestampOutOfBoundsException" => Reply::TooOld(text),
        "InvalidLicenseException"
        | "InvalidUsageDimensionException"
        | "InvalidCustomerIdentifierException"
        | "InvalidTagException"
        | "InvalidUsageAllocationsException"
        | "ValidationException" => Reply::BadRecord(text),
        _ => Reply::Setup(text),
    }
}

/// One line that says what went wrong, causes included.
fn describe(error: &SdkError<BatchMeterUsageError, HttpResponse>) -> String {
    if let SdkError::ServiceError(service) = error {
        let (code, message) = (service.err().code(), service.err().message());
        let status = service.raw().status().as_u16();
        let code = code.map_or_else(|| format!("HTTP {status}"), str::to_owned);
        return shortened(&format!("AWS: {code} {}", message.unwrap_or_default()));
    }
    let text = causes(error).map(ToString::to_string).collect::<Vec<_>>().join(": ");
    shortened(&text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn shortened(text: &str) -> String {
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

    fn kind(code: &str, status: u16) -> Reply {
        classify(code, status, "".into())
    }

    #[test]
    fn a_date_is_read_as_http_writes_it() {
        let date = "2026-11-22T10:30:05Z".parse().unwrap();
        assert_eq!(read_date("Sun, 22 Nov 2026 10:30:05 GMT"), Some(date));
        for header in
            ["", "2026-11-22T10:30:05Z", "Sun, 22 Nov 2026 10:30:05 +0100", "Sun, 41 Nov 2026 10:30:05 GMT"]
        {
            assert_eq!(read_date(header), None, "{header}");
        }
    }

    #[test]
    fn exceptions_are_sorted_by_what_helps() {
        assert_eq!(kind("ThrottlingException", 400), Reply::Throttled);
        assert_eq!(kind("InternalServiceErrorException", 500), Reply::Lost("".into()));
        for status in [503, 200, 408] {
            assert_eq!(kind("", status), Reply::Lost("".into()));
        }
        assert_eq!(kind("", 429), Reply::Throttled);
        assert_eq!(kind("", 403), Reply::Setup("".into()));
        assert_eq!(kind("InvalidLicenseException", 400), Reply::BadRecord("".into()));
        assert_eq!(kind("TimestampOutOfBoundsException", 400), Reply::TooOld("".into()));
        assert_eq!(kind("ValidationException", 400), Reply::BadRecord("".into()));
        for code in [
            "AccessDeniedException",
            "ExpiredTokenException",
            "InvalidProductCodeException",
            "DisabledApiException",
            "NewException",
        ] {
            assert_eq!(kind(code, 400), Reply::Setup("".into()));
        }
    }
}
