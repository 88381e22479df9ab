//! The known customers. The committer changes them; everyone may read them.

mod census;
mod hash_index;
mod key_order;
mod row;
mod vacancies;

use std::{
    collections::BTreeMap,
    hash::BuildHasher,
    sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard},
};

use foldhash::fast::RandomState;
use thiserror::Error;

use crate::{
    domain::{
        billing::{deadline::Window, record::Record},
        customer::{
            identity::Identity,
            limits::Headcount,
            standing::Standing,
            state::{CustomerState, Subscription},
        },
        permission::Permission,
        product::{Catalog, ProductIndex},
        time::{Hour, Timestamp},
    },
    store::{Batch, ReadTable, Rows, tables::customers::CustomerRows},
};

use super::open_error::OpenError;
use census::Census;
use hash_index::HashIndex;
use key_order::KeyOrder;
use row::Row;
use vacancies::Vacancies;

/// A customer's index in the table. Valid for one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CustomerIndex(pub u32);

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Customer {
    pub product: ProductIndex,
    pub key: Arc<str>,
    pub state: CustomerState,
}

#[derive(Debug, Default)]
pub struct CustomerDirectory {
    table: RwLock<CustomerTable>,
}

#[derive(Debug, Default)]
pub struct CustomerTable {
    rows: Vec<Row>,
    /// Customers by their product and key.
    by_key: HashIndex,
    /// Customers by their product and identity, where the identity is not the key.
    by_identity: HashIndex,
    /// Customers by their product and former identity.
    by_former: HashIndex,
    /// Customers by their product and the identities that gave way.
    by_replaced: HashIndex,
    hasher: RandomState,
    /// Each product's, in the order of their keys.
    in_order: BTreeMap<ProductIndex, KeyOrder>,
    census: Census,
    vacancies: Vacancies,
}

/// Two customers with one identity would be billed into one slot, and one of the amounts would be lost.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("the identity belongs to customer `{other}` already: one identity is billed once")]
pub struct IdentityTaken {
    pub other: Arc<str>,
}

impl IdentityTaken {
    /// The same for a client with this permission; `None` may everything. No client learns of customers that it is not
    /// for.
    pub(crate) fn told_to(&self, product: ProductIndex, permission: Option<&Permission>) -> String {
        let may_know = |permission: &Permission| permission.check(product, &self.other).is_ok();
        if permission.is_none_or(may_know) { self.to_string() } else { TAKEN_BY_ANOTHER.to_owned() }
    }
}

/// What is told to whoever may not know by whom.
pub(crate) const TAKEN_BY_ANOTHER: &str =
    "the identity belongs to another customer already: one identity is billed once";

impl CustomerDirectory {
    /// Takes in the customers that are on disk, and returns those that are closing, or have changed in an hour that may be
    /// open. Customers of products that are not
    /// configured are left out: they have nothing open, which the buckets are checked for.
    pub(super) fn load(&self, store: &dyn Rows, catalog: &Catalog) -> Result<Vec<CustomerIndex>, OpenError> {
        let mut table = self.write();
        let mut in_change = Vec::new();
        let mut fault = None;
        store.each(CustomerRows, |(code, key), state| {
            let Some(product) = catalog.find(code).filter(|_| !code.is_empty()) else { return Ok(()) };
            let is_closing = matches!(state.subscription, Subscription::Closing { .. });
            let is_in_change = is_closing || state.changed_in().is_some();
            match table.put(Customer { product, key: key.into(), state }) {
                Ok(index) => in_change.extend(is_in_change.then_some(index)),
                Err(taken) => {
                    fault.get_or_insert_with(|| OpenError::Customer {
                        product: code.to_owned(),
                        customer: key.to_owned(),
                        why: taken.to_string(),
                    });
                }
            }
            Ok(())
        })?;
        fault.map_or(Ok(in_change), Err)
    }

