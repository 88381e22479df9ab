//! Redis that syncs before it answers, driven by its own `redis-benchmark`: a thousand counters in a hash.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use crate::process::Process;

pub(crate) struct Redis {
    _process: Process,
    socket: PathBuf,
    /// The script's name, by which Redis has it already.
    script: String,
}

/// Counts an event whose id is new. Its customer is drawn by its id, since redis-benchmark draws no two things at once.
const COUNT_ONCE: &str = "if redis.call('SET', KEYS[1], 1, 'NX', 'EX', 7200) then \
    return redis.call('HINCRBY', 'usage', string.sub(KEYS[1], -3), ARGV[1]) end return 0";
/// 32 bytes, with the twelve digits that redis-benchmark puts in. It draws below 2^31, of which few are drawn twice.
const ID: &str = "event:00000000000000__rand_int__";
const MOST_IDS: &str = "2000000000";
/// As many as served best in trials here: the more there are, the more share a sync.
const CLIENTS: &str = "200";
const CLIENTS_WITH_IDS: &str = "50";
const PIPELINE: &str = "100";

pub(crate) fn is_installed() -> bool {
    ["redis-server", "redis-benchmark", "redis-cli"].iter().all(|name| {
        Command::new(name).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
    })
}

impl Redis {
    pub(crate) async fn start(folder: &Path) -> Self {
        let socket = folder.join("redis.sock");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--unixsocket"]).arg(&socket).arg("--dir").arg(folder);
        command.args(["--appendonly", "yes", "--appendfsync", "always"]);
        // No snapshots and no rewriting of the log in the midst: a favour to it.
        command.args(["--save", "", "--auto-aof-rewrite-percentage", "0"]);
        let mut process = Process::start(command.stdin(Stdio::null()).stdout(Stdio::null()));
        let script = process.ready(async || load_script(&socket)).await;
        Self { _process: process, socket, script }
    }

    /// Events a second.
    pub(crate) fn measure(&self, has_ids: bool, span: Duration) -> f64 {
        let count = ["HINCRBY", "usage", "customer:__rand_int__", "1"];
        let count_once = ["EVALSHA", &self.script, "1", ID, "1"];
        let run = |events: u64| {
            let mut command = Command::new("redis-benchmark");
            command.arg("-s").arg(&self.socket).args(["--csv", "-P", PIPELINE, "-n", &events.to_string()]);
            if has_ids {
                command.args(["-c", CLIENTS_WITH_IDS, "-r", MOST_IDS]).args(count_once);
            } else {
                command.args(["-c", CLIENTS, "-r", "1000"]).args(count);
            }
            rate(&command.output().unwrap().stdout)
        };
        // It takes a number of requests and no time, so a first run tells how many fill the time.
        let rate = run(100_000);
        run(events_in(rate, span))
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a number of events, roughly")]
fn events_in(rate: f64, span: Duration) -> u64 {
    (rate * span.as_secs_f64()) as u64
}

fn load_script(socket: &Path) -> Option<String> {
    let cli = Command::new("redis-cli").arg("-s").arg(socket).args(["SCRIPT", "LOAD", COUNT_ONCE]).output();
    let name = String::from_utf8(cli.unwrap().stdout).unwrap().trim().to_owned();
    (name.len() == 40).then_some(name)
}

/// The second column of the last line.
fn rate(csv: &[u8]) -> f64 {
    let text = String::from_utf8_lossy(csv);
    let cell = text.lines().last().and_then(|line| line.split("\",\"").nth(1)?.parse().ok());
    cell.unwrap_or_else(|| panic!("redis-benchmark: {text}"))
}
