//! The sandbox: a local AWS Marketplace, for anyone's tests.
//!
//! It takes `BatchMeterUsage` from any AWS SDK whose endpoint is pointed at it, is as strict as AWS's documents, and
//! shows what was billed. A call passes through, from top to bottom:
//!
//! ```text
//!   http              headers and body; the connection is closed for lost replies
//!   marketplace       faults, signature, counts and log        faults: what goes wrong on purpose
//!   operations        X-Amz-Target tells service and operation
//!   metering          BatchMeterUsage
//!     wire            JSON of the right types
//!     request         ranges, patterns, identities, slots      amount, allocations
//!     window          hours that AWS still takes
//!     catalog_check   products, dimensions, licenses           catalog: only with a configuration
//!     identity_check  customers that exist
//!     metered_usage   the first quantity of a slot stays
//! ```
//!
//! Whatever AWS's documents leave open is marked in the code; there, the sandbox takes the stricter reading. A new
//! service is a folder beside `metering`, and an entry in `operations` for each of its operations.

mod call_counts;
mod call_log;
mod catalog;
mod context;
mod exception;
mod faults;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzz;
mod http;
mod ids;
mod marketplace;
mod metering;
mod operations;
mod shared;
mod signature;
#[cfg(test)]
mod tests;

use std::{io, net::SocketAddr, sync::Arc};

use crate::base::{clock::Clock, config::Config, http::bind, tasks::Tasks};

use self::{
    catalog::Catalog,
    marketplace::{Marketplace, Settings},
    shared::SharedMarketplace,
};

#[cfg(any(test, fuzzing))]
pub(crate) use self::faults::{ChosenAnswer, Period};
pub use self::{call_log::LoggedCall, faults::Faults, metering::BilledRecord};

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
pub struct Sandbox {
    address: SocketAddr,
    marketplace: Arc<SharedMarketplace>,
}

impl Sandbox {
    /// Listens, and serves until the tasks are stopping.
    #[expect(clippy::unused_async, reason = "it is to be called inside a runtime")]
    pub async fn start(options: SandboxOptions, tasks: &Tasks) -> io::Result<Self> {
        let listener = bind(options.listen)?;
        let address = listener.local_addr()?;
        let catalog = options.config.as_ref().map(Catalog::new);
        let settings = Settings { catalog, faults: options.faults, seed: options.seed };
        let marketplace = Arc::new(SharedMarketplace::new(Marketplace::new(settings), options.clock));
        tasks.spawn("sandbox", http::serve(listener, marketplace.clone(), tasks.clone()));
        Ok(Self { address, marketplace })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The endpoint for AWS SDKs.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What was metered, sorted by region, product, customer, dimension and hour.
    pub fn billed(&self) -> Vec<BilledRecord> {
        self.marketplace.lock().billed()
    }

    /// The latest calls, the oldest first.
    pub fn log(&self) -> Vec<LoggedCall> {
        self.marketplace.lock().log()
    }

    /// Replaces all faults.
    pub fn set_faults(&self, faults: Faults) {
        self.marketplace.lock().set_faults(faults);
    }
}
