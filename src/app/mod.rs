//! Puts the agent together, runs it, and takes it apart in order. The only place that knows all parts.

mod command;
mod configured_customers;
mod continuity;
pub(crate) mod demo;
mod lanes;
pub(crate) mod logs;
mod open_files;
pub(crate) mod run;

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    sync::Arc,
    time::Duration,
};

use metrics_exporter_prometheus::PrometheusHandle;
use thiserror::Error;
use tokio::sync::watch;
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::{
    admin,
    api::{
        activity::Activity,
        agent_handle::AgentHandle,
        customers::Customers,
        ledger::Ledger,
        not_billable::NotBillable,
        server::{self, Services},
        transport::{self, BoundSocket, ServerCredentials},
        usage::Ingest,
    },
    aws::{metering::Endpoint, session::Credentials},
    base::{
        clock::Clock,
        config::{Config, Grpc, Quota},
        http, metrics,
        tasks::{Tasks, blocking},
        telemetry::Sampling,
    },
    engine::{
        audit::Limits,
        billing::PutError,
        committer::{CommitError, Committer, Never},
        customers::CustomerDirectory,
        lifecycle::{Lifecycle, Phase},
        open_error::OpenError,
        rules::Rules,
        seal_gate::SealGate,
        sealer,
        state::EngineState,
        submitter::{Options as SubmitterOptions, Submitter, UnsentStatus, rate_limiter::RateLimiter},
        trusted_clock::TrustedClock,
    },
    store::{RocksStore, Store, StoreError, claim},
};

use lanes::{Lane, ask_for_the_time, lanes};

pub use command::main;

use continuity::Continuity;

const LAST_STEP_THAT_COUNTS: &str = "commits";
/// How long each step of the shutdown may take: together well under a minute.
const DRAIN_REQUESTS: Duration = Duration::from_secs(5);
const DRAIN_CALLS: Duration = Duration::from_secs(20);
const LAST_COMMIT: Duration = Duration::from_secs(10);
const CLOSE_ADMIN: Duration = Duration::from_secs(2);

/// What an agent is made of.
pub(crate) struct Parts {
    pub config: Config,
    pub clock: Clock,
    pub credentials: Credentials,
    /// The handle that renders the metrics. A process has one recorder.
    pub metrics: Option<PrometheusHandle>,
}

/// A running agent.
pub(crate) struct Agent {
    pub handle: AgentHandle,
    grpc_tasks: Tasks,
    workers: Tasks,
    writer: Tasks,
    admin_tasks: Tasks,
}

#[derive(Debug, Error)]
pub(crate) enum StartError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: String, source: io::Error },
    #[error("who may call: {0}")]
    Credentials(String),
    #[error("customer of the configuration: {0}")]
    Customer(PutError),
    #[error(transparent)]
    Commit(#[from] CommitError<Never>),
}

impl From<CommitError<PutError>> for StartError {
    fn from(error: CommitError<PutError>) -> Self {
        error.refusal().map_or_else(Self::Commit, Self::Customer)
    }
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::Open(error.into())
    }
}

impl Agent {
    /// Starts everything. Returns once usage is taken.
    pub(crate) async fn start(parts: Parts) -> Result<Self, StartError> {
        let Parts { mut config, clock, credentials, metrics } = parts;
        let server_credentials = load_credentials(&config.grpc).await.map_err(StartError::Credentials)?;
        let files = open_files::divide(&mut config.limits.connections);
        // The folder's lock first: it keeps a second agent from touching what the first one listens on.
        let store: Arc<dyn Store> = Arc::new(RocksStore::open_within(&config.agent.data_dir, files.tables)?);
        let grpc_socket = listen_error(&config.grpc.listen, transport::bind(&config.grpc.listen).await)?;
        let admin_socket = listen_error(&config.admin.listen, http::bind(config.admin.listen))?;
        let agent = Box::pin(Self::work(&config, clock, store.clone(), credentials)).await?;
        let hosts = config.admin.hosts.clone();
        let admin = admin::router(agent.handle.clone(), metrics, hosts, agent.admin_tasks.clone());
        let served = http::serve(admin_socket, admin, admin::LIMITS, agent.admin_tasks.clone());
        agent.admin_tasks.spawn("admin", served);
        agent.serve(&config, grpc_socket, server_credentials, &*store)?;
        agent.handle.lifecycle.serve();
        agent.tell_ready(&config);
        Ok(agent)
    }

