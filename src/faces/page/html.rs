//! From a snapshot to HTML: pure, and every text escaped.
//!
//! The page is made of parts. Viewers are sent those that have changed, and put them in place of the old ones.

use super::{
    advice::{self, Advice},
    chart,
    snapshot::{Customers, Held, HeldLine, ProductLine, Snapshot},
    strip::{HourLine, HourState},
    verdict::{Level, Verdict, deadline_level},
    words::{Escaped, clock_time, count, countdown, day, grouped, hour_of_day, records, span},
};
use crate::{
    base::proto::{DimensionSummary, ProductSummary},
    domain::{hours::HourTally, time::Timestamp},
    work::submitter::{LastAnswer, Said},
};

pub(super) const STYLE: &str = include_str!("page.css");
pub(super) const SCRIPT: &str = include_str!("page.js");
/// How often a page without JavaScript asks again.
const SECONDS_WITHOUT_SCRIPT: u32 = 15;

/// Enough for a person; the command line shows all.
const MOST_ADVICE: usize = 12;
const MOST_PRODUCTS: usize = 30;
const MOST_DIMENSIONS: usize = 30;
const MOST_HELD_LINES: usize = 30;

/// A part of the page: its id, and what is in it.
pub(super) type Part = (&'static str, String);

/// All that changes while the page is looked at.
pub(super) fn parts(snapshot: &Snapshot) -> Vec<Part> {
    let verdict = Verdict::of(snapshot);
    vec![
        ("who", who(snapshot)),
        ("clock", time_of_day(snapshot.now)),
        ("answer", answer(&verdict, snapshot)),
        ("figures", figures(snapshot)),
        ("advice", advice_list(&advice::all(snapshot))),
        ("hours", hours(snapshot)),
        ("events", chart::events(&snapshot.beats)),
        ("held", held(&snapshot.held, snapshot.now)),
        ("products", products(snapshot)),
        ("customers", snapshot.customers.as_ref().map_or_else(String::new, customers)),
    ]
}

pub(super) fn title(snapshot: &Snapshot) -> String {
    let verdict = Verdict::of(snapshot);
    format!("{} Everything billed? tallyman on {}", verdict.answer, snapshot.summary.agent_id)
}

/// The whole page, as it is without JavaScript.
pub(super) fn document(snapshot: &Snapshot) -> String {
    let parts = parts(snapshot);
    let part = |id: &str| parts.iter().find(|(name, _)| *name == id).map_or("", |(_, html)| html);
    let section =
        |id: &str| format!("<section id=\"{id}\" aria-label=\"{}\">{}</section>\n", label(id), part(id));
    let sections = ["answer", "figures", "advice", "hours", "events", "held", "products", "customers"];
    let sections: Vec<_> = sections.into_iter().map(section).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n\
         <link rel=\"icon\" href=\"{ICON}\">\n\
         <noscript><meta http-equiv=\"refresh\" content=\"{SECONDS_WITHOUT_SCRIPT}\"></noscript>\n\
         <style>{STYLE}</style>\n</head>\n<body data-live=\"no\" data-version=\"{version}\">\n\
         <header><p class=\"brand\"><svg viewBox=\"0 0 24 24\" aria-hidden=\"true\"><path d=\"M4 4v16M9 4v16M14 4v16M19 4v16M1.5 17.5l21-11\"/></svg>tallyman</p>\
         <p id=\"who\">{who}</p>\
         <p class=\"live\"><span class=\"dot\" aria-hidden=\"true\"></span><span id=\"state\">As of</span> <span id=\"clock\">{clock}</span></p></header>\n\
         <p id=\"lost\" role=\"alert\" hidden></p>\n<main>\n{sections}</main>\n\
         <footer><p>tallyman {version}. Times are UTC, amounts in base units.</p>\
         <p><a href=\"api/summary\">JSON</a> <a href=\"metrics\">metrics</a></p>\
         <noscript><p>Without JavaScript this page asks again every {SECONDS_WITHOUT_SCRIPT} seconds.</p></noscript></footer>\n\
         <script>{SCRIPT}</script>\n</body>\n</html>\n",
        title = Escaped(&title(snapshot)),
        version = env!("CARGO_PKG_VERSION"),
        who = part("who"),
        clock = part("clock"),
        sections = sections.concat(),
    )
}

/// Four strokes and a fifth across.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24' fill='none' \
                    stroke='%23808b93' stroke-width='2.4' stroke-linecap='round'%3E%3Cpath d='M4 4v16M9 4v16M14 4v16M19 \
                    4v16M1.5 17.5l21-11'/%3E%3C/svg%3E";

