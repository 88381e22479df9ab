//! What a client of the agent may do, and for whom.

use std::{collections::BTreeSet, sync::Arc};

use thiserror::Error;

use super::{
    customer::identity::Identity,
    product::{Product, ProductIndex},
    usage::event::RejectReason,
};

/// What a client may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// May send usage.
    Meter,
    /// May register, look up and close customers.
    Customers,
    /// May look at customers and the ledger.
    Read,
    /// May decide about held records.
    Decide,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Meter, Self::Customers, Self::Read, Self::Decide];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Meter => "meter",
            Self::Customers => "customers",
            Self::Read => "read",
            Self::Decide => "decide",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permission {
    /// The client's name.
    pub client: Arc<str>,
    pub roles: BTreeSet<Role>,
    /// `None` for all.
    pub products: Option<BTreeSet<ProductIndex>>,
    /// The keys of customers; `None` for all.
    pub customers: Option<BTreeSet<Arc<str>>>,
}

impl Permission {
    pub fn has_any(&self, roles: &[Role]) -> bool {
        roles.iter().any(|role| self.roles.contains(role))
    }

    pub fn covers_product(&self, product: ProductIndex) -> bool {
        self.products.as_ref().is_none_or(|products| products.contains(&product))
    }

    pub fn covers_all_customers(&self) -> bool {
        self.customers.is_none()
    }

    fn covers_customer(&self, customer: &str) -> bool {
        self.customers.as_ref().is_none_or(|customers| customers.contains(customer))
    }

    /// Whether it may do something for this customer of this product.
    pub fn check(&self, product: ProductIndex, customer: &str) -> Result<(), RejectReason> {
        self.check_product(product)?;
        self.check_customer(customer)
    }

    pub(crate) fn check_product(&self, product: ProductIndex) -> Result<(), RejectReason> {
        if self.covers_product(product) { Ok(()) } else { Err(self.refused("products")) }
    }

    pub(crate) fn check_customer(&self, customer: &str) -> Result<(), RejectReason> {
        if self.covers_customer(customer) { Ok(()) } else { Err(self.refused("customers")) }
    }

    fn refused(&self, what: &'static str) -> RejectReason {
        RejectReason::NotAllowed { client: self.client.clone(), what }
    }

    /// Whether it may bill a customer of its own under this identity. Where customers are open, an account is a
    /// customer of its own from its first usage on: whoever took it for another key would shut that usage out.
    pub fn check_identity(
        &self,
        product: &Product,
        customer: &str,
        identity: &Identity,
    ) -> Result<(), StandsForAnother> {
        let stands_for_itself =
            |text: &&str| product.open && Identity::from_key(identity.mode(), text).as_ref() == Ok(identity);
        match identity.plain_text().filter(stands_for_itself) {
            Some(other) if other != customer && !self.covers_customer(other) => {
                Err(StandsForAnother { client: self.client.clone(), other: other.into() })
            }
            _ => Ok(()),
        }
    }
}

/// An identity that is a customer of its own, and none of the client's.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "in this product the key `{other}` stands for this identity, and is not among the `customers` of client `{client}` \
     ([[grpc.client]]): add it there, or let a client without `customers` register this"
)]
pub struct StandsForAnother {
    client: Arc<str>,
    other: Arc<str>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::sample::product;

    fn permission(products: Option<&[u16]>, customers: Option<&[&str]>) -> Permission {
        Permission {
            client: "app".into(),
            roles: [Role::Meter].into(),
            products: products.map(|all| all.iter().copied().map(ProductIndex).collect()),
            customers: customers.map(|all| all.iter().copied().map(Arc::from).collect()),
        }
    }

    #[test]
    fn what_is_not_listed_is_refused_with_the_key_to_look_at() {
        let refused = |permission: Permission, product, customer| {
            permission.check(ProductIndex(product), customer).err().map(|refusal| refusal.to_string())
        };
        assert_eq!(refused(permission(None, None), 7, "acme"), None);
        assert_eq!(refused(permission(Some(&[1]), Some(&["acme"])), 1, "acme"), None);
        let product = refused(permission(Some(&[1]), None), 0, "acme").unwrap();
        assert!(product.contains("`app`") && product.contains("`products`"), "{product}");
        let customer = refused(permission(None, Some(&["acme"])), 0, "acme2").unwrap();
        assert!(customer.contains("`customers`") && !customer.contains("acme"), "{customer}");
        assert!(refused(permission(Some(&[]), None), 0, "acme").is_some());
    }

    #[test]
    fn an_account_that_another_key_stands_for_is_not_taken_by_a_bound_client() {
        let account = |text: &str| Identity::Account { account_id: text.into() };
        let (acme, other) = (account("123456789012"), account("210987654321"));
        let may = |customers: Option<&[&str]>, open, key, identity: &Identity| {
            permission(None, customers).check_identity(&product("p", open), key, identity).is_ok()
        };
        assert!(!may(Some(&["acme"]), true, "acme", &other));
        assert!(may(Some(&["acme", "210987654321"]), true, "acme", &other), "it is among its customers");
        assert!(may(Some(&["123456789012"]), true, "123456789012", &acme), "it is the key itself");
        assert!(may(None, true, "acme", &other), "an unbound client may");
        assert!(
            may(Some(&["acme"]), false, "acme", &other),
            "no key stands for itself where all are registered"
        );
        let license_arn = "arn:aws:license-manager::123456789012:license:l-1".into();
        let license = Identity::License { account_id: "210987654321".into(), license_arn };
        assert!(may(Some(&["acme"]), true, "acme", &license), "nor for a license");
        let identifier = Identity::CustomerIdentifier { customer_identifier: "abc".into() };
        assert!(!may(Some(&["acme"]), true, "acme", &identifier));
    }

    #[test]
    fn one_of_the_roles_is_enough() {
        let meter = permission(None, None);
        assert!(meter.has_any(&[Role::Read, Role::Meter]) && !meter.has_any(&[Role::Decide]));
        assert!(!meter.has_any(&[]));
    }
}
