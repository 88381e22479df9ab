//! tallyman beside a server that throws the same requests away, Redis and PostgreSQL: one run, one machine, in turns.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::print_stdout,
    missing_docs,
    reason = "a measurement fails by panicking, and starts threads and processes as it likes"
)]

mod disk;
mod machine;
mod picture;
mod plan;
mod process;
mod report;
mod results;
mod subjects;

use std::{
    env, fs,
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// Measures tallyman beside other servers, in turns, on loopback and in folders of its own.
#[derive(Debug, Parser)]
#[command(name = "compare")]
struct Args {
    /// How many rounds; medians are taken over them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long each measurement takes, in seconds.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Only measure scenarios whose names hold this.
    #[arg(long, default_value = "")]
    only: String,
    /// An older tallyman, to be measured in the same turns.
    #[arg(long, value_name = "PROGRAM")]
    before: Option<PathBuf>,
    /// The tallyman to measure. [default: the one of this build]
    #[arg(long, default_value = env!("CARGO_BIN_EXE_tallyman"), hide_default_value = true, value_name = "PROGRAM")]
    tallyman: PathBuf,
    /// Leave Redis and PostgreSQL out, also where they are installed.
    #[arg(long)]
    no_peers: bool,
    /// Where the servers keep their files. It must be on a real disk, and PostgreSQL's user must reach it.
    #[arg(long, default_value = "/var/tmp")]
    folder: PathBuf,
    /// Where the tables go. [default: bench.md in the target folder]
    #[arg(long)]
    tables: Option<PathBuf>,
    /// Where the picture goes (SVG). [default: bench.svg in the target folder]
    #[arg(long, overrides_with = "picture")]
    picture: Option<PathBuf>,
    /// Be the server that throws away what it takes.
    #[arg(long, hide = true)]
    discard: bool,
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() {
    let args = Args::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    if args.discard {
        return runtime.block_on(subjects::discard::serve());
    }
    // The servers are dropped then, and thereby ended, like after a fault.
    runtime.block_on(async {
        tokio::select! {
            () = compare(&args) => {}
            () = told_to_stop() => eprintln!("interrupted"),
        }
    });
}

async fn told_to_stop() {
    let mut terminate = signal(SignalKind::terminate()).unwrap();
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

async fn compare(args: &Args) {
    let folder = tempfile::Builder::new().prefix("tallyman-bench-").tempdir_in(&args.folder).unwrap();
    let plan = plan::Plan {
        rounds: args.rounds,
        span: Duration::from_secs(args.seconds),
        only: args.only.clone(),
        has_peers: !args.no_peers,
        tallyman: args.tallyman.clone(),
        before: args.before.clone(),
    };
    let results = plan.carry_out(folder.path()).await;
    let text = report::markdown(&plan, &results, &args.folder);
    println!("{text}");
    write(args.tables.as_deref(), "bench.md", &text);
    write(args.picture.as_deref(), "bench.svg", &picture::draw(&plan, &results));
}

fn write(path: Option<&Path>, default: &str, text: &str) {
    let path = path.map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join(default), Path::to_path_buf);
    fs::create_dir_all(path.parent().unwrap_or_else(|| Path::new("."))).unwrap();
    fs::write(&path, text).unwrap();
    eprintln!("written: {}", path.display());
}

/// This program, to be run as something else.
fn myself() -> PathBuf {
    env::current_exe().unwrap()
}
