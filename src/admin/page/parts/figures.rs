//! Four figures at a glance: the nearest deadline, unsent and held records, and events per second.

use maud::{Markup, html};

use super::super::{
    chart,
    format::{clock_time, countdown, grouped, span},
    snapshot::Snapshot,
};
use crate::engine::health::{LATE, Level};

/// A figure with a name above it and a note below.
struct Figure {
    name: &'static str,
    value: String,
    note: String,
    level: Level,
}

pub(super) fn figures(snapshot: &Snapshot) -> Markup {
    let figures = [deadline(snapshot), unsent(snapshot), held(snapshot), events(snapshot)];
    html! {
        dl.figures {
            @for Figure { name, value, note, level } in figures {
                div class=(level.name()) {
                    dt { (name) }
                    dd { b { (value) } span { (note) } }
                }
            }
        }
    }
}

fn deadline(snapshot: &Snapshot) -> Figure {
    let name = "Nearest deadline";
    let Some((deadline, product)) = snapshot.facts().nearest_deadline() else {
        return Figure {
            name,
            value: "none".to_owned(),
            note: "Nothing waits.".to_owned(),
            level: Level::Good,
        };
    };
    let of = if snapshot.products.len() > 1 { format!(" of {}", product.code) } else { String::new() };
    Figure {
        name,
        value: countdown(deadline.since(snapshot.now)),
        note: format!("AWS takes what waits{of} until {}.", clock_time(deadline, snapshot.now)),
        level: Level::of_deadline(deadline, snapshot.now),
    }
}

fn unsent(snapshot: &Snapshot) -> Figure {
    let facts = snapshot.facts();
    let (note, level) = match (facts.unsent(), facts.waits()) {
        (0, _) => ("No sealed record waits for AWS.".to_owned(), Level::Good),
        (_, waits) if waits.is_zero() => ("Sealed, on the way to AWS.".to_owned(), Level::Busy),
        (_, waits) => {
            let level = if waits > LATE { Level::Warning } else { Level::Busy };
            (format!("The oldest hour ended {} ago.", span(waits)), level)
        }
    };
    Figure { name: "Unsent", value: grouped(facts.unsent()), note, level }
}

fn held(snapshot: &Snapshot) -> Figure {
    let (note, level) = match snapshot.held.records {
        0 => ("No record waits for a person.", Level::Good),
        _ => ("They wait for you to decide.", Level::Bad),
    };
    Figure { name: "Held", value: grouped(snapshot.held.records), note: note.to_owned(), level }
}

fn events(snapshot: &Snapshot) -> Figure {
    Figure {
        name: "Events per second",
        value: chart::rate_text(chart::rate(&snapshot.samples)),
        note: "In the last ten seconds.".to_owned(),
        level: Level::Good,
    }
}
