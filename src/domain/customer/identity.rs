//! The name by which AWS knows a customer: license, account or customer identifier.

use std::{fmt, sync::Arc};

/// The kind of identity that a product's records carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum IdentityMode {
    /// `CustomerAWSAccountId` and `LicenseArn`, and no `ProductCode`: every product created since 2026-06-01.
    License,
    /// `CustomerAWSAccountId` and `ProductCode`.
    Account,
    /// `CustomerIdentifier` and `ProductCode`: legacy.
    CustomerIdentifier,
}

impl fmt::Display for IdentityMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::License => "license",
            Self::Account => "account",
            Self::CustomerIdentifier => "customer_identifier",
        })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    License { account_id: Arc<str>, license_arn: Arc<str> },
    Account { account_id: Arc<str> },
    CustomerIdentifier { customer_identifier: Arc<str> },
}

/// The identity fields as a user gives them; empty means not given.
#[derive(Clone, Copy, Debug, Default)]
pub struct IdentityFields<'a> {
    pub account_id: &'a str,
    pub license_arn: &'a str,
    pub customer_identifier: &'a str,
}

impl Identity {
    pub const fn mode(&self) -> IdentityMode {
        match self {
            Self::License { .. } => IdentityMode::License,
            Self::Account { .. } => IdentityMode::Account,
            Self::CustomerIdentifier { .. } => IdentityMode::CustomerIdentifier,
        }
    }

    /// Takes over the memory of a customer's key, where that is the same text.
    pub fn share(&mut self, key: &Arc<str>) {
        match self {
            Self::License { account_id: text, .. }
            | Self::Account { account_id: text }
            | Self::CustomerIdentifier { customer_identifier: text } => {
                if *text == *key {
                    *text = key.clone();
                }
            }
        }
    }

    /// The one text that it is; `None` if it is more.
    pub fn plain_text(&self) -> Option<&str> {
        match self {
            Self::Account { account_id: text } | Self::CustomerIdentifier { customer_identifier: text } => {
                Some(text)
            }
            Self::License { .. } => None,
        }
    }

    /// The identity as fields; what the mode does not use is empty.
    pub fn fields(&self) -> IdentityFields<'_> {
        match self {
            Self::License { account_id, license_arn } => {
                IdentityFields { account_id, license_arn, customer_identifier: "" }
            }
            Self::Account { account_id } => {
                IdentityFields { account_id, license_arn: "", customer_identifier: "" }
            }
            Self::CustomerIdentifier { customer_identifier } => {
                IdentityFields { account_id: "", license_arn: "", customer_identifier }
            }
        }
    }

    /// Builds exactly what `mode` needs. The error says which field is wrong and why.
    pub fn from_fields(mode: IdentityMode, fields: IdentityFields<'_>) -> Result<Self, String> {
        let unused = |name: &str, value: &str| match value {
            "" => Ok(()),
            _ => Err(format!("{name} has no place in a product with identity `{mode}`: leave it out")),
        };
        match mode {
            IdentityMode::License => {
                unused("customer_identifier", fields.customer_identifier)?;
                Ok(Self::License {
                    account_id: account_id(fields.account_id)?,
                    license_arn: license_arn(fields.license_arn)?,
                })
            }
            IdentityMode::Account => {
                unused("customer_identifier", fields.customer_identifier)?;
                unused("license_arn", fields.license_arn)?;
                Ok(Self::Account { account_id: account_id(fields.account_id)? })
            }
            IdentityMode::CustomerIdentifier => {
                unused("account_id", fields.account_id)?;
                unused("license_arn", fields.license_arn)?;
                Ok(Self::CustomerIdentifier {
                    customer_identifier: customer_identifier(fields.customer_identifier)?,
                })
            }
        }
    }

    /// The identity that a customer's key itself is, for customers that no one registered: 12 digits are an account
    /// id, anything else a customer identifier. A license cannot be guessed.
    pub fn from_key(mode: IdentityMode, key: &str) -> Result<Self, String> {
        let is_account = account_id(key).is_ok();
        match mode {
            IdentityMode::License => Err("a license cannot be guessed: give account_id and license_arn".to_owned()),
            IdentityMode::Account if is_account => {
                Self::from_fields(mode, IdentityFields { account_id: key, ..IdentityFields::default() })
            }
            IdentityMode::Account => {
                Err("the key is no 12-digit AWS account id: register the customer".to_owned())
            }
            IdentityMode::CustomerIdentifier if is_account => Err(
                "the key is an AWS account id, but the product bills by customer_identifier: register the customer"
                    .to_owned(),
            ),
            IdentityMode::CustomerIdentifier => {
                Self::from_fields(mode, IdentityFields { customer_identifier: key, ..IdentityFields::default() })
            }
        }
    }
}

