//! One value for each of many customers and dimensions, in little memory.

use crate::{
    domain::product::{Catalog, DimensionIndex, ProductIndex},
    work::roster::{CustomerIndex, Inner},
};

/// A customer and one of its product's dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Series {
    pub(super) customer: CustomerIndex,
    pub(super) dimension: DimensionIndex,
}

/// Customers are numbered from zero, and each has few dimensions: so the place of one is found without a hash, no table
/// is ever copied as a whole, and one that leaves gives its memory back.
#[derive(Debug)]
pub(super) struct BySeries<T> {
    /// By customer; each one's in the order of dimensions.
    customers: Vec<Vec<(DimensionIndex, T)>>,
    len: usize,
}

impl<T> Default for BySeries<T> {
    fn default() -> Self {
        Self { customers: Vec::new(), len: 0 }
    }
}

impl<T> BySeries<T> {
    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Whether a customer has any.
    pub(super) fn has(&self, customer: CustomerIndex) -> bool {
        self.customers.get(customer.0 as usize).is_some_and(|values| !values.is_empty())
    }

    pub(super) fn get(&self, series: Series) -> Option<&T> {
        let values = self.customers.get(series.customer.0 as usize)?;
        let place = place_of(values, series.dimension).ok()?;
        values.get(place).map(|(_, value)| value)
    }

    pub(super) fn get_mut(&mut self, series: Series) -> Option<&mut T> {
        let values = self.customers.get_mut(series.customer.0 as usize)?;
        let place = place_of(values, series.dimension).ok()?;
        values.get_mut(place).map(|(_, value)| value)
    }

    pub(super) fn get_or_insert_with(&mut self, series: Series, new: impl FnOnce() -> T) -> &mut T {
        let index = series.customer.0 as usize;
        if index >= self.customers.len() {
            self.customers.resize_with(index + 1, Vec::new);
        }
        let values = &mut self.customers[index];
        let place = place_of(values, series.dimension).unwrap_or_else(|place| {
            self.len += 1;
            if values.len() == values.capacity() {
                // Doubling would leave half of a million places empty.
                values.reserve_exact((values.len() / 4).max(1));
            }
            values.insert(place, (series.dimension, new()));
            place
        });
        &mut values[place].1
    }

    pub(super) fn remove(&mut self, series: Series) -> Option<T> {
        let values = self.customers.get_mut(series.customer.0 as usize)?;
        let place = place_of(values, series.dimension).ok()?;
        let (_, value) = values.remove(place);
        self.len -= 1;
        if values.is_empty() {
            *values = Vec::new();
        }
        Some(value)
    }
}

fn place_of<T>(values: &[(DimensionIndex, T)], dimension: DimensionIndex) -> Result<usize, usize> {
    values.binary_search_by_key(&dimension, |(of, _)| *of)
}

/// Finds the series of keys on disk. They come sorted, so that mostly a key's customer is that of the one before.
pub(super) struct Finder<'a> {
    catalog: &'a Catalog,
    roster: &'a Inner,
    last: Option<(ProductIndex, CustomerIndex)>,
}

impl<'a> Finder<'a> {
    pub(super) fn new(catalog: &'a Catalog, roster: &'a Inner) -> Self {
        Self { catalog, roster, last: None }
    }

    /// `None` if it is not configured.
    pub(super) fn find(
        &mut self,
        product: &str,
        customer: &str,
        dimension: &str,
    ) -> Option<(ProductIndex, Series)> {
        if !self.is_last(product, customer) {
            let product = self.catalog.find(product)?;
            self.last = Some((product, self.roster.find(product, customer)?));
        }
        let (product, customer) = self.last?;
        let dimension = self.catalog.find_dimension(product, dimension)?;
        Some((product, Series { customer, dimension }))
    }

    fn is_last(&self, product: &str, customer: &str) -> bool {
        self.last.is_some_and(|(its_product, its_customer)| {
            self.catalog.product(its_product).is_some_and(|known| *known.code == *product)
                && self.roster.get(its_customer).is_some_and(|known| *known.key == *customer)
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
        fn values_are_found_as_in_a_map(changes in proptest::collection::vec((0..5_u32, 0..5_u16, 0..3_u8), 0..80)) {
            let (mut values, mut model) = (BySeries::default(), BTreeMap::new());
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
                let has = model.keys().any(|series| series.customer.0 == customer);
                prop_assert_eq!(values.has(series.customer), has);
                prop_assert_eq!((values.len, values.is_empty()), (model.len(), model.is_empty()));
            }
        }
    }
}
