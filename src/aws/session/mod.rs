//! What every AWS service needs: the SDK's configuration, the time of an answer, and what an error means.
//!
//! A service lies beside this folder. It builds its SDK client from [`Session::sdk_config`] with an endpoint of its own,
//! hands a [`DateReader`] to each call, and turns a failed call into a [`Failure`] before it looks at exceptions of its
//! own.

mod date;
mod environment;
mod failure;
mod profile;

use std::time::Duration;

use aws_config::{
    BehaviorVersion, ConfigLoader, Region, SdkConfig, retry::RetryConfig, sts::AssumeRoleProvider,
    timeout::TimeoutConfig,
};
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};
use aws_smithy_http_client::{
    Builder as HttpClientBuilder,
    tls::{Provider, rustls_provider::CryptoMode},
};

use crate::base::config::Connection;

use environment::Environment;
use profile::Profiles;

pub(in crate::aws) use self::{
    date::DateReader,
    failure::{Failure, shortened},
};

/// Real seconds. AWS answers within one; a call that takes longer than this is better tried anew.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Shown in CloudTrail as who made the call.
const ROLE_SESSION: &str = "tallyman";

/// One seller account in one region, as all its services are reached.
#[derive(Clone, Debug)]
pub(crate) struct Session {
    sdk_config: SdkConfig,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Credentials {
    /// AWS's standard chain: environment, profile, SSO, web identity, container, instance.
    Standard,
    /// Made up, for the sandbox.
    Sandbox,
}

impl Session {
    /// Loads the SDK's configuration. The first call looks for the credentials, so that a fault there waits like any
    /// other.
    pub(crate) async fn load(connection: &Connection, credentials: Credentials) -> Self {
        let mut loader = loader(connection);
        match (credentials, &connection.role_arn) {
            (Credentials::Sandbox, _) => loader = loader.test_credentials(),
            (Credentials::Standard, Some(role)) => {
                loader = loader.credentials_provider(assume_role(role, connection).await);
            }
            (Credentials::Standard, None) => {}
        }
        Self { sdk_config: loader.load().await }
    }

    /// What a service's SDK client is built from.
    pub(super) const fn sdk_config(&self) -> &SdkConfig {
        &self.sdk_config
    }

    /// A session whose calls go to `http` instead of the network.
    #[cfg(any(test, fuzzing))]
    pub(super) fn over(http: aws_smithy_runtime_api::client::http::SharedHttpClient) -> Self {
        let credentials = aws_credential_types::Credentials::new("id", "key", None, None, "made up");
        let sdk_config = SdkConfig::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("us-east-1"))
            .retry_config(RetryConfig::disabled())
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .http_client(http)
            .build();
        Self { sdk_config }
    }
}

/// What the environment and AWS's profiles say of where calls go, which is not taken: the configuration says it.
pub(crate) fn set_aside() -> Vec<String> {
    let environment = Environment::of_process();
    let profiles = Profiles::read(&environment);
    environment.set_aside().map(str::to_owned).chain(profiles.set_aside).collect()
}

/// The SDK does not retry: every attempt is counted by whoever makes the call. It learns of the environment and of
/// profiles where credentials come from, and nothing else.
fn loader(connection: &Connection) -> ConfigLoader {
    let environment = Environment::of_process();
    let profiles = Profiles::read(&environment);
    let files = EnvConfigFiles::builder()
        .with_contents(EnvConfigFileKind::Config, profiles.config)
        .with_contents(EnvConfigFileKind::Credentials, profiles.credentials);
    let tls = Provider::Rustls(CryptoMode::Ring);
    let timeouts =
        TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).operation_timeout(CALL_TIMEOUT).build();
    aws_config::defaults(BehaviorVersion::latest())
        .http_client(HttpClientBuilder::new().tls_provider(tls).build_https())
        .env(environment.for_sdk(connection.sts_endpoint_url.as_deref()))
        .profile_files(files.build())
        .region(Region::new(connection.region.clone()))
        .use_fips(false)
        .use_dual_stack(false)
        .retry_config(RetryConfig::disabled())
        .timeout_config(timeouts)
}

/// Credentials of the role, from AWS's own STS whatever the endpoint of the services is, unless the configuration names
/// one of STS.
async fn assume_role(role: &str, connection: &Connection) -> SharedCredentialsProvider {
    let base = loader(connection).load().await;
    let mut role = AssumeRoleProvider::builder(role)
        .configure(&base)
        .region(Region::new(connection.region.clone()))
        .session_name(ROLE_SESSION);
    if let Some(external_id) = &connection.external_id {
        role = role.external_id(external_id);
    }
    SharedCredentialsProvider::new(role.build().await)
}
