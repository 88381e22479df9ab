//! `[[product.dimension]]`: what a product bills.

use std::{collections::BTreeSet, num::NonZeroU64};

use super::{About, Section};
use crate::domain::{
    product::{Aggregate, Dimension},
    usage::quantity::{MAX_DECIMALS, Rounding, Unit},
};

/// AWS allows 200 usage dimensions per product; restricted ones count, so leave room.
const MAX_DIMENSIONS: usize = 1000;
/// TOML's: what took effect can be written down.
const MAX_INTEGER: u64 = i64::MAX.unsigned_abs();

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
    Dimension { name: name.into(), aggregate, unit, rounding, tags }
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
    use crate::base::config::testing::{GOOD, config};

    #[test]
    fn what_took_effect_can_be_written_down() {
        let unit = |unit| config(GOOD, &[("TALLYMAN__PRODUCT__0__DIMENSION__0__UNIT", unit)]);
        assert!(unit("9223372036854775807").unwrap().effective.contains("9223372036854775807"));
        assert!(unit("9223372036854775808").is_err(), "TOML has no such number");
    }
}
