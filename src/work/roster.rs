//! The known customers. The committer changes it; everyone may read it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use thiserror::Error;

use crate::domain::{
    identity::Identity,
    product::ProductIndex,
    time::{Hour, Timestamp},
};

/// A customer's place in the roster. Valid for one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CustomerIndex(pub u32);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Customer {
    pub product: ProductIndex,
    pub key: Arc<str>,
    pub identity: Identity,
    /// When the subscription began, where known.
    pub since: Option<Timestamp>,
    /// The first hour for which a zero record may be claimed.
    pub first_hour: Hour,
}

#[derive(Debug, Default)]
pub struct Roster {
    inner: RwLock<Inner>,
}

#[derive(Debug, Default)]
pub struct Inner {
    customers: Vec<Customer>,
    by_key: HashMap<ProductIndex, HashMap<Arc<str>, CustomerIndex>>,
    by_identity: HashMap<(ProductIndex, Identity), CustomerIndex>,
}

/// Two customers with one identity would be billed into one slot, and one of the amounts would be lost.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the identity belongs to customer `{other}` already: one identity is billed once")]
pub struct IdentityTaken {
    pub other: Arc<str>,
}

impl Roster {
    pub fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn write(&self) -> RwLockWriteGuard<'_, Inner> {
        self.inner.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    pub fn len(&self) -> usize {
        self.customers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.customers.is_empty()
    }

    pub fn find(&self, product: ProductIndex, key: &str) -> Option<CustomerIndex> {
        self.by_key.get(&product)?.get(key).copied()
    }

    pub fn get(&self, index: CustomerIndex) -> Option<&Customer> {
        self.customers.get(index.0 as usize)
    }

    pub fn count(&self, product: ProductIndex) -> usize {
        self.by_key.get(&product).map_or(0, HashMap::len)
    }

    /// A product's customers in the order of their keys, those after `after`.
    pub fn page(&self, product: ProductIndex, after: &str, limit: usize) -> Vec<Customer> {
        let keys = self.by_key.get(&product).into_iter().flatten();
        let sorted: BTreeMap<_, _> = keys.filter(|(key, _)| ***key > *after).collect();
        sorted.values().filter_map(|index| self.get(**index)).take(limit).cloned().collect()
    }

    /// Every customer's place.
    pub fn indices(&self) -> impl Iterator<Item = CustomerIndex> + use<> {
        (0..u32::try_from(self.customers.len()).unwrap_or(u32::MAX)).map(CustomerIndex)
    }

    /// Who else, if anyone, has `identity`.
    pub fn check_identity(
        &self,
        product: ProductIndex,
        key: &str,
        identity: &Identity,
    ) -> Result<(), IdentityTaken> {
        let holder = self.by_identity.get(&(product, identity.clone())).and_then(|index| self.get(*index));
        match holder {
            Some(other) if &*other.key != key => Err(IdentityTaken { other: other.key.clone() }),
            _ => Ok(()),
        }
    }

    /// Adds the customer, or replaces the one with its key.
    pub fn put(&mut self, customer: Customer) -> Result<CustomerIndex, IdentityTaken> {
        self.check_identity(customer.product, &customer.key, &customer.identity)?;
        let place = (customer.product, customer.identity.clone());
        let index = match self.find(customer.product, &customer.key) {
            Some(index) => {
                let slot = &mut self.customers[index.0 as usize];
                self.by_identity.remove(&(slot.product, slot.identity.clone()));
                *slot = customer;
                index
            }
            None => self.append(customer),
        };
        self.by_identity.insert(place, index);
        Ok(index)
    }

    fn append(&mut self, customer: Customer) -> CustomerIndex {
        let index = CustomerIndex(u32::try_from(self.customers.len()).unwrap_or(u32::MAX));
        self.by_key.entry(customer.product).or_default().insert(customer.key.clone(), index);
        self.customers.push(customer);
        index
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn customer(key: &str, account: &str) -> Customer {
        Customer {
            product: ProductIndex(0),
            key: key.into(),
            identity: Identity::Account { account_id: account.into() },
            since: None,
            first_hour: Hour::FIRST,
        }
    }

    #[test]
    fn one_identity_belongs_to_one_customer() {
        let mut roster = Inner::default();
        let acme = roster.put(customer("acme", "000000000001")).unwrap();
        assert_eq!(
            roster.put(customer("other", "000000000001")),
            Err(IdentityTaken { other: "acme".into() })
        );
        assert_eq!(
            roster.put(customer("acme", "000000000002")),
            Ok(acme),
            "a customer may change its identity"
        );
        assert!(roster.put(customer("other", "000000000001")).is_ok(), "what it had is free again");
    }

    #[test]
    fn pages_go_through_the_keys_in_order() {
        let mut roster = Inner::default();
        for (number, key) in ["c", "a", "b"].iter().enumerate() {
            roster.put(customer(key, &format!("{number:012}"))).unwrap();
        }
        let keys = |after| {
            roster.page(ProductIndex(0), after, 2).iter().map(|c| c.key.to_string()).collect::<String>()
        };
        assert_eq!((keys(""), keys("b")), ("ab".to_owned(), "c".to_owned()));
    }
}
