//! What was acknowledged against what was billed, for each customer and dimension, to the base unit.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    base::config::Config,
    domain::{customer::identity::Identity, usage::quantity::Quantity},
    engine::committer::Status,
    sandbox::{BilledRecord, Sandbox},
};

use super::applications::{Acknowledged, Series};

const MICROS_PER_UNIT: u128 = 1_000_000;

#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) lines: Vec<Line>,
    pub(super) held: u64,
    /// What the agent says it carries, all together; it must be what is missing from the bill.
    pub(super) carried: u128,
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) series: Series,
    /// The amount that was acknowledged, in base units.
    pub(super) acknowledged: u128,
    pub(super) billed: u128,
    pub(super) quantity: String,
    /// The smallest amount that can be billed: less than this waits for more.
    step: u128,
}

impl Line {
    pub(super) fn carried(&self) -> Option<u128> {
        self.acknowledged.checked_sub(self.billed)
    }

    pub(super) fn is_exact(&self) -> bool {
        self.carried().is_some_and(|carried| carried < self.step)
    }
}

impl Report {
    /// Nothing was metered, so nothing is proved: at a great speed the hours pass before the applications have begun.
    pub(super) fn is_empty(&self) -> bool {
        self.lines.iter().all(|line| line.acknowledged == 0)
    }

    pub(super) fn is_exact(&self) -> bool {
        let missing: u128 = self.lines.iter().filter_map(Line::carried).sum();
        self.held == 0 && missing == self.carried && self.lines.iter().all(Line::is_exact) && !self.is_empty()
    }
}

pub(super) fn compare(
    config: &Config,
    acknowledged: &Acknowledged,
    sandbox: &Sandbox,
    status: &Status,
) -> Report {
    let mut billed: BTreeMap<Series, u128> = BTreeMap::new();
    for record in sandbox.billed() {
        *billed.entry(series(config, &record)).or_default() += u128::from(record.quantity.micros());
    }
    let all: BTreeSet<&Series> = acknowledged.units.keys().chain(billed.keys()).collect();
    let line = |series: &Series| {
        let micros = billed.get(series).copied().unwrap_or_default();
        let (unit, step) = unit_and_step(series);
        let acknowledged = acknowledged.units.get(series).copied().unwrap_or_default();
        let billed = micros * unit / MICROS_PER_UNIT;
        Line { series: series.clone(), acknowledged, billed, quantity: decimal(micros), step }
    };
    Report {
        lines: all.into_iter().map(line).collect(),
        held: status.tally.held_records.values().sum(),
        carried: status.open_units.values().sum(),
    }
}

/// Whose line of the bill a record is. AWS knows identities; the applications know keys.
fn series(config: &Config, record: &BilledRecord) -> Series {
    let by_license = |identity: &Identity| *identity.fields().license_arn == record.license_arn;
    let licensed = config
        .customers
        .iter()
        .find(|customer| !record.license_arn.is_empty() && by_license(&customer.identity));
    let (product, customer) = match licensed {
        Some(customer) => (config.catalog.product(customer.product), customer.key.to_string()),
        None => (None, format!("{}{}", record.account_id, record.customer_identifier)),
    };
    let code = product.map_or_else(|| record.product.clone(), |product| product.code.to_string());
    (code, customer, record.dimension.clone())
}

/// (base units of one billed unit, base units of the smallest step that AWS is told): written down here once more, so
/// that this proof does not use the arithmetic that it checks.
fn unit_and_step((_, _, dimension): &Series) -> (u128, u128) {
    match dimension.as_str() {
        "gb_out" => (1_000_000_000, 1_000_000),
        "queries" => (1000, 1000),
        _ => (1, 1),
    }
}

fn decimal(micros: u128) -> String {
    u64::try_from(micros)
        .ok()
        .and_then(Quantity::from_micros)
        .map_or_else(|| "too much".to_owned(), |q| q.to_string())
}
