//! `[[product]]`: what is billed, and how AWS is told.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    About, Section,
    customer::{self, ConfiguredCustomer},
    dimension,
    product_connection::{self, Connection},
};
use crate::domain::{
    customer::identity::IdentityMode,
    product::{Catalog, Product, ProductIndex},
};

const MAX_PRODUCTS: usize = 1000;

const ABOUT: About = About {
    words: "One for each AWS Marketplace product, at least one. Its dimensions and customers follow it.",
    example: r#"
[[product]]
code = "exampleproductcode"
identity = "license"
customers = "registered"
zero_records = true
review = "3h"
region = "us-east-1"
endpoint_url = "http://127.0.0.1:7460"
role_arn = "arn:aws:iam::123456789012:role/metering"
external_id = "an-id-of-your-choice"
sts_endpoint_url = "https://sts-fips.us-east-1.amazonaws.com"
"#,
};

pub(super) type Products = (Catalog, Vec<Connection>, Vec<ConfiguredCustomer>);

pub(super) fn read_all(root: &mut Section<'_>) -> Products {
    let mut sections = root.sections("product", &ABOUT);
    if sections.is_empty() || sections.len() > MAX_PRODUCTS {
        root.fault("product", &format!("1 to {MAX_PRODUCTS} [[product]] sections are needed"));
        sections.truncate(MAX_PRODUCTS);
    }
    let (mut products, mut connections, mut customers) = (Vec::new(), Vec::new(), Vec::new());
    let mut codes = BTreeSet::new();
    for (section, index) in sections.iter_mut().zip(0..) {
        let product = read(section);
        if !codes.insert(product.code.clone()) {
            section.fault("code", &format!("`{}` is there twice", product.code));
        }
        connections.push(product_connection::read(section));
        customers.extend(customer::read_all(section, ProductIndex(index), product.identity));
        products.push(product);
    }
    root.put_all("product", sections);
    (Catalog::new(products), connections, customers)
}

fn read(section: &mut Section<'_>) -> Product {
    let code = read_code(section);
    let identities = [
        ("license", IdentityMode::License),
        ("account", IdentityMode::Account),
        ("customer_identifier", IdentityMode::CustomerIdentifier),
    ];
    let identity = section
        .key(
            "identity",
            "How AWS knows the customers. Products created since June 2026 must use `license`; a change counts from the \
             next hour on",
        )
        .choice(&identities, "license");
    let open_by_default = if identity == IdentityMode::License { "registered" } else { "open" };
    let open = section
        .key("customers", "Whether a customer must be registered before its usage is taken")
        .default_words("`registered` with `license`, else `open`")
        .choice(&[("open", true), ("registered", false)], open_by_default);
    let zero_records = section.key("zero_records", "Report 0 for the idle hours of each customer").flag(true);
    let review = section
        .key(
            "review",
            "How long an hour waits, after `hour.grace`, before it is sealed, so that people can look at it and `tallyman \
             adjust` what is wrong; at the end of a month until a quarter of an hour before AWS's deadline at the latest",
        )
        .duration("0s", "0s"..="20h");
    let dimensions = dimension::read_all(section);
    Product { code, identity, former: None, open, zero_records, review, dimensions }
}

fn read_code(section: &mut Section<'_>) -> Arc<str> {
    let code = section
        .key("code", "The product code. With `license` it is only your own name for it, in events")
        .required_text();
    let is_code = |byte: u8| byte.is_ascii_alphanumeric() || b"/=:_.@-".contains(&byte);
    if code.len() > 255 || !code.bytes().all(is_code) {
        section.fault("code", "must be at most 255 of a-z A-Z 0-9 / = : _ . @ -");
    }
    code.into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::base::config::{
        ConfigError,
        testing::{GOOD, config},
    };

    #[test]
    fn an_hour_is_reviewed_for_up_to_20_hours() {
        let review = |text| {
            let config = config(GOOD, &[("TALLYMAN__PRODUCT__0__REVIEW", text)]);
            config.map(|config| config.catalog.products().next().unwrap().1.review)
        };
        assert_eq!(config(GOOD, &[]).unwrap().catalog.products().next().unwrap().1.review, Duration::ZERO);
        assert_eq!(review("20h").unwrap(), Duration::from_hours(20));
        assert!(review("20h 1s").is_err());
    }

    #[test]
    fn a_name_that_is_required_is_not_empty() {
        for empty in [GOOD.replace("\"prod\"", "\"\""), GOOD.replace("\"requests\"", "\"\"")] {
            let ConfigError(faults) = config(&empty, &[]).unwrap_err();
            assert!(faults.len() == 1 && faults[0].contains("must not be empty"), "{faults:?}");
        }
    }
}
