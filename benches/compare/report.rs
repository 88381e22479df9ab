//! The figures as tables, ratios first.

use std::{fmt::Write, path::Path};

use crate::{
    machine,
    plan::{IDLE, Plan, SCENARIOS, STEADY, STREAMS, STREAMS_WITH_IDS, Scenario},
    results::{Figure, Results, Subject},
};

const SERVERS: [Subject; 5] =
    [Subject::Discard, Subject::Tallyman, Subject::Before, Subject::Redis, Subject::Postgres];

pub(crate) fn markdown(plan: &Plan, results: &Results, folder: &Path) -> String {
    let mut text = String::new();
    let (rounds, seconds) = (plan.rounds, plan.span.as_secs());
    writeln!(text, "Measured on {}. Servers and load generator share the cores.", machine::describe(folder))
        .unwrap();
    writeln!(text, "{rounds} rounds, {seconds} s for each figure, the servers in turns.").unwrap();
    writeln!(text, "Medians over the rounds, and in brackets the least and the most.\n").unwrap();
    let measured: Vec<&Scenario> = SCENARIOS.iter().filter(|scenario| plan.has(scenario)).collect();
    rates(&mut text, "Share of what the discard server takes", &measured, |scenario, subject| {
        let ratio = results.ratio(scenario.name, subject, Subject::Discard)?;
        Some(ratio.show(|ratio| format!("{ratio:.2}")))
    });
    if plan.before.is_some() {
        rates(&mut text, "Share of what the older tallyman takes", &measured, |scenario, subject| {
            let is_newer = subject == Subject::Tallyman;
            let ratio = results.ratio(scenario.name, subject, Subject::Before).filter(|_| is_newer)?;
            Some(ratio.show(|ratio| format!("{ratio:.2}")))
        });
    }
    rates(&mut text, "Thousand events a second", &measured, |scenario, subject| {
        let rate = results.rate(scenario.name, subject)?;
        Some(rate.show(|rate| format!("{:.0}", rate / 1000.0)))
    });
    rates(&mut text, "99 % of the answers within, ms", &measured, |scenario, subject| {
        Some(results.spread(scenario.name, subject, Figure::P99)?.show(|ms| format!("{ms:.1}")))
    });
    if plan.has(&STEADY) {
        latency(&mut text, results);
    }
    for subject in [Subject::Tallyman, Subject::Before] {
        if results.spread(IDLE, subject, Figure::Resident).is_some() {
            footprint(&mut text, subject, &measured, results);
        }
    }
    verdicts(&mut text, results);
    text
}

/// A row for each scenario, a column for each server that was measured.
fn rates(
    text: &mut String,
    title: &str,
    scenarios: &[&Scenario],
    cell: impl Fn(&Scenario, Subject) -> Option<String>,
) {
    let shown: Vec<Subject> = SERVERS
        .into_iter()
        .filter(|subject| scenarios.iter().any(|scenario| cell(scenario, *subject).is_some()))
        .collect();
    let names: Vec<String> = shown.iter().map(ToString::to_string).collect();
    writeln!(text, "| {title} | {} |\n|---|{}", names.join(" | "), "--:|".repeat(shown.len())).unwrap();
    for scenario in scenarios {
        let cells: Vec<String> =
            shown.iter().map(|subject| cell(scenario, *subject).unwrap_or_default()).collect();
        writeln!(text, "| {} | {} |", scenario.name, cells.join(" | ")).unwrap();
    }
    text.push('\n');
}

fn latency(text: &mut String, results: &Results) {
    writeln!(text, "| {}, ms | half within | 99 % within |\n|---|--:|--:|", STEADY.name).unwrap();
    for subject in [Subject::Tallyman, Subject::Before, Subject::Discard, Subject::Disk] {
        if results.spread(STEADY.name, subject, Figure::P99).is_none() {
            continue;
        }
        let cell = |figure| {
            let spread = results.spread(STEADY.name, subject, figure);
            spread.map(|spread| spread.show(|ms| format!("{ms:.2}"))).unwrap_or_default()
        };
        writeln!(text, "| {subject} | {} | {} |", cell(Figure::P50), cell(Figure::P99)).unwrap();
    }
    text.push('\n');
}

fn footprint(text: &mut String, subject: Subject, scenarios: &[&Scenario], results: &Results) {
    writeln!(text, "| {subject}, after | MiB resident | bytes written for each event |\n|---|--:|--:|")
        .unwrap();
    let names = [IDLE].into_iter().chain(scenarios.iter().map(|scenario| scenario.name)).chain([STEADY.name]);
    for name in names {
        let cell = |figure| {
            let spread = results.spread(name, subject, figure)?;
            Some(spread.show(|value| format!("{value:.1}")))
        };
        let Some(resident) = cell(Figure::Resident) else { continue };
        writeln!(text, "| {name} | {resident} | {} |", cell(Figure::BytesPerEvent).unwrap_or_default())
            .unwrap();
    }
    text.push('\n');
}

fn verdicts(text: &mut String, results: &Results) {
    for (scenario, wanted) in [(STREAMS, 0.75), (STREAMS_WITH_IDS, 0.40)] {
        if let Some(ratio) = results.ratio(scenario.name, Subject::Tallyman, Subject::Discard) {
            let what = format!("{}: at least {wanted:.2} of the discard server", scenario.name);
            verdict(text, ratio.median >= wanted, &what, &format!("{:.2}", ratio.median));
        }
    }
    let p99 = |subject| results.spread(STEADY.name, subject, Figure::P99);
    if let (Some(tallyman), Some(disk)) = (p99(Subject::Tallyman), p99(Subject::Disk)) {
        let bound = 3.0 * disk.median + 1.0;
        let what = format!("{}: p99 within 3 x fdatasync + 1 ms = {bound:.2} ms", STEADY.name);
        verdict(text, tallyman.median <= bound, &what, &format!("{:.2} ms", tallyman.median));
    }
    if let Some(idle) = results.spread(IDLE, Subject::Tallyman, Figure::Resident) {
        verdict(text, idle.median < 30.0, "idle: under 30 MiB resident", &format!("{:.1} MiB", idle.median));
    }
}

fn verdict(text: &mut String, is_met: bool, what: &str, is: &str) {
    let verdict = if is_met { "met" } else { "NOT MET" };
    writeln!(text, "- **{verdict}** {what}; it is {is}").unwrap();
}