fn label(id: &str) -> &'static str {
    match id {
        "answer" => "Is everything billed?",
        "figures" => "At a glance",
        "advice" => "What to do",
        "hours" => "The last 48 hours",
        "events" => "Events per second",
        "held" => "Held records",
        "products" => "Products",
        _ => "Customers",
    }
}

fn who(snapshot: &Snapshot) -> String {
    let sandbox = if snapshot.summary.sandbox { " <span class=\"badge\">sandbox</span>" } else { "" };
    format!("{}{sandbox}", Escaped(&snapshot.summary.agent_id))
}

fn time_of_day(now: Timestamp) -> String {
    let text = now.to_string();
    format!("<time datetime=\"{text}\">{} UTC</time>", text.get(11..19).unwrap_or(&text))
}

fn answer(verdict: &Verdict, snapshot: &Snapshot) -> String {
    let Verdict { level, answer, sentence } = verdict;
    let mark = match level {
        Level::Good => "M7 12.5l3.5 3.5L17 8.5",
        Level::Busy => "M12 7v5.5l3.5 2",
        Level::Warning | Level::Bad => "M12 6.5v7M12 17v.2",
    };
    format!(
        "<p class=\"question\">Is everything billed?</p>\
         <h1 class=\"{name}\" aria-live=\"polite\"><svg class=\"mark\" viewBox=\"0 0 24 24\" aria-hidden=\"true\"><circle cx=\"12\" cy=\"12\" r=\"10.5\"/><path d=\"{mark}\"/></svg>\
         <span><strong>{answer}</strong> {sentence}</span></h1><p class=\"aside\">{aside}</p>",
        name = level.name(),
        sentence = Escaped(sentence),
        aside = Escaped(&aside(snapshot)),
    )
}

/// What is under way, beside the answer.
fn aside(snapshot: &Snapshot) -> String {
    let sealed = clock_time(snapshot.sealed_through.end(), snapshot.now);
    let open = match snapshot.summary.open_buckets {
        0 => "nothing is counted in later hours yet".to_owned(),
        1 => "1 bucket of later hours is open".to_owned(),
        open => format!("{} of later hours are open", count(open, "bucket")),
    };
    format!("Hours are sealed up to {sealed}; {open}.")
}

fn figures(snapshot: &Snapshot) -> String {
    let deadline = match snapshot.nearest_deadline() {
        None => figure("Nearest deadline", "none", "Nothing waits.", Level::Good),
        Some((deadline, product)) => {
            let left = deadline.since(snapshot.now);
            let of =
                if snapshot.products.len() > 1 { format!(" of {}", product.code) } else { String::new() };
            let until = format!("AWS takes what waits{of} until {}.", clock_time(deadline, snapshot.now));
            figure("Nearest deadline", &countdown(left), &until, deadline_level(deadline, snapshot.now))
        }
    };
    let unsent = match (snapshot.unsent(), snapshot.waits()) {
        (0, _) => figure("Unsent", "0", "No sealed record waits for AWS.", Level::Good),
        (unsent, waits) if waits.is_zero() => {
            figure("Unsent", &grouped(unsent), "Sealed, on the way to AWS.", Level::Busy)
        }
        (unsent, waits) => {
            let level = if waits.as_secs() > 3600 { Level::Warning } else { Level::Busy };
            figure("Unsent", &grouped(unsent), &format!("The oldest hour ended {} ago.", span(waits)), level)
        }
    };
    let held = match snapshot.held.records {
        0 => figure("Held", "0", "No record waits for a person.", Level::Good),
        held => figure("Held", &grouped(held), "They wait for you to decide.", Level::Bad),
    };
    let rate = chart::rate(&snapshot.beats);
    let events =
        figure("Events per second", &chart::rate_text(rate), "In the last ten seconds.", Level::Good);
    format!("<dl class=\"figures\">{deadline}{unsent}{held}{events}</dl>")
}

fn figure(what: &str, value: &str, note: &str, level: Level) -> String {
    format!(
        "<div class=\"{}\"><dt>{what}</dt><dd><b>{}</b><span>{}</span></dd></div>",
        level.name(),
        Escaped(value),
        Escaped(note)
    )
}

fn advice_list(all: &[Advice]) -> String {
    if all.is_empty() {
        return String::new();
    }
    let items: Vec<_> = all.iter().take(MOST_ADVICE).map(advice_item).collect();
    format!(
        "<h2>What to do</h2><ul class=\"advice\">{}</ul>{}",
        items.concat(),
        and_more(all.len(), MOST_ADVICE)
    )
}

