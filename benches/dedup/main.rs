//! What it costs to know which event ids were counted before.
//!
//! - `cargo bench --bench dedup -- [millions of ids, 10] [ids of a commit, 10000]` measures the tree of `engine::counting::dedup`
//!   alone, on a real store.
//! - `cargo bench --bench dedup -- versus [millions] [ids of a commit] [generations, 1] [minutes, 600] [variant ...]` measures
//!   it side by side with RocksDB's own look-ups: the same ids in the same commits, with a sync for each. A variant is
//!   a way to keep ids with its tuning, as in `keys,filter=ribbon,bits=10` (see `tuning`); with `@` and a path behind it,
//!   as in `tree@target/before`, the benchmark at that path runs it, which may be of another build. When the minutes are
//!   over, what was done by then is told.

#![allow(missing_docs, clippy::unwrap_used, reason = "benchmarks")]
#![allow(clippy::print_stdout, clippy::disallowed_methods, reason = "a benchmark measures time and tells it")]
#![allow(clippy::cast_precision_loss, clippy::unchecked_time_subtraction, reason = "figures for people")]

mod alone;
mod contender;
mod ids;
mod ingested;
mod keys;
mod lookup;
mod machine;
mod process;
mod report;
mod tree;
mod tuning;
mod versus;

use std::time::Duration;

use ids::Plan;

const MILLION: u64 = 1_000_000;
/// What is worth being measured when no variant is named.
const BEST: &str = "ingested";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let numbers: Vec<u64> = arguments.iter().filter_map(|argument| argument.parse().ok()).collect();
    let number = |index: usize, default: u64| numbers.get(index).copied().unwrap_or(default);
    // A process that takes turns is told the ids, not the millions.
    let plan = Plan { ids: number(0, 10), per_commit: number(1, 10_000), generations: number(2, 1) };
    let in_millions = Plan { ids: plan.ids * MILLION, ..plan };
    let words = || arguments.iter().skip(1).filter(|word| word.parse::<u64>().is_err()).map(String::as_str);
    match arguments.first().map(String::as_str) {
        Some("versus") => {
            let mut variants: Vec<&str> = words().collect();
            if variants.is_empty() {
                variants.push(BEST);
            }
            versus::run(in_millions, Duration::from_mins(number(3, 600)), &variants);
        }
        Some("contend") => process::run(plan, &words().collect::<Vec<_>>()),
        Some("reopen") => process::reopen(plan, &words().collect::<Vec<_>>()),
        _ => alone::run(in_millions.ids, plan.per_commit),
    }
}
