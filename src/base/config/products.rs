//! `[[product]]`: what is billed, whom, and how AWS is reached for it.

use std::{
    collections::{BTreeSet, HashMap},
    num::NonZeroU64,
};

use super::{ConfiguredCustomer, Connection, reader::Section};
use crate::domain::{
    identity::{Identity, IdentityFields, IdentityMode},
    product::{Aggregate, Catalog, Dimension, Product, ProductIndex},
    quantity::{MAX_DECIMALS, Rounding, Unit},
    time::Timestamp,
    usage::is_customer_key,
};

/// AWS allows 200 usage dimensions per product; restricted ones count, so leave room.
const MAX_DIMENSIONS: usize = 1000;
const MAX_PRODUCTS: usize = 1000;
/// TOML's: what took effect can be written down.
const MAX_INTEGER: u64 = i64::MAX.unsigned_abs();

pub(super) type Products = (Catalog, Vec<Connection>, Vec<ConfiguredCustomer>);

pub(super) fn read_products(root: &mut Section<'_>) -> Products {
    let mut sections = root.sections("product");
    if sections.is_empty() || sections.len() > MAX_PRODUCTS {
        root.fault("product", &format!("1 to {MAX_PRODUCTS} [[product]] sections are needed"));
        sections.truncate(MAX_PRODUCTS);
    }
    let (mut products, mut connections, mut customers) = (Vec::new(), Vec::new(), Vec::new());
    let mut codes = BTreeSet::new();
    for (section, index) in sections.iter_mut().zip(0..) {
        let product = read_product(section);
        if !codes.insert(product.code.clone()) {
            section.fault("code", &format!("`{}` is there twice", product.code));
        }
        connections.push(read_connection(section));
        customers.extend(read_customers(section, ProductIndex(index), product.identity));
        products.push(product);
    }
    root.put_all("product", sections);
    (Catalog::new(products), connections, customers)
}

fn read_product(section: &mut Section<'_>) -> Product {
    let code = section.required("code");
    let is_code = |byte: u8| byte.is_ascii_alphanumeric() || b"/=:_.@-".contains(&byte);
    if code.len() > 255 || !code.bytes().all(is_code) {
        section.fault("code", "must be at most 255 of a-z A-Z 0-9 / = : _ . @ -");
    }
    let identities = [
        ("license", IdentityMode::License),
        ("account", IdentityMode::Account),
        ("customer_identifier", IdentityMode::CustomerIdentifier),
    ];
    let identity = section.choice("identity", &identities, "license");
    let open_by_default = if identity == IdentityMode::License { "registered" } else { "open" };
    let open = section.choice("customers", &[("open", true), ("registered", false)], open_by_default);
    let zero_records = section.flag("zero_records", true);
    let dimensions = read_dimensions(section);
    Product { code: code.into(), identity, former: None, open, zero_records, dimensions }
}

fn read_dimensions(product: &mut Section<'_>) -> Vec<Dimension> {
    let mut sections = product.sections("dimension");
    if sections.is_empty() || sections.len() > MAX_DIMENSIONS {
        product
            .fault("dimension", &format!("1 to {MAX_DIMENSIONS} [[product.dimension]] sections are needed"));
        sections.truncate(MAX_DIMENSIONS);
    }
    let mut names = BTreeSet::new();
    let mut dimensions = Vec::with_capacity(sections.len());
    for section in &mut sections {
        let dimension = read_dimension(section);
        if !names.insert(dimension.name.clone()) {
            section.fault("name", &format!("`{}` is there twice", dimension.name));
        }
        dimensions.push(dimension);
    }
    product.put_all("dimension", sections);
    dimensions
}

fn read_dimension(section: &mut Section<'_>) -> Dimension {
    let name = section.required("name");
    if name.len() > 255 || name.chars().any(char::is_control) {
        section.fault("name", "must be 1 to 255 bytes without control characters");
    }
    let holds = section.flag("hold", false);
    let aggregates = [
        ("sum", Aggregate::Sum),
        ("count", Aggregate::Count),
        ("max", Aggregate::Max),
        ("latest", Aggregate::Latest { hold: holds }),
        ("unique", Aggregate::Unique),
    ];
    let aggregate = section.choice("aggregate", &aggregates, "sum");
    if holds && !matches!(aggregate, Aggregate::Latest { .. }) {
        section.fault("hold", "has a meaning only with aggregate = \"latest\"");
    }
    let base_units = section.integer("unit", 1, (1, MAX_INTEGER));
    let decimals = section.integer("decimals", 0, (0, u64::from(MAX_DECIMALS)));
    let roundings = [("down", Rounding::Down), ("up", Rounding::Up), ("nearest", Rounding::Nearest)];
    let rounding = section.choice("rounding", &roundings, "down");
    let tags = section.flag("tags", false);
    if tags && !aggregate.adds_up() {
        section.fault("tags", "only a sum or a count can be split by tags");
    }
    let unit = NonZeroU64::new(base_units)
        .and_then(|base_units| Unit::new(base_units, u8::try_from(decimals).unwrap_or_default()))
        .unwrap_or_default();
    Dimension { name: name.into(), aggregate, unit, rounding, tags }
}