fn advice_item(advice: &Advice) -> String {
    let command = |command: &String| format!("<code>{}</code>", Escaped(command));
    let commands: Vec<_> = advice.commands.iter().map(command).collect();
    format!(
        "<li class=\"{}\"><h3>{}</h3><p>{}</p><p class=\"commands\">{}</p><p class=\"runbook\">Runbook: <code>docs/runbook.md#{}</code></p></li>",
        advice.level.name(),
        Escaped(&advice.title),
        Escaped(&advice.why),
        commands.join(" "),
        advice.runbook.to_ascii_lowercase(),
    )
}

fn and_more(all: usize, shown: usize) -> String {
    match all.saturating_sub(shown) {
        0 => String::new(),
        more => format!("<p class=\"aside\">And {} more.</p>", grouped(more)),
    }
}

fn hours(snapshot: &Snapshot) -> String {
    let lines = &snapshot.hours;
    let (first, second) = lines.split_at(lines.len().saturating_sub(24));
    let halves = [first, second].map(half_strip);
    let rows: Vec<_> = lines.iter().rev().map(hour_row).collect();
    format!(
        "<h2>The last 48 hours</h2><div class=\"strip\" aria-hidden=\"true\">{}</div><ul class=\"legend\">{}</ul>\
         <details><summary>Hour by hour</summary><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Hour by hour\"><table><caption>Records of each hour by what became of them, the latest hour first</caption>\
         <thead><tr><th scope=\"col\">Hour, UTC</th><th scope=\"col\">State</th><th scope=\"col\">Accepted</th><th scope=\"col\">Unsent</th><th scope=\"col\">Held</th><th scope=\"col\">Moved on</th><th scope=\"col\">Given up</th></tr></thead>\
         <tbody>{}</tbody></table></div></details>",
        halves.concat(),
        legend(lines),
        rows.concat(),
    )
}

fn half_strip(lines: &[HourLine]) -> String {
    let cell = |line: &HourLine| {
        let tip =
            format!("{} {} UTC: {}", day(line.hour.start()), hour_of_day(line.hour), line.state.words());
        format!("<i class=\"h {}\" title=\"{tip}\"></i>", line.state.name())
    };
    let mark = |(place, line): (usize, &HourLine)| {
        let text = match line.hour.index() % 24 {
            // At the right end there is no room for it.
            _ if place > 20 => String::new(),
            0 => format!("<b>{}</b>", day(line.hour.start())),
            6 | 12 | 18 => hour_of_day(line.hour),
            _ => String::new(),
        };
        format!("<span>{text}</span>")
    };
    let cells: Vec<_> = lines.iter().map(cell).collect();
    let marks: Vec<_> = lines.iter().enumerate().map(mark).collect();
    format!("<div class=\"half\">{}{}</div>", cells.concat(), marks.concat())
}

/// How many hours there are in each state: text beside each colour.
fn legend(lines: &[HourLine]) -> String {
    let line = |state: HourState| {
        let hours = lines.iter().filter(|line| line.state == state).count();
        let html = format!(
            "<li><i class=\"h {}\" aria-hidden=\"true\"></i>{hours} {}</li>",
            state.name(),
            state.words()
        );
        (hours > 0).then_some(html)
    };
    let lines: Vec<_> = HourState::ALL.into_iter().filter_map(line).collect();
    lines.concat()
}

fn hour_row(line: &HourLine) -> String {
    let HourTally { pending, held, accepted, rolled_forward, carried, written_off, expired } =
        line.tally.unwrap_or_default();
    let numbers = [
        accepted,
        pending,
        held,
        rolled_forward.saturating_add(carried),
        written_off.saturating_add(expired),
    ];
    let cell = |number: u64| {
        let text = if line.tally.is_some() { grouped(number) } else { "\u{2013}".to_owned() };
        let class = if number == 0 { " class=\"none\"" } else { "" };
        format!("<td{class}>{text}</td>")
    };
    format!(
        "<tr><th scope=\"row\">{} {}</th><td class=\"text\"><i class=\"h {}\" aria-hidden=\"true\"></i>{}</td>{}</tr>",
        day(line.hour.start()),
        hour_of_day(line.hour),
        line.state.name(),
        line.state.words(),
        numbers.map(cell).concat(),
    )
}

