//! Events per second, drawn.

use super::words::{Escaped, grouped};
use crate::faces::pulse::{Beat, Pulse};

const WIDTH: f64 = 600.0;
const HEIGHT: f64 = 80.0;
/// So many spans make the rate of the moment.
const RECENT: usize = 5;

/// The rate of the last moments.
pub(super) fn rate(beats: &[Beat]) -> f64 {
    let recent = beats.get(beats.len().saturating_sub(RECENT)..).unwrap_or_default();
    per_second(recent.iter().map(|beat| beat.accepted).sum(), recent.len().max(1))
}

pub(super) fn rate_text(rate: f64) -> String {
    if rate > 0.0 && rate < 10.0 { format!("{rate:.1}") } else { grouped(format!("{rate:.0}")) }
}

pub(super) fn events(beats: &[Beat]) -> String {
    let rates: Vec<_> = beats.iter().map(|beat| per_second(beat.accepted, 1)).collect();
    let most = rates.iter().copied().fold(0.0, f64::max);
    let (now, most_text) = (rate_text(rate(beats)), rate_text(most));
    let said = format!("{now} events per second now, at most {most_text} in the last five minutes");
    let line = points(&rates, most);
    format!(
        "<h2>Events per second</h2><figure><svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{said}\">\
         <path class=\"grid\" d=\"M0 {HEIGHT}H{WIDTH}\"/>{drawn}</svg>\
         <figcaption><span>5 min ago</span><span>most {most_text}/s</span><span>now</span></figcaption></figure>",
        said = Escaped(&said),
        drawn = if line.is_empty() {
            String::new()
        } else {
            let left = line.split(' ').next().unwrap_or("0");
            format!(
                "<path class=\"area\" d=\"M{line}V{HEIGHT}H{left}Z\"/><path class=\"line\" d=\"M{line}\"/>"
            )
        },
    )
}

/// Up to the right edge; what was before the start is not drawn.
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

/// As many as the pulse keeps and are over.
const SPANS_SHOWN: f64 = 149.0;

#[expect(clippy::cast_precision_loss, reason = "a drawing")]
fn per_second(events: u64, spans: usize) -> f64 {
    events as f64 / (spans as f64 * Pulse::SPAN.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beats(accepted: &[u64]) -> Vec<Beat> {
        accepted.iter().map(|accepted| Beat { accepted: *accepted, refused: 0 }).collect()
    }

    #[test]
    fn the_rate_is_that_of_the_last_moments() {
        assert_eq!(rate_text(rate(&beats(&[9999, 2, 2, 2, 2, 2]))), "1.0");
        assert_eq!(rate_text(rate(&beats(&[4_000_000]))), "2,000,000");
        assert_eq!(rate_text(rate(&[])), "0");
    }

    #[test]
    fn the_line_ends_at_the_right_and_its_peak_is_at_the_top() {
        let drawn = points(&[0.0, 8.0, 4.0], 8.0);
        let drawn: Vec<_> = drawn.split('L').collect();
        assert_eq!(drawn, ["592 80.0", "596 3.0", "600 41.5"]);
        assert!(points(&[1.0; 149], 1.0).starts_with("0 3.0L4 3.0L"));
        assert!(!events(&beats(&[0, 0])).contains("area"), "nothing came, nothing is drawn");
    }
}
