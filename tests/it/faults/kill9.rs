//! SIGKILL at random moments under load, faults at AWS's side, and a bill that is exact to the unit.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tallyman::internals::Faults;
use tokio::time::sleep;

use crate::support::{
    agent::{ACCOUNT_PRODUCT, Home},
    fast_clock,
    load::{Load, all_billed},
    sandbox,
};

/// Unless `TALLYMAN_KILLS` says otherwise.
const KILLS: u32 = 20;
/// An hour passes in two seconds.
const SPEED: f64 = 1800.0;

fn kills() -> u32 {
    std::env::var("TALLYMAN_KILLS")
        .map_or(KILLS, |number| number.parse().expect("TALLYMAN_KILLS is a number"))
}

/// `make kill9 KILLS=200` lets it kill as often, and shows what it prints.
#[tokio::test(flavor = "multi_thread")]
async fn kill9_under_load_leaves_the_bill_exact() {
    let (clock, kills, started) = (fast_clock(SPEED), kills(), Instant::now());
    let faults = Faults {
        throttle: 0.1,
        error: 0.1,
        lose_reply: 0.15,
        unprocessed: 0.1,
        latency: Duration::from_millis(5),
        ..Faults::default()
    };
    let (sandbox, _tasks) = sandbox(clock, faults).await;
    let mut home = Home::new(ACCOUNT_PRODUCT, &sandbox.url(), Some(clock));
    home.set("SUBMISSION__REQUESTS_PER_SECOND", "100");
    let home = Arc::new(home);

    let load = Load::start(&home);
    for _ in 0..kills {
        let agent = home.start().await;
        sleep(Duration::from_millis(fastrand::u64(0..900))).await;
        agent.kill();
    }
    let agent = home.start().await;
    sleep(Duration::from_millis(500)).await;
    assert!(load.events() > 0, "{}", home.log());
    let acknowledged = load.stop().await;
    let summary = all_billed(&home, Duration::from_mins(1)).await;
    assert!(agent.terminate().await.success(), "{}", home.log());
    let found = acknowledged.hold_against(&summary, &sandbox);
    eprintln!("{kills} kills in {:.0} s: {found}", started.elapsed().as_secs_f64());
}