fn held(held: &Held, now: Timestamp) -> String {
    if held.records == 0 {
        return String::new();
    }
    let row = |line: &HeldLine| {
        let HeldLine { product, dimension, reason, records, units, oldest } = line;
        format!(
            "<tr><th scope=\"row\">{}</th><td class=\"text\">{}</td><td class=\"text\">{}</td><td>{}</td><td>{}</td><td class=\"text\">{}</td></tr>",
            Escaped(product),
            Escaped(dimension),
            reason.name(),
            grouped(records),
            grouped(units),
            clock_time(oldest.start(), now),
        )
    };
    let rows: Vec<_> = held.lines.iter().take(MOST_HELD_LINES).map(row).collect();
    let rest = match held.not_looked_at {
        0 => and_more(held.lines.len(), MOST_HELD_LINES),
        rest => format!(
            "<p class=\"aside\">The oldest ones; {} more {} in <code>tallyman held</code>.</p>",
            records(rest),
            if rest == 1 { "is" } else { "are" }
        ),
    };
    format!(
        "<h2>Held records</h2><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Held records\"><table><caption>Records that wait for a person, by product, reason and dimension</caption>\
         <thead><tr><th scope=\"col\">Product</th><th scope=\"col\">Dimension</th><th scope=\"col\">Reason</th><th scope=\"col\">Records</th><th scope=\"col\">Amount</th><th scope=\"col\">Oldest hour</th></tr></thead>\
         <tbody>{}</tbody></table></div>{rest}",
        rows.concat()
    )
}

fn products(snapshot: &Snapshot) -> String {
    let all = snapshot.products.iter().zip(&snapshot.summary.products);
    let articles: Vec<_> =
        all.take(MOST_PRODUCTS).map(|(line, summary)| product(line, summary, snapshot.now)).collect();
    let more = and_more(snapshot.products.len(), MOST_PRODUCTS);
    format!("<h2>Products</h2>{}{more}", articles.concat())
}

fn product(line: &ProductLine, summary: &ProductSummary, now: Timestamp) -> String {
    let row = |dimension: &DimensionSummary| {
        let amount = |amount: &str| {
            let class = if amount == "0" { " class=\"none\"" } else { "" };
            format!("<td{class}>{}</td>", Escaped(&grouped(amount)))
        };
        let DimensionSummary { name, open, unsent, held } = dimension;
        format!(
            "<tr><th scope=\"row\">{}</th>{}{}{}</tr>",
            Escaped(name),
            amount(open),
            amount(unsent),
            amount(held)
        )
    };
    let rows: Vec<_> = summary.dimensions.iter().take(MOST_DIMENSIONS).map(row).collect();
    format!(
        "<article><h3>{code}</h3><p class=\"said {level}\">{said}</p>\
         <p class=\"aside\">{customers}, known to AWS by {identity}. {accepted} accepted since the start.</p>\
         <div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Amounts of {code}\"><table><caption>Amounts in base units</caption>\
         <thead><tr><th scope=\"col\">Dimension</th><th scope=\"col\">Open</th><th scope=\"col\">Unsent</th><th scope=\"col\">Held</th></tr></thead>\
         <tbody>{rows}</tbody></table></div>{more}</article>",
        code = Escaped(&line.code),
        level = line.last_answer.as_ref().map_or(Level::Good, answer_level).name(),
        said = Escaped(&last_answer(line.last_answer.as_ref(), now)),
        customers = count(summary.customers, "customer"),
        identity = Escaped(&summary.identity.replace('_', " ")),
        accepted = records(summary.records_accepted),
        rows = rows.concat(),
        more = and_more(summary.dimensions.len(), MOST_DIMENSIONS),
    )
}

fn answer_level(answer: &LastAnswer) -> Level {
    match answer.said {
        Said::Answered { .. } => Level::Good,
        Said::Throttled | Said::NotDelivered(_) | Said::Lost(_) | Said::RefusedRecord => Level::Warning,
        Said::Setup(_) => Level::Bad,
    }
}

/// When AWS answered last, and what.
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

fn customers(customers: &Customers) -> String {
    let row = |line: &super::snapshot::CustomerLine| {
        format!(
            "<tr><th scope=\"row\">{}</th><td class=\"text\">{}</td><td>{}</td><td>{}</td></tr>",
            Escaped(&line.customer),
            Escaped(&line.product),
            grouped(line.unsent),
            grouped(line.held),
        )
    };
    if customers.lines.is_empty() {
        return String::new();
    }
    let rows: Vec<_> = customers.lines.iter().map(row).collect();
    let more = if customers.are_more { "<p class=\"aside\">There are more.</p>" } else { "" };
    format!(
        "<h2>Customers with unsent or held records</h2><div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Customers\"><table><caption>Records that AWS does not have</caption>\
         <thead><tr><th scope=\"col\">Customer</th><th scope=\"col\">Product</th><th scope=\"col\">Unsent</th><th scope=\"col\">Held</th></tr></thead>\
         <tbody>{}</tbody></table></div>{more}",
        rows.concat()
    )
}
