//! Days of an agent's life in milliseconds, from one seed.
//!
//! Real are the state, the committer, the sealer, the submitter, the outbox, the pace and the trusted clock, put
//! together as `app` does it. Simulated are the disk (in memory: it can fail, and forgets what was not committed), the
//! time (tokio's, paused: it jumps from timer to timer), AWS, the applications that send usage, the marketplace that
//! gives notices and replaces accounts, and the person who decides about held records. The process dies at random
//! moments, at commits, shortly after them, and in the middle of calls.
//!
//! Not simulated are the API (gRPC and its validation), the command line, RocksDB, the AWS SDK, full tables
//! (`limits`), and changes of a configuration.
//!
//! - [`model`] is the reference: what was acknowledged, and what each hour must come to. It knows nothing of how.
//! - [`ledger`] follows what each commit puts on disk, and holds it against the model and against AWS's own truth.
//! - [`invariants`] audits what a store holds, after some crashes and at the end.
//! - [`market`] is that truth, and checks each call.
//!
//! A fault names its seed; `make sim SEED=...` runs it again, and prints what happened.

mod agent;
mod applications;
mod aws_calls;
mod aws_truth;
mod commit_checks;
mod disk;
mod host;
mod ledger;
mod model;
mod operator;
mod plan;
mod sharers;
mod store_checks;
mod tests;
mod trace;
mod world;

use std::{collections::BTreeMap, sync::Arc};

use tokio::{runtime::Builder, task::JoinSet};

use crate::base::{sabotage::sabotage, tasks::simulated};
use plan::Plan;
use world::World;

pub(crate) use crate::base::sabotage::Sabotage;

/// A customer and a dimension, by their places in [`plan`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Series {
    customer: usize,
    dimension: usize,
}

/// How often what has happened, by what it was.
type Coverage = BTreeMap<&'static str, u64>;

/// What came of a seed.
struct Report {
    fault: Option<String>,
    lines: Vec<String>,
    hash: u64,
    coverage: Coverage,
}

/// Runs a seed to its end, or to the first fault.
fn run(seed: u64, broken_by: Option<Sabotage>) -> Report {
    fastrand::seed(seed);
    simulated::switch(true);
    sabotage(broken_by);
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let world = runtime.block_on(async {
        let world = Arc::new(World::new(Plan::draw()));
        let mut people = JoinSet::new();
        applications::start(&world, &mut people);
        sharers::start(&world, &mut people);
        people.spawn(operator::work(world.clone()));
        host::run(&world).await;
        people.shutdown().await;
        world
    });
    drop(runtime);
    sabotage(None);
    simulated::switch(false);
    world.trace.report()
}
