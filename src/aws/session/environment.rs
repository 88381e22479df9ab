//! What the SDK may know of the process's environment: where credentials come from, and nothing else.
//!
//! The SDK reads endpoints, FIPS and more by itself, from variables that people set for emulators. A bill must not
//! follow them: where it goes is said in the configuration alone. So the SDK is given an environment of our making.
//! docs/changing.md has the whole list.

use std::collections::HashMap;

use aws_types::os_shim_internal::Env;

/// Where credentials come from.
const CREDENTIALS: [&str; 19] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ACCOUNT_ID",
    "AWS_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "HOME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE",
];

/// The SDK's name for a configured endpoint of STS.
const STS_ENDPOINT: &str = "AWS_ENDPOINT_URL_STS";

/// What would change where calls go, and is not taken.
const SET_ASIDE: [&str; 7] = [
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_MARKETPLACE_METERING",
    STS_ENDPOINT,
    "AWS_ENDPOINT_URL_SSO",
    "AWS_ENDPOINT_URL_SSO_OIDC",
    "AWS_USE_FIPS_ENDPOINT",
    "AWS_USE_DUALSTACK_ENDPOINT",
];

/// The environment variables of this process that may matter to the SDK.
#[derive(Clone, Debug)]
pub(super) struct Environment(HashMap<String, String>);

impl Environment {
    pub(super) fn of_process() -> Self {
        Self::of(std::env::vars_os().filter_map(|(name, value)| {
            // One that is not Unicode is none that the SDK reads.
            Some((name.into_string().ok()?, value.into_string().ok()?))
        }))
    }

    fn of(variables: impl Iterator<Item = (String, String)>) -> Self {
        Self(variables.filter(|(name, value)| matters(name) && !value.is_empty()).collect())
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// The variables that are set and not taken.
    pub(super) fn set_aside(&self) -> impl Iterator<Item = &'static str> {
        SET_ASIDE.into_iter().filter(|name| self.0.contains_key(*name))
    }

    /// The SDK's environment; `sts_endpoint_url` is the configuration's.
    pub(super) fn for_sdk(&self, sts_endpoint_url: Option<&str>) -> Env {
        let taken = self.0.iter().filter(|(name, _)| !SET_ASIDE.contains(&name.as_str()));
        let mut taken: HashMap<_, _> = taken.map(|(name, value)| (name.clone(), value.clone())).collect();
        taken.extend(sts_endpoint_url.map(|url| (STS_ENDPOINT.to_owned(), url.to_owned())));
        Env::from(taken)
    }
}

fn matters(name: &str) -> bool {
    CREDENTIALS.contains(&name) || SET_ASIDE.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(variables: &[(&str, &str)]) -> Environment {
        Environment::of(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
    }

    #[test]
    fn the_sdk_is_told_where_credentials_are_and_nothing_of_endpoints() {
        let found = environment(&[
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6"),
            ("AWS_ENDPOINT_URL", "http://localhost:4566"),
            ("AWS_ENDPOINT_URL_STS", "http://localhost:4567"),
            ("AWS_USE_FIPS_ENDPOINT", "true"),
            ("AWS_REGION", "eu-west-1"),
            ("AWS_MAX_ATTEMPTS", "9"),
            ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "false"),
            ("PATH", "/bin"),
        ]);
        let sdk = found.for_sdk(None);
        for (name, value) in [
            ("AWS_ACCESS_KEY_ID", "id"),
            ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"),
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6"),
        ] {
            assert_eq!(sdk.get(name).as_deref(), Ok(value));
        }
        for name in
            ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS", "AWS_USE_FIPS_ENDPOINT", "AWS_REGION", "PATH"]
        {
            assert!(sdk.get(name).is_err(), "{name}");
        }
        let set_aside: Vec<_> = found.set_aside().collect();
        assert_eq!(set_aside, ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS", "AWS_USE_FIPS_ENDPOINT"]);
    }

    #[test]
    fn the_endpoint_of_sts_is_the_configurations() {
        let found = environment(&[("AWS_ENDPOINT_URL_STS", "http://localhost:4567")]);
        let sdk = found.for_sdk(Some("https://sts-fips.us-east-1.amazonaws.com"));
        assert_eq!(sdk.get(STS_ENDPOINT).as_deref(), Ok("https://sts-fips.us-east-1.amazonaws.com"));
    }
}
