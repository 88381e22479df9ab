//! What has been metered: one entry for each slot and region, whose first quantity stays for ever.
//!
//! AWS removes duplicates only within a region: whoever sends a slot to two of them is billed for both.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    allocations::{Allocations, Tags},
    request::UsageRecord,
};
use crate::domain::{
    billing::record::Slot,
    time::{Hour, Timestamp},
    usage::quantity::Quantity,
};

/// One entry of the bill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BilledRecord {
    pub region: String,
    /// The product code; empty with a license.
    pub product: String,
    pub license_arn: String,
    pub account_id: String,
    pub customer_identifier: String,
    pub dimension: String,
    pub hour: Hour,
    /// The timestamp as it was sent first.
    pub timestamp: Timestamp,
    pub quantity: Quantity,
    pub metering_record_id: String,
    pub allocations: Vec<BilledAllocation>,
    /// How often it was sent and answered with Success.
    pub calls: u32,
}

/// The part of a record that belongs to one set of tags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BilledAllocation {
    pub tags: BTreeMap<String, String>,
    pub quantity: Quantity,
}

#[derive(Debug, Default)]
pub(super) struct MeteredUsage {
    /// The metered usage, by region, product code (empty with a license) and slot.
    entries: BTreeMap<(Arc<str>, Arc<str>, Slot), Entry>,
}

#[derive(Debug)]
struct Entry {
    timestamp: Timestamp,
    quantity: Quantity,
    allocations: Allocations,
    metering_record_id: String,
    calls: u32,
}

impl MeteredUsage {
    /// Meters the record unless its slot is taken. Returns the slot's id if it holds this very usage, now or
    /// from before; `None` if it holds another.
    ///
    /// The same quantity under other tags counts as another usage: the bill would not be what was sent.
    pub(super) fn meter(
        &mut self,
        region: &str,
        product: &Arc<str>,
        record: &UsageRecord,
        new_id: impl FnOnce() -> String,
    ) -> Option<&str> {
        let slot = (region.into(), product.clone(), record.slot.clone());
        let entry = self.entries.entry(slot).or_insert_with(|| Entry {
            timestamp: record.timestamp,
            quantity: record.quantity,
            allocations: record.allocations.clone(),
            metering_record_id: new_id(),
            calls: 0,
        });
        if (entry.quantity, &entry.allocations) != (record.quantity, &record.allocations) {
            return None;
        }
        entry.calls = entry.calls.saturating_add(1);
        Some(&entry.metering_record_id)
    }

    /// Sorted by region, product, customer, dimension and hour.
    pub(super) fn billed(&self) -> Vec<BilledRecord> {
        let billed = |((region, product, slot), entry): (&(Arc<str>, Arc<str>, Slot), &Entry)| {
            entry.billed(region, product, slot)
        };
        self.entries.iter().map(billed).collect()
    }
}

impl Entry {
    fn billed(&self, region: &str, product: &str, slot: &Slot) -> BilledRecord {
        let customer = slot.identity.fields();
        let allocation = |(tags, quantity): (&Tags, &Quantity)| BilledAllocation {
            tags: tags.clone(),
            quantity: *quantity,
        };
        BilledRecord {
            region: region.to_owned(),
            product: product.to_owned(),
            license_arn: customer.license_arn.to_owned(),
            account_id: customer.account_id.to_owned(),
            customer_identifier: customer.customer_identifier.to_owned(),
            dimension: slot.dimension.to_string(),
            hour: slot.hour,
            timestamp: self.timestamp,
            quantity: self.quantity,
            metering_record_id: self.metering_record_id.clone(),
            allocations: self.allocations.iter().map(allocation).collect(),
            calls: self.calls,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::sandbox::{
        metering::{request::Call, wire::WireCall},
        tests::record,
    };

    /// The id under which the usage is metered, or "duplicate".
    fn meter(metered: &mut MeteredUsage, id: &str, fields: Value) -> String {
        meter_in("us-east-1", metered, id, fields)
    }

    fn meter_in(region: &str, metered: &mut MeteredUsage, id: &str, fields: Value) -> String {
        let body = json!({"ProductCode": "prod", "UsageRecords": [record(fields)]});
        let call = Call::parse(WireCall::read(body.to_string().as_bytes()).unwrap()).unwrap();
        let kept = metered.meter(region, &call.product, &call.records[0], || id.to_owned());
        kept.unwrap_or("duplicate").to_owned()
    }

    #[test]
    fn an_equal_quantity_again_has_the_same_id() {
        let mut metered = MeteredUsage::default();
        assert_eq!(meter(&mut metered, "a", json!({"Quantity": 17})), "a");
        assert_eq!(meter(&mut metered, "b", json!({"Quantity": 17})), "a");
        let decimal = json!({"Quantity": null, "QuantityAsDecimal": "17.00"});
        assert_eq!(meter(&mut metered, "c", decimal), "a");
        let billed = metered.billed();
        assert_eq!((billed.len(), billed[0].calls), (1, 3));
    }

    #[test]
    fn another_quantity_is_a_duplicate_and_the_first_one_stays() {
        let mut metered = MeteredUsage::default();
        meter(&mut metered, "a", json!({"Quantity": 17}));
        assert_eq!(meter(&mut metered, "b", json!({"Quantity": 18})), "duplicate");
        assert_eq!(meter(&mut metered, "b", json!({"Quantity": 0})), "duplicate");
        let billed = metered.billed();
        assert_eq!((billed[0].quantity.to_string(), billed[0].calls), ("17".to_owned(), 1));
    }

    #[test]
    fn a_slot_is_a_customer_dimension_and_utc_hour() {
        let mut metered = MeteredUsage::default();
        meter(&mut metered, "a", json!({}));
        assert_eq!(meter(&mut metered, "b", json!({"Timestamp": 1_793_620_800 + 3599})), "a");
        for (id, other) in [
            ("b", json!({"Timestamp": 1_793_620_800 + 3600})),
            ("c", json!({"Dimension": "Requests"})),
            ("d", json!({"CustomerAWSAccountId": "210987654321"})),
            ("e", json!({"CustomerAWSAccountId": null, "CustomerIdentifier": "123456789012"})),
        ] {
            assert_eq!(meter(&mut metered, id, other), id);
        }
        assert_eq!(metered.billed().len(), 5);
    }

    #[test]
    fn another_region_bills_again() {
        let mut metered = MeteredUsage::default();
        meter(&mut metered, "a", json!({}));
        assert_eq!(meter_in("eu-west-1", &mut metered, "b", json!({})), "b");
        assert_eq!(metered.billed().len(), 2);
    }

    #[test]
    fn other_allocations_of_the_same_quantity_are_another_usage() {
        let mut metered = MeteredUsage::default();
        let share = |quantity: u32, team: &str| {
            let tag = json!({"Key": "team", "Value": team});
            json!({"AllocatedUsageQuantity": quantity, "Tags": [tag]})
        };
        let split = |shares: Value| json!({"UsageAllocations": shares});
        meter(&mut metered, "a", split(json!([share(2, "x"), share(3, "y")])));
        assert_eq!(meter(&mut metered, "b", split(json!([share(3, "y"), share(2, "x")]))), "a");
        assert_eq!(meter(&mut metered, "b", split(json!([share(3, "x"), share(2, "y")]))), "duplicate");
        assert_eq!(meter(&mut metered, "b", json!({})), "duplicate");
        assert_eq!(metered.billed()[0].allocations.len(), 2);
    }
}
