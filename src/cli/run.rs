//! Arguments of `tallyman run`.

use std::path::PathBuf;

use clap::Args;

use crate::{base::clock::ClockSpec, sandbox::Faults};

#[derive(Debug, Args)]
#[command(mut_group("Faults", |faults| faults.requires("sandbox")))]
pub(crate) struct RunArgs {
    /// The configuration file. Without one, everything comes from `TALLYMAN__SECTION__KEY` variables.
    #[arg(long, env = "TALLYMAN_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Bill a local AWS Marketplace inside this process instead of the real one.
    #[arg(long)]
    pub sandbox: bool,
    /// Another time: `anchor=<unix seconds>,start=<RFC 3339>,speed=<n>`. Only with the sandbox or local endpoints.
    #[arg(long, value_name = "SPEC")]
    pub clock: Option<ClockSpec>,
    #[command(flatten, next_help_heading = "What goes wrong in the sandbox")]
    pub faults: Faults,
}
