//! A hostile client as a process of its own: `tests/python/hostile.py`.

use std::{
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Stdio},
};

use serde_json::Value;

use super::python::python;

/// An attack that has sent what it sends first. It stays until it is dropped, and answers pings meanwhile.
pub(crate) struct Attack {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Attack {
    /// Attacks an address of an agent whose process id is `agent`.
    pub(crate) async fn start(kind: &str, address: &str, agent: u32, more: &[&str]) -> Self {
        let mut command = python("tests/python/hostile.py");
        command.args([kind, address, "--stdin", "--seconds", "60", "--pid", &agent.to_string()]).args(more);
        tokio::task::spawn_blocking(move || {
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            let output = BufReader::new(child.stdout.take().unwrap());
            let mut attack = Self { child, output };
            attack.line();
            attack.line();
            attack
        })
        .await
        .unwrap()
    }

    /// Ends it. What it says then: how many connections are still `open`, `mib` and `files` of the agent, and more.
    pub(crate) fn end(mut self) -> Value {
        drop(self.child.stdin.take());
        self.line()
    }

    fn line(&mut self) -> Value {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }
}

impl Drop for Attack {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// The resident memory of a process, in MiB.
pub(crate) fn resident_mib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// The number of files that a process has open.
pub(crate) fn open_files(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}
