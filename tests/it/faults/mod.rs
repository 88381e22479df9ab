//! The real binary under real faults: of the process, the disk, the network, AWS, and the people around it.

mod aws;
mod damage;
mod disk;
mod folder;
mod kill9;
mod limits;
mod start;
mod syncs;

use std::process::{Command, Stdio};

use crate::support::agent::{Agent, Home};

/// An address at which no one listens.
const NOWHERE: &str = "http://127.0.0.1:9";

/// Starts the agent from a shell that carries out `prelude` first, as `ulimit` must be.
fn spawn_after(prelude: &str, home: &Home) -> Agent {
    let run = home.command();
    let log = std::fs::File::options().create(true).append(true).open(home.path().join("log")).unwrap();
    let mut command = Command::new("bash");
    command.arg("-c").arg(format!("{prelude}; exec \"$0\" \"$@\"")).arg(run.get_program());
    command.args(run.get_args());
    for (name, value) in run.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    Agent { child }
}

/// The open usage of the first dimension.
async fn open_usage(home: &Home) -> u64 {
    home.summary().await.unwrap().products[0].dimensions[0].open.parse().unwrap()
}
