//! Arguments of `tallyman demo`.

use clap::Args;

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// How many hours of usage to meter.
    #[arg(long, default_value_t = 6, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MOST_HOURS))]
    pub hours: u32,
    /// How much faster than real time the hours pass.
    #[arg(long, default_value_t = 1200.0, value_name = "N", value_parser = parse_speed)]
    pub speed: f64,
    /// Repeats the faults and the usage of an earlier demo. [default: a random one]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
}

const MOST_HOURS: i64 = 1000;
/// The highest speed. Above it a commit would take longer than a second of the demo's time, and no event would arrive in
/// its own hour.
const FASTEST: f64 = 36_000.0;

fn parse_speed(text: &str) -> Result<f64, String> {
    let speed = text.parse().ok().filter(|speed| (1.0..=FASTEST).contains(speed));
    speed.ok_or_else(|| format!("must be a number from 1 to {FASTEST}"))
}
