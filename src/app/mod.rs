//! Puts the agent together, runs it, and takes it apart in order. The only place that knows all parts.

mod continuity;
pub mod demo;
pub mod logs;
pub mod run;

use std::{collections::BTreeMap, io, sync::Arc, time::Duration};

use metrics_exporter_prometheus::PrometheusHandle;
use thiserror::Error;
use tokio::{net::TcpListener, sync::watch};
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::{
    base::{
        clock::Clock,
        config::{Config, ConfiguredCustomer, Connection, Quota},
        metrics,
        tasks::Tasks,
    },
    domain::time::{Hour, Timestamp},
    faces::{
        admin,
        customers::Customers,
        grpc::{self, Access, Bound, Services},
        ingest::Ingest,
        ledger::Ledger,
        view::{Activity, View},
    },
    work::{
        audit::Limits,
        books::{Books, OpenError, PutError, Registration, Rules},
        committer::{CommitError, Committer},
        pace::Pace,
        phase::{Phase, PhaseHandle},
        roster::Roster,
        sealer,
        submitter::{Options as SubmitterOptions, Submitter, UnsentBoard},
        trusted_clock::TrustedClock,
    },
    worlds::{
        marketplace::{AwsMarketplace, Credentials, Marketplace},
        store::{RocksStore, Store, StoreError, load},
    },
};

const LAST_STEP_THAT_COUNTS: &str = "commits";
/// How long each step of the shutdown may take: together well under a minute.
const DRAIN_REQUESTS: Duration = Duration::from_secs(5);
const DRAIN_CALLS: Duration = Duration::from_secs(20);
const LAST_COMMIT: Duration = Duration::from_secs(10);
const CLOSE_ADMIN: Duration = Duration::from_secs(2);

/// What an agent is made of.
pub struct Parts {
    pub config: Config,
    pub clock: Clock,
    pub credentials: Credentials,
    /// Where the metrics are rendered; a process has one recorder.
    pub metrics: Option<PrometheusHandle>,
}

/// A running agent.
pub struct Agent {
    pub view: View,
    grpc_tasks: Tasks,
    workers: Tasks,
    writer: Tasks,
    admin_tasks: Tasks,
}

#[derive(Debug, Error)]
pub enum StartError {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: String, source: io::Error },
    #[error("who may call: {0}")]
    Access(String),
    #[error("customer of the configuration: {0}")]
    Customer(#[from] PutError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::Open(error.into())
    }
}

impl Agent {
    /// Starts everything. Returns once usage is taken.
    pub async fn start(parts: Parts) -> Result<Self, StartError> {
        let Parts { config, clock, credentials, metrics } = parts;
        let access = Access::load(&config.grpc).map_err(StartError::Access)?;
        // The folder's lock first: it keeps a second agent from touching what the first one listens on.
        let store: Arc<dyn Store> = Arc::new(RocksStore::open(&config.agent.data_dir)?);
        let grpc_socket = listen_error(&config.grpc.listen, grpc::bind(&config.grpc.listen).await)?;
        let admin_socket = listen_error(&config.admin.listen, TcpListener::bind(config.admin.listen).await)?;
        let agent = Self::work(&config, clock, store.clone(), credentials).await?;
        let admin = admin::router(agent.view.clone(), metrics, agent.admin_tasks.clone());
        let admin = axum::serve(admin_socket, admin).with_graceful_shutdown(agent.admin_tasks.stopping());
        agent.admin_tasks.spawn("admin", async move {
            if let Err(error) = admin.await {
                error!(%error, "the admin server has failed");
            }
        });
        agent.serve(&config, grpc_socket, access, &*store)?;
        agent.view.phase.serve();
        info!(grpc = %config.grpc.listen, admin = %config.admin.listen, version = env!("CARGO_PKG_VERSION"), "ready");
        Ok(agent)
    }

