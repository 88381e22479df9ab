//! `tallyman run` and `tallyman sandbox`: from arguments to an exit code.

use std::{net::SocketAddr, path::Path};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use crate::{
    aws::session::{self, Credentials},
    base::{
        clock::{Clock, ClockSpec},
        config::{Config, Connection},
        metrics,
        open_files::raise_limit,
        preflight::{self, Findings},
        tasks::Tasks,
        telemetry::Traces,
    },
    cli::{Exit, RunArgs, SandboxArgs, load_config},
    engine::{lifecycle::Phase, open_error::OpenError},
    sandbox::{Sandbox, SandboxOptions},
    store::StoreError,
};

use super::{Agent, CLOSE_ADMIN, Parts, StartError, logs::Logs};

/// The same number on each Unix that the agent is built for.
const SIGXFSZ: i32 = 25;

/// Runs the agent until it is told to stop.
pub(crate) async fn run(args: RunArgs, logs: Logs) -> Exit {
    let config = match read_config(args.config.as_deref()) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let traces = match Traces::start(&config.telemetry, &config.agent.id) {
        Ok(traces) => traces,
        Err(fault) => {
            logs.start(None);
            error!("telemetry.otlp_endpoint: {fault}");
            return Exit::Usage;
        }
    };
    logs.start(Some(&traces));
    let exit = Box::pin(run_configured(args, config)).await;
    traces.stop().await;
    exit
}

async fn run_configured(args: RunArgs, mut config: Config) -> Exit {
    if !passes_preflight(&config, args.sandbox) {
        return Exit::Usage;
    }
    let clock = clock(args.clock);
    if !clock.is_system() && !args.sandbox && !config.connections.iter().all(Connection::is_loopback) {
        error!("--clock is for tests: it needs --sandbox, or an endpoint_url on loopback for every product");
        return Exit::Usage;
    }
    let sandbox_tasks = Tasks::default();
    let mut credentials = Credentials::Standard;
    if args.sandbox {
        let options = SandboxOptions {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            clock,
            // Customers may be registered while it runs, so it takes any.
            config: None,
            faults: args.faults,
            seed: fastrand::u64(..),
        };
        let Some(sandbox) = start_sandbox(options, &sandbox_tasks).await else { return Exit::Failed };
        bill_sandbox(&mut config, &sandbox);
        credentials = Credentials::Sandbox;
    }
    // A file that may not grow (`ulimit -f`) is to be an error of the write, as on a full disk, and not the agent's death.
    let _heard = signal(SignalKind::from_raw(SIGXFSZ));
    let mut stop = StopSignals::listen();
    let parts = Parts { config, clock, credentials, metrics: metrics::install() };
    let started = tokio::select! {
        started = Box::pin(Agent::start(parts)) => started,
        // Nothing is acknowledged yet, and what is on disk may be left at any moment.
        () = stop.told() => {
            info!("told to stop before the agent was ready");
            return Exit::Ok;
        }
    };
    let agent = match started {
        Ok(agent) => agent,
        Err(fault) => {
            error!("{fault}");
            return exit_for(&fault);
        }
    };
    let exit = until_told_to_stop(agent, stop).await;
    sandbox_tasks.stop(CLOSE_ADMIN).await;
    exit
}

/// Says what is likely to be a mistake; whether there is nothing that refuses the start.
fn passes_preflight(config: &Config, is_sandbox: bool) -> bool {
    let Findings { faults, warnings } = preflight::look(config);
    for warning in config.warnings.iter().chain(&warnings) {
        warn!("{warning}");
    }
    if !is_sandbox {
        for name in session::set_aside() {
            warn!(
                "{name} is not taken: where calls go is said by endpoint_url, sts_endpoint_url and region alone"
            );
        }
    }
    for fault in &faults {
        error!("{fault}");
    }
    faults.is_empty()
}

