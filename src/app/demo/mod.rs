//! `tallyman demo`: the whole job in one process, with faults injected and hours that pass in seconds.
//!
//! Sample applications report usage to an agent, resend some of it, and lose some answers; the agent is restarted in
//! between; AWS, which is the sandbox, throttles, fails and loses replies. At the end, what was acknowledged is held
//! against what was billed, unit by unit.

mod applications;
mod proof;
mod screen;

use std::{path::Path, time::Duration};

use tokio::time::sleep;

use crate::{
    api::summary::summary,
    aws::session::Credentials,
    base::{
        clock::{Clock, ClockSpec},
        config::{self, Config},
        metrics,
        tasks::Tasks,
    },
    cli::{DemoArgs, Exit},
    domain::time::{Hour, Timestamp},
    sandbox::{Faults, Sandbox, SandboxOptions},
};

use super::{Agent, Parts, run::bill_sandbox};
use applications::Applications;
use screen::Screen;

/// The demo's hours cross the end of a month.
const START: &str = "2026-11-30T21:30:00Z";
/// Real time that the last records may take after the last hour.
const SETTLE_BOUND: Duration = Duration::from_secs(30);
const TICK: Duration = Duration::from_millis(200);

const CONFIG: &str = r#"
[admin]
listen = "127.0.0.1:0"
[submission]
requests_per_second = 50

[[product]]
code = "analytics"
identity = "account"
[[product.dimension]]
name = "requests"
[[product.dimension]]
name = "gb_out"
unit = 1000000000
decimals = 3
[[product.dimension]]
name = "exports"
aggregate = "count"

[[product]]
code = "search"
identity = "license"
[[product.dimension]]
name = "queries"
unit = 1000
[[product.customer]]
key = "globex"
account_id = "111122223333"
license_arn = "arn:aws:license-manager::999988887777:license:l-0a1b2c3d"
[[product.customer]]
key = "initech"
account_id = "444455556666"
license_arn = "arn:aws:license-manager::999988887777:license:l-4e5f6a7b"
"#;

fn faults() -> Faults {
    Faults {
        throttle: 0.1,
        error: 0.1,
        lose_reply: 0.1,
        unprocessed: 0.05,
        latency: Duration::from_millis(3),
        ..Faults::default()
    }
}

/// Runs the demo. Exit 0 means that the bill is exact.
pub(crate) async fn demo(args: DemoArgs) -> Exit {
    let mut screen = Screen::new();
    match Box::pin(play(&args, &mut screen)).await {
        Ok(true) => Exit::Ok,
        Ok(false) => Exit::Failed,
        Err(fault) => {
            screen.say(&format!("the demo could not run: {fault}"));
            Exit::Internal
        }
    }
}

type Fault = Box<dyn std::error::Error + Send + Sync>;

async fn play(args: &DemoArgs, screen: &mut Screen) -> Result<bool, Fault> {
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..1_000_000));
    let folder = tempfile::tempdir()?;
    let start: Timestamp = START.parse()?;
    let clock = Clock::new(ClockSpec::starting_now(start, args.speed));
    let tasks = Tasks::default();
    let mut config = demo_config(folder.path())?;
    let listen = ([127, 0, 0, 1], 0).into();
    let options = SandboxOptions { listen, clock, config: Some(config.clone()), faults: faults(), seed };
    let sandbox = Sandbox::start(options, &tasks).await?;
    bill_sandbox(&mut config, &sandbox);
    let end = Hour::containing(start.plus(Duration::from_hours(1) * args.hours)).end();
    screen.opening(args, seed, end);
    let recorder = metrics::install();
    let start_agent = || {
        let metrics = recorder.clone();
        Agent::start(Parts { config: config.clone(), clock, credentials: Credentials::Sandbox, metrics })
    };
    let mut agent = Box::pin(start_agent()).await?;
    let applications = Applications::start(&config, clock, end, seed, &tasks);
    let middle = start.plus(end.since(start) / 2);
    let (mut restarted, mut settle_until) = (false, None);
    while !(is_done(&agent, &applications, end) && is_settled(&agent, &applications, &config, &sandbox))
        && settle_until.is_none_or(|until| tokio::time::Instant::now() < until)
    {
        sleep(TICK).await;
        screen.show(&summary(&agent.handle), &applications.acknowledged(), &sandbox);
        if !restarted && clock.now() >= middle {
            restarted = true;
            agent.stop().await;
            screen.say("the agent was stopped; applications keep trying until it is back");
            agent = Box::pin(start_agent()).await?;
            screen.say("the agent is back, and goes on where it was");
        }
        if settle_until.is_none() && applications.are_done() {
            let last_seal = end.plus(config.hour.grace).since(clock.now()).div_f64(args.speed);
            settle_until = Some(tokio::time::Instant::now() + last_seal + SETTLE_BOUND);
        }
    }
    screen.show(&summary(&agent.handle), &applications.acknowledged(), &sandbox);
    let report =
        proof::compare(&config, &applications.acknowledged(), &sandbox, &agent.handle.committer.status());
    agent.stop().await;
    tasks.stop(Duration::from_secs(2)).await;
    screen.proof(&report, &applications.acknowledged(), &sandbox);
    Ok(report.is_exact())
}

/// What came late counts in an hour after the last one, and is still to be sealed: on a busy machine the grace is over
/// before an event arrives.
fn is_settled(agent: &Agent, applications: &Applications, config: &Config, sandbox: &Sandbox) -> bool {
    let status = agent.handle.committer.status();
    let report = proof::compare(config, &applications.acknowledged(), sandbox, &status);
    report.is_exact() || report.is_empty()
}

/// Everything that the applications sent has been sealed, and AWS has it.
fn is_done(agent: &Agent, applications: &Applications, end: Timestamp) -> bool {
    let summary = summary(&agent.handle);
    let is_sent = summary.products.iter().all(|product| product.records_unsent == 0);
    applications.are_done()
        && is_sent
        && summary.sealed_through_unix_seconds >= Hour::containing(end).previous().start().seconds()
}

fn demo_config(folder: &Path) -> Result<Config, config::ConfigError> {
    let data_dir = folder.join("data").display().to_string();
    let socket = format!("unix:{}", folder.join("tallyman.sock").display());
    let variables = [("TALLYMAN__AGENT__DATA_DIR", data_dir), ("TALLYMAN__GRPC__LISTEN", socket)];
    config::parse(CONFIG, "the demo", variables.into_iter().map(|(name, value)| (name.to_owned(), value)))
}
