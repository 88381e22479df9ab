//! Vendor-metered tagging: how a record's quantity is split over sets of tags.

use std::collections::BTreeMap;

use super::{
    amount::Amount,
    wire::{WireAllocation, WireTag},
};
use crate::{
    domain::usage::quantity::Quantity,
    sandbox::exception::{Exception, Kind, violation},
};

/// A set of tags; the empty one stands for usage without tags.
pub(super) type Tags = BTreeMap<String, String>;
/// How much of a record belongs to each set of tags; empty if the record is not split.
pub(super) type Allocations = BTreeMap<Tags, Quantity>;

const MAX_ALLOCATIONS: usize = 2500;
const MAX_TAGS: usize = 5;
const MAX_KEY: usize = 100;
const MAX_VALUE: usize = 256;

pub(super) fn parse(path: &str, wire: Vec<WireAllocation>, total: Amount) -> Result<Allocations, Exception> {
    if !(1..=MAX_ALLOCATIONS).contains(&wire.len()) {
        let must = format!("have length from 1 to {MAX_ALLOCATIONS}");
        return Err(violation(path, &format!("{} allocations", wire.len()), &must));
    }
    let refuse = |what: &str| Kind::InvalidUsageAllocations.because(format!("{path}: {what}"));
    let mut allocations = Allocations::new();
    for (number, allocation) in (1..).zip(wire) {
        let path = format!("{path}.{number}.member");
        let WireAllocation { quantity, quantity_as_decimal, tags } = allocation;
        let amount = Amount::parse(&path, quantity, quantity_as_decimal.as_deref())?
            .ok_or_else(|| Kind::Validation.because(format!("{path}: an allocated quantity is needed")))?;
        if amount.form != total.form {
            return Err(refuse("they must give their quantities in the same form as the record"));
        }
        if allocations.insert(parse_tags(&path, tags)?, amount.quantity).is_some() {
            return Err(refuse("two of them have the same tags"));
        }
    }
    // At most 2500 quantities of 2^31 whole units: far from 2^64 millionths.
    let sum: u64 = allocations.values().map(|quantity| quantity.micros()).sum();
    if sum != total.quantity.micros() {
        return Err(refuse(&format!("they do not add up to the record's quantity {}", total.quantity)));
    }
    Ok(allocations)
}

fn parse_tags(path: &str, wire: Option<Vec<WireTag>>) -> Result<Tags, Exception> {
    let Some(wire) = wire else { return Ok(Tags::new()) };
    let refuse = |what: &str| Kind::InvalidTag.because(format!("{path}.tags: {what}"));
    if !(1..=MAX_TAGS).contains(&wire.len()) {
        return Err(refuse("there must be 1 to 5 tags, or no list at all"));
    }
    let mut tags = Tags::new();
    for WireTag { key, value } in wire {
        let (Some(key), Some(value)) = (key, value) else {
            return Err(refuse("a tag needs a Key and a Value"));
        };
        if !is_tag_text(&key, MAX_KEY) || !is_tag_text(&value, MAX_VALUE) {
            return Err(refuse(
                "keys of 1 to 100 and values of 1 to 256 of a-z A-Z 0-9 + - = . _ : / @ and space",
            ));
        }
        if tags.insert(key, value).is_some() {
            return Err(refuse("a key is there twice"));
        }
    }
    Ok(tags)
}

