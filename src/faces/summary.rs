//! The agent at a glance: for `GetSummary`, for `/api/summary`, and for the gauges.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    base::{
        metrics::{self, ProductGauges},
        proto::{DimensionSummary, ProductSummary, Summary},
    },
    domain::{
        clock_guard::Skew,
        deadline::Window,
        outbox::Unsent,
        product::{Dimension, DimensionIndex, Product, ProductIndex},
        record::HoldReason,
        time::{Hour, Timestamp},
    },
    faces::view::View,
    work::{committer::Status, phase::Phase},
};

pub fn summary(view: &View) -> Summary {
    let status = view.committer.status();
    let phase = view.phase.get();
    Summary {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        agent_id: view.agent_id.to_string(),
        now_unix_seconds: view.clock.now().seconds(),
        sealed_through_unix_seconds: status.sealed_through.start().seconds(),
        open_buckets: status.open_buckets as u64,
        accepting: phase == Phase::Serving,
        fault: match phase {
            Phase::Failed(reason) => reason.to_string(),
            Phase::Starting => "starting".to_owned(),
            Phase::Stopping => "stopping".to_owned(),
            Phase::Serving => String::new(),
        },
        clock_fault: view.trusted_clock.doubt().map_or_else(String::new, clock_fault),
        sandbox: view.is_sandbox,
        products: view
            .catalog
            .products()
            .map(|(index, product)| one(view, &status, index, product))
            .collect(),
    }
}

fn clock_fault(skew: Skew) -> String {
    format!(
        "no hour is sealed, since the clock is {skew}: set it right, and do not restart the agent until then; \
         sealing goes on by itself once the clock agrees with the time of AWS's answers"
    )
}

fn one(view: &View, status: &Status, index: ProductIndex, product: &Product) -> ProductSummary {
    let unsent = view.unsent.get(&product.code);
    let tally = &status.tally;
    ProductSummary {
        code: product.code.to_string(),
        identity: product.identity.to_string(),
        customers: view.committer.roster().read().count(index) as u64,
        records_unsent: tally.pending_records.get(&product.code).copied().unwrap_or_default(),
        oldest_unsent_unix_seconds: unsent.oldest_hour.map_or(0, |hour| hour.start().seconds()),
        nearest_deadline_unix_seconds: unsent.nearest_deadline.map_or(0, Timestamp::seconds),
        records_held: held(status, &product.code).map(|(_, count)| count).sum(),
        records_accepted: tally.accepted_records.get(&product.code).copied().unwrap_or_default(),
        last_success_unix_seconds: tally.last_success.get(&product.code).map_or(0, |at| at.seconds()),
        last_error: unsent.last_error.as_deref().unwrap_or_default().to_owned(),
        dimensions: dimensions(status, index, product, &unsent),
    }
}

fn dimensions(
    status: &Status,
    index: ProductIndex,
    product: &Product,
    unsent: &Unsent,
) -> Vec<DimensionSummary> {
    let tally = &status.tally;
    let text = |amount: Option<&u128>| amount.copied().unwrap_or_default().to_string();
    let summary = |(place, dimension): (u16, &Dimension)| DimensionSummary {
        name: dimension.name.to_string(),
        open: text(tally.open_units.get(&(index, DimensionIndex(place)))),
        unsent: text(unsent.units.get(&dimension.name)),
        held: text(tally.held_units.get(&(product.code.clone(), dimension.name.clone()))),
    };
    (0..).zip(&product.dimensions).map(summary).collect()
}

/// A product's held records by reason.
pub(super) fn held<'a>(
    status: &'a Status,
    product: &'a Arc<str>,
) -> impl Iterator<Item = (HoldReason, u64)> + 'a {
    let records: &BTreeMap<_, u64> = &status.tally.held_records;
    records.iter().filter(move |((code, _), _)| code == product).map(|((_, reason), count)| (*reason, *count))
}

/// Sets the gauges whose values are read rather than counted.
pub fn set_gauges(view: &View) {
    let (status, now) = (view.committer.status(), view.clock.now());
    metrics::clock_skew(view.trusted_clock.doubt().map_or(0, Skew::whole_seconds));
    metrics::store_bytes(view.store.size());
    if status.sealed_through > Hour::FIRST {
        metrics::sealed_through(status.sealed_through);
    }
    for (_, product) in view.catalog.products() {
        let unsent = view.unsent.get(&product.code);
        metrics::product(&ProductGauges {
            product: product.code.to_string(),
            records_unsent: status.tally.pending_records.get(&product.code).copied().unwrap_or_default(),
            oldest_unsent: oldest_unsent(&status, &unsent, now),
            deadline: nearest_deadline(view.window, &status, &unsent, now)
                .map(|deadline| deadline.since(now)),
            unsent_units: unsent.units.iter().map(|(name, units)| (name.to_string(), *units)).collect(),
            held: held(&status, &product.code).collect(),
            last_success: status.tally.last_success.get(&product.code).map(|at| at.seconds()),
            quiet: view.activity.last(&product.code).map(|last| now.since(last)),
        });
    }
}

