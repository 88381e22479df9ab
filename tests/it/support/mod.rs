//! Agents as child processes, and what tests ask of them.

pub(crate) mod agent;
pub(crate) mod events;
pub(crate) mod hostile;
pub(crate) mod load;
pub(crate) mod python;
pub(crate) mod raw_server;
pub(crate) mod strace;

use std::time::{Duration, Instant};

use tallyman::internals::{Clock, ClockSpec, Faults, Sandbox, SandboxOptions, Tasks};

/// Waits for what must come true; fails with `what` after a while. Generous, since machines are slow and shared.
pub(crate) async fn eventually<T>(what: &str, attempt: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(Duration::from_mins(1), what, attempt).await
}

pub(crate) async fn eventually_within<T>(
    bound: Duration,
    what: &str,
    mut attempt: impl AsyncFnMut() -> Option<T>,
) -> T {
    let until = Instant::now() + bound;
    loop {
        if let Some(value) = attempt().await {
            return value;
        }
        assert!(Instant::now() < until, "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A clock that starts shortly before the end of an hour, on the last evening of a month.
pub(crate) fn fast_clock(speed: f64) -> ClockSpec {
    clock_at("2026-11-30T21:30:00Z", speed)
}

pub(crate) fn clock_at(start: &str, speed: f64) -> ClockSpec {
    ClockSpec::starting_now(start.parse().unwrap(), speed)
}

pub(crate) async fn sandbox(clock: ClockSpec, faults: Faults) -> (Sandbox, Tasks) {
    let tasks = Tasks::default();
    let listen = ([127, 0, 0, 1], 0).into();
    let options =
        SandboxOptions { listen, clock: Clock::new(clock), config: None, faults, seed: fastrand::u64(..) };
    (Sandbox::start(options, &tasks).await.unwrap(), tasks)
}
