//! How small it is.

use std::{fs, time::Duration};

use crate::support::agent::{ACCOUNT_PRODUCT, Home};

const MIB: u64 = 1 << 20;

#[test]
fn the_release_binary_is_under_35_mb() {
    let size = fs::metadata(env!("CARGO_BIN_EXE_tallyman")).unwrap().len();
    assert!(size < 35_000_000, "{size} bytes");
}

#[tokio::test]
async fn an_idle_agent_is_ready_soon_and_stays_under_40_mib() {
    let home = Home::new(ACCOUNT_PRODUCT, "http://127.0.0.1:9", None);
    let agent = home.start().await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let status = fs::read_to_string(format!("/proc/{}/status", agent.child.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kilobytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(kilobytes * 1024 < 40 * MIB, "{} MiB resident", kilobytes / 1024);
}
