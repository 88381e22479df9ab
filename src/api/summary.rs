//! The agent at a glance: for `GetSummary`, for `/api/summary`, and for the gauges.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    api::{
        agent_handle::AgentHandle,
        review::{Review, oldest_in_review},
    },
    base::{
        metrics::{self, ProductGauges},
        proto::{DimensionSummary, ProductSummary, Summary},
    },
    domain::{
        billing::{deadline::Window, outbox::Unsent, record::HoldReason},
        clock_guard::Doubt,
        product::{Dimension, DimensionIndex, Product, ProductIndex},
        time::{Hour, Timestamp},
    },
    engine::{billing::next_decision, committer::Status, lifecycle::Phase},
};

/// An hour is sealed after its end by a clock that may be off by a minute, and by the time that this agent has since.
const SEALED_AHEAD_TOLERANCE: Duration = Duration::from_mins(5);

pub(crate) fn summary(agent: &AgentHandle) -> Summary {
    let (status, now) = (agent.committer.status(), agent.trusted_clock.best_now());
    let phase = agent.lifecycle.get();
    Summary {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        agent_id: agent.agent_id.to_string(),
        now_unix_seconds: now.seconds(),
        sealed_through_unix_seconds: status.watermarks.lowest().start().seconds(),
        open_buckets: status.open_buckets as u64,
        accepting: phase == Phase::Serving,
        fault: match phase {
            Phase::Failed(reason) => reason.to_string(),
            Phase::Starting => "starting".to_owned(),
            Phase::Stopping => "stopping".to_owned(),
            Phase::Serving => String::new(),
        },
        clock_fault: clock_fault(agent.trusted_clock.doubt(), status.watermarks.highest(), now, || {
            silence(agent)
        }),
        sandbox: agent.is_sandbox,
        data_dir: agent.data_dir.display().to_string(),
        data_dir_is_new: agent.is_data_dir_new,
        products: agent
            .catalog
            .products()
            .map(|(index, product)| one(agent, &status, index, product))
            .collect(),
    }
}

/// What is wrong with the clock, and what to do; empty if nothing is.
fn clock_fault(
    doubt: Option<Doubt>,
    sealed_through: Hour,
    now: Timestamp,
    silence: impl FnOnce() -> String,
) -> String {
    match doubt {
        Some(Doubt::Off(skew)) => format!(
            "no hour is sealed, since the clock is {skew}: set it right; sealing goes on by itself once the clock agrees \
             with the time of AWS's answers"
        ),
        Some(Doubt::Untold) => format!(
            "no hour is sealed until AWS has told the time, once after each start, and it has not yet{}",
            silence()
        ),
        None if is_sealed_ahead(sealed_through, now) => format!(
            "hours are sealed up to {}, which is in the future, by a clock that was wrong: usage that comes in now is \
             billed after that",
            sealed_through.end()
        ),
        None => String::new(),
    }
}

/// Why AWS has told no time.
fn silence(agent: &AgentHandle) -> String {
    let said = |(_, product): (_, &Product)| agent.unsent.last_answer(&product.code)?.said.fault();
    agent.catalog.products().find_map(said).map_or_else(String::new, |fault| format!(": {fault}"))
}

/// Whether hours are sealed that are not over: a wrong clock has sealed them.
fn is_sealed_ahead(sealed_through: Hour, now: Timestamp) -> bool {
    sealed_through.end() > now.plus(SEALED_AHEAD_TOLERANCE)
}

fn one(agent: &AgentHandle, status: &Status, index: ProductIndex, product: &Product) -> ProductSummary {
    let unsent = agent.unsent.get(&product.code);
    let tally = &status.tally;
    let endpoint = agent.endpoints.get(usize::from(index.0));
    let to_decide = next_decision(&status.decision_deadlines, &product.code, agent.trusted_clock.best_now());
    let in_review = oldest_in_review(agent, status, index, product);
    let waits_until = [unsent.nearest_deadline, to_decide].into_iter().flatten().min();
    ProductSummary {
        code: product.code.to_string(),
        identity: product.identity.to_string(),
        customers: agent.committer.customers().read().count(index) as u64,
        records_unsent: tally.pending_records.get(&product.code).copied().unwrap_or_default(),
        oldest_unsent_unix_seconds: unsent.oldest_hour.map_or(0, |hour| hour.start().seconds()),
        nearest_deadline_unix_seconds: waits_until.map_or(0, Timestamp::seconds),
        records_held: held(status, &product.code).map(|(_, count)| count).sum(),
        records_accepted: tally.accepted_records.get(&product.code).copied().unwrap_or_default(),
        last_success_unix_seconds: tally.last_success.get(&product.code).map_or(0, |at| at.seconds()),
        last_error: unsent.last_error.as_deref().unwrap_or_default().to_owned(),
        dimensions: dimensions(status, index, product, &unsent),
        in_review_hour_unix_seconds: in_review.map_or(0, |(hour, _)| hour.start().seconds()),
        in_review_until_unix_seconds: in_review.map_or(0, |(_, until)| until.seconds()),
        endpoint_url: endpoint.map(|endpoint| endpoint.url.clone()).unwrap_or_default(),
        region: endpoint.map(|endpoint| endpoint.region.clone()).unwrap_or_default(),
        bills_nothing: endpoint.is_some_and(|endpoint| !endpoint.may_bill),
        events_not_billable: agent.not_billable.events(&product.code),
    }
}

