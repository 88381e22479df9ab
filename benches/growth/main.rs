//! How time and memory grow with the open buckets and the pending records.
//!
//! Each size is measured in fresh processes, since memory that an allocator keeps would count for the next one: one
//! fills and seals, and dies without a word; others open what it left. `cargo bench --bench growth -- 100000x10` takes
//! one shape alone, as customers x dimensions.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a benchmark")]
#![allow(clippy::cast_precision_loss, reason = "numbers for people")]
#![allow(clippy::disallowed_methods, reason = "it measures real time")]

mod agent;
mod buckets;
mod harness;
mod pending;

use std::{
    collections::BTreeMap,
    env,
    path::Path,
    process::{Command, Stdio},
};

use harness::Shape;

const SHAPES: [&str; 5] = ["100x10", "1000x10", "10000x10", "100000x10", "1000000x1"];

/// What a child found, by name.
type Figures = BTreeMap<String, f64>;

fn main() {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if let [role, shape, folder] = &arguments[..]
        && let (None, Some(shape)) = (Shape::parse(role), Shape::parse(shape))
    {
        return child(role, shape, Path::new(folder));
    }
    let mut shapes: Vec<Shape> = arguments.iter().filter_map(|argument| Shape::parse(argument)).collect();
    if shapes.is_empty() {
        shapes = SHAPES.into_iter().filter_map(Shape::parse).collect();
    }
    println!("An agent that has nothing to do takes {:.1} MiB.\n", agent::idle_mebibytes());
    let figures: Vec<(Shape, Figures)> = shapes.into_iter().map(|shape| (shape, measure(shape))).collect();
    table("Buckets", &figures, &BUCKETS);
    table("Start after a kill", &figures, &STARTS);
    table("Pending records", &figures, &PENDING);
}

fn child(role: &str, shape: Shape, folder: &Path) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match role {
        "fill" => runtime.block_on(buckets::run(shape, folder)),
        "pending" => runtime.block_on(pending::run(shape, folder)),
        other => panic!("no such role: {other}"),
    }
    // As a kill would end it: nothing is closed.
    std::process::abort();
}

fn measure(shape: Shape) -> Figures {
    let folder = tempfile::tempdir().unwrap();
    let mut figures = run("fill", shape, folder.path());
    figures.extend(agent::start(shape, folder.path()));
    figures.extend(run("pending", shape, folder.path()));
    figures
}

/// Runs a part in a process of its own.
fn run(role: &str, shape: Shape, folder: &Path) -> Figures {
    let mut command = Command::new(env::current_exe().unwrap());
    command.arg(role).arg(shape.to_string()).arg(folder).stderr(Stdio::inherit());
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let figures: Figures = text
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect();
    assert!(figures.contains_key(role), "{role} of {shape} did not finish");
    figures
}

/// Tells the parent. The last one of a child is its role.
fn tell(name: &str, value: f64) {
    println!("{name}={value}");
}

/// A column: its heading, its figure, and the decimals.
type Column = (&'static str, &'static str, usize);

const BUCKETS: [Column; 10] = [
    ("fill s", "fill_s", 2),
    ("MiB open", "open_mib", 0),
    ("B/bucket", "open_bytes", 0),
    ("MiB with carry", "carry_mib", 0),
    ("ns/entry", "steady_ns", 0),
    ("ns/entry with carry", "steady_carry_ns", 0),
    ("seal s", "seal_s", 2),
    ("ingest p99 ms", "calm_p99_ms", 1),
    ("p99 ms in the seal", "seal_p99_ms", 1),
    ("longest ms in the seal", "seal_max_ms", 1),
];

const STARTS: [Column; 5] = [
    ("log MiB", "log_mib", 0),
    ("ready s", "ready_s", 2),
    ("MiB when ready", "ready_mib", 0),
    ("store s", "store_s", 2),
    ("state s", "books_s", 2),
];

const PENDING: [Column; 8] = [
    ("load us", "load_us", 2),
    ("take in us", "insert_us", 2),
    ("plan us", "plan_us", 2),
    ("settle us", "settle_us", 1),
    ("B/record", "record_bytes", 0),
    ("ingest p99 ms", "busy_p99_ms", 1),
    ("longest ms", "busy_max_ms", 1),
    ("longest ms, settling", "settle_max_ms", 1),
];

fn table(title: &str, figures: &[(Shape, Figures)], columns: &[Column]) {
    println!("| {title} | {} |", headings(columns));
    println!("|---|{}", "---|".repeat(columns.len()));
    for (shape, figures) in figures {
        let cell = |(_, name, decimals): &Column| {
            figures.get(*name).map_or_else(|| "-".to_owned(), |value| format!("{value:.decimals$}"))
        };
        let cells: Vec<String> = columns.iter().map(cell).collect();
        println!("| {shape} | {} |", cells.join(" | "));
    }
    println!();
}

fn headings(columns: &[Column]) -> String {
    columns.iter().map(|(heading, ..)| *heading).collect::<Vec<_>>().join(" | ")
}
