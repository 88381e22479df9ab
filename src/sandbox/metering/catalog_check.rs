//! What `BatchMeterUsage` asks of the catalog: known products, dimensions and licenses, and who subscribes.

use std::collections::BTreeSet;

use super::request::{Call, UsageRecord};
use crate::{
    domain::product::ProductIndex,
    sandbox::{
        catalog::{Catalog, License},
        exception::{Exception, Kind},
    },
};

/// One unknown product, dimension or license fails the whole call.
pub(super) fn check(catalog: &Catalog, call: &Call) -> Result<(), Exception> {
    let coded = coded_product(catalog, call)?;
    let mut products = BTreeSet::new();
    for record in &call.records {
        let product = coded.map_or_else(|| licensed_product(catalog, record), Ok)?;
        let dimension = &record.slot.dimension;
        if !catalog.sells(product, dimension) {
            return Err(
                Kind::InvalidUsageDimension.because(format!("the product has no dimension `{dimension}`"))
            );
        }
        products.insert(product);
    }
    if products.len() > 1 {
        return Err(Kind::InvalidLicense.because("the licenses of one request must be for one product"));
    }
    Ok(())
}

/// The product that the call's code names, if it has one.
fn coded_product(catalog: &Catalog, call: &Call) -> Result<Option<ProductIndex>, Exception> {
    if call.product.is_empty() {
        return Ok(None);
    }
    catalog.product(&call.product).map(Some).ok_or_else(|| {
        Kind::InvalidProductCode.because(format!("there is no product with code `{}`", call.product))
    })
}

fn licensed_product(catalog: &Catalog, record: &UsageRecord) -> Result<ProductIndex, Exception> {
    let customer = record.slot.identity.fields();
    let refuse =
        |why: &str| Err(Kind::InvalidLicense.because(format!("license `{}` {why}", customer.license_arn)));
    match catalog.license(customer.license_arn) {
        Some(license) if *license.account_id != *customer.account_id => {
            refuse(&format!("does not belong to account {}", customer.account_id))
        }
        Some(License { since: Some(since), .. }) if record.timestamp < *since => {
            refuse(&format!("is valid from {since} on, and the record is for {}", record.timestamp))
        }
        Some(license) => Ok(license.product),
        None => catalog.open_product(&record.slot.dimension).map_or_else(|| refuse("does not exist"), Ok),
    }
}

/// Whether the record's customer subscribes to the product with this code. A license that passed [`check`] is a
/// subscription.
pub(super) fn is_subscribed(catalog: &Catalog, product: &str, record: &UsageRecord) -> bool {
    record.is_licensed() || catalog.is_subscribed(product, &record.slot.identity)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        base::config,
        domain::time::Timestamp,
        sandbox::{metering::wire::WireCall, tests::record},
    };

    const CONFIG: &str = r#"
        [[product]]
        code = "licensed"
        [[product.dimension]]
        name = "requests"
        [[product.customer]]
        key = "acme"
        account_id = "123456789012"
        license_arn = "arn:aws:license-manager::1:license:l-acme"
        since = "2026-11-02T10:30:00Z"

        [[product]]
        code = "another"
        [[product.dimension]]
        name = "requests"
        [[product.customer]]
        key = "acme"
        account_id = "123456789012"
        license_arn = "arn:aws:license-manager::1:license:l-another"

        [[product]]
        code = "closed"
        identity = "account"
        customers = "registered"
        [[product.dimension]]
        name = "requests"
        [[product.customer]]
        key = "123456789012"

        [[product]]
        code = "open"
        identity = "customer_identifier"
        [[product.dimension]]
        name = "requests"
    "#;

    fn catalog(text: &str) -> Catalog {
        Catalog::new(&config::parse(text, "test", std::iter::empty()).unwrap())
    }

    fn call(product: &str, records: &Value) -> Call {
        let body = json!({"ProductCode": product, "UsageRecords": records});
        Call::parse(WireCall::read(body.to_string().as_bytes()).unwrap()).unwrap()
    }

    /// `seconds` after 2026-11-02T10:00:00Z.
    fn licensed(license: &str, seconds: i64) -> Value {
        let start = "2026-11-02T10:00:00Z".parse::<Timestamp>().unwrap().seconds();
        let arn = format!("arn:aws:license-manager::1:license:{license}");
        record(json!({"LicenseArn": arn, "Timestamp": start + seconds}))
    }

    fn checked(product: &str, records: &Value) -> Result<(), Kind> {
        check(&catalog(CONFIG), &call(product, records)).map_err(|refusal| refusal.kind)
    }

    #[test]
    fn products_and_dimensions_must_be_known() {
        assert_eq!(checked("closed", &json!([record(json!({}))])), Ok(()));
        assert_eq!(checked("unknown", &json!([record(json!({}))])), Err(Kind::InvalidProductCode));
        assert_eq!(checked("unknown", &json!([])), Err(Kind::InvalidProductCode));
        let wrong_case = json!([record(json!({})), record(json!({"Dimension": "Requests"}))]);
        assert_eq!(checked("closed", &wrong_case), Err(Kind::InvalidUsageDimension));
    }

    #[test]
    fn a_license_must_exist_and_belong_to_the_account() {
        assert_eq!(checked("", &json!([licensed("l-acme", 1800)])), Ok(()));
        assert_eq!(checked("", &json!([licensed("l-unknown", 1800)])), Err(Kind::InvalidLicense));
        let mut stolen = licensed("l-acme", 1800);
        stolen["CustomerAWSAccountId"] = json!("210987654321");
        assert_eq!(checked("", &json!([stolen])), Err(Kind::InvalidLicense));
    }

    #[test]
    fn a_license_is_not_valid_before_its_start() {
        assert_eq!(checked("", &json!([licensed("l-acme", 1799)])), Err(Kind::InvalidLicense));
    }

    #[test]
    fn licenses_of_two_products_do_not_share_a_call() {
        let two = json!([licensed("l-acme", 1800), licensed("l-another", 1800)]);
        assert_eq!(checked("", &two), Err(Kind::InvalidLicense));
    }

    #[test]
    fn an_open_product_takes_unknown_licenses() {
        let open =
            catalog(&CONFIG.replace(r#"code = "another""#, "code = \"another\"\ncustomers = \"open\""));
        assert_eq!(check(&open, &call("", &json!([licensed("l-unknown", 0)]))), Ok(()));
        let mut wrong = licensed("l-unknown", 0);
        wrong["Dimension"] = json!("unknown");
        assert_eq!(check(&open, &call("", &json!([wrong]))).unwrap_err().kind, Kind::InvalidUsageDimension);
    }

    #[test]
    fn where_customers_are_registered_only_they_subscribe() {
        let catalog = catalog(CONFIG);
        let subscribes = |product: &str, fields: Value| {
            let call = call(product, &json!([record(fields)]));
            is_subscribed(&catalog, product, &call.records[0])
        };
        assert!(subscribes("closed", json!({})));
        assert!(!subscribes("closed", json!({"CustomerAWSAccountId": "210987654321"})));
        assert!(!subscribes(
            "closed",
            json!({"CustomerAWSAccountId": null, "CustomerIdentifier": "123456789012"})
        ));
        assert!(subscribes("licensed", json!({})), "the account of a license");
        assert!(subscribes("open", json!({"CustomerAWSAccountId": null, "CustomerIdentifier": "anyone"})));
    }
}
