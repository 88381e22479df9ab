//! How many records of each customer are pending or held. As long as there is one, the customer is not forgotten.

use crate::{
    domain::billing::record::Record,
    engine::{
        counting::series::Series,
        customers::{CustomerIndex, CustomerTable},
    },
};

use super::Billing;

/// The owner of a record, as far as it is configured.
#[derive(Clone, Copy, Debug)]
pub(super) struct RecordOwner {
    pub(super) customer: Option<CustomerIndex>,
    pub(super) series: Option<Series>,
}

impl From<Series> for RecordOwner {
    fn from(series: Series) -> Self {
        Self { customer: Some(series.customer), series: Some(series) }
    }
}

impl Billing {
    pub(super) fn owner_of(&self, record: &Record, customers: &CustomerTable) -> RecordOwner {
        let customer = customers.of_record(&self.rules.catalog, record);
        RecordOwner { customer, series: self.series_of(record, customers) }
    }
}

/// Counts by the customer's index. Four bytes for each customer, since a million may have pending records at once.
#[derive(Debug, Default)]
pub(super) struct Unsettled(Vec<u32>);

impl Unsettled {
    pub(super) fn add(&mut self, customer: Option<CustomerIndex>) {
        let Some(CustomerIndex(index)) = customer else { return };
        let index = index as usize;
        if index >= self.0.len() {
            self.0.resize(index + 1, 0);
        }
        self.0[index] = self.0[index].saturating_add(1);
    }

    pub(super) fn remove(&mut self, customer: Option<CustomerIndex>) {
        if let Some(records) = customer.and_then(|index| self.0.get_mut(index.0 as usize)) {
            *records = records.saturating_sub(1);
        }
    }

    pub(super) fn has_any(&self, customer: CustomerIndex) -> bool {
        self.0.get(customer.0 as usize).is_some_and(|records| *records > 0)
    }
}
