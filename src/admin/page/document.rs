//! The whole page, as it is without JavaScript.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::{parts, snapshot::Snapshot, wording};
use crate::{domain::text::printable, engine::health::Health};

pub(super) const STYLE: &str = include_str!("page.css");
pub(super) const SCRIPT: &str = include_str!("page.js");
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// How often a page without JavaScript asks again.
const SECONDS_WITHOUT_SCRIPT: u32 = 15;

/// The parts below the header, each with its name for those who do not see it.
const SECTIONS: [(&str, &str); 8] = [
    ("answer", "Is everything billed?"),
    ("figures", "At a glance"),
    ("advice", "What to do"),
    ("hours", "The last 48 hours"),
    ("events", "Events per second"),
    ("held", "Held records"),
    ("products", "Products"),
    ("customers", "Customers"),
];

/// Four strokes and a fifth across, as a tally is kept.
const TALLY: &str = "M4 4v16M9 4v16M14 4v16M19 4v16M1.5 17.5l21-11";

pub(super) fn title(snapshot: &Snapshot) -> String {
    let health = Health::of(&snapshot.facts());
    let answer = wording::answer(health.answer);
    format!("{answer} Everything billed? tallyman on {}", snapshot.summary.agent_id)
}

pub(super) fn document(snapshot: &Snapshot) -> String {
    let parts = parts::all(snapshot);
    let part = |id: &str| {
        let html = parts.iter().find(|(name, _)| *name == id).map_or("", |(_, html)| html);
        PreEscaped(html)
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            (head(&title(snapshot)))
            body data-live="no" data-version=(VERSION) {
                (header(part("who"), part("clock")))
                p #lost role="alert" hidden {}
                main {
                    @for (id, label) in SECTIONS {
                        section id=(id) aria-label=(label) { (part(id)) }
                    }
                }
                (footer(&printable(&snapshot.summary.data_dir)))
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

fn head(title: &str) -> Markup {
    let icon = format!(
        "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' \
         stroke='%23808b93' stroke-width='2.4' stroke-linecap='round'%3E%3Cpath d='{TALLY}'/%3E%3C/svg%3E"
    );
    html! {
        head {
            meta charset="utf-8";
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { (printable(title)) }
            link rel="icon" href=(icon);
            noscript { meta http-equiv="refresh" content=(SECONDS_WITHOUT_SCRIPT); }
            style { (PreEscaped(STYLE)) }
        }
    }
}

fn header(who: PreEscaped<&str>, clock: PreEscaped<&str>) -> Markup {
    html! {
        header {
            p.brand {
                svg viewBox="0 0 24 24" aria-hidden="true" { path d=(TALLY) {} }
                "tallyman"
            }
            p #who { (who) }
            p.live {
                span.dot aria-hidden="true" {}
                span #state { "As of" }
                " "
                span #clock { (clock) }
            }
        }
    }
}

fn footer(data_dir: &str) -> Markup {
    html! {
        footer {
            p { "tallyman " (VERSION) ". Data folder: " (data_dir) ". Times are UTC, amounts in base units." }
            p { a href="api/summary" { "JSON" } " " a href="metrics" { "metrics" } }
            noscript {
                p { "Without JavaScript this page asks again every " (SECONDS_WITHOUT_SCRIPT) " seconds." }
            }
        }
    }
}
