//! `[[product.dimension]]`: what a product bills.

use std::{collections::BTreeSet, num::NonZeroU64};

use super::{About, Section};
use crate::domain::{
    product::{Aggregate, Dimension, QuantityLimits},
    usage::quantity::{MAX_DECIMALS, Rounding, Unit},
};

/// AWS allows 200 usage dimensions per product; restricted ones count, so leave room.
const MAX_DIMENSIONS: usize = 1000;
/// TOML's: what took effect can be written down.
const MAX_INTEGER: u64 = i64::MAX.unsigned_abs();

const MAX_TIMES: u64 = 1_000_000;

const ABOUT: About = About {
    words: "A priced unit of the product above it; each product has at least one.",
    example: r#"
[[product.dimension]]
name = "gb_out"
aggregate = "sum"
unit = 1000000000 # events carry bytes, AWS bills GB
decimals = 3
rounding = "down"
tags = true
max_event_quantity = 50000000000 # no request is larger than 50 GB
hold_above = 2000000000000 # more than 2 TB in an hour is for a person to look at
hold_above_usual = 20

[[product.dimension]]
name = "seats"
aggregate = "latest"
hold = true
"#,
};

pub(super) fn read_all(product: &mut Section<'_>) -> Vec<Dimension> {
    let mut sections = product.sections("dimension", &ABOUT);
    if sections.is_empty() || sections.len() > MAX_DIMENSIONS {
        product
            .fault("dimension", &format!("1 to {MAX_DIMENSIONS} [[product.dimension]] sections are needed"));
        sections.truncate(MAX_DIMENSIONS);
    }
    let mut names = BTreeSet::new();
    let mut dimensions = Vec::with_capacity(sections.len());
    for section in &mut sections {
        let dimension = read(section);
        if !names.insert(dimension.name.clone()) {
            section.fault("name", &format!("`{}` is there twice", dimension.name));
        }
        dimensions.push(dimension);
    }
    product.put_all("dimension", sections);
    dimensions
}

fn read(section: &mut Section<'_>) -> Dimension {
    let name = section.key("name", "The API name in AWS Marketplace, in the same case").required_text();
    if name.len() > 255 || name.chars().any(char::is_control) {
        section.fault("name", "must be 1 to 255 bytes without control characters");
    }
    let aggregate = read_aggregate(section);
    let unit = read_unit(section);
    let roundings = [("down", Rounding::Down), ("up", Rounding::Up), ("nearest", Rounding::Nearest)];
    let rounding = section
        .key("rounding", "How a remainder that no later hour can take is rounded")
        .choice(&roundings, "down");
    let tags = section
        .key("tags", "With `sum` and `count`: usage is split by tags (AWS: vendor-metered tagging)")
        .flag(false);
    if tags && !aggregate.adds_up() {
        section.fault("tags", "only a sum or a count can be split by tags");
    }
    let limits = read_limits(section, aggregate);
    Dimension { name: name.into(), aggregate, unit, rounding, tags, limits }
}

fn read_limits(section: &mut Section<'_>, aggregate: Aggregate) -> QuantityLimits {
    let max_event_quantity = section
        .key(
            "max_event_quantity",
            "With `sum`, `max` and `latest`: an event with a larger quantity, in base units, is rejected \
             (`QUANTITY_TOO_LARGE`)",
        )
        .optional_integer(1..=MAX_INTEGER);
    if max_event_quantity.is_some() && matches!(aggregate, Aggregate::Count | Aggregate::Unique) {
        section.fault(
            "max_event_quantity",
            "has a meaning only with aggregate = \"sum\", \"max\" or \"latest\"",
        );
    }
    let hold_above = section
        .key(
            "hold_above",
            "An hour in which a customer uses more, in base units, is held as `suspicious` before it is sent, for a person \
             to decide",
        )
        .optional_integer(1..=MAX_INTEGER);
    let hold_above_usual = section
        .key(
            "hold_above_usual",
            "As is an hour with more than so many times the customer's highest hour of the last seven days. In its first \
             24 hours of usage a customer has no such hour yet",
        )
        .optional_integer(2..=MAX_TIMES);
    QuantityLimits { max_event_quantity, hold_above, hold_above_usual }
}