fn dimensions(
    status: &Status,
    index: ProductIndex,
    product: &Product,
    unsent: &Unsent,
) -> Vec<DimensionSummary> {
    let text = |amount: Option<&u128>| amount.copied().unwrap_or_default().to_string();
    let summary = |(place, dimension): (u16, &Dimension)| DimensionSummary {
        name: dimension.name.to_string(),
        open: text(status.open_units.get(&(index, DimensionIndex(place)))),
        unsent: text(unsent.units.get(&dimension.name)),
        held: text(status.tally.held_units.get(&(product.code.clone(), dimension.name.clone()))),
        capped_customers: capped(status, index, DimensionIndex(place)),
    };
    (0..).zip(&product.dimensions).map(summary).collect()
}

/// How many customers have reached AWS's largest quantity in the last sealed hour.
pub(crate) fn capped(status: &Status, product: ProductIndex, dimension: DimensionIndex) -> u64 {
    status.capped_customers.get(&(product, dimension)).copied().unwrap_or_default()
}

/// A product's held records by reason.
pub(crate) fn held<'a>(
    status: &'a Status,
    product: &'a Arc<str>,
) -> impl Iterator<Item = (HoldReason, u64)> + 'a {
    let records: &BTreeMap<_, u64> = &status.tally.held_records;
    records.iter().filter(move |((code, _), _)| code == product).map(|((_, reason), count)| (*reason, *count))
}

/// Sets the gauges whose values are read rather than counted.
pub(crate) fn set_gauges(agent: &AgentHandle) {
    let (status, now) = (agent.committer.status(), agent.trusted_clock.best_now());
    let doubt = agent.trusted_clock.doubt();
    metrics::clock_skew(match doubt {
        Some(Doubt::Off(skew)) => skew.whole_seconds(),
        Some(Doubt::Untold) | None => 0,
    });
    metrics::clock_told(doubt != Some(Doubt::Untold));
    metrics::sealed_ahead(status.watermarks.highest().end().since(now));
    metrics::store_bytes(agent.store.size());
    let sealed_through = status.watermarks.lowest();
    if sealed_through > Hour::FIRST {
        metrics::sealed_through(sealed_through);
    }
    for (index, product) in agent.catalog.products() {
        let waiting = Waiting::of(agent, &status, index, product);
        let unsent = &waiting.unsent;
        metrics::product(&ProductGauges {
            product: product.code.to_string(),
            records_unsent: status.tally.pending_records.get(&product.code).copied().unwrap_or_default(),
            oldest_unsent: waiting.since(now),
            deadline: waiting.nearest_deadline(agent.window, now).map(|deadline| deadline.since(now)),
            unsent_units: unsent.units.iter().map(|(name, units)| (name.to_string(), *units)).collect(),
            held: held(&status, &product.code).collect(),
            last_success: status.tally.last_success.get(&product.code).map(|at| at.seconds()),
            quiet: agent.activity.last(&product.code).map(|last| now.since(last)),
        });
    }
}

/// What of a product waits: records for AWS, an hour for its seal, suspicious records for a person.
#[derive(Clone, Debug)]
pub(crate) struct Waiting {
    pub unsent: Unsent,
    /// The oldest hour with usage that is not sealed.
    pub oldest_open: Option<Hour>,
    /// Until when AWS takes the suspicious records that a person must decide about.
    pub decide_by: Option<Timestamp>,
    pub review: Review,
}

impl Waiting {
    pub(crate) fn of(agent: &AgentHandle, status: &Status, index: ProductIndex, product: &Product) -> Self {
        Self {
            unsent: agent.unsent.get(&product.code),
            oldest_open: status.oldest_open.get(&index).copied(),
            decide_by: next_decision(
                &status.decision_deadlines,
                &product.code,
                agent.trusted_clock.best_now(),
            ),
            review: Review::of(agent, product),
        }
    }

