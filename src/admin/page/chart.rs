//! Events per second: the rate of the moment, and a chart of the last minutes.

use maud::{Markup, html};

use super::format::grouped;
use crate::engine::throughput::{Sample, Throughput};

const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 80.0;
/// The spans that the rate of the moment is taken from.
const RECENT: usize = 5;

/// The rate of the last moments.
pub(super) fn rate(samples: &[Sample]) -> f64 {
    let recent = samples.get(samples.len().saturating_sub(RECENT)..).unwrap_or_default();
    per_second(recent.iter().map(|sample| sample.accepted).sum(), recent.len().max(1))
}

/// A rate as text, with a decimal where it is small.
pub(super) fn rate_text(rate: f64) -> String {
    if rate > 0.0 && rate < 10.0 { format!("{rate:.1}") } else { grouped(format!("{rate:.0}")) }
}

pub(super) fn events(samples: &[Sample]) -> Markup {
    let rates: Vec<_> = samples.iter().map(|sample| per_second(sample.accepted, 1)).collect();
    let most = rates.iter().copied().fold(0.0, f64::max);
    let (now, most_text) = (rate_text(rate(samples)), rate_text(most));
    let label = format!("{now} events per second now, at most {most_text} in the last five minutes");
    html! {
        h2 { "Events per second" }
        figure {
            svg.chart viewBox={ "0 0 " (WIDTH) " " (HEIGHT) } preserveAspectRatio="none" role="img" aria-label=(label) {
                path.grid d={ "M0 " (HEIGHT) "H" (WIDTH) } {}
                (curve(&points(&rates, most)))
            }
            figcaption {
                span { "5 min ago" }
                span { "most " (most_text) "/s" }
                span { "now" }
            }
        }
    }
}

/// The line through the points, and the area below it.
fn curve(points: &str) -> Markup {
    let first_x = points.split(' ').next().unwrap_or("0");
    html! {
        @if !points.is_empty() {
            path.area d={ "M" (points) "V" (HEIGHT) "H" (first_x) "Z" } {}
            path.line d={ "M" (points) } {}
        }
    }
}

/// The points of the curve, which ends at the right edge. What was before the agent's start is not drawn.
fn points(rates: &[f64], most: f64) -> String {
    if most <= 0.0 {
        return String::new();
    }
    let step = WIDTH / (SPANS_SHOWN - 1.0);
    #[expect(clippy::cast_precision_loss, reason = "a drawing")]
    let mut x = WIDTH - step * rates.len() as f64;
    let point = |rate: &f64| {
        x += step;
        format!("{:.0} {:.1}", x.max(0.0), 3.0 + (HEIGHT - 3.0) * (1.0 - rate / most))
    };
    rates.iter().map(point).collect::<Vec<_>>().join("L")
}

/// The spans that are kept and over.
const SPANS_SHOWN: f64 = 149.0;

#[expect(clippy::cast_precision_loss, reason = "a drawing")]
fn per_second(events: u64, spans: usize) -> f64 {
    events as f64 / (spans as f64 * Throughput::SPAN.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(accepted: &[u64]) -> Vec<Sample> {
        accepted.iter().map(|accepted| Sample { accepted: *accepted, refused: 0 }).collect()
    }

    #[test]
    fn the_rate_is_that_of_the_last_moments() {
        assert_eq!(rate_text(rate(&samples(&[9999, 2, 2, 2, 2, 2]))), "1.0");
        assert_eq!(rate_text(rate(&samples(&[4_000_000]))), "2,000,000");
        assert_eq!(rate_text(rate(&[])), "0");
    }

    #[test]
    fn the_line_ends_at_the_right_and_its_peak_is_at_the_top() {
        let drawn = points(&[0.0, 8.0, 4.0], 8.0);
        let drawn: Vec<_> = drawn.split('L').collect();
        assert_eq!(drawn, ["592 80.0", "596 3.0", "600 41.5"]);
        assert!(points(&[1.0; 149], 1.0).starts_with("0 3.0L4 3.0L"));
        assert!(!events(&samples(&[0, 0])).into_string().contains("area"), "nothing came, nothing is drawn");
    }
}
