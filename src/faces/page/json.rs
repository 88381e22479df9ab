//! What the page shows, for machines.

use serde_json::{Value, json};

use super::{
    chart,
    snapshot::{HeldLine, ProductLine, Snapshot},
    strip::HourLine,
    verdict::Verdict,
};
use crate::{
    domain::hours::HourTally,
    faces::summary::to_json,
    work::submitter::{LastAnswer, Said},
};

/// The summary, with what the page tells beside it.
pub(super) fn of(snapshot: &Snapshot) -> Value {
    let mut summary = to_json(&snapshot.summary);
    let Verdict { level, answer, sentence } = Verdict::of(snapshot);
    summary["billed"] = json!({"level": level.name(), "answer": answer, "sentence": sentence});
    summary["nearest_deadline"] =
        json!(snapshot.nearest_deadline().map(|(deadline, _)| deadline.to_string()));
    summary["events_per_second"] = json!(chart::rate(&snapshot.beats));
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

fn last_answer(line: &ProductLine) -> Value {
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
