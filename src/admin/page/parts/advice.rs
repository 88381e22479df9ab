//! What asks for a person, and what to type.

use maud::{Markup, html};

use super::{
    super::{snapshot::Snapshot, wording},
    and_more,
};
use crate::{
    domain::time::Timestamp,
    engine::health::concern::{self, Concern},
};

/// The most concerns that are shown; the command line shows all that is behind them.
const MOST_CONCERNS: usize = 12;

pub(super) fn advice(snapshot: &Snapshot) -> Markup {
    let facts = snapshot.facts();
    let concerns = concern::all(&facts);
    html! {
        @if !concerns.is_empty() {
            h2 { "What to do" }
            ul.advice {
                @for concern in concerns.iter().take(MOST_CONCERNS) { (item(concern, snapshot.now)) }
            }
            (and_more(concerns.len(), MOST_CONCERNS))
        }
    }
}

fn item(concern: &Concern<'_>, now: Timestamp) -> Markup {
    let Concern { level, problem, commands, runbook } = concern;
    html! {
        li class=(level.name()) {
            h3 { (wording::title(problem)) }
            p { (wording::explanation(problem, now)) }
            p.commands {
                @for (index, command) in commands.iter().enumerate() {
                    @if index > 0 { " " }
                    code { (command) }
                }
            }
            p.runbook { "Runbook: " code { "docs/runbook.md#" (runbook.to_ascii_lowercase()) } }
        }
    }
}
