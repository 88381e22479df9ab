//! The ratios as bars, readable on a light and on a dark page.

use std::fmt::Write;

use crate::{
    plan::{Plan, SCENARIOS, Scenario},
    results::{Results, Subject},
};

const SUBJECTS: [(Subject, &str); 5] = [
    (Subject::Discard, "discard"),
    (Subject::Tallyman, "tallyman"),
    (Subject::Before, "before"),
    (Subject::Redis, "redis"),
    (Subject::Postgres, "postgres"),
];
const WIDTH: f64 = 760.0;
const LEFT: f64 = 250.0;
/// The length of a bar of 1.
const UNIT: f64 = 380.0;
/// What is beyond is cut off, and only told by its number.
const MOST: f64 = 1.1;
const BAR: f64 = 16.0;
const GAP: f64 = 14.0;
const TOP: f64 = 44.0;
const STYLE: &str = "<style>
  .page { fill: #ffffff } text { font: 12px system-ui, sans-serif; fill: #1f2328 }
  .title { font-size: 15px; font-weight: 600 } .name { font-weight: 600 }
  .grid { stroke: #8c959f; stroke-dasharray: 3 3 }
  .discard { fill: #8c959f } .tallyman { fill: #0969da } .before { fill: #80b3ec } .redis { fill: #cf222e } .postgres { fill: #1a7f37 }
  @media (prefers-color-scheme: dark) {
    .page { fill: #0d1117 } text { fill: #e6edf3 }
    .discard { fill: #6e7681 } .tallyman { fill: #4493f8 } .before { fill: #26568f } .redis { fill: #f85149 } .postgres { fill: #3fb950 }
  }
</style>";

pub(crate) fn draw(plan: &Plan, results: &Results) -> String {
    let (mut body, mut y) = (String::new(), TOP);
    for scenario in SCENARIOS.iter().filter(|scenario| plan.has(scenario)) {
        y = group(&mut body, results, scenario, y);
    }
    let (one, note) = (LEFT + UNIT, y + 4.0);
    let mut svg = String::new();
    let height = y + 16.0;
    writeln!(svg, r#"<svg xmlns="{SVG}" viewBox="0 0 {WIDTH} {height}" role="img">"#).unwrap();
    writeln!(svg, "<title>{TITLE}</title>\n{STYLE}").unwrap();
    writeln!(svg, r#"<rect class="page" width="{WIDTH}" height="{height}"/>"#).unwrap();
    writeln!(svg, r#"<text class="title" x="8" y="20">{TITLE}</text>"#).unwrap();
    writeln!(svg, r#"<line class="grid" x1="{one}" x2="{one}" y1="{}" y2="{}"/>"#, TOP - 8.0, y - GAP)
        .unwrap();
    writeln!(body, r#"<text x="8" y="{note}">{NOTE}</text>"#).unwrap();
    svg + &body + "</svg>\n"
}

const NOTE: &str =
    "All but discard sync before they answer. Redis: pipelines of 100. PostgreSQL: transactions of 1000.";
const SVG: &str = "http://www.w3.org/2000/svg";
const TITLE: &str = "Events a second, as a share of a server that throws them away";

/// A scenario's bars; gives where the next one begins.
fn group(body: &mut String, results: &Results, scenario: &Scenario, top: f64) -> f64 {
    let mut y = top;
    writeln!(body, r#"<text class="name" x="8" y="{}">{}</text>"#, y + 12.0, scenario.name).unwrap();
    for (subject, class) in SUBJECTS {
        let Some(ratio) = results.ratio(scenario.name, subject, Subject::Discard) else { continue };
        let (length, baseline) = (ratio.median.min(MOST) * UNIT, y + 12.0);
        writeln!(body, r#"<text x="{}" y="{baseline}" text-anchor="end">{subject}</text>"#, LEFT - 8.0)
            .unwrap();
        writeln!(body, r#"<rect class="{class}" x="{LEFT}" y="{y}" width="{length:.1}" height="{BAR}"/>"#)
            .unwrap();
        let label =
            if subject == Subject::Discard { discard_label(results, scenario) } else { String::new() };
        let label = format!("{:.2}{label}", ratio.median);
        writeln!(body, r#"<text x="{:.1}" y="{baseline}">{label}</text>"#, LEFT + length + 6.0).unwrap();
        y += BAR + 3.0;
    }
    y + GAP
}

fn discard_label(results: &Results, scenario: &Scenario) -> String {
    let rate = results.rate(scenario.name, Subject::Discard).map(|rate| rate.median / 1e6);
    rate.map(|rate| format!(" ({rate:.2} million/s)")).unwrap_or_default()
}
