//! What a client of the agent may do, and for whom.

use std::{collections::BTreeSet, sync::Arc};

use super::{product::ProductIndex, usage::event::RejectReason};

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

    /// Whether it may do something for this customer of this product.
    pub fn check(&self, product: ProductIndex, customer: &str) -> Result<(), RejectReason> {
        let refused = |what| Err(RejectReason::NotAllowed { client: self.client.clone(), what });
        if !self.covers_product(product) {
            return refused("products");
        }
        if self.customers.as_ref().is_some_and(|customers| !customers.contains(customer)) {
            return refused("customers");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn one_of_the_roles_is_enough() {
        let meter = permission(None, None);
        assert!(meter.has_any(&[Role::Read, Role::Meter]) && !meter.has_any(&[Role::Decide]));
        assert!(!meter.has_any(&[]));
    }
}
