//! The records that wait for a person, by product, reason and dimension.

use maud::{Markup, html};

use super::{
    super::{
        format::{clock_time, grouped, records},
        snapshot::{Held, HeldLine},
    },
    and_more, table,
};
use crate::domain::time::Timestamp;

const MOST_LINES: usize = 30;

const HEADINGS: [&str; 6] = ["Product", "Dimension", "Reason", "Records", "Amount", "Oldest hour"];

pub(super) fn held(held: &Held, now: Timestamp) -> Markup {
    let caption = "Records that wait for a person, by product, reason and dimension";
    let rows = html! { @for line in held.lines.iter().take(MOST_LINES) { (row(line, now)) } };
    html! {
        @if held.records > 0 {
            h2 { "Held records" }
            (table("Held records", caption, &HEADINGS, &rows))
            @match held.not_looked_at {
                0 => (and_more(held.lines.len(), MOST_LINES)),
                rest => (only_the_oldest(rest)),
            }
        }
    }
}

fn row(line: &HeldLine, now: Timestamp) -> Markup {
    html! {
        tr {
            th scope="row" { (line.product) }
            td.text { (line.dimension) }
            td.text { (line.reason.name()) }
            td { (grouped(line.records)) }
            td { (grouped(line.units)) }
            td.text { (clock_time(line.oldest.start(), now)) }
        }
    }
}

fn only_the_oldest(rest: u64) -> Markup {
    let are = if rest == 1 { "is" } else { "are" };
    html! {
        p.aside { "The oldest ones; " (records(rest)) " more " (are) " in " code { "tallyman held" } "." }
    }
}
