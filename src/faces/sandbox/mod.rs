//! The sandbox: a local AWS Marketplace, for anyone's tests.
//!
//! It takes `BatchMeterUsage` from any AWS SDK whose endpoint is pointed at it, is as strict as AWS's
//! documents, and shows what was billed. A call passes through, from top to bottom:
//!
//! ```text
//!   http          headers and body                            connection: cut, for lost replies
//!   marketplace   one call after the other; tally             faults: what goes wrong on purpose
//!     wire        JSON of the right types
//!     request     ranges, patterns, identities, slots         amount, allocations
//!     window      hours that AWS still takes
//!     market      products, dimensions, licenses, subscribers; only with a configuration
//!     rules       answers chosen for some records
//!     ledger      the first quantity of a slot stays
//! ```
//!
//! Whatever AWS's documents leave open is marked in the code; there, the sandbox takes the stricter reading.

mod allocations;
mod amount;
mod connection;
mod exception;
mod faults;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod http;
mod ledger;
mod log;
mod market;
mod marketplace;
mod period;
mod request;
mod rules;
mod tally;
#[cfg(test)]
mod tests;
mod window;
mod wire;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::{net::TcpListener, time::Instant};
use tracing::error;

use crate::{
    base::{clock::Clock, config::Config, tasks::Tasks},
    domain::time::Timestamp,
};

use self::{
    connection::{CuttableListener, Scissors},
    market::Market,
    marketplace::{Answer, Marketplace, Moment, Request, Start},
};

pub use self::{
    exception::Kind,
    faults::Faults,
    ledger::{BilledAllocation, BilledRecord},
    log::LoggedCall,
    period::Period,
    rules::{ChosenAnswer, Rule},
};

pub struct SandboxOptions {
    /// Port 0 picks a free one.
    pub listen: SocketAddr,
    pub clock: Clock,
    /// With one, the sandbox knows products, dimensions and subscribers; without, it takes any.
    pub config: Option<Config>,
    pub faults: Faults,
    /// Decides which calls the faults strike.
    pub seed: u64,
}

/// A handle to a running sandbox.
#[derive(Clone, Debug)]
pub struct Sandbox(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    address: SocketAddr,
    clock: Clock,
    started: Instant,
    /// Calls take turns, which is what makes a seed's faults the same in every run.
    marketplace: Mutex<Marketplace>,
}

impl Sandbox {
    /// Listens, and serves until the tasks are stopping.
    pub async fn start(options: SandboxOptions, tasks: &Tasks) -> io::Result<Self> {
        let listener = TcpListener::bind(options.listen).await?;
        let market = options.config.as_ref().map(Market::new);
        let start = Start { market, faults: options.faults, seed: options.seed };
        let sandbox = Self(Arc::new(Shared {
            address: listener.local_addr()?,
            clock: options.clock,
            started: Instant::now(),
            marketplace: Mutex::new(Marketplace::new(start)),
        }));
        let service = http::router(sandbox.clone()).into_make_service_with_connect_info::<Scissors>();
        let server =
            axum::serve(CuttableListener(listener), service).with_graceful_shutdown(tasks.stopping());
        tasks.spawn("sandbox", async move {
            if let Err(fault) = server.await {
                error!(%fault, "sandbox stopped serving");
            }
        });
        Ok(sandbox)
    }

    pub fn address(&self) -> SocketAddr {
        self.0.address
    }

    /// The endpoint for AWS SDKs.
    pub fn url(&self) -> String {
        format!("http://{}", self.0.address)
    }

    /// What was metered, sorted by region, product, customer, dimension and hour.
    pub fn billed(&self) -> Vec<BilledRecord> {
        self.marketplace().billed()
    }

    /// The latest calls, the oldest first.
    pub fn log(&self) -> Vec<LoggedCall> {
        self.marketplace().log()
    }

    /// Replaces all faults.
    pub fn set_faults(&self, faults: Faults) {
        self.marketplace().set_faults(faults);
    }

    fn now(&self) -> Timestamp {
        self.0.clock.now()
    }

    fn call(&self, request: Request<'_>) -> Answer {
        let moment = Moment { now: self.now(), real: self.0.started.elapsed() };
        self.marketplace().call(request, moment)
    }

    /// Never held across an await.
    fn marketplace(&self) -> MutexGuard<'_, Marketplace> {
        self.0.marketplace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
