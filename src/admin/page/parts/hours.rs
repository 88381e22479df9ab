//! The last 48 hours: a strip with a cell an hour, its legend, and a table of the same.

use maud::{Markup, html};

use super::{
    super::{
        format::{day, grouped, hour_of_day},
        hour_strip::{HourLine, HourState},
    },
    none_if, table,
};
use crate::domain::{billing::hour_tally::HourTally, time::Hour};

/// From here on, a mark below a cell would reach beyond the right end.
const FIRST_WITHOUT_MARK: usize = 21;

const HEADINGS: [&str; 7] = ["Hour, UTC", "State", "Accepted", "Unsent", "Held", "Moved on", "Given up"];

pub(super) fn hours(lines: &[HourLine]) -> Markup {
    let (first_day, second_day) = lines.split_at(lines.len().saturating_sub(24));
    let caption = "Records of each hour by what became of them, the latest hour first";
    let rows = html! { @for line in lines.iter().rev() { (row(line)) } };
    html! {
        h2 { "The last 48 hours" }
        div.strip aria-hidden="true" { (half(first_day)) (half(second_day)) }
        ul.legend { (legend(lines)) }
        details {
            summary { "Hour by hour" }
            (table("Hour by hour", caption, &HEADINGS, &rows))
        }
    }
}

/// A day of the strip: cells, and marks of the time below them.
fn half(lines: &[HourLine]) -> Markup {
    html! {
        div.half {
            @for line in lines { i class={ "h " (line.state.name()) } title=(tip(line)) {} }
            @for (index, line) in lines.iter().enumerate() {
                span { @if index < FIRST_WITHOUT_MARK { (mark(line.hour)) } }
            }
        }
    }
}

fn tip(line: &HourLine) -> String {
    format!("{} {} UTC: {}", day(line.hour.start()), hour_of_day(line.hour), line.state.label())
}

/// The day at midnight, and the time every six hours.
fn mark(hour: Hour) -> Markup {
    html! {
        @match hour.index() % 24 {
            0 => b { (day(hour.start())) },
            6 | 12 | 18 => (hour_of_day(hour)),
            _ => {}
        }
    }
}

/// How many hours there are in each state: text beside each colour.
fn legend(lines: &[HourLine]) -> Markup {
    let count = |state: HourState| lines.iter().filter(|line| line.state == state).count();
    html! {
        @for (state, hours) in HourState::ALL.map(|state| (state, count(state))) {
            @if hours > 0 {
                li { (colour(state)) (hours) " " (state.label()) }
            }
        }
    }
}

fn row(line: &HourLine) -> Markup {
    let HourTally { pending, held, accepted, rolled_forward, carried, written_off, expired } =
        line.tally.unwrap_or_default();
    let (moved, given_up) = (rolled_forward.saturating_add(carried), written_off.saturating_add(expired));
    html! {
        tr {
            th scope="row" { (day(line.hour.start())) " " (hour_of_day(line.hour)) }
            td.text { (colour(line.state)) (line.state.label()) }
            @for number in [accepted, pending, held, moved, given_up] {
                td class=[none_if(number == 0)] {
                    @if line.tally.is_some() { (grouped(number)) } @else { "\u{2013}" }
                }
            }
        }
    }
}

/// A small square in the colour of the state.
fn colour(state: HourState) -> Markup {
    html! { i class={ "h " (state.name()) } aria-hidden="true" {} }
}
