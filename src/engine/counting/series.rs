//! One value for each of many customers and dimensions, in little memory.

use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::{
    domain::{
        product::{Catalog, Dimension, DimensionIndex, ProductIndex},
        time::Hour,
    },
    engine::customers::{CustomerIndex, CustomerTable},
    store::key::BucketKey,
};

use super::paged_vec::PagedVec;

/// A customer and one of its product's dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Series {
    pub(crate) customer: CustomerIndex,
    pub(crate) dimension: DimensionIndex,
}

/// Many small tables, so that none takes long to grow.
const TABLES: usize = 64;

/// Values lie side by side, in no order, and tables of their positions find them: so each costs little more than itself,
/// also where a customer has only one, and one that leaves gives its memory back.
#[derive(Debug)]
pub(crate) struct SeriesMap<T> {
    series: PagedVec<Series>,
    /// The values, in the same positions.
    values: PagedVec<T>,
    /// Empty before the first value.
    tables: Vec<HashTable<u32>>,
    hasher: RandomState,
    /// A bit for each customer.
    customers: Vec<u64>,
}

impl<T> Default for SeriesMap<T> {
    fn default() -> Self {
        Self {
            series: PagedVec::default(),
            values: PagedVec::default(),
            tables: Vec::new(),
            hasher: RandomState::default(),
            customers: Vec::new(),
        }
    }
}

impl<T> SeriesMap<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.series.len() == 0
    }

    /// Whether a customer has had any.
    pub(crate) fn has_had(&self, customer: CustomerIndex) -> bool {
        let (word, bit) = bit_of(customer);
        self.customers.get(word).is_some_and(|bits| bits & bit != 0)
    }

    pub(crate) fn get(&self, series: Series) -> Option<&T> {
        self.values.get(self.find(series, self.hasher.hash_one(series))?)
    }

    pub(crate) fn get_mut(&mut self, series: Series) -> Option<&mut T> {
        self.values.get_mut(self.find(series, self.hasher.hash_one(series))?)
    }

    pub(crate) fn get_or_insert_with(&mut self, series: Series, new: impl FnOnce() -> T) -> &mut T {
        let index = self.index_or_insert_with(series, new);
        self.values.get_mut(index).unwrap_or_else(|| unreachable!("it was found, or appended"))
    }

    /// The index of a value, good until the next [`remove`](Self::remove).
    pub(crate) fn index_or_insert_with(&mut self, series: Series, new: impl FnOnce() -> T) -> usize {
        let hash = self.hasher.hash_one(series);
        self.find(series, hash).unwrap_or_else(|| self.append(series, hash, new()))
    }

    pub(crate) fn at_mut(&mut self, index: usize) -> Option<&mut T> {
        self.values.get_mut(index)
    }

    pub(crate) fn remove(&mut self, series: Series) -> Option<T> {
        let hash = self.hasher.hash_one(series);
        let Self { series: all, tables, hasher, .. } = self;
        let table = tables.get_mut(table_of(hash))?;
        let is_it = |index: &u32| all.get(*index as usize) == Some(&series);
        let (index, _) = table.find_entry(hash, is_it).ok()?.remove();
        if table.len() < table.capacity() / 4 {
            table.shrink_to(table.len() * 2, |index| hash_at(all, hasher, *index));
        }
        all.swap_remove(index as usize);
        if let Some(moved) = all.get(index as usize) {
            let (hash, before) = (hasher.hash_one(moved), all.len());
            if let Some(moved) = tables[table_of(hash)].find_mut(hash, |index| *index as usize == before) {
                *moved = index;
            }
        }
        self.values.swap_remove(index as usize)
    }

    fn find(&self, series: Series, hash: u64) -> Option<usize> {
        let is_it = |index: &u32| self.series.get(*index as usize) == Some(&series);
        Some(*self.tables.get(table_of(hash))?.find(hash, is_it)? as usize)
    }

    fn append(&mut self, series: Series, hash: u64, value: T) -> usize {
        let Self { series: all, values, tables, hasher, customers } = self;
        if tables.is_empty() {
            tables.resize_with(TABLES, HashTable::new);
        }
        let at = all.len();
        let index = u32::try_from(at).unwrap_or_else(|_| unreachable!("memory would not hold so many"));
        all.push(series);
        values.push(value);
        tables[table_of(hash)].insert_unique(hash, index, |index| hash_at(all, hasher, *index));
        let (word, bit) = bit_of(series.customer);
        if word >= customers.len() {
            customers.resize(word + 1, 0);
        }
        customers[word] |= bit;
        at
    }
}