    pub fn read(&self) -> RwLockReadGuard<'_, CustomerTable> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn write(&self) -> RwLockWriteGuard<'_, CustomerTable> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CustomerTable {
    pub fn len(&self) -> usize {
        self.census.all()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What counts when one more customer comes by the usage of a client.
    pub(super) fn headcount(&self, client: Option<&str>) -> Headcount {
        self.census.headcount(client)
    }

    /// How many customers were forgotten so far: whoever notes it with an index can be told later whether that index may
    /// be another customer's by now.
    pub fn vacated(&self) -> u64 {
        self.vacancies.vacated()
    }

    pub(super) fn may_mislead(&self, vacated: u64) -> bool {
        self.vacancies.may_mislead(vacated)
    }

    pub fn find(&self, product: ProductIndex, key: &str) -> Option<CustomerIndex> {
        let is_it = |index| self.row(index).is_some_and(|row| row.product == product && *row.key == *key);
        self.by_key.find(self.hasher.hash_one((product, key)), is_it)
    }

    pub fn get(&self, index: CustomerIndex) -> Option<Customer> {
        self.row(index).filter(|row| !row.is_vacant()).map(Row::customer)
    }

    /// The customer that has an index, or had it until it was forgotten a moment ago.
    pub(super) fn get_or_forgotten(&self, index: CustomerIndex) -> Option<Customer> {
        self.row(index).map(Row::customer)
    }

    /// The index that the customer of an index has now: it may have been forgotten, and have come back.
    pub(super) fn current(&self, index: CustomerIndex) -> Option<CustomerIndex> {
        let row = self.row(index)?;
        if row.is_vacant() { self.find(row.product, &row.key) } else { Some(index) }
    }

    /// A customer's product and key, also of one that was forgotten a moment ago.
    pub fn name(&self, index: CustomerIndex) -> Option<(ProductIndex, &Arc<str>)> {
        self.row(index).map(|row| (row.product, &row.key))
    }

    /// Up to where a customer's hours were sealed on their own.
    pub fn sealed_through(&self, index: CustomerIndex) -> Option<Hour> {
        self.row(index)?.sealed_through()
    }

    /// When the present time of a customer begins, where known.
    pub fn since(&self, index: CustomerIndex) -> Option<Timestamp> {
        self.row(index)?.start().since
    }

    /// When a customer's time begins, if usage that happened at `at`, and counts in `hour`, is from before.
    pub fn since_after(&self, index: CustomerIndex, at: Timestamp, hour: Hour) -> Option<Timestamp> {
        self.row(index)?.start_in(hour).after(at, hour)
    }

    /// Whether AWS still knows a customer by an identity.
    pub fn goes_by(&self, index: CustomerIndex, identity: &Identity) -> bool {
        self.get(index).is_some_and(|customer| customer.state.goes_by(identity))
    }

    /// Whether what a customer uses is not billable, since its last hour is sealed.
    pub(super) fn is_closed(&self, index: CustomerIndex) -> bool {
        self.row(index).is_some_and(Row::is_closed)
    }

    /// The standing of a record's customer. One that is not known any more has none to speak of.
    pub fn standing(&self, catalog: &Catalog, record: &Record) -> Standing {
        let row = self.of_record(catalog, record).and_then(|index| self.row(index));
        row.map_or(Standing::SelfNamed, Row::standing)
    }

    /// Whether a customer's usage ends, or has ended.
    pub fn is_closing(&self, index: CustomerIndex) -> bool {
        self.get(index).is_some_and(|customer| customer.state.subscription.noticed().is_some())
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
        if let Some(identity) = customer.state.identities().find(|known| **known == record.identity) {
            record.identity = identity.clone();
        }
    }

    /// The first moment at which AWS refuses a record: a closing customer's is at the end of its last hour.
    pub fn deadline(&self, catalog: &Catalog, window: Window, record: &Record) -> Timestamp {
        let customer = self.of_record(catalog, record).and_then(|index| self.get(index));
        let by_closing = customer.and_then(|customer| customer.state.deadline());
        window.deadline(record.hour).min(by_closing.unwrap_or(Timestamp::MAX))
    }

    pub fn count(&self, product: ProductIndex) -> usize {
        self.in_order.get(&product).map_or(0, KeyOrder::len)
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

    /// Checks that no other customer has `identity`.
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
        for identity in customer.state.identities() {
            self.check_identity(product, &customer.key, identity)?;
        }
        customer.state.identity.share(&customer.key);
        self.census.share_name(&mut customer.state);
        let index = match self.find(product, &customer.key) {
            Some(index) => {
                self.forget_identities(index);
                self.replace(index, Row::new(customer));
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
        by_key.or_else(|| {
            let hash = self.hasher.hash_one((product, identity));
            [&self.by_identity, &self.by_former, &self.by_replaced]
                .into_iter()
                .find_map(|by| by.find(hash, |index| is_it(&index)))
        })
    }

    fn note_identities(&mut self, index: CustomerIndex) {
        let Self { rows, by_identity, by_former, by_replaced, hasher, .. } = self;
        let row = &rows[index.0 as usize];
        for (by, hash_of) in [(by_identity, identity_hash as HashOf), (by_former, former_hash)] {
            if let Some(hash) = hash_of(hasher, row) {
                by.insert(hash, index);
            }
        }
        for hash in replaced_hashes(hasher, row) {
            by_replaced.insert(hash, index);
        }
    }

    fn forget_identities(&mut self, index: CustomerIndex) {
        let Self { rows, by_identity, by_former, by_replaced, hasher, .. } = self;
        let row = &rows[index.0 as usize];
        for (by, hash_of) in [(by_identity, identity_hash as HashOf), (by_former, former_hash)] {
            if let Some(hash) = hash_of(hasher, row) {
                by.remove(hash, index);
            }
        }
        for hash in replaced_hashes(hasher, row) {
            by_replaced.remove(hash, index);
        }
    }

    /// Replaces a customer's state by one that an event has led to: it has no identity that it did not have before.
    pub(super) fn set_state(&mut self, index: CustomerIndex, state: CustomerState) {
        let Some(customer) = self.get(index) else { return };
        self.forget_identities(index);
        self.replace(index, Row::new(Customer { state, ..customer }));
        self.note_identities(index);
    }

    fn replace(&mut self, index: CustomerIndex, row: Row) {
        let before = std::mem::replace(&mut self.rows[index.0 as usize], row);
        self.census.remove(&before);
        self.census.add(&self.rows[index.0 as usize]);
    }

    /// Forgets a customer, of whom nothing is left anywhere.
    pub(super) fn forget(&mut self, index: CustomerIndex, now: Timestamp) {
        if self.row(index).is_none_or(Row::is_vacant) {
            return;
        }
        self.forget_identities(index);
        let Self { rows, by_key, hasher, in_order, census, vacancies, .. } = self;
        let Row { product, key, .. } = &rows[index.0 as usize];
        by_key.remove(hasher.hash_one((*product, &**key)), index);
        if let Some(order) = in_order.get_mut(product) {
            order.remove(key, |other| key_of(rows, other));
        }
        census.remove(&rows[index.0 as usize]);
        rows[index.0 as usize].vacate();
        vacancies.add(index, now);
    }

    /// Lets rows of customers that were forgotten a while ago be given to others.
    pub(super) fn let_rest(&mut self, now: Timestamp) {
        self.vacancies.rest(now);
    }

    /// Some customers that may be forgotten, as far as their state tells: among `looks` of the table from `from` on.
    /// Returns where to go on, if there are more to look at.
    pub(super) fn forgettable(&self, from: u32, looks: u32) -> (Vec<CustomerIndex>, Option<u32>) {
        let until = from.saturating_add(looks).min(u32::try_from(self.rows.len()).unwrap_or(u32::MAX));
        let may_go = |index: &CustomerIndex| {
            let is_candidate =
                |row: &Row| !row.is_vacant() && row.is_self_named() && row.standing() != Standing::Verified;
            self.row(*index).is_some_and(is_candidate)
                && self.get(*index).is_some_and(|customer| customer.state.may_be_forgotten())
        };
        let found = (from..until).map(CustomerIndex).filter(may_go).collect();
        (found, ((until as usize) < self.rows.len()).then_some(until))
    }

    /// Puts a customer's row into the batch, as it is now.
    pub(super) fn write_row(&self, index: CustomerIndex, catalog: &Catalog, batch: &mut Batch) {
        let Some(customer) = self.get(index) else { return };
        let Some(product) = catalog.product(customer.product) else { return };
        batch.put(CustomerRows, (&product.code, &customer.key), &customer.state);
    }

    fn append(&mut self, customer: Customer) -> CustomerIndex {
        let Self { rows, by_key, hasher, in_order, census, vacancies, .. } = self;
        let free = vacancies.take();
        let index = free.unwrap_or_else(|| CustomerIndex(u32::try_from(rows.len()).unwrap_or(u32::MAX)));
        let Customer { product, key, .. } = &customer;
        by_key.insert(hasher.hash_one((*product, &**key)), index);
        in_order.entry(*product).or_default().insert(index, key, |other| key_of(rows, other));
        let row = Row::new(customer);
        census.add(&row);
        match free {
            Some(index) => rows[index.0 as usize] = row,
            None => rows.push(row),
        }
        index
    }
}

/// The hash that a customer has in an index, if it is there.
type HashOf = fn(&RandomState, &Row) -> Option<u64>;

fn identity_hash(hasher: &RandomState, row: &Row) -> Option<u64> {
    row.other_identity().map(|identity| hasher.hash_one((row.product, identity)))
}

fn former_hash(hasher: &RandomState, row: &Row) -> Option<u64> {
    row.former().map(|identity| hasher.hash_one((row.product, identity)))
}

fn replaced_hashes<'a>(hasher: &'a RandomState, row: &'a Row) -> impl Iterator<Item = u64> + 'a {
    row.replaced().iter().map(|replaced| hasher.hash_one((row.product, &replaced.identity)))
}

fn key_of(rows: &[Row], index: CustomerIndex) -> &str {
    &rows[index.0 as usize].key
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::billing::record::{MissedPolicy, tests::sample as record},
        testing::sample::{customer, rules},
    };
    use proptest::prelude::*;

    fn number(number: u8) -> String {
        format!("{number:012}")
    }

    proptest! {
        /// Keys and identities are from the same few numbers, so that they meet.
        #[test]
        fn whose_an_identity_is_is_known_as_in_a_map(
            changes in proptest::collection::vec((0..60_u8, 0..80_u8, proptest::option::of(0..80_u8)), 0..300)
        ) {
            let (mut table, mut owners) = (CustomerTable::default(), BTreeMap::new());
            for (key, identity, former) in changes {
                let mut put = customer(&number(key), &number(identity));
                put.state.former = former.map(|former| customer("", &number(former)).state.identity);
                let own = [Some(identity), former].into_iter().flatten();
                let is_free = own.clone().all(|identity| owners.get(&identity).is_none_or(|owner| *owner == key));
                prop_assert_eq!(table.put(put.clone()).is_ok(), is_free);
                if is_free {
                    owners.retain(|_, owner| *owner != key);
                    owners.extend(own.map(|identity| (identity, key)));
                    let found = table.find(ProductIndex(0), &number(key)).and_then(|index| table.get(index));
                    prop_assert_eq!(found, Some(put));
                }
            }
            for identity in 0..80 {
                let holder = table.holder(ProductIndex(0), &customer("", &number(identity)).state.identity);
                let holder = holder.and_then(|index| table.name(index)).map(|(_, key)| key.to_string());
                prop_assert_eq!(holder, owners.get(&identity).map(|owner| number(*owner)));
            }
        }
    }

    #[test]
    fn one_identity_belongs_to_one_customer() {
        let mut table = CustomerTable::default();
        let acme = table.put(customer("acme", "000000000001")).unwrap();
        assert_eq!(table.put(customer("other", "000000000001")), Err(IdentityTaken { other: "acme".into() }));
        assert_eq!(
            table.put(customer("acme", "000000000002")),
            Ok(acme),
            "a customer may change its identity"
        );
        assert!(table.put(customer("other", "000000000001")).is_ok(), "what it had is free again");
    }

    #[test]
    fn a_record_shares_the_texts_of_its_customer_and_stays_as_it_is() {
        let catalog: &Catalog = &rules(MissedPolicy::Hold).catalog;
        let (mut table, mut shared) = (CustomerTable::default(), record(7));
        table.put(customer("acme", "123456789012")).unwrap();
        table.share_texts(catalog, &mut shared);
        assert_eq!(shared, record(7));
        let acme = table.get(CustomerIndex(0)).unwrap();
        assert!(Arc::ptr_eq(&shared.customer, &acme.key));
        assert!(Arc::ptr_eq(&shared.product, &catalog.product(ProductIndex(0)).unwrap().code));
    }

    #[test]
    fn pages_go_through_the_keys_in_order() {
        let mut table = CustomerTable::default();
        for (number, key) in ["c", "a", "b"].iter().enumerate() {
            table.put(customer(key, &format!("{number:012}"))).unwrap();
        }
        let keys = |after| {
            table.page(ProductIndex(0), after, 2).iter().map(|c| c.key.to_string()).collect::<String>()
        };
        assert_eq!((keys(""), keys("b")), ("ab".to_owned(), "c".to_owned()));
    }
}
