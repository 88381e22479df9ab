//! `[[product.customer]]`: customers that are known before the application tells of them.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{About, Section};
use crate::domain::{
    customer::identity::{Identity, IdentityFields, IdentityMode},
    product::ProductIndex,
    text::has_unseen,
    time::Timestamp,
    usage::event::is_customer_key,
};

#[derive(Clone, Debug)]
pub struct ConfiguredCustomer {
    pub product: ProductIndex,
    pub key: Arc<str>,
    pub identity: Identity,
    pub since: Option<Timestamp>,
}

const ABOUT: About = About {
    words: "A customer of the product above it. Most come from the application, with \
            `CustomerService.PutCustomer`; the file is for those that are known before. It gives exactly what the \
            product's identity needs: `account_id` and `license_arn`, `account_id` alone, or `customer_identifier` \
            alone. At each start the file replaces what `PutCustomer` said of the same key.",
    example: r#"
[[product.customer]]
key = "acme"
account_id = "123456789012"
license_arn = "arn:aws:license-manager::123456789012:license:l-0123456789abcdef"
since = "2026-12-01T10:00:00Z"

[[product]]
code = "olderproductcode"
identity = "customer_identifier"

[[product.dimension]]
name = "requests"

[[product.customer]]
key = "globex"
customer_identifier = "ifAPi5AcF3"
"#,
};

pub(super) fn read_all(
    product: &mut Section<'_>,
    index: ProductIndex,
    mode: IdentityMode,
) -> Vec<ConfiguredCustomer> {
    let mut sections = product.sections("customer", &ABOUT);
    let mut customers = Vec::with_capacity(sections.len());
    let (mut keys, mut identities) = (BTreeSet::new(), HashMap::new());
    for section in &mut sections {
        let Some(customer) = read(section, index, mode) else { continue };
        if !keys.insert(customer.key.clone()) {
            section.fault("key", &format!("`{}` is there twice", customer.key));
        }
        if let Some(other) = identities.insert(customer.identity.clone(), customer.key.clone()) {
            section.fault(
                "key",
                &format!("has the same identity as customer `{other}`: one identity is billed once"),
            );
        }
        customers.push(customer);
    }
    product.put_all("customer", sections);
    customers
}

/// `None` if it says nothing that AWS could know the customer by.
fn read(section: &mut Section<'_>, product: ProductIndex, mode: IdentityMode) -> Option<ConfiguredCustomer> {
    let key = section.key("key", "How events name the customer").required_text();
    if !is_customer_key(&key) || has_unseen(&key) {
        section
            .fault("key", "must be 1 to 255 bytes, without control characters and others that are not seen");
    }
    let identity = read_identity(section, &key, mode);
    let since = section
        .key("since", "When the subscription, or the license that replaces another, began, RFC 3339: usage from before is not billed to it")
        .optional_text()
        .and_then(|text| text.parse::<Timestamp>().map_err(|what| section.fault("since", &what)).ok());
    let identity = identity.map_err(|what| section.fault("key", &what)).ok()?;
    Some(ConfiguredCustomer { product, key: key.into(), identity, since })
}

/// A customer of whom nothing else is said is known by its key.
fn read_identity(section: &mut Section<'_>, key: &str, mode: IdentityMode) -> Result<Identity, String> {
    let account_id = section.key("account_id", "The buyer's AWS account, 12 digits").optional_text();
    let license_arn = section.key("license_arn", "The `LicenseArn` of `ResolveCustomer`").optional_text();
    let customer_identifier = section
        .key(
            "customer_identifier",
            "The `CustomerIdentifier` of `ResolveCustomer`, for products that still have one",
        )
        .optional_text();
    let fields = IdentityFields {
        account_id: account_id.as_deref().unwrap_or_default(),
        license_arn: license_arn.as_deref().unwrap_or_default(),
        customer_identifier: customer_identifier.as_deref().unwrap_or_default(),
    };
    let is_bare = [fields.account_id, fields.license_arn, fields.customer_identifier]
        .iter()
        .all(|field| field.is_empty());
    if is_bare { Identity::from_key(mode, key) } else { Identity::from_fields(mode, fields) }
}

#[cfg(test)]
mod tests {
    use crate::base::config::testing::{GOOD, config, faults};

    #[test]
    fn a_key_has_no_characters_that_are_not_seen() {
        for (key, is_good) in [("ac\u{200b}me", false), ("\u{ad}", false), ("acmé-客户", true)] {
            let text =
                format!("{GOOD}\n[[product.customer]]\nkey = \"{key}\"\naccount_id = \"210987654321\"");
            let read = config(&text, &[]);
            assert_eq!(read.is_ok(), is_good, "{key:?}: {:?}", read.err());
        }
    }

    #[test]
    fn two_customers_never_share_an_identity() {
        let text = format!("{GOOD}\n[[product.customer]]\nkey = \"other\"\naccount_id = \"012345678901\"");
        assert_eq!(faults(&text, &[]).len(), 1);
    }
}
