//! The tables.

use std::time::Duration;

use crate::contender::{Lap, Reopened};

pub(crate) struct Side {
    pub(crate) name: String,
    pub(crate) laps: Vec<Lap>,
    pub(crate) reopened: Option<Reopened>,
}

/// A row of the table: what it is called, and what it says of one of them beside the first.
type Row = (&'static str, fn(&Side, &Side) -> String);

const ROWS: [Row; 30] = [
    ("ids/s", |side, _| format!("{:.0}", rate(&side.laps))),
    ("ids/s, last tenth", |side, _| format!("{:.0}", rate(side.last()))),
    ("share of the tree", |side, tree| format!("{:.2}", rate(&side.laps) / rate(&tree.laps))),
    ("share, last tenth", |side, tree| format!("{:.2}", rate(side.last()) / rate(tree.last()))),
    ("share, quarters of the turns", quarters),
    ("ns to look an id up", |side, _| each(&side.laps, |lap| lap.look)),
    ("ns to make the batch", |side, _| each(&side.laps, |lap| lap.make)),
    ("ns to write and sync", |side, _| each(&side.laps, |lap| lap.write)),
    ("processor time: ns of the thread that commits", |side, _| each(&side.laps, |lap| lap.own_cpu)),
    ("ns of it, last tenth", |side, _| each(side.last(), |lap| lap.own_cpu)),
    ("share by it", |side, tree| share(&side.laps, &tree.laps, |lap| lap.own_cpu)),
    ("share by it, last tenth", |side, tree| share(side.last(), tree.last(), |lap| lap.own_cpu)),
    ("ns of all threads", |side, _| each(&side.laps, |lap| lap.cpu)),
    ("ns of all threads, last tenth", |side, _| each(side.last(), |lap| lap.cpu)),
    ("share by all threads", |side, tree| share(&side.laps, &tree.laps, |lap| lap.cpu)),
    ("share by all threads, last tenth", |side, tree| share(side.last(), tree.last(), |lap| lap.cpu)),
    ("commit p50, ms", |side, _| quantile(&side.laps, 0.5)),
    ("commit p99, ms", |side, _| quantile(&side.laps, 0.99)),
    ("longest commit, ms", |side, _| quantile(&side.laps, 1.0)),
    ("commit p99, last tenth, ms", |side, _| quantile(side.last(), 0.99)),
    ("MiB resident at the end", |side, _| mebi(side.end().resident)),
    ("MiB resident, peak", |side, _| mebi(side.end().peak_resident)),
    ("MiB anonymous, peak", |side, _| mebi(side.end().peak_anonymous)),
    ("MB on disk", |side, _| format!("{}", side.end().disk / 1_000_000)),
    ("bytes written for an id", |side, _| format!("{:.0}", side.end().written as f64 / ids(&side.laps))),
    ("ms to start after a kill", |side, _| side.reopened(|found| millis(found.start))),
    ("MiB resident after it", |side, _| side.reopened(|found| mebi(found.resident))),
    ("us for a duplicate of the oldest", |side, _| side.reopened(|found| micros(found.oldest))),
    ("us for a duplicate of the latest", |side, _| side.reopened(|found| micros(found.latest))),
    ("files of each level", |side, _| side.reopened(|found| found.shape.clone())),
];

impl Side {
    /// The last tenth of the turns.
    fn last(&self) -> &[Lap] {
        &self.laps[self.laps.len() - self.laps.len().div_ceil(10)..]
    }

    fn end(&self) -> &Lap {
        self.laps.last().unwrap()
    }

    fn reopened(&self, say: impl Fn(&Reopened) -> String) -> String {
        self.reopened.as_ref().map(say).unwrap_or_default()
    }
}

pub(crate) fn tell(sides: &[Side], busy: Duration, elapsed: Duration) {
    let tree = &sides[0];
    let names: Vec<&str> = sides.iter().map(|side| &*side.name).collect();
    println!("\n| | {} |\n|---|{}", names.join(" | "), "--:|".repeat(sides.len()));
    for (what, say) in ROWS {
        let cells: Vec<String> = sides.iter().map(|side| say(side, tree)).collect();
        println!("| {what} | {} |", cells.join(" | "));
    }
    let own: f64 = sides.iter().map(|side| total(&side.laps, |lap| lap.cpu)).sum();
    let others = (busy.as_secs_f64() - own) / elapsed.as_secs_f64();
    println!("\nMeanwhile all else on the machine took {others:.1} processors.");
}

pub(crate) fn tell_progress<'a>(millions: u64, sides: impl Iterator<Item = &'a Side>) {
    let tell = |side: &Side| {
        let last = &side.laps[side.laps.len() - 10..];
        format!(
            " | {:7.0} ids/s {:>5} cpu ns {:>4} MiB",
            rate(last),
            each(last, |lap| lap.cpu),
            mebi(side.end().resident)
        )
    };
    println!("{millions:4} million{}", sides.map(tell).collect::<String>());
}

/// The share of the tree's speed in a turn: a quarter of the turns were below, half, and three quarters.
fn quarters(side: &Side, tree: &Side) -> String {
    let busy = |lap: &Lap| lap.busy().as_secs_f64();
    let mut shares: Vec<f64> =
        side.laps.iter().zip(&tree.laps).map(|(lap, tree)| busy(tree) / busy(lap)).collect();
    shares.sort_by(f64::total_cmp);
    let at = |quarter: usize| shares[(shares.len() - 1) * quarter / 4];
    format!("{:.2} {:.2} {:.2}", at(1), at(2), at(3))
}

fn rate(laps: &[Lap]) -> f64 {
    ids(laps) / seconds(laps)
}

fn ids(laps: &[Lap]) -> f64 {
    laps.iter().map(|lap| lap.ids).sum::<u64>() as f64
}

fn seconds(laps: &[Lap]) -> f64 {
    total(laps, Lap::busy)
}

/// How much less of something the tree took, where it is less than 1.
fn share(laps: &[Lap], tree: &[Lap], of: fn(&Lap) -> Duration) -> String {
    format!("{:.2}", total(tree, of) / total(laps, of))
}

fn total(laps: &[Lap], of: fn(&Lap) -> Duration) -> f64 {
    laps.iter().map(of).sum::<Duration>().as_secs_f64()
}

fn each(laps: &[Lap], time: impl Fn(&Lap) -> Duration) -> String {
    format!("{:.0}", laps.iter().map(time).sum::<Duration>().as_nanos() as f64 / ids(laps))
}

fn quantile(laps: &[Lap], part: f64) -> String {
    let mut commits: Vec<u64> = laps.iter().flat_map(|lap| lap.commits.iter().copied()).collect();
    commits.sort_unstable();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is an index")]
    let index = ((commits.len() - 1) as f64 * part) as usize;
    format!("{:.1}", commits[index] as f64 / 1000.0)
}

fn mebi(kibi: u64) -> String {
    format!("{}", kibi / 1024)
}

fn millis(time: Duration) -> String {
    format!("{:.0}", time.as_secs_f64() * 1e3)
}

fn micros(time: Duration) -> String {
    format!("{:.2}", time.as_secs_f64() * 1e6)
}