/// Until when AWS takes all that waits: an hour that is over and not sealed counts, too.
pub(super) fn nearest_deadline(
    window: Window,
    status: &Status,
    unsent: &Unsent,
    now: Timestamp,
) -> Option<Timestamp> {
    let unsealed = status.oldest_open.filter(|hour| hour.end() <= now).map(|hour| window.deadline(hour));
    [unsent.nearest_deadline, unsealed].into_iter().flatten().min()
}

/// Since the end of the oldest hour whose usage AWS does not have: an hour that is over and not sealed counts, too.
pub(super) fn oldest_unsent(status: &Status, unsent: &Unsent, now: Timestamp) -> Duration {
    let hours = [unsent.oldest_hour, status.oldest_open].into_iter().flatten();
    hours.map(|hour| now.since(hour.end())).max().unwrap_or_default()
}

/// The summary as JSON: times as RFC 3339, what is not known or does not apply as null.
pub fn to_json(summary: &Summary) -> Value {
    json!({
        "version": summary.version,
        "agent_id": summary.agent_id,
        "now": time(summary.now_unix_seconds),
        "sealed_through": time(summary.sealed_through_unix_seconds),
        "open_buckets": summary.open_buckets,
        "sandbox": summary.sandbox,
        "accepting": summary.accepting,
        "fault": text(&summary.fault),
        "clock_fault": text(&summary.clock_fault),
        "products": summary.products.iter().map(product_to_json).collect::<Vec<_>>(),
    })
}

fn product_to_json(product: &ProductSummary) -> Value {
    let dimension = |dimension: &DimensionSummary| json!({"name": dimension.name, "open": dimension.open, "unsent": dimension.unsent, "held": dimension.held});
    json!({
        "code": product.code,
        "identity": product.identity,
        "customers": product.customers,
        "records_unsent": product.records_unsent,
        "oldest_unsent": time(product.oldest_unsent_unix_seconds),
        "nearest_deadline": time(product.nearest_deadline_unix_seconds),
        "records_held": product.records_held,
        "records_accepted": product.records_accepted,
        "last_success": time(product.last_success_unix_seconds),
        "last_error": text(&product.last_error),
        "dimensions": product.dimensions.iter().map(dimension).collect::<Vec<_>>(),
    })
}

fn time(unix_seconds: i64) -> Option<String> {
    (unix_seconds != 0).then(|| Timestamp::from_seconds(unix_seconds).to_string())
}

fn text(text: &str) -> Option<&str> {
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn deadline(oldest_open: Option<&str>, sent_until: Option<&str>, now: &str) -> Option<String> {
        let oldest_open = oldest_open.map(|hour| Hour::containing(at(hour)));
        let status = Status { oldest_open, ..Status::default() };
        let unsent = Unsent { nearest_deadline: sent_until.map(at), ..Unsent::default() };
        nearest_deadline(Window::AWS, &status, &unsent, at(now)).map(|deadline| deadline.to_string())
    }

    #[test]
    fn an_hour_that_is_over_has_a_deadline_before_it_is_sealed() {
        let (ten, sealed) = (Some("2026-11-22T10:00:00Z"), Some("2026-11-23T05:00:00Z"));
        let told = |text: &str| Some(text.to_owned());
        assert_eq!(deadline(ten, None, "2026-11-22T10:59:59Z"), None, "an hour under way");
        assert_eq!(deadline(ten, None, "2026-11-22T11:00:00Z"), told("2026-11-23T10:00:00Z"));
        assert_eq!(deadline(ten, sealed, "2026-11-22T12:00:00Z"), told("2026-11-23T05:00:00Z"));
        assert_eq!(
            deadline(ten, Some("2026-11-23T11:00:00Z"), "2026-11-22T12:00:00Z"),
            told("2026-11-23T10:00:00Z")
        );
        assert_eq!(deadline(None, sealed, "2026-11-22T12:00:00Z"), told("2026-11-23T05:00:00Z"));
        let last = Some("2026-11-30T23:00:00Z");
        assert_eq!(deadline(last, None, "2026-12-01T00:00:00Z"), told("2026-12-01T06:00:00Z"));
    }
}
