//! `make powercut CUTS=50`: a machine whose power is cut under load, again and again, and a bill that is exact to the unit.
//!
//! scripts/powercut says what a cut takes away, and why that is what a power cut does.
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "it fails by panicking, and starts threads and processes as it likes"
)]

mod disk;
mod machine;
#[path = "../it/support/mod.rs"]
#[allow(dead_code, reason = "other tests need the rest of it")]
mod support;

use std::{
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

use tallyman::internals::Faults;
use tokio::time::sleep;

use disk::Disk;
use machine::{Machine, Running, Settings};
use support::{
    agent::{ACCOUNT_PRODUCT, Home, binary},
    clock_at,
    load::{Load, all_billed},
    sandbox,
};

/// An hour passes in a minute: a machine that takes minutes to start must not miss AWS's day.
const SPEED: f64 = 60.0;
const DISK_BYTES: u64 = 512 << 20;
/// Under emulation, on a machine that has other work.
const PATIENCE: Duration = Duration::from_mins(15);

#[tokio::main]
async fn main() {
    let cuts: u32 =
        std::env::var("TALLYMAN_CUTS").map_or(50, |cuts| cuts.parse().expect("TALLYMAN_CUTS is a number"));
    let started = Instant::now();
    let clock = clock_at("2026-11-22T10:20:00Z", SPEED);
    let faults =
        Faults { throttle: 0.05, error: 0.05, lose_reply: 0.1, unprocessed: 0.05, ..Faults::default() };
    let (sandbox, _tasks) = sandbox(clock, faults).await;
    let home = Arc::new(Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock)));
    let image = new_image(home.path());
    let disk = Disk::serve(&image, home.path().join("disk"));
    let machine = Machine::new(
        home.path(),
        &Settings {
            grpc: &home.grpc,
            admin: &home.admin,
            sandbox_port: sandbox.url().rsplit(':').next().unwrap().trim_end_matches('/').parse().unwrap(),
            clock: clock.to_string(),
            configuration: configuration(&sandbox.url()),
            disk_socket: &disk.socket,
        },
    );

    let load = Load::start(&home);
    let mut longest_start = Duration::from_mins(1);
    let (mut lost, mut unflushed) = (0, 0);
    for cut in 1..=cuts {
        let before = load.events();
        let booting = Instant::now();
        let mut running = machine.start();
        // One in five is cut while it starts, and recovers from the cut before.
        let when = if cut % 5 == 0 {
            sleep(longest_start.mul_f64(fastrand::f64())).await;
            "while it started".to_owned()
        } else {
            ready(&mut running, &machine, &home).await;
            longest_start = booting.elapsed();
            sleep(Duration::from_millis(fastrand::u64(500..20_000))).await;
            format!(
                "{:.1} s after it was ready",
                booting.elapsed().saturating_sub(longest_start).as_secs_f64()
            )
        };
        running.cut();
        let cache = disk.cut([0.0, 0.0, 0.5, 0.9, 1.0][fastrand::usize(..5)]);
        unflushed += cache.sectors;
        lost += cache.sectors - cache.kept;
        eprintln!(
            "cut {cut} of {cuts}, {when}: {} events acknowledged, {} flushes, {} of {} unflushed sectors lost",
            load.events() - before,
            cache.flushes,
            cache.sectors - cache.kept,
            cache.sectors,
        );
    }
    let mut running = machine.start();
    ready(&mut running, &machine, &home).await;
    sleep(Duration::from_secs(2)).await;
    let acknowledged = load.stop().await;
    let summary = all_billed(&home, PATIENCE).await;
    let found = acknowledged.hold_against(&summary, &sandbox);
    running.cut();
    disk.cut(0.0);
    audit(home.path(), &image);
    eprintln!(
        "{cuts} power cuts in {:.0} s, {lost} of {unflushed} unflushed sectors lost: {found}; the ledger is sound",
        started.elapsed().as_secs_f64(),
    );
}

async fn ready(running: &mut Running, machine: &Machine, home: &Home) {
    let until = Instant::now() + PATIENCE;
    while !home.is_ready().await {
        assert!(!running.has_ended(), "the machine ended:\n{}", machine.log());
        assert!(Instant::now() < until, "the agent is not ready:\n{}", machine.log());
        sleep(Duration::from_millis(200)).await;
    }
}

fn configuration(sandbox: &str) -> String {
    let products = ACCOUNT_PRODUCT.replace("ENDPOINT", sandbox);
    format!(
        "[agent]\nid = \"machine\"\ndata_dir = \"/data/tallyman\"\n[submission]\nrequests_per_second = 100\n{products}"
    )
}

fn new_image(folder: &Path) -> std::path::PathBuf {
    let image = folder.join("disk.raw");
    std::fs::File::create(&image).unwrap().set_len(DISK_BYTES).unwrap();
    succeeds(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image), &[0]);
    image
}

/// Takes the data folder off the disk, which was cut for the last time, and looks at all of it.
fn audit(folder: &Path, image: &Path) {
    // It repairs what a kernel would when it mounts the disk: 1 says that it did.
    succeeds(Command::new("e2fsck").args(["-f", "-y"]).arg(image), &[0, 1]);
    let taken = folder.join("taken");
    std::fs::create_dir(&taken).unwrap();
    let request = format!("rdump /tallyman {}", taken.display());
    succeeds(Command::new("debugfs").args(["-R", &request]).arg(image), &[0]);
    succeeds(binary().args(["audit", "--data-dir"]).arg(taken.join("tallyman")), &[0]);
}

fn succeeds(command: &mut Command, codes: &[i32]) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, notes) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.code().is_some_and(|code| codes.contains(&code)),
        "{command:?}: {output:?}\n{out}{notes}"
    );
}
