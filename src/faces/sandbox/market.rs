//! What a configuration tells about products, dimensions, licenses and subscribers.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::{
    exception::{Exception, Kind},
    request::{Call, UsageRecord},
};
use crate::{
    base::config::{Config, ConfiguredCustomer},
    domain::{
        identity::{Identity, IdentityMode},
        product::{Catalog, Product, ProductIndex},
        time::Timestamp,
    },
};

#[derive(Clone, Debug)]
pub(super) struct Market {
    catalog: Arc<Catalog>,
    /// Customers that are metered with a product code.
    subscribers: HashSet<(ProductIndex, Identity)>,
    licenses: HashMap<Arc<str>, License>,
}

#[derive(Clone, Debug)]
struct License {
    product: ProductIndex,
    account_id: Arc<str>,
    since: Option<Timestamp>,
}

impl Market {
    pub(super) fn new(config: &Config) -> Self {
        let mut market =
            Self { catalog: config.catalog.clone(), subscribers: HashSet::new(), licenses: HashMap::new() };
        for ConfiguredCustomer { product, identity, since, .. } in &config.customers {
            let product = *product;
            if let Identity::License { account_id, license_arn } = identity {
                let license = License { product, account_id: account_id.clone(), since: *since };
                market.licenses.insert(license_arn.clone(), license);
                // The account behind a license subscribes to the product: AWS takes the product code too.
                market.subscribers.insert((product, Identity::Account { account_id: account_id.clone() }));
            } else {
                market.subscribers.insert((product, identity.clone()));
            }
        }
        market
    }

    /// One unknown product, dimension or license fails the whole call.
    pub(super) fn check(&self, call: &Call) -> Result<(), Exception> {
        let coded = self.coded_product(call)?;
        let mut products = BTreeSet::new();
        for record in &call.records {
            let index = coded.map_or_else(|| self.licensed_product(record), Ok)?;
            if self.catalog.find_dimension(index, &record.slot.dimension).is_none() {
                let dimension = &record.slot.dimension;
                return Err(Kind::InvalidUsageDimension
                    .because(format!("the product has no dimension `{dimension}`")));
            }
            products.insert(index);
        }
        if products.len() > 1 {
            return Err(Kind::InvalidLicense.because("the licenses of one request must be for one product"));
        }
        Ok(())
    }

    /// The product that the call's code names, if it has one.
    fn coded_product(&self, call: &Call) -> Result<Option<ProductIndex>, Exception> {
        if call.product.is_empty() {
            return Ok(None);
        }
        let product = self.catalog.find(&call.product);
        product.map(Some).ok_or_else(|| {
            Kind::InvalidProductCode.because(format!("there is no product with code `{}`", call.product))
        })
    }

    fn licensed_product(&self, record: &UsageRecord) -> Result<ProductIndex, Exception> {
        let customer = record.slot.identity.fields();
        let refuse = |why: &str| {
            Err(Kind::InvalidLicense.because(format!("license `{}` {why}", customer.license_arn)))
        };
        match self.licenses.get(customer.license_arn) {
            Some(license) if *license.account_id != *customer.account_id => {
                refuse(&format!("does not belong to account {}", customer.account_id))
            }
            Some(License { since: Some(since), .. }) if record.timestamp < *since => {
                refuse(&format!("is valid from {since} on, and the record is for {}", record.timestamp))
            }
            Some(license) => Ok(license.product),
            None => self.open_product(record).map_or_else(|| refuse("does not exist"), Ok),
        }
    }

    /// The product that an unknown license is taken for: an open one, if possible one that has the dimension,
    /// since nothing in a license tells its product.
    fn open_product(&self, record: &UsageRecord) -> Option<ProductIndex> {
        let is_open =
            |(_, product): &(_, &Product)| product.open && product.identity == IdentityMode::License;
        let open: Vec<_> = self.catalog.products().filter(is_open).map(|(index, _)| index).collect();
        let sells =
            |index: &&ProductIndex| self.catalog.find_dimension(**index, &record.slot.dimension).is_some();
        open.iter().find(sells).or_else(|| open.first()).copied()
    }

    /// Whether the record's customer subscribes to the product with this code. A license that passed
    /// [`check`](Self::check) is a subscription.
    pub(super) fn subscribes(&self, product: &str, record: &UsageRecord) -> bool {
        let takes = |index| {
            let is_open = self.catalog.product(index).is_some_and(|product| product.open);
            is_open || self.subscribers.contains(&(index, record.slot.identity.clone()))
        };
        record.is_licensed() || self.catalog.find(product).is_some_and(takes)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        base::config,
        faces::sandbox::{tests::record, wire::WireCall},
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

    fn market(text: &str) -> Market {
        Market::new(&config::parse(text, "test", std::iter::empty()).unwrap())
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
        market(CONFIG).check(&call(product, records)).map_err(|refusal| refusal.kind)
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
        let open = market(&CONFIG.replace(r#"code = "another""#, "code = \"another\"\ncustomers = \"open\""));
        assert_eq!(open.check(&call("", &json!([licensed("l-unknown", 0)]))), Ok(()));
        let mut wrong = licensed("l-unknown", 0);
        wrong["Dimension"] = json!("unknown");
        assert_eq!(open.check(&call("", &json!([wrong]))).unwrap_err().kind, Kind::InvalidUsageDimension);
    }

    #[test]
    fn where_customers_are_registered_only_they_subscribe() {
        let market = market(CONFIG);
        let subscribes = |product: &str, fields: Value| {
            let call = call(product, &json!([record(fields)]));
            market.subscribes(product, &call.records[0])
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
