//! The status page for machines: what it shows, as JSON.

use serde_json::{Value, json};

use super::{
    chart,
    hour_strip::HourLine,
    snapshot::{HeldLine, Snapshot},
    wording,
};
use crate::{
    api::summary::to_json,
    domain::{billing::hour_tally::HourTally, time::Timestamp},
    engine::{
        health::{Health, ProductFacts},
        submitter::{LastAnswer, Said},
    },
};

/// The summary, and beside it what the page shows.
pub(super) fn of(snapshot: &Snapshot) -> Value {
    let mut summary = to_json(&snapshot.summary);
    let (facts, rate) = (snapshot.facts(), chart::rate(&snapshot.samples));
    summary["billed"] = billed(&Health::of(&facts), snapshot.now);
    summary["nearest_deadline"] = json!(facts.nearest_deadline().map(|(deadline, _)| deadline.to_string()));
    summary["events_per_second"] = json!(rate);
    summary["hours"] = snapshot.hours.iter().map(hour).collect();
    summary["held"] = snapshot.held.lines.iter().map(held).collect();
    summary["held_beyond"] = json!(snapshot.held.not_looked_at);
    if let Some(products) = summary["products"].as_array_mut() {
        for (product, line) in products.iter_mut().zip(&snapshot.products) {
            product["last_answer"] = last_answer(line);
        }
    }
    summary
}

fn billed(health: &Health, now: Timestamp) -> Value {
    json!({
        "level": health.level.name(),
        "answer": wording::answer(health.answer),
        "sentence": wording::sentence(health, now),
    })
}

fn hour(line: &HourLine) -> Value {
    let records = |tally: HourTally| {
        let HourTally { pending, held, accepted, rolled_forward, carried, written_off, expired } = tally;
        json!({
            "accepted": accepted, "pending": pending, "held": held, "rolled_forward": rolled_forward,
            "carried": carried, "written_off": written_off, "expired": expired,
        })
    };
    json!({
        "hour": line.hour.to_string(),
        "state": line.state.name(),
        "records": line.tally.map(records),
    })
}

fn held(line: &HeldLine) -> Value {
    json!({
        "product": &*line.product,
        "dimension": &*line.dimension,
        "reason": line.reason.name(),
        "records": line.records,
        "units": line.units.to_string(),
        "oldest_hour": line.oldest.to_string(),
    })
}

fn last_answer(line: &ProductFacts) -> Value {
    let Some(LastAnswer { at, took, records, said }) = &line.last_answer else { return Value::Null };
    let (result, accepted, error) = match said {
        Said::Answered { accepted } => ("answered", *accepted, None),
        Said::Throttled => ("throttled", 0, None),
        Said::NotDelivered(error) => ("not_delivered", 0, Some(&**error)),
        Said::Lost(error) => ("lost", 0, Some(&**error)),
        Said::RefusedRecord => ("bad_record", 0, None),
        Said::Setup(error) => ("setup", 0, Some(&**error)),
    };
    json!({
        "at": at.to_string(),
        "seconds": took.as_secs_f64(),
        "records": records,
        "accepted": accepted,
        "result": result,
        "error": error,
    })
}
