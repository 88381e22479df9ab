//! Fills an hour, counts, seals it while the next one is counted, and counts on what was carried.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use tallyman::internals::Timestamp;

use crate::{
    harness::{Harness, Shape, mebibytes},
    tell,
};

pub(crate) async fn run(shape: Shape, folder: &Path) {
    let harness = Harness::open(shape, folder);
    let (hour, empty) = (Harness::hour(), mebibytes("self"));
    let begun = Instant::now();
    harness.fill(hour).await;
    tell("fill_s", begun.elapsed().as_secs_f64());
    let open = mebibytes("self");
    tell("open_mib", open);
    tell("open_bytes", (open - empty) * f64::from(1 << 20) / f64::from(shape.buckets()));
    harness.count(hour, 200).await;
    tell("steady_ns", harness.count(hour, 1000).await.as_secs_f64() * 1e9);
    let (.., latencies) = harness.probe_while(hour, tokio::time::sleep(Duration::from_secs(3))).await;
    tell("calm_p99_ms", latencies.p99_and_max()[0]);
    seal(&harness, hour.end().plus(harness.config.hour.grace)).await;
    harness.fill(hour.next()).await;
    tell("carry_mib", mebibytes("self"));
    tell("steady_carry_ns", harness.count(hour.next(), 1000).await.as_secs_f64() * 1e9);
    tell("fill", 1.0);
}

/// What is used meanwhile belongs to the next hour.
async fn seal(harness: &Harness, due: Timestamp) {
    let begun = Instant::now();
    let sealing = async {
        let mut records = 0;
        loop {
            let progress = harness.committer.seal(due).await.unwrap();
            records += progress.records;
            if !progress.more {
                return records;
            }
        }
    };
    let (records, latencies) = harness.probe_while(Harness::hour().next(), sealing).await;
    assert_eq!(records, harness.shape.buckets());
    tell("seal_s", begun.elapsed().as_secs_f64());
    let [p99, longest] = latencies.p99_and_max();
    tell("seal_p99_ms", p99);
    tell("seal_max_ms", longest);
}