    /// The facts that are asked for first when something is wrong.
    fn tell_ready(&self, config: &Config) {
        let (handle, status) = (&self.handle, self.handle.committer.status());
        if handle.is_data_dir_new && !handle.is_sandbox {
            warn!(
                data_dir = %handle.data_dir.display(),
                "the data folder is new and empty: if this agent had one before, what that one holds is not billed"
            );
        }
        let unsent: u64 = status.tally.pending_records.values().sum();
        let endpoints: BTreeSet<_> = handle.endpoints.iter().map(ToString::to_string).collect();
        let endpoints: Vec<_> = endpoints.into_iter().collect();
        info!(
            grpc = %config.grpc.listen,
            admin = %config.admin.listen,
            version = env!("CARGO_PKG_VERSION"),
            data_dir = %handle.data_dir.display(),
            folder = if handle.is_data_dir_new { "new" } else { "found" },
            sealed_through = %status.watermarks.lowest(),
            unsent,
            endpoints = endpoints.join(", "),
            "ready"
        );
    }

    /// Starts the committer, the sealer and the submitters.
    async fn work(
        config: &Config,
        clock: Clock,
        store: Arc<dyn Store>,
        credentials: Credentials,
    ) -> Result<Self, StartError> {
        let (lifecycle, customers) = (Lifecycle::default(), Arc::new(CustomerDirectory::default()));
        let is_data_dir_new = claim::is_new(&*store)?;
        claim::claim_format(&*store, Uuid::new_v4().as_u128())?;
        claim::claim_marketplace(&*store, credentials == Credentials::Sandbox)?;
        let (trusted_clock, lanes) = (TrustedClock::new(clock), lanes(config, credentials).await);
        ask_for_the_time(&lanes, &trusted_clock).await;
        let started = trusted_clock.best_now();
        let Continuity { catalog, moves } = continuity::check(&*store, config, started)?;
        let catalog = Arc::new(catalog);
        let rules = Rules::new(config, catalog.clone());
        let mut state = EngineState::open(&*store, rules, customers.clone(), started)?;
        for allowed in moves {
            allowed.make(&mut state, &*store, started)?;
        }
        let (writer, workers) = (Tasks::default(), Tasks::default());
        let pending = config.limits.max_pending_events;
        let committer = Committer::start(
            state,
            store.clone(),
            customers,
            trusted_clock.clone(),
            pending,
            lifecycle.clone(),
            &writer,
        );
        // A seal that an earlier process left unfinished comes first: no identity may change in the middle of it.
        while committer.finish_seal().await?.more {}
        configured_customers::register(config, &committer, &trusted_clock, &workers).await?;
        let handle = AgentHandle {
            agent_id: config.agent.id.as_str().into(),
            data_dir: config.agent.data_dir.as_path().into(),
            is_data_dir_new,
            catalog,
            endpoints: config.connections.iter().map(Endpoint::of).collect(),
            is_sandbox: credentials == Credentials::Sandbox,
            shows_customers: config.admin.show_customers,
            window: config.submission.window,
            grace: config.hour.grace,
            limits: limits(config),
            clock,
            trusted_clock: trusted_clock.clone(),
            lifecycle,
            committer: committer.clone(),
            unsent: UnsentStatus::default(),
            activity: Activity::default(),
            not_billable: NotBillable::default(),
            store,
        };
        for (_, product) in config.catalog.products() {
            handle.activity.begin(&product.code, started);
            let dimensions = product.dimensions.iter().map(|dimension| &*dimension.name);
            metrics::announce(&product.code, dimensions);
        }
        let sealed = sealer::start(committer, SealGate::new(trusted_clock), clock, &workers);
        start_submitters(config, &handle, lanes, &sealed, &workers);
        Ok(Self { handle, grpc_tasks: Tasks::default(), workers, writer, admin_tasks: Tasks::default() })
    }