fn read_connection(section: &mut Section<'_>) -> Connection {
    let connection = Connection {
        region: section.text("region", "us-east-1"),
        endpoint_url: section.optional_text("endpoint_url"),
        role_arn: section.optional_text("role_arn"),
        external_id: section.optional_text("external_id"),
    };
    let is_url = |url: &String| url.starts_with("http://") || url.starts_with("https://");
    if connection.endpoint_url.as_ref().is_some_and(|url| !is_url(url)) {
        section.fault("endpoint_url", "must begin with http:// or https://");
    }
    if connection.role_arn.as_ref().is_some_and(|arn| !arn.starts_with("arn:aws") || !arn.contains(":role/"))
    {
        section.fault("role_arn", "must be like arn:aws:iam::123456789012:role/name");
    }
    if connection.external_id.is_some() && connection.role_arn.is_none() {
        section.fault("external_id", "has a meaning only beside role_arn");
    }
    connection
}

fn read_customers(
    product: &mut Section<'_>,
    index: ProductIndex,
    mode: IdentityMode,
) -> Vec<ConfiguredCustomer> {
    let mut sections = product.sections("customer");
    let mut customers = Vec::with_capacity(sections.len());
    let (mut keys, mut identities) = (BTreeSet::new(), HashMap::new());
    for section in &mut sections {
        let Some(customer) = read_customer(section, index, mode) else { continue };
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

fn read_customer(
    section: &mut Section<'_>,
    product: ProductIndex,
    mode: IdentityMode,
) -> Option<ConfiguredCustomer> {
    let key = section.required("key");
    if !is_customer_key(&key) {
        section.fault("key", "must be 1 to 255 bytes without control characters");
    }
    let mut field = |key| section.optional_text(key).unwrap_or_default();
    let (account_id, license_arn, customer_identifier) =
        (field("account_id"), field("license_arn"), field("customer_identifier"));
    let since = section
        .optional_text("since")
        .and_then(|text| text.parse::<Timestamp>().map_err(|what| section.fault("since", &what)).ok());
    let fields = IdentityFields {
        account_id: &account_id,
        license_arn: &license_arn,
        customer_identifier: &customer_identifier,
    };
    let is_bare = account_id.is_empty() && license_arn.is_empty() && customer_identifier.is_empty();
    let identity = if is_bare { Identity::from_key(mode, &key) } else { Identity::from_fields(mode, fields) };
    let identity = identity.map_err(|what| section.fault("key", &what)).ok()?;
    Some(ConfiguredCustomer { product, key: key.into(), identity, since })
}

#[cfg(test)]
mod tests {
    use super::super::{
        ConfigError,
        testing::{GOOD, config, faults},
    };

    #[test]
    fn two_customers_never_share_an_identity() {
        let text = format!("{GOOD}\n[[product.customer]]\nkey = \"other\"\naccount_id = \"012345678901\"");
        assert_eq!(faults(&text, &[]).len(), 1);
    }

    #[test]
    fn what_took_effect_can_be_written_down() {
        let unit = |unit| config(GOOD, &[("TALLYMAN__PRODUCT__0__DIMENSION__0__UNIT", unit)]);
        assert!(unit("9223372036854775807").unwrap().effective.contains("9223372036854775807"));
        assert!(unit("9223372036854775808").is_err(), "TOML has no such number");
    }

    #[test]
    fn a_name_that_is_required_is_not_empty() {
        for empty in [GOOD.replace("\"prod\"", "\"\""), GOOD.replace("\"requests\"", "\"\"")] {
            let ConfigError(faults) = config(&empty, &[]).unwrap_err();
            assert!(faults.len() == 1 && faults[0].contains("must not be empty"), "{faults:?}");
        }
    }
}