    /// Starts the committer, the sealer and the submitters.
    async fn work(
        config: &Config,
        clock: Clock,
        store: Arc<dyn Store>,
        credentials: Credentials,
    ) -> Result<Self, StartError> {
        let (phase, roster) = (PhaseHandle::default(), Arc::new(Roster::default()));
        load::claim_format(&*store, Uuid::new_v4().as_u128())?;
        load::claim_marketplace(&*store, credentials == Credentials::Sandbox)?;
        let (trusted_clock, started) = (TrustedClock::new(clock), clock.now());
        let catalog = Arc::new(continuity::check(&*store, config, started)?);
        let books = Books::open(&*store, Rules::new(config, catalog.clone()), roster.clone(), started)?;
        let (writer, workers) = (Tasks::default(), Tasks::default());
        let pending = config.limits.max_pending_events;
        let committer =
            Committer::start(books, store.clone(), roster, clock, pending, phase.clone(), &writer);
        // A seal that an earlier process left unfinished comes first: no identity may change in the middle of it.
        while committer.seal(started).await?.more {}
        committer.put_customers(configured_customers(config, started)).await??;
        let view = View {
            agent_id: config.agent.id.as_str().into(),
            data_dir: config.agent.data_dir.as_path().into(),
            catalog,
            is_sandbox: credentials == Credentials::Sandbox,
            shows_customers: config.admin.show_customers,
            window: config.submission.window,
            limits: limits(config),
            clock,
            trusted_clock: trusted_clock.clone(),
            phase,
            committer: committer.clone(),
            unsent: UnsentBoard::default(),
            activity: Activity::default(),
            store,
        };
        for (_, product) in config.catalog.products() {
            view.activity.begin(&product.code, started);
            metrics::announce(&product.code);
        }
        let sealed = sealer::start(committer, trusted_clock, &workers);
        start_submitters(config, &view, credentials, &sealed, &workers).await;
        Ok(Self { view, grpc_tasks: Tasks::default(), workers, writer, admin_tasks: Tasks::default() })
    }

    fn serve(
        &self,
        config: &Config,
        socket: Bound,
        access: Access,
        store: &dyn Store,
    ) -> Result<(), StoreError> {
        let (view, max_events) = (self.view.clone(), config.grpc.max_events_per_request);
        let hash_key = load::hash_key(store)?;
        let services = Services {
            ingest: Ingest::new(
                view.clone(),
                config.hour.bounds,
                max_events,
                hash_key,
                self.grpc_tasks.clone(),
            ),
            customers: Customers::new(view.clone()),
            ledger: Ledger::new(view.clone()),
            phase: view.phase.watch(),
        };
        let (limits, tasks) = (config.limits.connections, self.grpc_tasks.clone());
        let sampling = config.telemetry.sampling();
        self.grpc_tasks.spawn("grpc", async move {
            if let Err(error) = grpc::serve(socket, access, limits, sampling, services, tasks).await {
                error!(%error, "the gRPC server has failed");
            }
        });
        Ok(())
    }

    /// Resolves once a part has failed that the agent cannot go on without.
    pub async fn failed(&self) {
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
    pub async fn stop(self) -> bool {
        info!("stopping");
        self.view.phase.stop();
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
        is_committed && !matches!(self.view.phase.get(), Phase::Failed(_))
    }
}

fn listen_error<T>(address: &impl ToString, bound: io::Result<T>) -> Result<T, StartError> {
    bound.map_err(|source| StartError::Listen { address: address.to_string(), source })
}

/// What an audit finds too much.
fn limits(config: &Config) -> Limits {
    let limits = &config.limits;
    Limits {
        customers: u64::try_from(limits.max_customers).ok(),
        open_buckets: u64::try_from(limits.max_open_buckets).ok(),
        open_subjects: Some(limits.max_open_subjects),
    }
}

fn configured_customers(config: &Config, now: Timestamp) -> Vec<Registration> {
    let customer = |customer: &ConfiguredCustomer| Registration {
        product: customer.product,
        key: customer.key.clone(),
        identity: customer.identity.clone(),
        since: customer.since,
        hour: Hour::containing(now),
        // The configuration tells who a customer is; that one has ended is known better here.
        reopens: false,
    };
    config.customers.iter().map(customer).collect()
}

/// One submitter for each way to reach AWS; those of one seller account and region share a pace.
async fn start_submitters(
    config: &Config,
    view: &View,
    credentials: Credentials,
    sealed: &watch::Receiver<u64>,
    workers: &Tasks,
) {
    let mut lanes: BTreeMap<&Connection, Vec<Arc<str>>> = BTreeMap::new();
    for ((_, product), connection) in config.catalog.products().zip(&config.connections) {
        lanes.entry(connection).or_default().push(product.code.clone());
    }
    let mut paces: BTreeMap<Quota<'_>, Pace> = BTreeMap::new();
    for (connection, products) in lanes {
        let pace = paces
            .entry(connection.quota())
            .or_insert_with(|| Pace::new(config.submission.requests_per_second));
        let marketplace: Arc<dyn Marketplace> =
            Arc::new(AwsMarketplace::connect(connection, credentials).await);
        let options = SubmitterOptions {
            products,
            catalog: view.catalog.clone(),
            window: config.submission.window,
            pace: pace.clone(),
            concurrency: config.submission.concurrency,
        };
        let (committer, store) = (view.committer.clone(), view.store.clone());
        let (clock, board) = (view.trusted_clock.clone(), view.unsent.clone());
        let submitter = Submitter::new(options, committer, store, marketplace, clock, board);
        submitter.start(sealed.clone(), workers);
    }
}
