//! Each product: what AWS said last, and its amounts by dimension.

use maud::{Markup, html};

use super::{
    super::{
        format::{clock_time, count, grouped, records, span},
        snapshot::Snapshot,
    },
    and_more, none_if, table,
};
use crate::{
    base::proto::{DimensionSummary, ProductSummary},
    domain::time::Timestamp,
    engine::{
        health::{Level, ProductFacts},
        submitter::{LastAnswer, Said},
    },
};

const MOST_PRODUCTS: usize = 30;
const MOST_DIMENSIONS: usize = 30;

const HEADINGS: [&str; 4] = ["Dimension", "Open", "Unsent", "Held"];

pub(super) fn products(snapshot: &Snapshot) -> Markup {
    let products = snapshot.products.iter().zip(&snapshot.summary.products);
    html! {
        h2 { "Products" }
        @for (facts, summary) in products.take(MOST_PRODUCTS) { (article(facts, summary, snapshot.now)) }
        (and_more(snapshot.products.len(), MOST_PRODUCTS))
    }
}

fn article(facts: &ProductFacts, summary: &ProductSummary, now: Timestamp) -> Markup {
    let answer = facts.last_answer.as_ref();
    let level = answer.map_or(Level::Good, answer_level);
    let label = format!("Amounts of {}", facts.code);
    let rows =
        html! { @for dimension in summary.dimensions.iter().take(MOST_DIMENSIONS) { (row(dimension)) } };
    html! {
        article {
            h3 { (facts.code) }
            p class={ "said " (level.name()) } { (last_answer(answer, now)) }
            p.aside {
                (count(summary.customers, "customer")) ", known to AWS by " (summary.identity.replace('_', " "))
                ". " (records(summary.records_accepted)) " accepted since the start. "
                (sent_to(summary))
            }
            @if let Some(sentence) = review(summary, now) { p.aside { (sentence) } }
            (table(&label, "Amounts in base units", &HEADINGS, &rows))
            (and_more(summary.dimensions.len(), MOST_DIMENSIONS))
        }
    }
}

/// Which hours wait for people to look at them, if any do.
fn review(summary: &ProductSummary, now: Timestamp) -> Option<String> {
    let at = |seconds| Some(seconds).filter(|seconds| *seconds > 0).map(Timestamp::from_seconds);
    let (hour, until) = (at(summary.in_review_hour_unix_seconds)?, at(summary.in_review_until_unix_seconds)?);
    Some(format!(
        "The hour that began at {} is in review until {}, {} from now, and those after it in turn: what is wrong in it can \
         be lowered (tallyman adjust).",
        clock_time(hour, now),
        clock_time(until, now),
        span(until.since(now))
    ))
}

/// Where records go: what a wrong endpoint would show first.
fn sent_to(summary: &ProductSummary) -> String {
    let host = summary.endpoint_url.split_once("://").map_or(&*summary.endpoint_url, |(_, host)| host);
    if summary.bills_nothing {
        format!("Sent to {host}, which is for tests: nothing is billed there.")
    } else {
        format!("Sent to {host} in {}.", summary.region)
    }
}

fn row(dimension: &DimensionSummary) -> Markup {
    let DimensionSummary { name, open, unsent, held, .. } = dimension;
    html! {
        tr {
            th scope="row" { (name) }
            @for amount in [open, unsent, held] {
                td class=[none_if(amount == "0")] { (grouped(amount)) }
            }
        }
    }
}

fn answer_level(answer: &LastAnswer) -> Level {
    match answer.said {
        Said::Answered { .. } => Level::Good,
        Said::Throttled | Said::NotDelivered(_) | Said::Lost(_) | Said::RefusedRecord => Level::Warning,
        Said::Setup(_) => Level::Bad,
    }
}

/// AWS's last answer, and when it came.
fn last_answer(answer: Option<&LastAnswer>, now: Timestamp) -> String {
    let Some(LastAnswer { at, took, records: sent, said }) = answer else {
        return "AWS was not called since the start.".to_owned();
    };
    let sent = records(*sent as u64);
    let what = match said {
        Said::Answered { accepted } => format!("AWS accepted {} of {sent}", grouped(accepted)),
        Said::Throttled => format!("AWS throttled a call with {sent}"),
        Said::NotDelivered(error) => format!("AWS was not reached with {sent} ({error})"),
        Said::Lost(error) => format!("AWS gave no answer about {sent} ({error})"),
        Said::RefusedRecord => format!("AWS refused a call with {sent} for one of them"),
        Said::Setup(error) => format!("AWS refused the set-up ({error})"),
    };
    let ago = match now.since(*at) {
        ago if ago.as_secs() == 0 => "just now".to_owned(),
        ago => format!("{} ago", span(ago)),
    };
    format!("{what}, {ago}, after {} ms.", grouped(took.as_millis()))
}
