//! The products, dimensions, licenses and subscribers of a configuration.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    base::config::{Config, ConfiguredCustomer},
    domain::{
        customer::identity::{Identity, IdentityMode},
        product::{self, Product, ProductIndex},
        time::Timestamp,
    },
};

#[derive(Clone, Debug)]
pub(super) struct Catalog {
    products: Arc<product::Catalog>,
    /// Customers whom their product's code and their identity name.
    subscribers: HashSet<(ProductIndex, Identity)>,
    licenses: HashMap<Arc<str>, License>,
}

#[derive(Clone, Debug)]
pub(super) struct License {
    pub(super) product: ProductIndex,
    pub(super) account_id: Arc<str>,
    pub(super) since: Option<Timestamp>,
}

impl Catalog {
    pub(super) fn new(config: &Config) -> Self {
        let mut catalog =
            Self { products: config.catalog.clone(), subscribers: HashSet::new(), licenses: HashMap::new() };
        for ConfiguredCustomer { product, identity, since, .. } in &config.customers {
            let product = *product;
            if let Identity::License { account_id, license_arn } = identity {
                let license = License { product, account_id: account_id.clone(), since: *since };
                catalog.licenses.insert(license_arn.clone(), license);
                // The account behind a license subscribes to the product: AWS takes the product code too.
                catalog.subscribers.insert((product, Identity::Account { account_id: account_id.clone() }));
            } else {
                catalog.subscribers.insert((product, identity.clone()));
            }
        }
        catalog
    }

    pub(super) fn product(&self, code: &str) -> Option<ProductIndex> {
        self.products.find(code)
    }

    pub(super) fn sells(&self, product: ProductIndex, dimension: &str) -> bool {
        self.products.find_dimension(product, dimension).is_some()
    }

    pub(super) fn license(&self, arn: &str) -> Option<&License> {
        self.licenses.get(arn)
    }

    /// The product for which an unknown license is taken: an open one, if possible one that has the dimension,
    /// since nothing in a license tells its product.
    pub(super) fn open_product(&self, dimension: &str) -> Option<ProductIndex> {
        let is_open =
            |(_, product): &(_, &Product)| product.open && product.identity == IdentityMode::License;
        let open: Vec<_> = self.products.products().filter(is_open).map(|(index, _)| index).collect();
        open.iter().find(|index| self.sells(**index, dimension)).or_else(|| open.first()).copied()
    }

    /// Whether the customer subscribes to the product with this code.
    pub(super) fn is_subscribed(&self, product: &str, customer: &Identity) -> bool {
        self.product(product).is_some_and(|index| {
            let is_open = self.products.product(index).is_some_and(|product| product.open);
            is_open || self.subscribers.contains(&(index, customer.clone()))
        })
    }
}
