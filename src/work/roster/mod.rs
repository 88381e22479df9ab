//! The known customers. The committer changes it; everyone may read it.

mod order;
mod places;
mod row;

use std::{
    collections::BTreeMap,
    hash::BuildHasher,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use foldhash::fast::RandomState;
use thiserror::Error;

use crate::domain::{
    customer::Standing,
    deadline::Window,
    identity::Identity,
    product::{Catalog, ProductIndex},
    record::Record,
    time::{Hour, Timestamp},
};

use order::Order;
use places::Places;
use row::Row;

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
    rows: Vec<Row>,
    /// By product and key.
    by_key: Places,
    /// By product and identity, where that is not the key.
    by_identity: Places,
    hasher: RandomState,
    /// Each product's, in the order of their keys.
    in_order: BTreeMap<ProductIndex, Order>,
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
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub fn find(&self, product: ProductIndex, key: &str) -> Option<CustomerIndex> {
        let is_it = |index| self.row(index).is_some_and(|row| row.product == product && *row.key == *key);
        self.by_key.find(self.hasher.hash_one((product, key)), is_it)
    }

    pub fn get(&self, index: CustomerIndex) -> Option<Customer> {
        self.row(index).map(Row::customer)
    }

    /// A customer's product and key.
    pub fn name(&self, index: CustomerIndex) -> Option<(ProductIndex, &Arc<str>)> {
        self.row(index).map(|row| (row.product, &row.key))
    }

    /// Up to where a customer's hours were sealed on their own.
    pub fn sealed_through(&self, index: CustomerIndex) -> Option<Hour> {
        self.row(index)?.sealed_through()
    }

    /// Whether AWS has a subscription of a customer, as far as it has said.
    pub fn is_subscribed(&self, index: CustomerIndex) -> Option<bool> {
        self.row(index).map(|row| !row.not_subscribed)
    }

    fn row(&self, index: CustomerIndex) -> Option<&Row> {
        self.rows.get(index.0 as usize)
    }

    /// The customer whose usage a record holds.
    pub fn of_record(&self, catalog: &Catalog, record: &Record) -> Option<CustomerIndex> {
        self.find(catalog.find(&record.product)?, &record.customer)
    }

    /// Lets a record that was read share the texts that are in memory anyway.
    pub fn share_texts(&self, catalog: &Catalog, record: &mut Record) {
        let Some(customer) = self.of_record(catalog, record).and_then(|index| self.get(index)) else {
            return;
        };
        let Some(product) = catalog.product(customer.product) else { return };
        record.product = product.code.clone();
        record.customer = customer.key.clone();
        if let Some(dimension) = product.dimensions.iter().find(|known| known.name == record.dimension) {
            record.dimension = dimension.name.clone();
        }
        if let Some(identity) = customer.standing.identities().find(|known| **known == record.identity) {
            record.identity = identity.clone();
        }
    }

    /// The first moment at which AWS refuses a record: a closing customer's is at the end of its last hour.
    pub fn deadline(&self, catalog: &Catalog, window: Window, record: &Record) -> Timestamp {
        let customer = self.of_record(catalog, record).and_then(|index| self.get(index));
        let by_closing = customer.and_then(|customer| customer.standing.deadline());
        window.deadline(record.hour).min(by_closing.unwrap_or(Timestamp::MAX))
    }

    pub fn count(&self, product: ProductIndex) -> usize {
        self.in_order.get(&product).map_or(0, Order::len)
    }

    /// A product's customers in the order of their keys, those after `after`.
    pub fn page(&self, product: ProductIndex, after: &str, limit: usize) -> Vec<Customer> {
        self.after(product, Some(after)).take(limit).map(|(_, customer)| customer).collect()
    }

    /// A product's customers in the order of their keys, all or those after a key.
    pub fn after(
        &self,
        product: ProductIndex,
        key: Option<&str>,
    ) -> impl Iterator<Item = (CustomerIndex, Customer)> {
        let customers = self.in_order.get(&product).into_iter();
        let indices = customers.flat_map(move |order| order.after(key, |index| key_of(&self.rows, index)));
        indices.filter_map(|index| Some((index, self.get(index)?)))
    }

    /// Who else, if anyone, has `identity`.
    pub fn check_identity(
        &self,
        product: ProductIndex,
        key: &str,
        identity: &Identity,
    ) -> Result<(), IdentityTaken> {
        match self.holder(product, identity).and_then(|index| self.name(index)) {
            Some((_, other)) if **other != *key => Err(IdentityTaken { other: other.clone() }),
            _ => Ok(()),
        }
    }

    /// Adds the customer, or replaces the one with its key.
    pub fn put(&mut self, mut customer: Customer) -> Result<CustomerIndex, IdentityTaken> {
        let product = customer.product;
        for identity in customer.standing.identities() {
            self.check_identity(product, &customer.key, identity)?;
        }
        customer.standing.identity.share(&customer.key);
        let index = match self.find(product, &customer.key) {
            Some(index) => {
                self.forget_identities(index);
                self.rows[index.0 as usize] = Row::new(customer);
                index
            }
            None => self.append(customer),
        };
        self.note_identities(index);
        Ok(index)
    }

    fn holder(&self, product: ProductIndex, identity: &Identity) -> Option<CustomerIndex> {
        let is_it = |index: &CustomerIndex| {
            self.row(*index).is_some_and(|row| row.product == product && row.is_known_as(identity))
        };
        let by_key = identity.plain_text().and_then(|key| self.find(product, key)).filter(is_it);
        let hash = || self.hasher.hash_one((product, identity));
        by_key.or_else(|| self.by_identity.find(hash(), |index| is_it(&index)))
    }

    fn note_identities(&mut self, index: CustomerIndex) {
        let row = &self.rows[index.0 as usize];
        for identity in row.other_identities() {
            self.by_identity.insert(self.hasher.hash_one((row.product, identity)), index);
        }
    }

    fn forget_identities(&mut self, index: CustomerIndex) {
        let row = &self.rows[index.0 as usize];
        for identity in row.other_identities() {
            self.by_identity.remove(self.hasher.hash_one((row.product, identity)), index);
        }
    }

    /// Changes how a customer stands, but not who it is.
    pub fn update(&mut self, index: CustomerIndex, change: impl FnOnce(&mut Standing)) -> Option<Customer> {
        let mut customer = self.get(index)?;
        change(&mut customer.standing);
        self.rows[index.0 as usize] = Row::new(customer.clone());
        Some(customer)
    }

    fn append(&mut self, customer: Customer) -> CustomerIndex {
        let Self { rows, by_key, hasher, in_order, .. } = self;
        let index = CustomerIndex(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        let Customer { product, key, .. } = &customer;
        by_key.insert(hasher.hash_one((*product, &**key)), index);
        in_order.entry(*product).or_default().insert(index, key, |other| key_of(rows, other));
        rows.push(Row::new(customer));
        index
    }
}

fn key_of(rows: &[Row], index: CustomerIndex) -> &str {
    &rows[index.0 as usize].key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::record::{MissedPolicy, tests::sample as record},
        work::sample::{customer, rules},
    };

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
    fn a_record_shares_the_texts_of_its_customer_and_stays_as_it_is() {
        let catalog: &Catalog = &rules(MissedPolicy::Hold).catalog;
        let (mut roster, mut shared) = (Inner::default(), record(7));
        roster.put(customer("acme", "123456789012")).unwrap();
        roster.share_texts(catalog, &mut shared);
        assert_eq!(shared, record(7));
        let acme = roster.get(CustomerIndex(0)).unwrap();
        assert!(Arc::ptr_eq(&shared.customer, &acme.key));
        assert!(Arc::ptr_eq(&shared.product, &catalog.product(ProductIndex(0)).unwrap().code));
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
