//! The known customers. The committer changes it; everyone may read it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use thiserror::Error;

use crate::domain::{
    customer::Standing,
    deadline::Window,
    identity::Identity,
    product::{Catalog, ProductIndex},
    record::Record,
    time::Timestamp,
};

/// A customer's place in the roster. Valid for one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CustomerIndex(pub u32);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Customer {
    pub product: ProductIndex,
    pub key: Arc<str>,
    pub standing: Standing,
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

    /// The customer whose usage a record holds.
    pub fn of_record(&self, catalog: &Catalog, record: &Record) -> Option<CustomerIndex> {
        self.find(catalog.find(&record.product)?, &record.customer)
    }

    /// The first moment at which AWS refuses a record: a closing customer's is at the end of its last hour.
    pub fn deadline(&self, catalog: &Catalog, window: Window, record: &Record) -> Timestamp {
        let customer = self.of_record(catalog, record).and_then(|index| self.get(index));
        let by_closing = customer.and_then(|customer| customer.standing.deadline());
        window.deadline(record.hour).min(by_closing.unwrap_or(Timestamp::MAX))
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
        let product = customer.product;
        for identity in customer.standing.identities() {
            self.check_identity(product, &customer.key, identity)?;
        }
        let identities: Vec<Identity> = customer.standing.identities().cloned().collect();
        let index = match self.find(product, &customer.key) {
            Some(index) => {
                let before = std::mem::replace(&mut self.customers[index.0 as usize], customer);
                for identity in before.standing.identities() {
                    self.by_identity.remove(&(product, identity.clone()));
                }
                index
            }
            None => self.append(customer),
        };
        self.by_identity.extend(identities.into_iter().map(|identity| ((product, identity), index)));
        Ok(index)
    }

    /// Changes how a customer stands, but not who it is.
    pub fn update(&mut self, index: CustomerIndex, change: impl FnOnce(&mut Standing)) -> Option<&Customer> {
        let customer = self.customers.get_mut(index.0 as usize)?;
        change(&mut customer.standing);
        Some(customer)
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
    use crate::work::sample::customer;

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