fn hash_at(series: &PagedVec<Series>, hasher: &RandomState, index: u32) -> u64 {
    series.get(index as usize).map_or(0, |series| hasher.hash_one(series))
}

/// By bits of the hash that no table looks at: those of its beginning and its end say where in a table to look.
const fn table_of(hash: u64) -> usize {
    (hash >> 32) as usize % TABLES
}

const fn bit_of(customer: CustomerIndex) -> (usize, u64) {
    (customer.0 as usize / 64, 1 << (customer.0 % 64))
}

/// The names behind series.
pub(crate) struct SeriesNames<'a> {
    catalog: &'a Catalog,
    customers: &'a CustomerTable,
}

impl<'a> SeriesNames<'a> {
    pub(crate) fn new(catalog: &'a Catalog, customers: &'a CustomerTable) -> Self {
        Self { catalog, customers }
    }

    /// The product of a series, and its dimension.
    pub(crate) fn dimension(&self, series: Series) -> Option<(ProductIndex, &'a Dimension)> {
        let (product, _) = self.customers.name(series.customer)?;
        Some((product, self.catalog.dimension(product, series.dimension)?))
    }

    pub(crate) fn bucket_key(&self, hour: Hour, series: Series) -> Option<BucketKey<'a>> {
        let (product, customer) = self.customers.name(series.customer)?;
        let product = self.catalog.product(product)?;
        let dimension = product.dimensions.get(usize::from(series.dimension.0))?;
        Some(BucketKey { hour, product: &product.code, customer, dimension: &dimension.name })
    }
}

/// Finds the series of keys on disk. They come sorted, so that mostly a key's customer is that of the one before.
pub(crate) struct SeriesFinder<'a> {
    catalog: &'a Catalog,
    customers: &'a CustomerTable,
    last: Option<(ProductIndex, CustomerIndex)>,
}

impl<'a> SeriesFinder<'a> {
    pub(crate) fn new(catalog: &'a Catalog, customers: &'a CustomerTable) -> Self {
        Self { catalog, customers, last: None }
    }

    /// `None` if it is not configured.
    pub(crate) fn find(
        &mut self,
        product: &str,
        customer: &str,
        dimension: &str,
    ) -> Option<(ProductIndex, Series)> {
        if !self.is_last(product, customer) {
            let product = self.catalog.find(product)?;
            self.last = Some((product, self.customers.find(product, customer)?));
        }
        let (product, customer) = self.last?;
        let dimension = self.catalog.find_dimension(product, dimension)?;
        Some((product, Series { customer, dimension }))
    }

    fn is_last(&self, product: &str, customer: &str) -> bool {
        self.last.is_some_and(|(its_product, its_customer)| {
            self.catalog.product(its_product).is_some_and(|known| *known.code == *product)
                && self.customers.name(its_customer).is_some_and(|(_, key)| **key == *customer)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn values_are_found_as_in_a_map(changes in proptest::collection::vec((0..400_u32, 0..3_u16, 0..3_u8), 0..3000)) {
            let (mut values, mut model) = (SeriesMap::default(), BTreeMap::new());
            for (customer, dimension, change) in changes {
                let series = Series { customer: CustomerIndex(customer), dimension: DimensionIndex(dimension) };
                if change == 0 {
                    prop_assert_eq!(values.remove(series), model.remove(&series));
                } else {
                    *values.get_or_insert_with(series, || 0) += change;
                    *model.entry(series).or_insert(0) += change;
                    prop_assert_eq!(values.get_mut(series).map(|value| *value), model.get(&series).copied());
                }
                prop_assert_eq!(values.get(series), model.get(&series));
                prop_assert!(model.keys().all(|series| values.has_had(series.customer)));
                prop_assert_eq!((values.values.len(), values.is_empty()), (model.len(), model.is_empty()));
            }
        }
    }
}
