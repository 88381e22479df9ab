//! A small configuration, for the tests of its parts.

use super::{Config, ConfigError, parse};

pub(crate) const GOOD: &str = r#"
    [[product]]
    code = "prod"
    identity = "account"
    [[product.dimension]]
    name = "requests"
    [[product.customer]]
    key = "acme"
    account_id = "012345678901"
"#;

pub(crate) fn config(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    parse(text, "t.toml", variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

pub(crate) fn faults(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    config(text, variables).unwrap_err().0
}