/// The documented set. The model's pattern admits more, by a range from space to `=` that looks like an
/// oversight.
fn is_tag_text(text: &str, most: usize) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+ -=._:/@".contains(&byte);
    (1..=most).contains(&text.len()) && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::sandbox::metering::amount::Form;

    fn parsed(total: &str, form: Form, allocations: Value) -> Result<Allocations, Kind> {
        let total = Amount { quantity: total.parse().unwrap(), form };
        parse("a", serde_json::from_value(allocations).unwrap(), total).map_err(|refusal| refusal.kind)
    }

    fn whole(allocations: Value) -> Result<Allocations, Kind> {
        parsed("10", Form::Whole, allocations)
    }

    fn tagged(tags: &Value) -> Result<Allocations, Kind> {
        whole(json!([{"AllocatedUsageQuantity": 10, "Tags": tags}]))
    }

    #[test]
    fn one_allocation_may_be_without_tags() {
        let team = json!({"AllocatedUsageQuantity": 6, "Tags": [{"Key": "team", "Value": "a"}]});
        let untagged = json!({"AllocatedUsageQuantity": 4});
        let allocations = whole(json!([team, untagged])).unwrap();
        assert_eq!(allocations[&Tags::new()].to_string(), "4");
        let twice = json!([{"AllocatedUsageQuantity": 4}, {"AllocatedUsageQuantity": 6}]);
        assert_eq!(whole(twice), Err(Kind::InvalidUsageAllocations));
    }

    #[test]
    fn they_add_up_to_the_quantity_by_value() {
        let halves = |second: &str| {
            json!([
                {"AllocatedUsageQuantityAsDecimal": "0.5", "Tags": [{"Key": "team", "Value": "a"}]},
                {"AllocatedUsageQuantityAsDecimal": second}
            ])
        };
        assert!(parsed("1", Form::Decimal, halves("0.500")).is_ok());
        assert_eq!(parsed("1", Form::Decimal, halves("0.500001")), Err(Kind::InvalidUsageAllocations));
        assert_eq!(parsed("1", Form::Decimal, halves("0.4")), Err(Kind::InvalidUsageAllocations));
    }

    #[test]
    fn they_have_the_form_of_the_record() {
        let decimal = json!([{"AllocatedUsageQuantityAsDecimal": "10"}]);
        assert_eq!(whole(decimal.clone()), Err(Kind::InvalidUsageAllocations));
        assert!(parsed("10", Form::Decimal, decimal).is_ok());
        assert_eq!(
            parsed("10", Form::Decimal, json!([{"AllocatedUsageQuantity": 10}])),
            Err(Kind::InvalidUsageAllocations)
        );
    }

    #[test]
    fn each_needs_exactly_one_quantity() {
        assert_eq!(whole(json!([{}])), Err(Kind::Validation));
        let both = json!([{"AllocatedUsageQuantity": 10, "AllocatedUsageQuantityAsDecimal": "10"}]);
        assert_eq!(whole(both), Err(Kind::Validation));
    }

    #[test]
    fn there_are_1_to_2500() {
        let many = |count: usize| {
            let tag = |n: usize| json!({"Key": "n", "Value": n.to_string()});
            let allocation = |n| json!({"AllocatedUsageQuantity": 0, "Tags": [tag(n)]});
            parsed("0", Form::Whole, (0..count).map(allocation).collect())
        };
        assert_eq!(many(0), Err(Kind::Validation));
        assert_eq!(many(2500).unwrap().len(), 2500);
        assert_eq!(many(2501), Err(Kind::Validation));
    }

    #[test]
    fn the_same_tags_in_another_order_are_the_same_tags() {
        let (a, b) = (json!({"Key": "a", "Value": "1"}), json!({"Key": "b", "Value": "2"}));
        let allocations = json!([
            {"AllocatedUsageQuantity": 5, "Tags": [a, b]},
            {"AllocatedUsageQuantity": 5, "Tags": [b, a]}
        ]);
        assert_eq!(whole(allocations), Err(Kind::InvalidUsageAllocations));
    }

    #[test]
    fn there_are_1_to_5_tags_with_distinct_keys() {
        let tags = |count: usize| (0..count).map(|n| json!({"Key": format!("k{n}"), "Value": "v"})).collect();
        assert!(tagged(&tags(5)).is_ok());
        assert_eq!(tagged(&tags(6)), Err(Kind::InvalidTag));
        assert_eq!(tagged(&tags(0)), Err(Kind::InvalidTag));
        let twice = json!([{"Key": "a", "Value": "1"}, {"Key": "a", "Value": "2"}]);
        assert_eq!(tagged(&twice), Err(Kind::InvalidTag));
    }

    #[test]
    fn tags_have_the_documented_characters_and_lengths() {
        let tag = |key: &str, value: &str| tagged(&json!([{"Key": key, "Value": value}]));
        assert!(tag(&"k".repeat(100), &"v".repeat(256)).is_ok());
        assert!(tag("aZ9+ -=._:/@", "x").is_ok());
        for (key, value) in [("", "v"), ("k", ""), ("k", "a,b"), ("k", "é"), ("a#b", "v")] {
            assert_eq!(tag(key, value), Err(Kind::InvalidTag), "{key}={value}");
        }
        assert_eq!(tag(&"k".repeat(101), "v"), Err(Kind::InvalidTag));
        assert_eq!(tag("k", &"v".repeat(257)), Err(Kind::InvalidTag));
        assert_eq!(tagged(&json!([{"Key": "k"}])), Err(Kind::InvalidTag));
    }
}
