//! Up to which hour everything is sealed. Billing moves it on, and counting reads it.

use std::collections::BTreeMap;

use crate::domain::{
    billing::schedule::open_hour,
    product::ProductIndex,
    time::{Hour, Timestamp},
};

use super::customers::{CustomerIndex, CustomerTable};

/// The last hours that take no more usage of anyone. A customer that was sealed on its own has one of its own beside
/// them, in the customer table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watermarks {
    /// That of all products but those below.
    pub(super) common: Hour,
    /// Those of products whose hours wait for a review, and are thus sealed later.
    pub(crate) own: BTreeMap<ProductIndex, Hour>,
}

impl Watermarks {
    /// One for all products.
    pub const fn all(common: Hour) -> Self {
        Self { common, own: BTreeMap::new() }
    }

    /// The last hour of a product that takes no more usage.
    pub(crate) fn of(&self, product: ProductIndex) -> Hour {
        self.own.get(&product).copied().unwrap_or(self.common)
    }

    /// The last hour of which that is true for every product.
    pub(crate) fn lowest(&self) -> Hour {
        self.own.values().copied().fold(self.common, Hour::min)
    }

    /// The last hour of which that is true for some product.
    pub(crate) fn highest(&self) -> Hour {
        self.own.values().copied().fold(self.common, Hour::max)
    }

    /// The hour that takes a customer's usage: an earlier one may be sealed, for everyone or for the customer alone.
    pub(crate) fn open_hour(
        &self,
        customers: &CustomerTable,
        product: ProductIndex,
        customer: Option<CustomerIndex>,
        (hour, now): (Hour, Timestamp),
    ) -> Hour {
        let of_product = self.of(product);
        let own = customer.and_then(|index| customers.sealed_through(index));
        open_hour(hour, own.map_or(of_product, |own| own.max(of_product)), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_product_with_a_review_has_a_watermark_of_its_own() {
        let [nine, ten] = [9, 10].map(Hour::from_index);
        let watermarks = Watermarks { common: ten, own: [(ProductIndex(1), nine)].into() };
        assert_eq!([0, 1, 2].map(|product| watermarks.of(ProductIndex(product))), [ten, nine, ten]);
        assert_eq!((watermarks.lowest(), watermarks.highest()), (nine, ten));
        assert_eq!(Watermarks { own: BTreeMap::new(), ..watermarks }.lowest(), ten);
    }

    #[test]
    fn usage_counts_in_its_hour_while_its_product_has_it_open() {
        let [nine, ten, eleven] = [9, 10, 11].map(Hour::from_index);
        let watermarks = Watermarks { common: ten, own: [(ProductIndex(1), nine)].into() };
        let customers = CustomerTable::default();
        let open = |product, hour: Hour| {
            watermarks.open_hour(&customers, ProductIndex(product), None, (hour, eleven.start()))
        };
        assert_eq!((open(0, ten), open(1, ten), open(1, nine)), (eleven, ten, eleven));
    }
}