fn account_id(text: &str) -> Result<Arc<str>, String> {
    if text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        Ok(text.into())
    } else {
        Err(format!("account_id `{text}` is not an AWS account id of 12 digits"))
    }
}

const MAX_ARN: usize = 2048;

/// AWS's own event sample drops the leading `arn:`; it is put back.
fn license_arn(text: &str) -> Result<Arc<str>, String> {
    let arn = if text.starts_with("aws") { format!("arn:{text}") } else { text.to_owned() };
    let is_arn = arn.starts_with("arn:aws") && arn.splitn(6, ':').count() == 6 && !arn.ends_with(':');
    if is_arn && arn.len() <= MAX_ARN && arn.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(arn.into())
    } else {
        Err(format!(
            "license_arn `{text}` is not like arn:aws:license-manager::123456789012:license:l-0123abcd"
        ))
    }
}

fn customer_identifier(text: &str) -> Result<Arc<str>, String> {
    if (1..=255).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text.into())
    } else {
        Err(format!("customer_identifier `{text}` is not 1 to 255 printable ASCII characters"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:license-manager::123456789012:license:l-0123abcd";

    fn license(account_id: &str, license_arn: &str) -> Result<Identity, String> {
        Identity::from_fields(
            IdentityMode::License,
            IdentityFields { account_id, license_arn, customer_identifier: "" },
        )
    }

    #[test]
    fn each_mode_takes_exactly_its_fields() {
        assert!(license("123456789012", ARN).is_ok());
        assert!(license("", ARN).is_err());
        assert!(license("123456789012", "").is_err());
        let both =
            IdentityFields { account_id: "123456789012", license_arn: ARN, customer_identifier: "abc" };
        for mode in [IdentityMode::License, IdentityMode::Account, IdentityMode::CustomerIdentifier] {
            assert!(Identity::from_fields(mode, both).is_err());
        }
    }

    #[test]
    fn an_arn_without_its_head_is_mended() {
        assert_eq!(license("123456789012", ARN.trim_start_matches("arn:")), license("123456789012", ARN));
    }

    #[test]
    fn keys_stand_for_what_the_product_allows() {
        use IdentityMode::{Account, CustomerIdentifier, License};
        assert!(Identity::from_key(Account, "123456789012").is_ok());
        assert!(Identity::from_key(Account, "acme").is_err());
        assert!(Identity::from_key(CustomerIdentifier, "ifAPi5AcF3").is_ok());
        assert!(Identity::from_key(CustomerIdentifier, "123456789012").is_err());
        assert!(Identity::from_key(License, "123456789012").is_err());
    }

    #[test]
    fn fields_and_identity_are_two_ways_to_say_the_same() {
        let identity = license("123456789012", ARN).unwrap();
        assert_eq!(Identity::from_fields(identity.mode(), identity.fields()), Ok(identity));
    }

    #[test]
    fn what_is_no_license_arn_is_refused() {
        let long = format!("{ARN}{}", "0".repeat(MAX_ARN));
        let headless = ARN.replacen("arn:aws", "arn:gcp", 1);
        for arn in ["arn:aws:license-manager", "arn:aws:a:b:c:", "arn:aws:a:b:c:d e", &headless, &long] {
            assert!(license("123456789012", arn).is_err(), "{arn}");
        }
    }

    #[test]
    fn customer_identifiers_are_up_to_255_printable_characters() {
        let identity = |key: &str| Identity::from_key(IdentityMode::CustomerIdentifier, key);
        assert!(identity(&"x".repeat(255)).is_ok());
        for key in ["", "a b", "é", &"x".repeat(256)] {
            assert!(identity(key).is_err(), "{key}");
        }
    }

    #[test]
    fn modes_are_named_as_in_the_configuration() {
        let modes = [IdentityMode::License, IdentityMode::Account, IdentityMode::CustomerIdentifier];
        assert_eq!(modes.map(|mode| mode.to_string()), ["license", "account", "customer_identifier"]);
    }
}
