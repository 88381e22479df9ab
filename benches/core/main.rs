//! What one commit, one seal and one batch cost. Each file measures one step.
#![allow(missing_docs, clippy::unwrap_used, reason = "benchmarks")]

mod commit;
mod plan;
mod seal;

use criterion::{criterion_group, criterion_main};
use tallyman::internals::Hour;

fn hour() -> Hour {
    Hour::from_index(498_000)
}

criterion_group!(benches, commit::bench, seal::bench, plan::bench);
criterion_main!(benches);
