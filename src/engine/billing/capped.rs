//! Customers and dimensions whose hours reach AWS's largest quantity: counted each time, told in the log once.

use std::collections::{BTreeMap, HashSet};

use tracing::warn;

use crate::{
    base::metrics,
    domain::{
        billing::record::Record,
        product::{DimensionIndex, ProductIndex},
        time::Hour,
    },
    engine::{counting::series::Series, watermark::Watermarks},
};

/// By product and dimension: how many customers have reached it.
pub(crate) type CappedCustomers = BTreeMap<(ProductIndex, DimensionIndex), u64>;

/// What has reached it since the start. A restart forgets it, and tells it again.
#[derive(Debug, Default)]
pub(super) struct CappedSeries {
    /// Those whose last sealed hour has.
    told: HashSet<Series>,
    /// The last hour in which some customer has, and how many have.
    latest: BTreeMap<(ProductIndex, DimensionIndex), (Hour, u64)>,
}

impl CappedSeries {
    /// An hour is sealed that makes a record.
    pub(super) fn note(&mut self, product: ProductIndex, series: Series, record: &Record, is_capped: bool) {
        if !is_capped {
            self.told.remove(&series);
            return;
        }
        metrics::quantity_capped(&record.product, &record.dimension);
        let (hour, customers) = self.latest.entry((product, series.dimension)).or_insert((record.hour, 0));
        if *hour < record.hour {
            (*hour, *customers) = (record.hour, 0);
        }
        if *hour == record.hour {
            *customers += 1;
        }
        if self.told.insert(series) {
            warn!(
                record = %record.id, product = %record.product, dimension = %record.dimension, hour = %record.hour,
                left = record.amounts.carried_out,
                "an hour has reached AWS's largest quantity: what is above it is billed with the next hours, unless you \
                 stop it (tallyman adjust)"
            );
        }
    }

    /// Those that have in the last hour that is sealed of their product.
    pub(super) fn in_last_hour(&self, watermarks: &Watermarks) -> CappedCustomers {
        let is_last = |product: ProductIndex, hour: Hour| hour >= watermarks.of(product);
        let latest = self.latest.iter().filter(|((product, _), (hour, _))| is_last(*product, *hour));
        latest.map(|(place, (_, customers))| (*place, *customers)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{domain::billing::record::tests::sample, engine::customers::CustomerIndex};

    #[test]
    fn customers_are_counted_by_the_last_sealed_hour_of_their_product() {
        let (product, dimension) = (ProductIndex(0), DimensionIndex(3));
        let mut capped = CappedSeries::default();
        let mut note = |customer, hour, is_capped| {
            let series = Series { customer: CustomerIndex(customer), dimension };
            capped.note(product, series, &Record { hour, ..sample(1) }, is_capped);
            let watermarks = Watermarks { common: hour, own: BTreeMap::new() };
            capped.in_last_hour(&watermarks).get(&(product, dimension)).copied()
        };
        let [ten, eleven] = [10, 11].map(Hour::from_index);
        assert_eq!(
            [note(1, ten, true), note(2, ten, false), note(3, ten, true)],
            [Some(1), Some(1), Some(2)]
        );
        assert_eq!(
            [note(1, eleven, false), note(3, eleven, true), note(1, eleven.next(), false)],
            [None, Some(1), None]
        );
    }
}