    /// Until when AWS takes all that waits: an hour that is over and not sealed counts, too, once its review has ended.
    pub(crate) fn nearest_deadline(&self, window: Window, now: Timestamp) -> Option<Timestamp> {
        let is_late = |hour: &Hour| hour.end() <= now && self.review.of_hour(*hour, now).is_none();
        let unsealed = self.oldest_open.filter(is_late).map(|hour| window.deadline(hour));
        [self.unsent.nearest_deadline, unsealed, self.decide_by].into_iter().flatten().min()
    }

    /// How long the oldest usage waits that AWS does not have: since the end of its hour, sealed or not, or since the end
    /// of that hour's review.
    pub(crate) fn since(&self, now: Timestamp) -> Duration {
        let hours = [self.unsent.oldest_hour, self.oldest_open].into_iter().flatten();
        hours.map(|hour| now.since(self.review.waits_since(hour))).max().unwrap_or_default()
    }
}

/// The summary as JSON: times as RFC 3339, what is not known or does not apply as null.
pub(crate) fn to_json(summary: &Summary) -> Value {
    json!({
        "version": summary.version,
        "agent_id": summary.agent_id,
        "now": time(summary.now_unix_seconds),
        "sealed_through": time(summary.sealed_through_unix_seconds),
        "open_buckets": summary.open_buckets,
        "sandbox": summary.sandbox,
        "data_dir": summary.data_dir,
        "data_dir_is_new": summary.data_dir_is_new,
        "accepting": summary.accepting,
        "fault": text(&summary.fault),
        "clock_fault": text(&summary.clock_fault),
        "products": summary.products.iter().map(product_to_json).collect::<Vec<_>>(),
    })
}

fn product_to_json(product: &ProductSummary) -> Value {
    let dimension = |dimension: &DimensionSummary| {
        json!({
            "name": dimension.name, "open": dimension.open, "unsent": dimension.unsent, "held": dimension.held,
            "capped_customers": dimension.capped_customers,
        })
    };
    json!({
        "code": product.code,
        "identity": product.identity,
        "endpoint_url": product.endpoint_url,
        "region": product.region,
        "bills_nothing": product.bills_nothing,
        "customers": product.customers,
        "records_unsent": product.records_unsent,
        "oldest_unsent": time(product.oldest_unsent_unix_seconds),
        "nearest_deadline": time(product.nearest_deadline_unix_seconds),
        "records_held": product.records_held,
        "records_accepted": product.records_accepted,
        "last_success": time(product.last_success_unix_seconds),
        "last_error": text(&product.last_error),
        "in_review_hour": time(product.in_review_hour_unix_seconds),
        "in_review_until": time(product.in_review_until_unix_seconds),
        "events_not_billable": product.events_not_billable,
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

    fn waiting(oldest_open: Option<&str>, sent_until: Option<&str>, review: u64) -> Waiting {
        Waiting {
            unsent: Unsent { nearest_deadline: sent_until.map(at), ..Unsent::default() },
            oldest_open: oldest_open.map(|hour| Hour::containing(at(hour))),
            decide_by: None,
            review: Review::new(Window::AWS, Duration::from_mins(5), Duration::from_hours(review)),
        }
    }

    fn deadline(oldest_open: Option<&str>, sent_until: Option<&str>, now: &str) -> Option<String> {
        let waiting = waiting(oldest_open, sent_until, 0);
        waiting.nearest_deadline(Window::AWS, at(now)).map(|deadline| deadline.to_string())
    }

    #[test]
    fn an_hour_in_review_is_late_only_once_that_has_ended() {
        let waiting = waiting(Some("2026-11-22T10:00:00Z"), None, 3);
        let told = |now: &str| (waiting.nearest_deadline(Window::AWS, at(now)), waiting.since(at(now)));
        assert_eq!(told("2026-11-22T14:00:00Z"), (None, Duration::ZERO));
        let deadline = Some(at("2026-11-23T10:00:00Z"));
        assert_eq!(told("2026-11-22T14:05:00Z"), (deadline, Duration::from_mins(5)));
    }

    #[test]
    fn what_a_person_must_decide_counts_down_beside_what_waits() {
        let decide_by = Some(at("2026-11-22T12:00:00Z"));
        let waiting = Waiting { decide_by, ..waiting(None, Some("2026-11-23T05:00:00Z"), 0) };
        assert_eq!(waiting.nearest_deadline(Window::AWS, at("2026-11-22T11:00:00Z")), decide_by);
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