    fn serve(
        &self,
        config: &Config,
        socket: BoundSocket,
        credentials: ServerCredentials,
        store: &dyn Store,
    ) -> Result<(), StoreError> {
        let (handle, max_events) = (self.handle.clone(), config.grpc.max_events_per_request);
        let hash_key = claim::hash_key(store)?;
        let services = Services {
            ingest: Ingest::new(
                handle.clone(),
                config.hour.bounds,
                max_events,
                hash_key,
                self.grpc_tasks.clone(),
            ),
            customers: Customers::new(handle.clone()),
            ledger: Ledger::new(handle.clone()),
            phase: handle.lifecycle.watch(),
        };
        let (limits, tasks) = (config.limits.connections, self.grpc_tasks.clone());
        let sampling = Sampling::of(&config.telemetry);
        self.grpc_tasks.spawn("grpc", async move {
            if let Err(error) = server::serve(socket, credentials, limits, sampling, services, tasks).await {
                error!(%error, "the gRPC server has failed");
            }
        });
        Ok(())
    }

    /// Resolves once a part has failed that the agent cannot go on without.
    pub(crate) async fn failed(&self) {
        tokio::select! {
            () = self.grpc_tasks.failed() => {}
            () = self.workers.failed() => {}
            () = self.writer.failed() => {}
            () = self.admin_tasks.failed() => {}
        }
    }

    /// Stops in order: un-ready, drain requests, let calls to AWS finish, last commit, close. Says whether the last
    /// commit is on disk. A client or an AWS that does not let go is left behind after a while: what it was not told
    /// it will ask for again.
    pub(crate) async fn stop(self) -> bool {
        info!("stopping");
        self.handle.lifecycle.stop();
        let steps = [
            ("requests", &self.grpc_tasks, DRAIN_REQUESTS),
            ("calls", &self.workers, DRAIN_CALLS),
            (LAST_STEP_THAT_COUNTS, &self.writer, LAST_COMMIT),
            ("admin", &self.admin_tasks, CLOSE_ADMIN),
        ];
        let mut is_committed = true;
        for (what, tasks, bound) in steps {
            let in_time = tasks.stop(bound).await;
            if !in_time {
                warn!(what, seconds = bound.as_secs(), "not finished in time");
            }
            is_committed &= in_time || what != LAST_STEP_THAT_COUNTS;
        }
        info!("stopped");
        is_committed && !matches!(self.handle.lifecycle.get(), Phase::Failed(_))
    }
}

/// Reads on a thread of its own: where a file's disk does not answer, a signal still ends the agent.
async fn load_credentials(grpc: &Grpc) -> Result<ServerCredentials, String> {
    let grpc = grpc.clone();
    let loaded = blocking(move || ServerCredentials::load(&grpc)).await;
    loaded.map_err(|panic| panic.to_string())?
}

fn listen_error<T>(address: &impl ToString, bound: io::Result<T>) -> Result<T, StartError> {
    bound.map_err(|source| StartError::Listen { address: address.to_string(), source })
}

/// What an audit finds too much.
fn limits(config: &Config) -> Limits {
    let limits = &config.limits;
    Limits {
        customers: u64::try_from(limits.customers.most).ok(),
        open_buckets: u64::try_from(limits.max_open_buckets).ok(),
        open_subjects: Some(limits.max_open_subjects),
    }
}

/// One submitter a lane; those of one seller account and region share a rate limiter.
fn start_submitters(
    config: &Config,
    handle: &AgentHandle,
    lanes: Vec<Lane<'_>>,
    sealed: &watch::Receiver<u64>,
    workers: &Tasks,
) {
    let mut rate_limiters: BTreeMap<Quota<'_>, RateLimiter> = BTreeMap::new();
    for Lane { connection, products, marketplace } in lanes {
        let rate_limiter = rate_limiters
            .entry(connection.quota())
            .or_insert_with(|| RateLimiter::new(config.submission.requests_per_second));
        let options = SubmitterOptions {
            products,
            catalog: handle.catalog.clone(),
            window: config.submission.window,
            rate_limiter: rate_limiter.clone(),
            concurrency: config.submission.concurrency,
        };
        let (committer, store) = (handle.committer.clone(), handle.store.clone());
        let (clock, unsent) = (handle.trusted_clock.clone(), handle.unsent.clone());
        let submitter = Submitter::new(options, committer, store, marketplace, clock, unsent);
        submitter.start(sealed.clone(), workers);
    }
}