/// Runs a sandbox alone until it is told to stop.
pub(crate) async fn sandbox(args: SandboxArgs) -> Exit {
    let config = match args.config.as_deref().map(|path| read_config(Some(path))).transpose() {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let (tasks, mut stop) = (Tasks::default(), StopSignals::listen());
    let options = SandboxOptions {
        listen: args.listen,
        clock: clock(args.clock),
        config,
        faults: args.faults,
        seed: args.seed.unwrap_or_else(|| fastrand::u64(..)),
    };
    raise_limit();
    if !args.listen.ip().is_loopback() {
        warn!(
            address = %args.listen,
            "other machines reach the sandbox: it takes any signature, and whoever calls it may reset it and set its faults"
        );
    }
    if start_sandbox(options, &tasks).await.is_none() {
        return Exit::Failed;
    }
    tokio::select! {
        () = stop.told() => {}
        () = tasks.failed() => return Exit::Internal,
    }
    tasks.stop(CLOSE_ADMIN).await;
    Exit::Ok
}

async fn until_told_to_stop(agent: Agent, mut stop: StopSignals) -> Exit {
    let lifecycle = agent.handle.lifecycle.clone();
    let has_failed = tokio::select! {
        () = stop.told() => false,
        () = agent.failed() => true,
        () = lifecycle.restart_requested() => {
            error!("the agent ends, so that it is started again: nothing else is needed to go on");
            false
        }
    };
    let in_order = agent.stop().await;
    match (has_failed, lifecycle.get()) {
        (true, _) => Exit::Internal,
        (false, Phase::Failed(_)) if lifecycle.wants_restart() => Exit::TryLater,
        (false, Phase::Failed(_)) => Exit::Storage,
        (false, _) if in_order => Exit::Ok,
        (false, _) => Exit::Failed,
    }
}

/// SIGTERM is how Kubernetes and systemd ask, SIGINT is Ctrl-C. To be listened for before anything else is done: the
/// first process of a container does not get a signal that it does not listen for.
struct StopSignals(Option<(Signal, Signal)>);

impl StopSignals {
    fn listen() -> Self {
        let signals = signal(SignalKind::terminate()).and_then(|terminate| {
            let interrupt = signal(SignalKind::interrupt())?;
            Ok((terminate, interrupt))
        });
        Self(signals.inspect_err(|fault| error!(%fault, "cannot listen for signals")).ok())
    }

    /// Returns at once if signals cannot be heard.
    async fn told(&mut self) {
        if let Some((terminate, interrupt)) = &mut self.0 {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
    }
}

fn read_config(path: Option<&Path>) -> Result<Config, Exit> {
    load_config(path, &mut std::io::stderr())
}

fn clock(spec: Option<ClockSpec>) -> Clock {
    spec.map_or(Clock::SYSTEM, Clock::new)
}

async fn start_sandbox(options: SandboxOptions, tasks: &Tasks) -> Option<Sandbox> {
    let address = options.listen;
    match Sandbox::start(options, tasks).await {
        Ok(sandbox) => {
            info!(url = sandbox.url(), "the sandbox is ready: nothing it accepts is billed");
            Some(sandbox)
        }
        Err(error) => {
            error!("cannot listen on {address}: {error}");
            None
        }
    }
}

/// Points every product at the sandbox.
pub(super) fn bill_sandbox(config: &mut Config, sandbox: &Sandbox) {
    for connection in &mut config.connections {
        connection.endpoint_url = Some(sandbox.url());
    }
}

fn exit_for(fault: &StartError) -> Exit {
    match fault {
        StartError::Open(OpenError::Store(StoreError::InUse { .. } | StoreError::OutOfFiles { .. })) => {
            Exit::TryLater
        }
        StartError::Open(
            OpenError::Store(StoreError::OtherMarketplace { .. })
            | OpenError::NotConfigured { .. }
            | OpenError::Moved { .. }
            | OpenError::OnlyATest { .. }
            | OpenError::NeverBilled { .. }
            | OpenError::AggregateChanged { .. }
            | OpenError::IdentityChangedTwice { .. }
            | OpenError::Customer { .. },
        )
        | StartError::Customer(_)
        | StartError::Credentials(_) => Exit::Usage,
        StartError::Open(OpenError::Store(_)) | StartError::Commit(_) => Exit::Storage,
        StartError::Listen { .. } => Exit::Failed,
    }
}
