//! Arguments of `tallyman sandbox`.

use std::{net::SocketAddr, path::PathBuf};

use clap::Args;

use crate::{base::clock::ClockSpec, sandbox::Faults};

#[derive(Debug, Args)]
pub(crate) struct SandboxArgs {
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1:7460", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Another time: `anchor=<unix seconds>,start=<RFC 3339>,speed=<n>`.
    #[arg(long, value_name = "SPEC")]
    pub clock: Option<ClockSpec>,
    /// An agent's configuration, whose products, dimensions and customers are then the only ones known. Without one,
    /// every product, dimension and customer is.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Repeats the faults of an earlier run. [default: a random one]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    #[command(flatten, next_help_heading = "What goes wrong")]
    pub faults: Faults,
}
