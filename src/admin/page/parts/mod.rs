//! The parts of the page: all that changes while it is looked at.
//!
//! Each part is made from a snapshot and nothing else. Viewers are sent the parts that have changed, and put them in
//! place of the old ones.

mod advice;
mod answer;
mod customers;
mod figures;
mod held;
mod hours;
mod products;

use maud::{Markup, html};

use super::{chart, format::grouped, snapshot::Snapshot};
use crate::domain::{text::printable, time::Timestamp};

/// A part of the page: the id of its element, and the HTML within.
pub(super) type Part = (&'static str, String);

pub(super) fn all(snapshot: &Snapshot) -> Vec<Part> {
    let parts = [
        ("who", who(snapshot)),
        ("clock", clock(snapshot.now)),
        ("answer", answer::answer(snapshot)),
        ("figures", figures::figures(snapshot)),
        ("advice", advice::advice(snapshot)),
        ("hours", hours::hours(&snapshot.hours)),
        ("events", chart::events(&snapshot.samples)),
        ("held", held::held(&snapshot.held, snapshot.now)),
        ("products", products::products(snapshot)),
        ("customers", customers::customers(snapshot.customers.as_ref())),
    ];
    // No part has control characters of its own, so those that are found came with names or answers of AWS.
    parts.map(|(id, html)| (id, printable(&html.into_string()))).into()
}

fn who(snapshot: &Snapshot) -> Markup {
    html! {
        (snapshot.summary.agent_id)
        @if snapshot.summary.sandbox { " " span.badge { "sandbox" } }
    }
}

fn clock(now: Timestamp) -> Markup {
    let text = now.to_string();
    html! {
        time datetime=(text) { (text.get(11..19).unwrap_or(&text)) " UTC" }
    }
}

/// A table in a box that scrolls where the table is larger.
fn table(label: &str, caption: &str, headings: &[&str], rows: &Markup) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(label) {
            table {
                caption { (caption) }
                thead {
                    tr { @for heading in headings { th scope="col" { (heading) } } }
                }
                tbody { (rows) }
            }
        }
    }
}

/// The class of a cell whose number is zero, so that the others stand out.
fn none_if(is_zero: bool) -> Option<&'static str> {
    is_zero.then_some("none")
}

/// How many entries of a list are not shown, if any.
fn and_more(all: usize, shown: usize) -> Markup {
    let more = all.saturating_sub(shown);
    html! {
        @if more > 0 { p.aside { "And " (grouped(more)) " more." } }
    }
}