fn read_aggregate(section: &mut Section<'_>) -> Aggregate {
    let aggregates = [
        ("sum", Aggregate::Sum),
        ("count", Aggregate::Count),
        ("max", Aggregate::Max),
        ("latest", Aggregate::Latest { hold: false }),
        ("unique", Aggregate::Unique),
    ];
    let aggregate = section
        .key(
            "aggregate",
            "How an hour's events become its quantity: see the [README](../README.md#what-an-hour-comes-to)",
        )
        .choice(&aggregates, "sum");
    let hold = section
        .key("hold", "With `latest`: the level stands in later hours, until an event changes it")
        .flag(false);
    match aggregate {
        Aggregate::Latest { .. } => Aggregate::Latest { hold },
        Aggregate::Sum | Aggregate::Count | Aggregate::Max | Aggregate::Unique => {
            if hold {
                section.fault("hold", "has a meaning only with aggregate = \"latest\"");
            }
            aggregate
        }
    }
}

fn read_unit(section: &mut Section<'_>) -> Unit {
    let base_units = section
        .key("unit", "How many base units, in which events count, make one unit that AWS bills")
        .integer(1, 1..=MAX_INTEGER);
    let decimals =
        section.key("decimals", "How many decimals of a quantity AWS is told").integer(0, 0..=MAX_DECIMALS);
    NonZeroU64::new(base_units).and_then(|base_units| Unit::new(base_units, decimals)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::base::config::testing::{GOOD, config, faults};

    const DIMENSION: &str = "TALLYMAN__PRODUCT__0__DIMENSION__0__";

    #[test]
    fn a_limit_that_may_be_left_out_is_a_number_that_means_something() {
        let with = |key: &str, value: &str| {
            config(GOOD, &[(&format!("{DIMENSION}{key}"), value)])
                .map(|config| config.catalog.products().next().unwrap().1.dimensions[0].limits)
        };
        assert_eq!(config(GOOD, &[]).unwrap().effective.matches("max_event_quantity").count(), 0);
        assert_eq!(with("MAX_EVENT_QUANTITY", "1000").unwrap().max_event_quantity, Some(1000));
        for wrong in ["0", "-1", "many", "9223372036854775808"] {
            assert!(with("MAX_EVENT_QUANTITY", wrong).is_err(), "{wrong}");
        }
        let both = [(format!("{DIMENSION}HOLD_ABOVE"), "50"), (format!("{DIMENSION}HOLD_ABOVE_USUAL"), "20")];
        let both: Vec<_> = both.iter().map(|(name, value)| (&**name, *value)).collect();
        let both = config(GOOD, &both).unwrap().catalog.products().next().unwrap().1.dimensions[0].limits;
        assert_eq!((both.hold_above, both.hold_above_usual), (Some(50), Some(20)));
        assert!(with("HOLD_ABOVE_USUAL", "1").is_err(), "every hour that is higher than any before");
        let of_count =
            [(format!("{DIMENSION}AGGREGATE"), "count"), (format!("{DIMENSION}MAX_EVENT_QUANTITY"), "5")];
        let of_count: Vec<_> = of_count.iter().map(|(name, value)| (&**name, *value)).collect();
        assert!(faults(GOOD, &of_count)[0].contains("has a meaning only with"));
    }

    #[test]
    fn what_took_effect_can_be_written_down() {
        let unit = |unit| config(GOOD, &[("TALLYMAN__PRODUCT__0__DIMENSION__0__UNIT", unit)]);
        assert!(unit("9223372036854775807").unwrap().effective.contains("9223372036854775807"));
        assert!(unit("9223372036854775808").is_err(), "TOML has no such number");
    }
}
